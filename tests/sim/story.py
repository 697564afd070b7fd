"""What happened, for people: one line per event, the time first, then who. Kept only when somebody wants to read it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct, structs

from tests.sim.timeline import Timeline
from tests.sim.wording import Way, is_routine, read, words
from zsched.protocol import Heartbeat, HeartbeatAck, Ready


class Story:
    """The lines so far. `wanted` False: nothing is kept, which is three times faster. `details`: also what a first
    reader can do without: who hears what, heartbeats, messages between guard and agent.
    """

    def __init__(self, timeline: Timeline, *, wanted: bool, details: bool = True) -> None:
        self.wanted = wanted
        self.details = details
        self.lines: list[str] = []
        self.timeline = timeline
        # The last words of each sender, by the type of the frame.
        self._last: dict[tuple[str, type], str] = {}

    def tell(self, who: str, what: str, *facts: object) -> None:
        if self.wanted:
            self.lines.append(f"{self.timeline.now_ms:>8}  {who:<16}  {what % facts if facts else what}")

    def note(self, who: str, what: str, *facts: object) -> None:
        """A detail."""
        if self.details:
            self.tell(who, what, *facts)

    def send(self, sender: str, to: str, message: Struct, *, detail: bool = False) -> None:
        """A frame or a message is sent, or heard."""
        if not self.wanted:
            return
        text = words(message)
        if isinstance(message, Ready | Heartbeat | HeartbeatAck):
            # They are repeated each second; but for the number they are mostly the same.
            said = text if isinstance(message, Ready) else words(structs.replace(message, seq=0))
            before, self._last[sender, type(message)] = self._last.get((sender, type(message))), said
            detail |= before == said
        if self.details or not (detail or is_routine(message)):
            self.tell(f"{sender} → {to}" if to else sender, "%s", text)

    def send_body(self, sender: str, to: str, body: bytes, way: Way) -> None:
        """The same for a frame's bytes."""
        if self.wanted and (frame := read(body, way)) is not None:
            self.send(sender, to, frame)

    def lose(self, path: str, body: bytes, way: Way) -> None:
        """A frame is lost with its connection."""
        if self.wanted and (frame := read(body, way)) is not None and (self.details or not is_routine(frame)):
            self.tell("network", "lost on the way %s %s: %s", "from" if way == "up" else "to", path, words(frame))

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
