"""What happened, for people: one line per event, the time first, then who. Kept only when somebody wants to read it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from tests.sim.timeline import Timeline


class Story:
    """The lines so far. `wanted` False: nothing is kept, which is three times faster."""

    def __init__(self, timeline: Timeline, *, wanted: bool) -> None:
        self.wanted = wanted
        self.lines: list[str] = []
        self._timeline = timeline

    def tell(self, who: str, what: str, *facts: object) -> None:
        if self.wanted:
            self.lines.append(f"{self._timeline.now_ms / 1000:10.3f}  {who:<10} {what % facts if facts else what}")

    def __str__(self) -> str:
        return "\n".join(self.lines)


class Ears(logging.Handler):
    """Hears what zsched itself logs: lines for the story. A logged exception is a bug that was caught, and breaks a
    promise all the same.
    """

    def __init__(self, story: Story) -> None:
        super().__init__()
        self._story = story
        self.bug: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        sentence = record.getMessage()
        if record.exc_info:
            self.bug = f"{sentence}: {record.exc_info[1]!r}"
        self._story.tell(f"({record.name.split('.')[1]})", "%s", sentence)


@contextmanager
def listening(story: Story) -> Iterator[Ears]:
    """While it lasts, zsched's log goes into the story and nowhere else."""
    ears = Ears(story)
    root = logging.getLogger("zsched")
    before = root.level, root.propagate
    root.addHandler(ears)
    root.setLevel(logging.INFO if story.wanted else logging.ERROR)
    root.propagate = False
    try:
        yield ears
    finally:
        root.removeHandler(ears)
        root.setLevel(before[0])
        root.propagate = before[1]
