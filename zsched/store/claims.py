"""Runs from pending to running and back: claims, and what a worker holds. Part of the write side (see core.py)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from msgspec.structs import replace

from zsched.model.demand import Demand
from zsched.model.files import unpack
from zsched.model.lifecycle import Cause
from zsched.model.limits import CLAIM_AHEAD_RUNS_MAX
from zsched.model.types import DemandId, JobId, Reason, Run, RunId, WorkerId
from zsched.store import content_sql, rows, sql, transitions
from zsched.store.contract import Avoiding, Claim, Claimed, Holding, Load, Ready, StoreCorrupt
from zsched.store.engine import Row
from zsched.store.lives import PENDING, RUNNING, Change
from zsched.store.mapping import DAMAGED
from zsched.store.offers import UNREADABLE_ROW, OffersWriter

# Raised when a row of a run or job is damaged.
_DAMAGE: Final = (StoreCorrupt, *DAMAGED)


class ClaimsWriter(OffersWriter):
    """The role contract.Runs, until runs end. What is ready stands in offers.py."""

    # --- from pending to running ---

    def avoiding(self, count: int) -> list[Avoiding]:
        if not self._avoiding:
            return []
        return [
            Avoiding(Ready(DemandId(demand_id), self._demand(DemandId(demand_id)), priority, RunId(run_id)), worker_id)
            for run_id, demand_id, priority, worker_id in self._execute(sql.AVOIDING, (count,))
            if self._demand(DemandId(demand_id)).queue not in self.queues.paused
        ]

    def stop_avoiding(self, runs: Sequence[RunId]) -> None:
        self._ahead.waiting = None
        self._engine.execute_list(sql.STOP_AVOIDING, [(run_id,) for run_id in runs])

    def claim(self, wanted: Claim, now_ms: int) -> list[Claimed]:
        demand = self._demand(wanted.demand_id)
        claimed = [] if wanted.run_id is not None else self._take_waiting(wanted, demand.probation > 0)
        # Runs with limits are not the first ready ones, so they are claimed by their ids.
        listed = bool(claimed or demand.limits)
        if not claimed:
            claimed, damaged = self._claimable(wanted, demand)
            for run_id, why in damaged:
                self._quarantine(run_id, wanted.worker_id, why, now_ms)
        if "entry" in demand.needs:
            claimed = self._with_entries(claimed, wanted.worker_id, now_ms)
        if late := [run.run_id for run in claimed if run.expires_ms is not None and run.expires_ms <= now_ms]:
            self._expire(late, now_ms)
            claimed = [run for run in claimed if run.run_id not in late]
        if "stdin" in demand.needs:
            claimed = [self._with_input(run) for run in claimed]
        if "files" in demand.needs:
            claimed = [self._with_files(run) for run in claimed]
        if claimed:
            self._hand_out(claimed, wanted, demand.probation, now_ms, listed=listed)
        return claimed

    def _hand_out(self, claimed: list[Claimed], wanted: Claim, probation: int, now_ms: int, *, listed: bool) -> None:
        """Move the runs of a claim to running. `listed`: by their ids; else by the order in which they were chosen."""
        change = Change(at_ms=now_ms, worker_id=wanted.worker_id, probation=probation, lease_ms=wanted.lease_ms or 0)
        values = (
            wanted.worker_id, wanted.handed_n, now_ms, wanted.lease_ms, probation, wanted.ends, now_ms
        )  # fmt: skip
        taken = [(run.run_id, run.job_id, None, False, False, wanted.demand_id) for run in claimed]
        if listed or wanted.run_id is not None:
            statement = transitions.CLAIM_LISTED if wanted.run_id is None else transitions.CLAIM_AVOIDING
            runs = [(run.run_id,) for run in claimed]
            self._move_list((PENDING, Cause.CLAIM), (statement, values), runs, change, taken)
            return
        # Within one transaction of the only writer, this chooses the same runs as the statement before, without those
        # that are damaged or late.
        chosen = (*values, wanted.demand_id, wanted.floor, len(claimed))
        self._move((PENDING, Cause.CLAIM), transitions.CLAIM, chosen, change, taken)

    def _take_waiting(self, wanted: Claim, probation: bool) -> list[Claimed]:
        """The runs of a claim, if they were read ahead: then they wait no more. Otherwise none."""
        waiting, self._ahead.waiting = self._ahead.waiting, None
        if waiting is None or waiting.demand_id != wanted.demand_id:
            return []
        if len(waiting.rows) < wanted.count and not waiting.all:
            waiting = self._read_waiting(wanted.demand_id, CLAIM_AHEAD_RUNS_MAX)
        chosen = [row for row in waiting.rows[: wanted.count] if row[0] >= wanted.floor]
        try:
            claimed = [_claimed(row[1:], probation, wanted.lease_ms) for row in chosen]
        except _DAMAGE:
            return []
        self._ahead.waiting = waiting._replace(rows=waiting.rows[len(chosen) :])
        return claimed

    def _claimable(self, wanted: Claim, demand: Demand) -> tuple[list[Claimed], list[tuple[RunId, str]]]:
        """The runs that a claim takes, and those of them whose rows are damaged, with the reason."""
        statement, ids, probation = sql.CLAIMABLE, sql.CLAIMABLE_IDS, demand.probation > 0
        chosen: Row = (wanted.demand_id, wanted.floor, wanted.count)
        if demand.limits:
            statement, ids = sql.CLAIMABLE_LIMITED, sql.CLAIMABLE_LIMITED_IDS
            chosen = (wanted.demand_id, wanted.floor, min(wanted.count, self._tallies.room(demand)))
        if wanted.run_id is not None:
            statement, chosen = sql.ORDER_AVOIDING, (wanted.run_id,)
        try:
            return [_claimed(row, probation, wanted.lease_ms) for row in self._execute(statement, chosen)], []
        except _DAMAGE:
            pass
        # One damaged row must not keep the others from starting: read each by itself.
        claimed, damaged = [], []
        for (run_id,) in self._execute(ids, chosen) if wanted.run_id is None else [(wanted.run_id,)]:
            try:
                claimed.append(_claimed(self._execute(sql.ORDER, (run_id,))[0], probation, wanted.lease_ms))
            except _DAMAGE as error:
                damaged.append((RunId(run_id), repr(error)))
        return claimed, damaged

    def find_claimed(self, run_id: RunId) -> Claimed | None:
        stored = self._execute(sql.ORDER, (run_id,))
        if not stored:
            return None
        claimed = self._with_files(self._with_input(_claimed(stored[0], False, None)))
        with suppress(ValueError):
            return replace(claimed, entry=self._arrays.blocks.entry(claimed.job_id, claimed.task))
        return claimed

    def _with_entries(self, claimed: Sequence[Claimed], worker_id: WorkerId, now_ms: int) -> list[Claimed]:
        """The runs with the entries of their tasks. Those whose entries are damaged fail."""
        whole: list[Claimed] = []
        for run in claimed:
            try:
                whole.append(replace(run, entry=self._arrays.blocks.entry(run.job_id, run.task)))
            except ValueError as error:
                self._quarantine(run.run_id, worker_id, str(error), now_ms)
        return whole

    def _with_input(self, run: Claimed) -> Claimed:
        """A run with the input of its job, if it has one. It is read apart, so that other claims do not look for it."""
        stored = self._execute(content_sql.INPUT, (run.job_id,))
        return replace(run, stdin=stored[0][0]) if stored else run

    def _with_files(self, run: Claimed) -> Claimed:
        """The same with the files of its job."""
        stored = self._execute(content_sql.FILES, (run.job_id,))
        return replace(run, files=unpack(*stored[0])) if stored else run

    def _quarantine(self, run_id: RunId, worker_id: WorkerId, why: str, now_ms: int) -> None:
        """Fail a run that can't be handed out to the worker that would get it."""
        change = Change(at_ms=now_ms, detail=UNREADABLE_ROW.format(why))
        values = (worker_id, change.detail, now_ms, run_id)
        self._move((PENDING, Cause.QUARANTINE), transitions.QUARANTINE_PENDING, values, change)

    # --- what a worker holds ---

    def load(self, worker_id: WorkerId) -> Load:
        return self._loads.of(worker_id)

    def held_by(self, worker_id: WorkerId) -> list[Holding]:
        held = [
            Holding(
                run_id=RunId(run_id),
                job_id=JobId(job_id),
                handed_n=n,
                claimed_ms=claimed_ms,
                started_ms=started_ms,
                probation=probation,
                cancelled=bool(cancelled),
                crashes=crashes,
                stuck=bool(stuck),
                demand=self._demand(DemandId(demand_id)),
            )
            for run_id, job_id, n, claimed_ms, started_ms, probation, cancelled, crashes, stuck, demand_id in (
                self._execute(sql.HELD, (worker_id,))
            )
        ]
        self._held_read += len(held)
        return held

    def live_on(self, worker_id: WorkerId, job_id: JobId) -> list[Run]:
        return [rows.run(row) for row in self._execute(sql.LIVE_ON_WORKER, (worker_id, job_id))]

    def last_on(self, worker_id: WorkerId, job_id: JobId) -> Run | None:
        stored = self._execute(sql.LAST_ON_WORKER, (job_id, worker_id))
        return rows.run(stored[0]) if stored else None

    def adopt(self, worker_id: WorkerId) -> None:
        self._execute(sql.ADOPT, (worker_id,))

    def start(self, run_id: RunId, worker_id: WorkerId, started_ms: int) -> bool:
        change = Change(at_ms=started_ms, worker_id=worker_id)
        known = self._ahead.reported.find(RUNNING, Cause.START, [run_id], worker_id)
        return bool(self._move((RUNNING, Cause.START), transitions.START, (started_ms, run_id), change, known))

    def clear_probation(self, run_id: RunId) -> bool:
        return bool(self._move((RUNNING, Cause.OUTLIVE), transitions.OUTLIVE, (run_id,), Change(at_ms=0)))

    def requeue_unstarted(self, run_id: RunId, worker_id: WorkerId, reason: Reason, now_ms: int) -> bool:
        cause, statement = Cause.RETURN, transitions.RETURN
        if reason is Reason.UNDELIVERED:
            cause, statement = Cause.BOUNCE, transitions.BOUNCE
        change = Change(at_ms=now_ms, worker_id=worker_id)
        return bool(self._move((RUNNING, cause), statement, (now_ms, run_id), change))


def _claimed(row: Row, probation: bool, lease_ms: int | None) -> Claimed:
    """A row of sql.CLAIMABLE or sql.ORDER. Raises what a damaged row may raise."""
    order = rows.claimed((*row, probation, lease_ms, None, None, None))
    if not order.command:
        raise ValueError("the job has no command")
    return order
