"""Models: one folder each, with all that is known about it."""
