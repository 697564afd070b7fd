"""The HTTP server: everything that touches Waitress's insides, and nothing else does."""
