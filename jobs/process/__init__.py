"""Kinds of work that a job file may list under `process`."""
