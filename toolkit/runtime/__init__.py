"""A run as a process of this machine: its signals and threads, its device and versions, and what it prints."""
