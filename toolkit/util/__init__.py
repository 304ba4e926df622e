"""Lookups under the import path that extension authors know."""
