"""Rewrites a job for another model: python -m toolkit.migrate JOB.yaml --to ARCH."""
