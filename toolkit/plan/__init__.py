"""What a run needs, how much memory and disk that takes, and what would make it fit, without reading any weights."""
