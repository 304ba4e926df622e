"""Drawing pictures with a loaded model."""
