"""Measurements: each script prints a figure that the docs quote, and says how it was got."""
