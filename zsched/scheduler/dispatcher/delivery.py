"""Claimed runs on their way to workers: as run frames, and back when a frame did not leave."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from zsched import protocol
from zsched.model.limits import LINE_INTERVAL_MS
from zsched.model.rate import Throttled
from zsched.model.types import Now, Reason, RunId
from zsched.scheduler.dispatcher.outbox import Outbox
from zsched.scheduler.dispatcher.returns import Returns
from zsched.scheduler.dispatcher.session import Session, Sessions
from zsched.scheduler.dispatcher.translation import Unseal, order
from zsched.store.contract import Claimed, Store

log = logging.getLogger(__name__)


class Delivery:
    """Sends runs by the outbox. `unseal` opens their secrets."""

    def __init__(self, store: Store, sessions: Sessions, returns: Returns, outbox: Outbox, unseal: Unseal) -> None:
        self._store = store
        self._sessions = sessions
        self._returns = returns
        self._outbox = outbox
        self._unseal = unseal
        # A line that a peer can cause with each frame that is sent to it.
        self._line = Throttled(log, logging.WARNING, LINE_INTERVAL_MS)

    def send_runs(self, now: Now, session: Session, claimed: Sequence[Claimed]) -> None:
        """Send what was claimed for a worker in one frame. Runs whose secrets can't be read fail; when none is left,
        nothing is sent.
        """
        orders = []
        for run in claimed:
            try:
                orders.append(order(run, self._unseal))
            except ValueError as error:
                # No worker can execute a run whose secrets can't be read.
                log.error("run %d of job %d fails: %s", run.run_id, run.job_id, error)
                self._store.quarantine(run.run_id, str(error), now.wall_ms)
            else:
                log.debug("run %d of job %d: sent to worker %s", run.run_id, run.job_id, session.name)
        if orders:
            frame = protocol.Dispatch(s=session.token, ep=self._outbox.epoch, n=session.n, runs=tuple(orders))
            self._outbox.send(session, frame)

    def on_unreachable(self, peer: bytes, frame: protocol.SchedulerFrame, now: Now) -> None:
        """A frame did not leave: runs in it are pending again, and the worker gets none until it sends something."""
        for session in self._sessions:
            if session.peer == peer:
                session.window = 0
                if isinstance(frame, protocol.Dispatch):
                    runs = [RunId(order.run) for order in frame.runs]
                    requeue = self._store.requeue_unstarted
                    back = sum(requeue(run, session.name, Reason.UNDELIVERED, now.wall_ms) for run in runs)
                    # A worker that reads nothing and asks for more would otherwise get the same runs again and again.
                    self._returns.give_back(session, back, now)
                line = "worker %s can't be reached: a frame could not be sent"
                self._line.write(now.mono_ms, line, session.name)
