"""Keys that decide what a step minimises."""
