"""How gradients change the trained weights: optimizers, learning rate schedules, rounding and averaging."""
