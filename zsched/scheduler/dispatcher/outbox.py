"""The outbox: frames for workers and live output, in order. The loop sends them after the commit, and only then."""

from __future__ import annotations

from typing import Final

from zsched import protocol
from zsched.model.limits import ERROR_DETAIL_CHARS_MAX, ERROR_INTERVAL_MS, ERRORS_REMEMBERED_MAX
from zsched.model.types import Now
from zsched.scheduler.dispatcher.session import Session

# A rival for a name decides by each of these whether it gives up, so none is left out.
_UNTHROTTLED: Final = ("E_DUP",)


class Outbox:
    """`frames` are (peer, frame); `output` is what watched runs have written. `epoch` is that of every frame sent."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.frames: list[tuple[bytes, protocol.SchedulerFrame]] = []
        self.output: list[protocol.Log] = []
        # When each peer last got an error with each code, by the steady clock.
        self._errors: dict[tuple[bytes, str], int] = {}

    def clear(self) -> None:
        self.frames.clear()
        self.output.clear()

    def mark(self) -> tuple[int, int]:
        """The present ends of the lists, for `cut`."""
        return len(self.frames), len(self.output)

    def cut(self, mark: tuple[int, int]) -> None:
        """Forget what a part of the turn that was undone would have sent."""
        del self.frames[mark[0] :]
        del self.output[mark[1] :]

    def send(self, session: Session, frame: protocol.SchedulerFrame) -> None:
        """Send to a connected worker; nothing happens when the session has no connection."""
        if session.peer is not None:
            self.frames.append((session.peer, frame))

    def reply(self, peer: bytes, frame: protocol.Registered | protocol.Error, now: Now) -> None:
        """Answer a peer that has no session. Errors are throttled: one for each code in ERROR_INTERVAL_MS."""
        if isinstance(frame, protocol.Error) and frame.code not in _UNTHROTTLED:
            self._reply_error_throttled(peer, frame, now)
        else:
            self.frames.append((peer, frame))

    def _reply_error_throttled(self, peer: bytes, error: protocol.Error, now: Now) -> None:
        last_ms = self._errors.get((peer, error.code))
        if last_ms is not None and now.mono_ms - last_ms < ERROR_INTERVAL_MS:
            return
        if len(self._errors) >= ERRORS_REMEMBERED_MAX:
            self._errors.clear()
        self._errors[peer, error.code] = now.mono_ms
        self.frames.append((peer, error))


def error(code: protocol.ErrorCode, detail: str, *, fatal: bool = False) -> protocol.Error:
    """An error frame; a detail that is too long is cut."""
    return protocol.Error(code=code, fatal=fatal, detail=detail[:ERROR_DETAIL_CHARS_MAX])
