"""Small trained weights beside the frozen model: one file a kind."""
