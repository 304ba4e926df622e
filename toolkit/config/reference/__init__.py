"""Generates docs/config.md and the JSON schema from the config classes."""
