"""The web UI: a server over the jobs of this trainer, and the page that it serves."""
