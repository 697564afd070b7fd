"""Which failures of a task are tried again: `retry_on` of a job, such as `75`, `100-120`, `TERM`, `timeout`. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Final

from msgspec import Meta

from zsched.model.fields import Codec
from zsched.model.limits import EXIT_CODE_MAX, RETRY_ON_MAX
from zsched.model.signals import ENDING

# The reasons of failures. `exit` and `signal` stand for any exit code and any signal.
WORDS: Final = ("exit", "signal", "timeout", "spawn_error", "reported")

_CODE: Final = "([1-9][0-9]?|1[0-9][0-9]|2[0-4][0-9]|25[0-5])"
_CODES: Final = re.compile(r"([0-9]{1,3})(?:-([0-9]{1,3}))?")
_FORM: Final = "write exit codes from 1 to 255 (75, 100-120), signals (TERM) or {}"

# The forms of a text, as a regular expression for callers.
FAILURE: Final = f"^({_CODE}(-{_CODE})?|{'|'.join(WORDS)}|(SIG)?({'|'.join(ENDING)}))$"

Failure = Annotated[int, Meta(ge=1, le=EXIT_CODE_MAX)] | str


def parse_failures(given: Sequence[int | str]) -> tuple[str, ...]:
    """The failures in their stored form, each once. Raises ValueError with a sentence that shows the forms."""
    if len(given) > RETRY_ON_MAX:
        raise ValueError(f"at most {RETRY_ON_MAX} entries, not {len(given)}: write ranges of exit codes")
    return tuple(dict.fromkeys(_parse(str(entry)) for entry in given))


def _parse(text: str) -> str:
    if text in WORDS:
        return text
    if (signal := text.upper().removeprefix("SIG")) in ENDING:
        return signal
    if (codes := _CODES.fullmatch(text)) is not None:
        first, last = int(codes[1]), int(codes[2] or codes[1])
        if 1 <= first <= last <= EXIT_CODE_MAX:
            return str(first) if first == last else f"{first}-{last}"
    raise ValueError(f"invalid failure {text[:64]!r}: {_FORM.format(', '.join(WORDS))}")


def is_retried(failures: Sequence[str], reason: str | None, exit_code: int | None, signal: int | None) -> bool:
    """Whether a run that ended so is tried again, by the stored form. No failures: each is.

    A run that was stopped at its timeout matches `timeout` alone, whatever ended its process.
    """
    if not failures or reason in failures:
        return True
    if reason == "signal":
        return any(ENDING.get(failure) == signal for failure in failures)
    return reason == "exit" and exit_code is not None and any(_has(failure, exit_code) for failure in failures)


def _has(failure: str, exit_code: int) -> bool:
    codes = _CODES.fullmatch(failure)
    return codes is not None and int(codes[1]) <= exit_code <= int(codes[2] or codes[1])


def read_failures(text: str | None) -> tuple[str, ...]:
    """The failures from their column; none for NULL."""
    return tuple((text or "").split())


# Exit codes are shown as numbers.
FAILURES: Final = Codec(
    read=read_failures,
    write=lambda failures: " ".join(failures) or None,
    show=lambda failures: [int(failure) if failure.isdigit() else failure for failure in failures],
    shown=tuple[Failure, ...],
    nullable=True,
)
