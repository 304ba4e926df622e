"""Objectives that teach a model to draw in few steps."""
