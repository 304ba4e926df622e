"""Lookups that extension authors know by this place."""
