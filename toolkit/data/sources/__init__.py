"""Where images and captions come from: folders, lists, tar shards and tables."""
