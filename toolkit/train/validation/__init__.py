"""Measures a run while it trains: whether it learns, whether it over-fits, and what else has changed."""
