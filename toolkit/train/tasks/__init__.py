"""What a run does between its steps: saving checkpoints and drawing samples."""
