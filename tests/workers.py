"""docs/worker.md from the tables of the worker: a run in the guard, and the agent's session.

`python -m tests.workers` prints them, `python -m tests.workers --write` puts them into the page;
tests/unit/test_guard_core.py compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from tests import pages
from zsched.worker.agent import session
from zsched.worker.guard import life

PAGE: Final = Path(__file__).parents[1] / "docs" / "worker.md"
BEGIN: Final = "<!-- From {}: `python -m tests.workers --write` makes it. -->\n"
END: Final = "<!-- End of what is made from {}. -->\n"

Move = tuple[str, str, str]


def runs() -> list[Move]:
    """(phase, event, next phase) of each row; the next phase is empty when the record is removed."""
    return [(before.value, event.value, after.value if after else "") for (before, event), after in life.MOVES.items()]


def sessions() -> list[Move]:
    return [(before.value, event.value, after.value) for (before, event), after in session.MOVES.items()]


TABLES: Final = {"zsched/worker/guard/life.py": runs, "zsched/worker/agent/session.py": sessions}


def diagram(moves: Iterable[Move], begin: str) -> Iterator[str]:
    """A state diagram for Mermaid: an arrow for each pair of states, with its events."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for before, event, after in moves:
        arrows.setdefault((_name(before), _name(after) if after else "[*]"), []).append(event)
    yield "```mermaid\nstateDiagram-v2\n"
    yield f"    [*] --> {begin}\n"
    yield from (f"    {before} --> {after}: {', '.join(events)}\n" for (before, after), events in arrows.items())
    yield "```\n\n"


def table(moves: Iterable[Move]) -> Iterator[str]:
    yield "| from | event | to |\n|---|---|---|\n"
    yield from (f"| {before} | `{event}` | {after or 'removed'} |\n" for before, event, after in moves)


def section(source: str) -> str:
    """What stands between the marks of a table."""
    moves = TABLES[source]()
    return "".join((*diagram(moves, moves[0][0]), *table(moves)))


def page() -> str:
    """The page with the present tables."""
    text = PAGE.read_text("utf-8")
    for source in TABLES:
        text = pages.put(text, BEGIN.format(source), f"{section(source)}\n", END.format(source))
    return text


def _name(state: str) -> str:
    return state.replace(" ", "_")


if __name__ == "__main__":
    pages.main(PAGE, page, lambda: "\n".join(map(section, TABLES)))
