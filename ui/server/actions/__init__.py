"""What people do with jobs: make, change, start, stop, and put away."""

from ui.server.actions.actions import Actions
from ui.server.actions.trash import TrashBin

__all__ = ["Actions", "TrashBin"]
