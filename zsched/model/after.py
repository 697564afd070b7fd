"""What a job waits for: an entry of `after`, such as `12`, `12:any` or `#1:failed`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

from msgspec import Struct

from zsched.model.fields import Codec
from zsched.model.limits import AFTER_PER_JOB_MAX, INTEGER_MAX

FORMS: Final = (
    "write the number of a job (12), of a task of it (12.3), of an earlier job of this request (#1), or 12:any"
)


class Ends(StrEnum):
    """Which end of a job another job waits for."""

    OK = "ok"  # success
    FAILED = "failed"  # it ran, and failed
    ANY = "any"  # also cancelled, or never started
    SAME = "same"  # each task for the success of the task with the same index


_ENTRY: Final = re.compile(rf"(#?)([1-9][0-9]{{0,15}})(?:\.([0-9]{{1,10}}))?(?::({'|'.join(Ends)}))?", re.ASCII)
# The form of an entry, for callers.
ENTRY: Final = f"^{_ENTRY.pattern}$"


class Dependency(Struct, frozen=True):
    """A job that another one waits for. `job` is its number, or its place in the same request, from 1, if `placed`.
    `task`: the index of a single task.
    """

    job: int
    ends: Ends = Ends.OK
    placed: bool = False
    task: int | None = None

    def __str__(self) -> str:
        task = "" if self.task is None else f".{self.task}"
        return f"{'#' if self.placed else ''}{self.job}{task}{'' if self.ends is Ends.OK else f':{self.ends}'}"

    def numbered(self, first: int) -> Dependency:
        """The same with the number of the job, if the first job of the request has the number `first`."""
        return Dependency(first + self.job - 1, self.ends, task=self.task) if self.placed else self


def parse_after(given: Sequence[int | str]) -> tuple[Dependency, ...]:
    """The entries of `after`. Raises AfterError."""
    if len(given) > AFTER_PER_JOB_MAX:
        raise AfterError(None, f"at most {AFTER_PER_JOB_MAX} entries, not {len(given)}: put a job between them")
    found: dict[tuple[bool, int, int | None], Dependency] = {}
    for place, entry in enumerate(given):
        parsed = _ENTRY.fullmatch(str(entry))
        if parsed is None or int(parsed[2]) > INTEGER_MAX:
            raise AfterError(place, f"{str(entry)[:64]!r} names no job: {FORMS}")
        task = None if parsed[3] is None else int(parsed[3])
        dependency = Dependency(int(parsed[2]), Ends(parsed[4] or Ends.OK), parsed[1] == "#", task)
        if task is not None and dependency.ends is Ends.SAME:
            raise AfterError(place, f"{dependency} names one task: `same` is for a whole array")
        key = dependency.placed, dependency.job, task
        if key in found:
            raise AfterError(place, f"{dependency} names a job that stands there already: name it once")
        found[key] = dependency
    return tuple(found.values())


class AfterError(ValueError):
    """An invalid `after`. `place`: of the invalid entry; None: all of it."""

    def __init__(self, place: int | None, detail: str) -> None:
        super().__init__(detail)
        self.place = place


def misplaced(after: Iterable[Dependency], place: int) -> tuple[int, str] | None:
    """The first entry of a job at a place of its request, from 1, that names no earlier one, and why; None: all do."""
    for number, dependency in enumerate(after):
        if dependency.placed and dependency.job >= place:
            earlier = "the first job of a request" if place == 1 else f"job #{place}"
            have = "waits for no other one of it" if place == 1 else f"can wait for #1 to #{place - 1}"
            return number, f"{dependency} names no earlier job of this request: {earlier} {have}"
    return None


def meets(ends: Ends, status: str, *, ran: bool) -> bool:
    """Whether the final status of a job is the end that another one waits for. `ran`: it had started."""
    match ends:
        case Ends.OK | Ends.SAME:
            return status == "success"
        case Ends.FAILED:
            return status == "failed" and ran
    return True


def _read(text: str) -> tuple[Dependency, ...]:
    return tuple(_read_entry(word) for word in text.split())


def _read_entry(word: str) -> Dependency:
    named, _, ends = word.partition(":")
    job, _, task = named.partition(".")
    return Dependency(int(job), Ends(ends or Ends.OK), task=int(task) if task else None)


AFTER: Final = Codec(
    read=_read,
    write=lambda after: " ".join(map(str, after)) or None,
    show=lambda after: list(map(str, after)),
    shown=tuple[str, ...],
    nullable=True,
)
