"""Trying out LoRAs: which there are, jobs that draw with them, what was drawn, and keeping the best."""
