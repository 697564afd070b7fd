"""The scheduler's process: the loop, the dispatcher that decides, the workers' port, the way in for other threads."""
