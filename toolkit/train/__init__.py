"""The training itself: the step, what it draws and minimises, and what is kept of it."""
