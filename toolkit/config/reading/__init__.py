"""From the text of a job file to a checked job, with every mistake explained where it is."""
