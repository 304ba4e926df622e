"""Measures a run while it trains: does it learn, does it over-fit, and what else has moved."""
