"""Noise levels: how they are drawn, and how much each counts."""
