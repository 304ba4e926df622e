"""Keys of `train` that say how the weights change: learning rate schedule, averages."""
