"""The trainer's parts. Imports go one way, to the left only: ground, config, models, data, train, jobs."""
