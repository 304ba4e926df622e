"""Reports on datasets, for people: counts, crops, captions, duplicates, and pictures that lack a partner."""
