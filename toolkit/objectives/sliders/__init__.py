"""Sliders: networks whose strength, from -1 to 1, turns a concept up or down."""
