"""What the simulator raises."""

from __future__ import annotations


class Violation(AssertionError):
    """A promise was broken. The sentence says which, and with which ids."""
