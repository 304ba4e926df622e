"""The training itself: the step, the loop around it, and the saving and resuming of its state."""
