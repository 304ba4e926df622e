"""What a page shows of one job beside its row: curves, samples, checkpoints, log."""
