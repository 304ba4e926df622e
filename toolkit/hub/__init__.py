"""Publishes a finished run on the Hugging Face hub."""

from toolkit.hub.upload import upload

__all__ = ["upload"]
