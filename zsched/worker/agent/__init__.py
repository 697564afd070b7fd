"""The agent: the worker's process that speaks to the scheduler."""
