"""Finding, reading and writing weights."""
