"""Telling people that a job is done, has failed, or needs them: pages, and a webhook if one is set."""
