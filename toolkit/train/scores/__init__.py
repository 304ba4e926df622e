"""Scores of samples by an image encoder: what the pictures say of the training, where losses say little."""
