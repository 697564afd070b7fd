"""Retries that prefer another worker than the one on which their task has failed.

Such a run is kept out of the ready runs by a bit of its own for AVOID_MS, so that a claim never skips a row. Meanwhile
each tick offers it to the other workers that fit it. It loses the bit at once when there is no other worker to wait
for: a lone worker tries again without a delay.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from zsched.model.limits import AVOIDING_RUNS_MAX, CLAIM_BYTES_MAX
from zsched.model.types import DemandId, Now
from zsched.scheduler.dispatcher import placement
from zsched.scheduler.dispatcher.session import Session, Sessions
from zsched.store.contract import Avoiding, Claim, Claimed, Store

log = logging.getLogger(__name__)


class Avoidance:
    """Offers such runs, AVOIDING_RUNS_MAX in a turn, the oldest first. `waiting`: some were left by the last tick."""

    def __init__(self, store: Store, sessions: Sessions) -> None:
        self._store = store
        self._sessions = sessions
        self._runs: list[Avoiding] = []
        # By demand, the sessions that fit it.
        self._fitting: dict[DemandId, list[Session]] = {}

    @property
    def waiting(self) -> bool:
        return bool(self._runs)

    def begin(self, lease_ms: int, now: Now, send: placement.Send) -> None:
        """Before ready runs are placed: release the runs that have no choice, and place those with a higher priority
        than every ready run.
        """
        self._runs = self._store.avoiding(AVOIDING_RUNS_MAX)
        self._fitting.clear()
        if not self._runs:
            return
        alone = [run.ready.run_id for run in self._runs if not self._others(run, now)]
        if alone:
            self._store.stop_avoiding(alone)
            self._runs = [run for run in self._runs if run.ready.run_id not in alone]
        ready = self._store.ready(now.wall_ms)
        better = [run for run in self._runs if not ready or run.ready.priority > ready[0].priority]
        self._place(better, lease_ms, now, send)

    def end(self, lease_ms: int, now: Now, send: placement.Send) -> None:
        """After ready runs are placed: place the others where there is still room."""
        if self._runs:
            # What was placed meanwhile has changed which workers take a suspect.
            self._fitting.clear()
            self._place(list(self._runs), lease_ms, now, send)

    def claim_one(self, session: Session, now: Now) -> Claimed | None:
        """The oldest of the runs for a worker that polls, which is not the one that failed it; None: none fits."""
        if not self.waiting:
            return None
        for run in self._store.avoiding(AVOIDING_RUNS_MAX):
            if run.worker_id != session.name and placement.fits(self._store, run.ready, session):
                claimed = self._claim(run, session, None, now)
                if claimed:
                    return claimed[0]
        return None

    def _others(self, run: Avoiding, now: Now) -> list[Session]:
        """The sessions of other workers that take such runs, now or when they have room."""
        demand_id = run.ready.demand_id
        if demand_id not in self._fitting:
            self._fitting[demand_id] = [
                session
                for session in self._sessions
                if (session.polls or (session.window and session.paused_until_ms <= now.mono_ms))
                and not session.withheld
                and not session.leaving
                and placement.fits(self._store, run.ready, session)
            ]
        return [session for session in self._fitting[demand_id] if session.name != run.worker_id]

    def _place(self, runs: Sequence[Avoiding], lease_ms: int, now: Now, send: placement.Send) -> None:
        """Claim each of the runs for the roomiest of the other workers, if one has room, and send it."""
        size = 0
        for run in runs:
            open_ = [session for session in self._others(run, now) if self._room(session) > 0]
            if not open_ or size >= CLAIM_BYTES_MAX:
                continue
            session = max(open_, key=self._room)
            claimed = self._claim(run, session, lease_ms if run.ready.demand.leased else None, now)
            self._runs.remove(run)
            if claimed:
                log.debug("run %d goes to worker %s instead of %s", run.ready.run_id, session.name, run.worker_id)
                size += claimed[0].size
                send(session, claimed)
                # The room of a run on probation may have changed.
                self._fitting.clear()

    def _room(self, session: Session) -> int:
        return 0 if session.polls else placement.free_slots(self._store, session)

    def _claim(self, run: Avoiding, session: Session, lease_ms: int | None, now: Now) -> list[Claimed]:
        if not session.polls:
            session.n += 1
        wanted = Claim(
            worker_id=session.name,
            demand_id=run.ready.demand_id,
            count=1,
            floor=run.ready.priority,
            handed_n=session.n,
            lease_ms=lease_ms,
            ends=session.polls,
            run_id=run.ready.run_id,
        )
        return self._store.claim(wanted, now.wall_ms)
