"""Models: one folder per family, with everything that the trainer knows about it."""
