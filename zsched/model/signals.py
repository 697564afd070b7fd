"""Signals that a job may ask for, by their names, and when it wants one: `USR1@60s`. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from zsched.model.units import format_duration_ms, parse_duration_ms

# Linux's numbers. A program can handle each of these; what stops or kills a process is the timeout's part.
NUMBERS: Final = {
    "HUP": 1, "INT": 2, "QUIT": 3, "ABRT": 6, "USR1": 10, "USR2": 12, "ALRM": 14, "TERM": 15, "CONT": 18,
    "XCPU": 24, "WINCH": 28,
}  # fmt: skip


# Those that may end a process, by which retries may choose.
ENDING: Final = {
    **NUMBERS, "ILL": 4, "TRAP": 5, "BUS": 7, "FPE": 8, "KILL": 9, "SEGV": 11, "PIPE": 13, "XFSZ": 25, "VTALRM": 26,
    "PROF": 27, "IO": 29, "PWR": 30, "SYS": 31,
}  # fmt: skip


_TOO_EARLY: Final = "it comes before the timeout of {}: give a shorter time than that"


@lru_cache(maxsize=256)
def parse_early_signal(text: str) -> tuple[int, int]:
    """A signal before the timeout, such as `USR1@60s`: its number, and the time between in ms.

    Raises ValueError with a sentence that shows the form.
    """
    name, at, before = text.partition("@")
    number = NUMBERS.get(name.upper().removeprefix("SIG"))
    if number is None or not at:
        raise ValueError(f"invalid signal {text[:64]!r}: write it like USR1@60s, with one of {', '.join(NUMBERS)}")
    return number, parse_duration_ms(before)


def early_signal_text(number: int, before_ms: int) -> str:
    """What parse_early_signal reads."""
    name = next(name for name, own in NUMBERS.items() if own == number)
    return f"{name}@{format_duration_ms(before_ms)}"


def signal_fault(text: str | None, timeout_ms: int | None) -> str | None:
    """Why a job with this timeout can't have this signal, as a sentence; None if it can."""
    if text is None:
        return None
    if timeout_ms is None:
        return "it comes before the timeout: set a timeout"
    _, before_ms = parse_early_signal(text)
    return None if before_ms < timeout_ms else _TOO_EARLY.format(format_duration_ms(timeout_ms))
