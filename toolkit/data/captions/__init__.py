"""Captions: read from files and lists, and varied."""
