"""A flow: named jobs that wait for each other, and an order in which each comes after those that it waits for. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Final

from zsched.model.after import AfterError, Ends, parse_after
from zsched.model.limits import CIRCLE_SHOWN_MAX, FAULTS_SHOWN_MAX, FLOW_NAMES_COMPARED_MAX

# A job's name in a flow. Numbers name jobs that exist already.
FLOW_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,127}")
FLOW_NAME_RULE: Final = "1 to 128 letters, digits, _ and -, a letter or _ first"

_ENTRY: Final = re.compile(rf"({FLOW_NAME.pattern})((\.[0-9]{{1,10}})?(?::(?:{'|'.join(Ends)}))?)", re.ASCII)

# The form of an entry of `after` in a flow, for callers.
FLOW_ENTRY: Final = rf"^({FLOW_NAME.pattern}|[1-9][0-9]{{0,15}})(\.[0-9]{{1,10}})?(:({'|'.join(Ends)}))?$"
# An entry that begins so names a job that exists already.
_NUMBER: Final = re.compile("[0-9]")
_FORMS: Final = "write the name of a job, or the number of one that exists, with :failed or :any for another end"

# What is wrong, and where: the job, and its field or an entry of it.
Fault = tuple[str, str, str]


class FlowError(ValueError):
    """The jobs don't make a flow. `faults`: everything that is wrong with names and order."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{job}: {detail}" for job, _, detail in faults))
        self.faults = faults


def in_order(jobs: Mapping[str, Sequence[object]]) -> dict[str, list[object]]:
    """The names of a flow's jobs, each after those that it waits for, with their `after`: `#k` in the place of names.

    `jobs` are the entries of `after` by name. An entry that names an earlier job by its number stays. Raises FlowError.
    """
    faults: list[Fault] = []
    named: dict[str, list[str]] = {}
    for name, after in jobs.items():
        if not FLOW_NAME.fullmatch(name):
            faults.append((name, "", f"invalid name of a job: {FLOW_NAME_RULE}"))
        named[name] = []
        known = set[str]()
        for place, entry in enumerate(after):
            found = _ENTRY.fullmatch(entry) if isinstance(entry, str) else None
            fault = ""
            if found is None or found[1] not in jobs:
                # The others are only counted.
                fault = _fault(entry, jobs) if len(faults) <= FAULTS_SHOWN_MAX else _FORMS
            if found is not None and not fault:
                parent = f"{found[1]}{found[3] or ''}"
                fault = f"{parent} stands there twice: name it once" if parent in known else ""
                known.add(parent)
            if fault:
                faults.append((name, f"after/{place}", fault))
            elif found is not None:
                named[name].append(found[1])
    order = _sorted(named, faults)
    if faults:
        raise FlowError(faults)
    places = {name: place for place, name in enumerate(order, 1)}
    return {name: [_placed(entry, places) for entry in jobs[name]] for name in order}


def _sorted(named: Mapping[str, list[str]], faults: list[Fault]) -> list[str]:
    """The names, each after those that it waits for. Adds a fault for each circle, and opens it in `named`."""
    while True:
        try:
            return list(TopologicalSorter(named).static_order())
        except CycleError as error:
            # A list of jobs, each of which the next one waits for.
            circle = error.args[1]
            shown = circle if len(circle) <= CIRCLE_SHOWN_MAX else [*circle[: CIRCLE_SHOWN_MAX - 2], "…", circle[-1]]
            way = " → ".join(shown)
            what = f"the jobs wait for each other in a circle, {way}: remove one of these"
            faults.append((circle[-1], "after", what if len(circle) > 2 else "the job waits for itself: remove that"))
            if len(faults) > FAULTS_SHOWN_MAX:
                return []
            named[circle[-1]].remove(circle[-2])


def _fault(entry: object, jobs: Mapping[str, object]) -> str:
    """What is wrong with an entry that names no job of the flow; empty for the number of a job."""
    if isinstance(entry, str) and not _NUMBER.match(entry):
        found = _ENTRY.fullmatch(entry)
        return f"invalid entry {entry[:64]!r}: {_FORMS}" if found is None else _unknown(found[1], jobs)
    if not isinstance(entry, int | str) or isinstance(entry, bool):
        return f"invalid entry: {_FORMS}"
    try:
        parse_after([entry])
    except AfterError:
        return f"invalid entry {str(entry)[:64]!r}: {_FORMS}"
    return ""


def _unknown(name: str, jobs: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, jobs, 1) if len(jobs) <= FLOW_NAMES_COMPARED_MAX else []
    return f"the flow has no job {name}" + (f"; did you mean {near[0]}?" if near else "")


def _placed(entry: object, places: Mapping[str, int]) -> object:
    found = _ENTRY.fullmatch(entry) if isinstance(entry, str) else None
    return entry if found is None else f"#{places[found[1]]}{found[2]}"
