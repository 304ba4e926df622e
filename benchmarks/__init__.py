"""Measurements: each script prints figures that the docs quote, together with how they were measured."""

import toolkit  # noqa: F401 - before diffusers, whose imports are light from then on, as in a job
