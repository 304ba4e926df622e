"""Scores of samples by an image encoder: what the pictures say about the training, where losses say little."""
