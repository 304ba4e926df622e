"""Which blocks of a trained network matter."""
