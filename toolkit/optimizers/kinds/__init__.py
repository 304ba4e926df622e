"""The optimizers of our own: each trains fp32 weights, on any device, and keeps its state in fp32 or in fewer bits."""
