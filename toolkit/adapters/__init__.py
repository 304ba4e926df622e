"""Small trained parts beside the frozen model: each adds to it at places that every model can name."""
