"""Networks: small trained weights on top of the frozen model. Each kind has its own file."""
