"""Jobs and their processes: what a job file asks for, carried out."""
