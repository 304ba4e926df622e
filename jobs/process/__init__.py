"""The kinds of work that a job file can list under `process`."""
