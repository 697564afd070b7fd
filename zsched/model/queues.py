"""Queues, and the keys by which jobs limit or exclude each other. Pure.

A key of a caller without the scope `operate` is that owner's alone. It is stored as `OWNER KEY`, and shown as `KEY`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from msgspec import Struct

from zsched.model.fields import TIME, Codec, Form, about
from zsched.model.names import DEFAULT_QUEUE


class Queue(Struct, frozen=True, kw_only=True):
    """What operators have set for a queue."""

    queue: Annotated[str, about("Name of the queue.", Form(json="name", rank=0))]
    fair: Annotated[
        Literal["owner"] | None,
        about("`owner`: the owner with the fewest running runs comes first. Absent: the oldest job does."),
    ] = None
    paused_ms: Annotated[int | None, about("When it was paused, if it is.", Form(codec=TIME))] = None
    paused_by: Annotated[str | None, about("Who paused it.")] = None
    pause_reason: Annotated[str | None, about("Why it is paused.", Form(json="reason"))] = None


def owned_key(owner: str, key: str) -> str:
    """A key as it is stored; `owner` is empty for a key that all owners share."""
    return f"{owner} {key}" if owner else key


def shown_key(stored: str) -> str:
    """A key as its jobs name it."""
    return stored.rpartition(" ")[2]


def _read_limits(text: str) -> dict[str, int]:
    limits = json.loads(text)
    if not isinstance(limits, dict) or not all(isinstance(runs, int) for runs in limits.values()):
        raise ValueError("the stored limits are damaged")
    return limits


def _limits_text(limits: Mapping[str, int]) -> str | None:
    return json.dumps(dict(limits), sort_keys=True, separators=(",", ":")) if limits else None


def _shown_limits(limits: Mapping[str, int]) -> dict[str, int]:
    return {shown_key(key): runs for key, runs in limits.items()}


# The codecs of the fields of a job. NULL stands for the default queue, and for no limits.
QUEUE: Final = Codec(write=lambda queue: None if queue == DEFAULT_QUEUE else queue, nullable=True)
LIMITS: Final = Codec(read=_read_limits, write=_limits_text, show=_shown_limits, nullable=True)
UNIQUE: Final = Codec(show=shown_key)
