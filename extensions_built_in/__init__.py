"""The extensions that come with the trainer: process types and models."""
