"""Jobs and their processes: checking and running what a job file asks for."""
