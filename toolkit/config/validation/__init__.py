"""`train.validation_config`: what a run is measured by while it trains."""
