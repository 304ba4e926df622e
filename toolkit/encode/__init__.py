"""Captions and images, encoded once and kept."""
