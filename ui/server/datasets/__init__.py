"""Folders of pictures with captions: found, filled, edited and looked over."""
