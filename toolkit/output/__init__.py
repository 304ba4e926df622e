"""What an output folder contains: bundles, the event log, the record of runs and the lock."""
