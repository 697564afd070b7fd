"""zsched: a distributed job scheduler. A scheduler keeps jobs in a database; workers on many hosts run them."""

from __future__ import annotations

__version__ = "0.1.0"
