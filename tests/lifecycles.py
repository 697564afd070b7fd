"""docs/lifecycle.md from the table of a run's life: its diagram, its causes and its rows.

`python -m tests.lifecycles` prints them, `python -m tests.lifecycles --write` puts them into the page;
tests/unit/test_lifecycle.py compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests import pages
from zsched.model.lifecycle import CAUSES, GIVEN, MOVES, Cause, Move, State

PAGE: Final = Path(__file__).parents[1] / "docs" / "lifecycle.md"
BEGIN: Final = "<!-- From zsched/model/lifecycle.py: `python -m tests.lifecycles --write` makes it. -->\n"
END: Final = "<!-- End of what is made from zsched/model/lifecycle.py. -->\n"


def diagram() -> Iterator[str]:
    """A state diagram for Mermaid: an arrow for each pair of states, with its causes."""
    yield "```mermaid\nstateDiagram-v2\n"
    for state, moves in MOVES.items():
        arrows: dict[State, list[Cause]] = {}
        for cause, move in moves.items():
            if move.became is not state:
                arrows.setdefault(move.became, []).append(cause)
        begin = "[*]" if state is State.NEW else state
        yield from (f"    {begin} --> {became}: {', '.join(causes)}\n" for became, causes in arrows.items())
        if not moves:
            yield f"    {state} --> [*]\n"
    yield "```\n\n"


def causes() -> Iterator[str]:
    yield "| cause | what happened to the run |\n|---|---|\n"
    yield from (f"| `{cause}` | {sentence} |\n" for cause, sentence in CAUSES.items())
    yield "\n"


def rows() -> Iterator[str]:
    yield "| state | cause | becomes | reason | next run | only if | counts |\n|---|---|---|---|---|---|---|\n"
    for state, moves in MOVES.items():
        for cause, move in moves.items():
            yield f"| {state} | `{cause}` | {' | '.join(_cells(state, move))} |\n"
    yield "\n"


def _cells(state: State, move: Move) -> tuple[str, ...]:
    reason = "as reported" if move.reason is GIVEN else f"`{move.reason}`" if move.reason else ""
    conditions = {"it is on that worker": move.fenced, "not started": move.unstarted, "started": move.started}
    counts = {"attempt": move.attempt, "failure": move.failure, "crash": move.crash, "return": move.back}
    return (
        "" if move.became is state else f"**{move.became}**" if move.final else str(move.became),
        "no event" if move.silent else reason,
        f"`{move.successor}`" if move.successor else "",
        ", ".join(name for name, holds in conditions.items() if holds),
        ", ".join(name for name, holds in counts.items() if holds),
    )


def made() -> str:
    return "".join((*diagram(), *causes(), *rows()))


def page() -> str:
    """docs/lifecycle.md with what the table says."""
    return pages.put(PAGE.read_text("utf-8"), BEGIN, made(), END)


if __name__ == "__main__":
    pages.main(PAGE, page, made)
