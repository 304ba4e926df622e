"""What a page shows of one job beside its row: curves, samples, checkpoints, log."""

from ui.server.views.seen import SeenSteps
from ui.server.views.thumbs import Thumbs

__all__ = ["SeenSteps", "Thumbs"]
