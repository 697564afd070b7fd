"""The guard: the worker's process that starts, watches and ends jobs."""
