"""What is in memory at the peak of each phase of a run."""
