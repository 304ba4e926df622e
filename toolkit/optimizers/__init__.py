"""How gradients change the trained weights."""
