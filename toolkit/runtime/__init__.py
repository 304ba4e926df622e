"""The run as an operating system process: its signals and threads, its device and versions, and what it prints."""
