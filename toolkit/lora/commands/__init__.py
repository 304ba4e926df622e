"""What `python -m toolkit.lora` does with files: describe, merge, rewrite and extract."""
