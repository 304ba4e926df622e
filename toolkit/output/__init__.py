"""What belongs to an output folder: bundles, the event log, the record of runs, the lock."""
