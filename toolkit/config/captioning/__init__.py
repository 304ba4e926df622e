"""The settings of captions that a model writes."""
