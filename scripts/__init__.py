"""Scripts that make the generated files of this repository."""

from toolkit.runtime.threads import share_cores

share_cores()  # must come before any script here imports torch; the tiny model runs on the CPU
