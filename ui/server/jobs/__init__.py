"""Jobs: found on disk, judged by their files and processes, started and stopped."""
