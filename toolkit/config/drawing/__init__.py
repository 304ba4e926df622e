"""The settings of jobs that draw pictures."""
