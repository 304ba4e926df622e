"""Captions by a model: the job that proposes them, and the review of what it has proposed."""
