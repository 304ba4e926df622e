"""The routes: each reads a request, asks a service, and answers."""
