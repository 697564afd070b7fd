"""What the OpenAPI document says of one call beyond its route."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# What a list may have besides its rows.
LISTS: Final = ("Link",)


@dataclass(frozen=True, slots=True)
class Operation:
    """A call. `answer` is the type of its JSON, None for text; `takes` the type of its body, which may be missing if it
    is `optional`, and may be lines of JSON with `lines`. `lacks` and `conflicts` describe 404 and 409. `once`: it takes
    an Idempotency-Key. `kept`: callers may keep the JSON of a GET, and it has an ETag. `media`: the type of an answer
    that is not JSON.
    """

    name: str
    summary: str
    answer: object = None
    status: int = 200
    takes: object = None
    example: object = None
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    lacks: str = ""
    conflicts: str = ""
    once: bool = False
    kept: bool = True
    optional: bool = False
    lines: bool = False
    media: str = "text/plain"
