"""What is generated from the config classes: docs/config.md and the JSON schema."""
