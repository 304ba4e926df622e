"""What job files of ai-toolkit, and files of released models, need beyond their keys."""
