"""The SQL of moves, generated from the table of a run's life: guards, and the new values of an UPDATE.

The store keeps a run's status. Two more columns distinguish STUCK and CANCELLING from RUNNING, so a value that differs
between them becomes a CASE.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from zsched.model.lifecycle import GIVEN, MOVES, TERMINAL, TRANSITIONS, Cause, Move, State
from zsched.model.types import RunStatus

# The states of a status, each with the condition that separates it from those after it.
_STATES: Final[Mapping[RunStatus, tuple[tuple[State, str], ...]]] = {
    RunStatus.PENDING: ((State.PENDING, ""),),
    RunStatus.RUNNING: (
        (State.CANCELLING, "cancel_ms IS NOT NULL"),
        (State.STUCK, "stuck > 0"),
        (State.RUNNING, ""),
    ),
}
# What the store has to know of a run that a statement moves.
MOVED: Final = "run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id"
RETURNING: Final = f"\n    RETURNING {MOVED}"
# The same, and whether it is a run of an array without a place (1 is Blocked.CAP): of moves from or to pending, but a
# claim.
RETURNING_PLACE: Final = f"{RETURNING}, blocked & of_array"


def guard(status: RunStatus, cause: Cause, alias: str = "") -> str:
    """The condition under which a cause moves a run that has the status. A fence takes the worker's name (`?`)."""
    present = _choose(status, cause, lambda _: "1", absent="0")
    if present == "0":
        return "1 = 0"
    parts = [f"{alias}status = '{status}'"]
    if present != "1":
        parts.append(f"{present} = 1")
    for condition, demanded in (
        ("started_ms IS NULL", lambda move: move.unstarted),
        ("started_ms IS NOT NULL", lambda move: move.started),
        ("worker_id = ?", lambda move: move.fenced),
    ):
        chosen = _choose(status, cause, _conditional(condition, demanded))
        if chosen != "1":
            parts.append(chosen)
    return " AND ".join(parts)


def _conditional(condition: str, demanded: Callable[[Move], bool]) -> Callable[[Move], str]:
    return lambda move: condition if demanded(move) else "1"


@lru_cache
def fences(status: RunStatus, cause: Cause) -> int:
    """How often the guard takes the name of the worker that reports."""
    return guard(status, cause).count("?")


def update(status: RunStatus, cause: Cause, sets: str, where: str, *, given: str = "?", source: str = "") -> str:
    """An UPDATE that moves runs of a status. `sets`: further assignments. `where`: which runs. `given`: the expression
    of a reason that comes with the cause. `source`: a FROM clause. Returns the columns MOVED, and the place of runs
    that are or were pending. A claim returns nothing: the store has read its runs before.
    """
    new = _choose(status, cause, lambda move: f"'{move.became.status}'")
    assignments = []
    if new != f"'{status}'":
        assignments += [f"status = {new}", f"reason = {_choose(status, cause, _reason(given))}"]
    crash = _choose(status, cause, lambda move: str(int(move.crash)))
    if crash != "0":
        assignments.append(f"crashes = crashes + {crash}")
    back = _choose(status, cause, lambda move: str(int(move.back)))
    if back != "0":
        assignments.append(f"returns = returns + {back}")
    assignments.append(sets)
    joined = ",\n        ".join(assignments)
    placed = status is RunStatus.PENDING or "'pending'" in new
    returning = "" if cause is Cause.CLAIM else RETURNING_PLACE if placed else RETURNING
    return f"""
    UPDATE runs SET {joined}{source}
    WHERE {where} AND {guard(status, cause)}{returning}"""


def choose(status: RunStatus, cause: Cause, *, final: str, live: str) -> str:
    """An expression with one value for runs that the cause ends, and another for the other runs that it moves."""
    return _choose(status, cause, lambda move: final if move.final else live)


def made(cause: Cause) -> str:
    """The status of a run that a cause makes, as an SQL literal."""
    move = MOVES[State.NEW].get(cause)
    return "NULL" if move is None else f"'{move.became.status}'"


def trigger() -> str:
    """The condition of the trigger that aborts an UPDATE of a run: it has ended, or its new status may not follow."""
    final = ", ".join(f"'{status}'" for status in RunStatus if status in TERMINAL)
    conditions = [f"OLD.status IN ({final})"]
    for was in RunStatus:
        missing = [] if was in TERMINAL else [new for new in RunStatus if new not in {was, *TRANSITIONS[was]}]
        conditions += [f"(OLD.status = '{was}' AND NEW.status = '{new}')" for new in missing]
    return " OR ".join(conditions)


def _reason(given: str) -> Callable[[Move], str]:
    def reason(move: Move) -> str:
        if move.reason is GIVEN:
            return given
        return "NULL" if move.reason is None else f"'{move.reason}'"

    return reason


def _choose(status: RunStatus, cause: Cause, value: Callable[[Move], str], absent: str = "") -> str:
    """An expression with a value for each state of a status that has the move. `absent`: the value of the others, which
    otherwise do not count because the guard excludes them.
    """
    choices: list[tuple[str, str]] = []
    for state, condition in _STATES[status]:
        move = MOVES[state].get(cause)
        if move is not None or absent:
            choices.append((condition, absent if move is None else value(move)))
    if not choices:
        return "NULL"
    *cases, (_, other) = choices
    while cases and cases[-1][1] == other:
        cases.pop()
    if not cases:
        return other
    return f"CASE {' '.join(f'WHEN {condition} THEN {chosen}' for condition, chosen in cases)} ELSE {other} END"
