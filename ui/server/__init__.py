"""The web server: jobs, queue, live data and files over HTTP. It loads no torch and no weights."""
