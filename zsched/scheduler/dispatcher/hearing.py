"""Signs of life: when the scheduler last read its sockets, and which workers it heard there.

Called by the loop outside the turn's transaction. A worker that sends is alive, whether or not the turn that handles
its frames can be stored; and a turn that fails is not a sign of life of any worker.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from zsched import protocol
from zsched.model.limits import STALL_MS, STORE_WAIT_MS_MAX, TICK_MS_MAX
from zsched.model.types import Now, WorkerId
from zsched.scheduler.dispatcher import arrival
from zsched.scheduler.dispatcher.commands import Beat, Command, Next, RegisterWorker, Report
from zsched.scheduler.dispatcher.session import Session, Sessions

log = logging.getLogger(__name__)

_OF_POLLERS: Final = (Beat, Next, RegisterWorker, Report)


class Hearing:
    """Updates the sessions' times, and notices when the scheduler itself stood still."""

    def __init__(self, sessions: Sessions, now: Now) -> None:
        self._sessions = sessions
        self._looked_ms = now.mono_ms
        self._drained = True

    def on_look(self, now: Now, *, drained: bool) -> None:
        """The loop has read its sockets, at least TICK_MS_MAX after the time before unless it stood still. `drained`:
        it has read all that had arrived.
        """
        gap_ms = now.mono_ms - self._looked_ms - TICK_MS_MAX
        self._looked_ms = now.mono_ms
        if gap_ms > STALL_MS:
            log.warning("the scheduler stood still for %d ms: no worker is judged by that time", gap_ms)
            self._sessions.forgive(gap_ms, now.mono_ms)
        if not (drained and self._drained):
            self._sessions.postpone_rivals(now.mono_ms)
        self._drained = drained

    def on_frame(self, peer: bytes, frame: protocol.WorkerFrame, now: Now, key: str = "") -> None:
        """A frame was read. A worker that can't get a session, because turns fail, still registers."""
        if isinstance(frame, protocol.Register):
            session = self._registering(frame, key)
        else:
            session = self._sessions.of_frame(frame.s, peer, key)
        if session is not None:
            session.hear(now)

    def on_command(self, command: Command[Any], now: Now) -> None:
        """A command was taken from the inbox. Those of a worker that polls are its signs of life."""
        if isinstance(command, _OF_POLLERS):
            session = self._sessions.of_worker(command.worker_id)
            if session is not None and session.polls:
                session.hear(now)

    def on_store_wait(self, wait_ms: int) -> None:
        """A turn failed after it had waited for the store. That does not count as standing still: frames came in
        meanwhile, and the next look finds them.
        """
        self._looked_ms += min(wait_ms, STORE_WAIT_MS_MAX)

    def _registering(self, frame: protocol.Register, key: str) -> Session | None:
        """The session of the same start of a worker, which registers again."""
        session = self._sessions.of_worker(WorkerId(frame.worker))
        if session is None or session.polls or session.worker.incarnation != frame.incarnation:
            return None
        # A session that is known from the store alone has no key yet.
        known = session.key in ("", key)
        return session if known and not arrival.is_late(session, frame) else None
