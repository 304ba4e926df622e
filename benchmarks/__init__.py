"""Measurements: each script prints figures that the docs quote, together with how they were measured."""
