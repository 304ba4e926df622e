"""Products of frozen linear layers in 8 bits: forward, and towards the input in backward."""
