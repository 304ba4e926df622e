"""Running a job on a rented machine: what goes there, how it is run there, and what comes back."""
