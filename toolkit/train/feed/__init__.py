"""What batches are made of."""
