"""Encoding captions and images once, and keeping the results."""
