"""The identity of a database, and a restore's changes to a copy. Part of the write side (see core.py)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from zsched.model.events import EventKind
from zsched.model.lifecycle import Cause
from zsched.model.limits import RESTORE_IDS_GAP, RESTORE_RUNS_MAX
from zsched.model.schedule import ScheduleError, next_fire_ms
from zsched.model.types import DemandId, JobId, RunId, lease_margin_ms
from zsched.store import array_sql, sql, transitions
from zsched.store.contract import Restoration
from zsched.store.ends import EndsWriter
from zsched.store.engine import Engine
from zsched.store.ledger import Note, Shift
from zsched.store.lives import PENDING, Change

_UNKNOWN_END: Final = "the database was restored from a backup, which does not know how the run ended"
_UNKNOWN_START: Final = "the database was restored from a backup, which does not know whether the run has started"

# How far a restored database raises the ids of each table. A run has up to four events.
ID_GAPS: Final = {"jobs": RESTORE_IDS_GAP, "runs": RESTORE_IDS_GAP, "events": 10 * RESTORE_IDS_GAP, "schedulers": 1_000}


class IdentityWriter(EndsWriter):
    """The role contract.Identity. Based on the ends of runs, because a restore ends runs."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._identity = str(self._execute(sql.IDENTITY)[0][0])

    @property
    def identity(self) -> str:
        return self._identity

    def predecessors(self) -> tuple[str, ...]:
        return tuple(str(db) for (db,) in self._execute(sql.PREDECESSORS))

    def take_over(self) -> int:
        epoch = int(self._execute(sql.TAKE_OVER)[0][0])
        self._engine.fence(epoch)
        return epoch

    def begin_epoch(self, host: str, pid: int, version: str, now_ms: int) -> int:
        epoch = self.take_over()
        self._execute(sql.BEGIN_EPOCH, (epoch, host, pid, version, now_ms))
        return epoch

    def set_key_check(self, sealed: str) -> None:
        self._execute(sql.SET_KEY_CHECK, (sealed,))

    def end_epoch(self, epoch: int, now_ms: int) -> None:
        self._execute(sql.END_EPOCH, (now_ms, epoch))

    # --- restores ---

    def succeed(self, identity: str, how: Restoration) -> int:
        now_ms, lease_ms, replaced = how.now_ms, how.lease_ms, how.replaced
        given_ms = max(int(self._execute(sql.LEASE_GIVEN)[0][0]), replaced.lease_ms)
        if lease_ms and given_ms:
            lease_ms = max(lease_ms, given_ms + lease_margin_ms(given_ms))
        old = self._identity
        self._replace_identity(identity, how)
        detail = f"{how.detail}; it was {old}"
        self._ledger.note(Note(at_ms=now_ms, actor=how.actor, became=EventKind.RESTORED, detail=detail))
        running = self._execute(sql.RUNNING)
        waiting = self._execute(transitions.WAITING, (now_ms,))
        for (run_id,) in running:
            self.fail_lost(RunId(run_id), _UNKNOWN_END, crash=False, together=0, due_ms=None, now_ms=now_ms)
        for begin in range(0, len(waiting), RESTORE_RUNS_MAX):
            self.replace_waiting([run_id for (run_id,) in waiting[begin : begin + RESTORE_RUNS_MAX]], now_ms)
            self.flush_counters(now_ms)
        for (demand_id,) in self._execute(sql.PENDING_DEMANDS) if lease_ms else ():
            if self._demand(DemandId(demand_id)).leased:
                for (job_id,) in self._execute(array_sql.LEAVE_ALL_PLACES, (demand_id,)):
                    self._ledger.shift(JobId(job_id), Shift(waiting=1))
                self._execute(sql.DELAY, (now_ms + lease_ms, now_ms + lease_ms, demand_id))
        self._restore_tasks(lease_ms, _UNKNOWN_START, now_ms)
        self._put_off_fires(lease_ms, now_ms)
        return len(running)

    def _replace_identity(self, identity: str, how: Restoration) -> None:
        """Make the present identity a predecessor, like those of the replaced database, and raise the id counters."""
        self._add_predecessor(self._identity, how.made_ms, how.now_ms)
        self._execute(sql.REPLACE_IDENTITY, (identity, how.now_ms))
        self._execute(sql.END_TRANSFER)
        for db in how.replaced.dbs:
            if db not in self.predecessors():
                self._add_predecessor(db, None, how.now_ms)
        for table, count in ID_GAPS.items():
            self._engine.raise_ids(table, how.replaced.ids.get(table, 0), count)
        epoch = how.replaced.ids.get("schedulers", 0)
        self._execute(sql.RAISE_EPOCH, (epoch, epoch, ID_GAPS["schedulers"]))
        self._identity = identity

    def _add_predecessor(self, db: str, made_ms: int | None, now_ms: int) -> None:
        generation = self._engine.take_ids("predecessors", 1)
        self._execute(sql.ADD_PREDECESSOR, (generation, db, made_ms, now_ms))

    def _put_off_fires(self, lease_ms: int, now_ms: int) -> None:
        """Handle due fires, which may have been made after the backup.

        The fire of a job that may start only once is skipped. That of a job with leases waits until they have ended.
        """
        for job_id, expression, once, leased in self._execute(sql.DUE_FIRES, (now_ms,)):
            if once:
                # A schedule that can't be read stays due: the scheduler ends it, with an event.
                with suppress(ScheduleError):
                    self._execute(sql.SET_NEXT_FIRE, (next_fire_ms(expression, now_ms), job_id))
            elif leased and lease_ms:
                self._execute(sql.SET_NEXT_FIRE, (now_ms + lease_ms, job_id))

    def replace_waiting(self, runs: Sequence[RunId], now_ms: int) -> None:
        """Replace pending runs by successors: each may have started after the backup, and an id is given out once."""
        change = Change(at_ms=now_ms, detail=_UNKNOWN_START)
        statement = transitions.RESTORE, (change.detail, now_ms)
        self._move_list((PENDING, Cause.RESTORE), statement, [(run_id,) for run_id in runs], change)
