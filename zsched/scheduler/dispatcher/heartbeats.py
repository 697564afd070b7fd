"""Heartbeat and ready frames: how much a worker takes, what it holds, and the ack that says what it must end."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from zsched import protocol
from zsched.model.limits import ACK_RUNS_MAX, RUNS_NAMED_MAX
from zsched.model.types import Now, RunId
from zsched.scheduler.dispatcher import arrival, foreign
from zsched.scheduler.dispatcher.returns import Returns
from zsched.scheduler.dispatcher.session import Session, Sessions
from zsched.store.contract import Store

log = logging.getLogger(__name__)


class Heartbeats:
    """Answers heartbeats with `epoch`."""

    def __init__(self, store: Store, sessions: Sessions, returns: Returns, epoch: int) -> None:
        self._store = store
        self._sessions = sessions
        self._returns = returns
        self._epoch = epoch

    def on_ready(self, session: Session, frame: protocol.Ready | protocol.Heartbeat, now: Now) -> None:
        """A worker says how much it takes, and whether it is about to end."""
        session.ask(frame.window, frame.ahead)
        if frame.leaving:
            arrival.announce_end(self._store, self._sessions, session, now)

    def on_heartbeat(self, session: Session, frame: protocol.Heartbeat, now: Now) -> protocol.HeartbeatAck:
        """Reconcile the store with what the worker holds."""
        self._mark_stuck(session, frame.stuck, now)
        self.on_ready(session, frame, now)
        foreign.note(self._store, session, frame.foreign, now)
        kill, cancel, missing = arrival.reconcile(self._store, session, frame.runs, frame.n, now)
        self._returns.give_back(session, missing, now)
        return self._ack(session, frame, kill, cancel)

    def ack_unstored(
        self, peer: bytes, frame: protocol.Heartbeat, key: str
    ) -> tuple[Session, protocol.HeartbeatAck] | None:
        """The ack to a heartbeat of a turn that was rolled back, by what the store says now; None: no ack.

        The worker is alive, and no lease may end because of the scheduler's disk. What the heartbeat has to store, the
        next one brings again.
        """
        session = self._sessions.of_frame(frame.s, peer, key)
        if session is None:
            return None
        held = self._store.held_by(session.name)
        stuck = {run.run_id for run in held if run.stuck}
        # An ack says that stuck runs are stored as such.
        if not stuck.issuperset(RunId(run) for run in frame.stuck):
            return None
        return session, self._ack(session, frame, *arrival.unwanted(held, frame.runs))

    def _mark_stuck(self, session: Session, runs: Sequence[int], now: Now) -> None:
        stuck = []
        for run_id in runs:
            if self._store.mark_stuck(RunId(run_id), session.name, now.wall_ms):
                stuck.append(run_id)
        if stuck:
            named = ", ".join(map(str, stuck[:RUNS_NAMED_MAX]))
            log.error("worker %s can't end the processes of %d runs: %s", session.name, len(stuck), named)

    def _ack(
        self, session: Session, frame: protocol.Heartbeat, kill: list[RunId], cancel: list[RunId]
    ) -> protocol.HeartbeatAck:
        return protocol.HeartbeatAck(
            s=session.token,
            ep=self._epoch,
            seq=frame.seq,
            kill=tuple(kill[:ACK_RUNS_MAX]),
            cancel=tuple(cancel[:ACK_RUNS_MAX]),
            discard=session.discard,
        )
