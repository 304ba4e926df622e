"""What is in a dataset, for people: counts, crops, captions, duplicates and what misses its partner."""
