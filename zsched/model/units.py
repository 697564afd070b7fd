"""Durations, times and sizes as people write them. Pure: text in, integers out, and back; for configuration
and job specs.

Durations have Go's form with days added: `500ms`, `3s`, `1m30s`, `2h`, `1d`. Sizes name their unit: `64MiB`, `10MB`,
`512B`. A bare number other than 0 is refused in both, because nobody agrees on what it counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from typing import Final

from zsched.model.limits import DURATION_MS_MAX, QUANTITY_CHARS_MAX, RUNS_NAMED_MAX, SIZE_BYTES_MAX

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# The end of the year 9999, the last that RFC 3339 can write.
_LATEST_MS: Final = 253_402_300_799_999

_DURATION_UNITS_MS: Final[dict[str, Fraction]] = {
    "d": Fraction(86_400_000),
    "h": Fraction(3_600_000),
    "m": Fraction(60_000),
    "s": Fraction(1_000),
    "ms": Fraction(1),
    "us": Fraction(1, 1_000),
    "µs": Fraction(1, 1_000),
    "ns": Fraction(1, 1_000_000),
}
_SIZE_UNITS_BYTES: Final[dict[str, int]] = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([a-zµ]+)")
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)")


# Most are a few that come again and again: `?wait=20s`.
@lru_cache(maxsize=256)
def parse_duration_ms(text: str) -> int:
    """Read a duration into whole milliseconds; what is finer is rounded up, so that it never becomes nothing.

    Raises ValueError with a sentence that quotes the text and shows the form.
    """
    if text == "0":
        return 0
    parts = list(_PART.finditer(text)) if len(text) <= QUANTITY_CHARS_MAX else []
    if (
        not parts
        or "".join(part[0] for part in parts) != text
        or any(part[2] not in _DURATION_UNITS_MS for part in parts)
    ):
        raise ValueError(f"invalid duration {_quoted(text)}: write it like 500ms, 3s, 1m30s, 2h or 1d")
    total_ms = sum(Fraction(part[1]) * _DURATION_UNITS_MS[part[2]] for part in parts)
    if total_ms > DURATION_MS_MAX:
        raise ValueError(f"{_quoted(text)} is too long; the longest duration is {format_duration_ms(DURATION_MS_MAX)}")
    return -int(-total_ms // 1)


def parse_since_ms(text: str, now_ms: int) -> int:
    """A time in the past, as milliseconds since 1970: a duration before now such as `2h`, or a time of RFC 3339.

    Raises ValueError with a sentence that shows the forms.
    """
    try:
        return now_ms - parse_duration_ms(text)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text if len(text) <= QUANTITY_CHARS_MAX else "")
        # A time without a zone is UTC, as all of ours are.
        return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ValueError(f"invalid time {_quoted(text)}: write it like 2h or 2026-11-24T07:50:35Z") from None


# Jobs that were submitted together have one time, and a job and its run mostly have one too.
@lru_cache(maxsize=1024)
def format_time(at_ms: int) -> str:
    """Milliseconds since 1970 as RFC 3339 in UTC, such as 2026-11-24T07:50:35.123Z."""
    at = datetime.fromtimestamp(min(at_ms, _LATEST_MS) / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str) -> int:
    """Read a time of RFC 3339, such as 2026-11-24T07:50:35Z, into milliseconds since 1970.

    Raises ValueError with a sentence that quotes the text and shows the form.
    """
    try:
        at = datetime.fromisoformat(text) if len(text) <= QUANTITY_CHARS_MAX else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ValueError(f"invalid time {_quoted(text)}: write it like 2026-11-24T07:50:35Z or 2026-11-24T08:50+01:00")
    at_ms = (at - _EPOCH) // timedelta(milliseconds=1)
    if at_ms < 0:
        raise ValueError(f"{_quoted(text)} is too early: write a time after 1970")
    return at_ms


def format_duration_ms(duration_ms: int) -> str:
    """Write milliseconds in the form that parse_duration_ms reads back to the same number: `1m30s`, `0s`."""
    assert duration_ms >= 0
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, duration_ms = divmod(duration_ms, int(_DURATION_UNITS_MS[unit]))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def counted(count: int, noun: str) -> str:
    """A number with its noun: `1 run`, `2 runs`, `0 processes`."""
    ending = "" if count == 1 else "es" if noun.endswith(("s", "sh")) else "s"
    return f"{count} {noun}{ending}"


def parse_size_bytes(text: str) -> int:
    """Read a size into bytes; a fraction of a byte is rounded up.

    Raises ValueError with a sentence that quotes the text and shows the form.
    """
    if text == "0":
        return 0
    match = _SIZE.fullmatch(text) if len(text) <= QUANTITY_CHARS_MAX else None
    if match is None or match[2] not in _SIZE_UNITS_BYTES:
        raise ValueError(f"invalid size {_quoted(text)}: write it like 512KiB, 64MiB or 2GiB")
    size_bytes = -int(-Fraction(match[1]) * _SIZE_UNITS_BYTES[match[2]] // 1)
    if size_bytes > SIZE_BYTES_MAX:
        raise ValueError(f"{_quoted(text)} is too large; the largest size is {SIZE_BYTES_MAX} bytes")
    return size_bytes


def format_size_bytes(size_bytes: int) -> str:
    """Write bytes in the largest binary unit that keeps them whole: `64MiB`, `1000B`, `0B`."""
    assert size_bytes >= 0
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        count, rest = divmod(size_bytes, _SIZE_UNITS_BYTES[unit])
        if count and not rest:
            return f"{count}{unit}"
    return f"{size_bytes}B"


def some(items: Sequence[object]) -> str:
    """The first RUNS_NAMED_MAX of many, separated by commas, and `…` if there are more."""
    named = [str(item) for item in items[:RUNS_NAMED_MAX]]
    return ", ".join(named if len(items) <= RUNS_NAMED_MAX else [*named, "…"])


def _quoted(text: str) -> str:
    """Quote user text for an error: control characters escaped, and no longer than a line."""
    return repr(text if len(text) <= QUANTITY_CHARS_MAX else text[: QUANTITY_CHARS_MAX - 1] + "…")
