"""The memory plan of a model on several cards."""
