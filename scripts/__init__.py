"""How generated things in this repository were made."""
