"""What can be said of a job text before it starts."""
