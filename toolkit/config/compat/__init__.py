"""Compatibility with ai-toolkit's job files and with released model files."""
