"""What the settings of a job mean for the memory plan."""
