"""The contract every model answers."""
