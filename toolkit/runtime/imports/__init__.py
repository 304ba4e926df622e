"""How libraries are imported: what a run does not use is not loaded."""
