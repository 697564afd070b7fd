"""zsched: a distributed job scheduler. A scheduler keeps jobs in a database; workers on many hosts run them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zsched.client import Client

__all__ = ["Client", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> type[Client]:
    """Import the client when somebody asks for it: the scheduler and its workers never do."""
    if name != "Client":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from zsched.client import Client

    return Client
