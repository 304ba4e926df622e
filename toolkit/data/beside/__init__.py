"""Pictures that belong to an image of a dataset: its mask, and the other image of its pair."""
