"""Running a job on a rented machine: what is sent, how it runs there, and what is fetched."""
