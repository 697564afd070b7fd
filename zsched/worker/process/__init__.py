"""Processes of jobs: how they are started, captured, found and ended."""
