"""What can be said about a job text before it starts."""
