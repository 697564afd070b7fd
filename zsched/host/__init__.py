"""This machine: files, logs, the service manager, and thin wrappers of Linux calls."""
