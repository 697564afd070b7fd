"""zsched: a distributed job scheduler. A scheduler keeps jobs in a database; workers on many hosts run them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zsched.client.client import Client, ClientError, Job, NotFound, Refused, Unreachable, Untrusted, WaitTimeout

__all__ = [
    "Client",
    "ClientError",
    "Job",
    "NotFound",
    "Refused",
    "Unreachable",
    "Untrusted",
    "WaitTimeout",
    "__version__",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the client at its first use: the scheduler and its workers never need it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from zsched.client import client

    return getattr(client, name)


def __dir__() -> list[str]:
    return [*__all__, "__doc__", "__file__", "__name__", "__path__"]
