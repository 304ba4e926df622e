"""The trainer's parts. Imports go one way, to the left only: ground, config, models, data, train, jobs."""

from toolkit.runtime.imports import light_imports

light_imports.install()
