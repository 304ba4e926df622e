"""Masks: what of an image counts in the loss."""
