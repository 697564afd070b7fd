"""The composition root of the scheduler: it puts the parts together, runs them until a signal comes, and closes them in
reverse order. Called by commands/scheduler.py. What decides anything stands in the parts.
"""
