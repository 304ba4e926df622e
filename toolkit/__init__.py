"""The trainer's parts. Imports go one way: ground, config, models, data, train, jobs."""
