"""The one way to change a run's status: a set of runs and one cause, looked up in the table of a run's life.

The effects of a move are the same whatever its cause: its event, the counters of its job, the load of its worker, then
its successor or the end of its task. Part of the write side (see core.py); the other parts call `_move` and `_make`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from msgspec import Struct

from zsched.model.backoff import retry_ms
from zsched.model.blocked import Blocked
from zsched.model.demand import Demand
from zsched.model.failures import is_retried, read_failures
from zsched.model.lifecycle import GIVEN, MOVES, Cause, Move, State, state_of
from zsched.model.limits import AVOID_MS
from zsched.model.types import DemandId, JobId, RunId, RunStatus, WorkerId
from zsched.store import moves, rows, sql, transitions, usage
from zsched.store.core import Core
from zsched.store.engine import Row
from zsched.store.ledger import Shift
from zsched.store.mapping import DAMAGED

log = logging.getLogger(__name__)

PENDING, RUNNING = RunStatus.PENDING, RunStatus.RUNNING
# The column of moves.RETURNING_PLACE after those of moves.MOVED.
_PLACE: Final = 6
# Bits with which a task of an array is open.
_OPEN: Final = Blocked.LIMITED | Blocked.AVOIDS


# A Struct: a turn makes some for each frame, and a frozen dataclass takes 0.8 us to make instead of 0.1 us.
class Change(Struct, frozen=True, kw_only=True):
    """What a move's effects have to know besides the runs.

    `worker_id`: the worker that gets the runs or reports them; None: the one that has them. `reasons`: the reasons that
    come with the cause, by run. `probation` and `lease_ms`: of runs that become running, 0 without. `together` and
    `due_ms`: of a lost run's successor, as in Store.fail_lost. `took_ms`: how long ended runs ran, by run, as their
    worker says.
    """

    at_ms: int
    actor: str = "scheduler"
    worker_id: WorkerId | None = None
    detail: str | None = None
    reasons: Mapping[int, str] = {}
    probation: int = 0
    lease_ms: int = 0
    together: int = 0
    due_ms: int | None = None
    took_ms: Mapping[int, int] | None = None


class Moved(NamedTuple):
    """A run that was moved. `successor`: the run that follows it in its task, if one does."""

    run_id: RunId
    job_id: JobId
    worker_id: WorkerId | None
    move: Move
    successor: RunId | None = None


class Lives(Core):
    """Makes and moves runs."""

    def _move(
        self,
        was: tuple[RunStatus, Cause],
        statement: str,
        parameters: Row,
        change: Change,
        known: Sequence[Row] | None = None,
    ) -> list[Moved]:
        """Move the runs that a statement of transitions.py selects: `was` is their status, and the cause. Returns those
        that it moved.

        `known`: they were read before, as moves.MOVED. A statement that changes their state must not return them.
        """
        values = (*parameters, *(change.worker_id,) * moves.fences(*was))
        if known is None:
            known = self._execute(statement, values)
        elif known:
            self._engine.send(statement, values, rows=len(known))
        return self._follow_up(*was, known, change)

    def _move_list(
        self,
        was: tuple[RunStatus, Cause],
        statement: tuple[str, Row],
        rows: Sequence[Row],
        change: Change,
        known: Sequence[Row] | None = None,
    ) -> list[Moved]:
        """The same by a statement with a list, given with the parameters before its list."""
        text, before = statement
        fences = (change.worker_id,) * moves.fences(*was)
        if known is None:
            known = self._engine.execute_list(text, rows, before, fences)
        elif known:
            self._engine.send_list(text, rows, before, fences, len(known))
        return self._follow_up(*was, known, change)

    def _follow_up(self, status: RunStatus, cause: Cause, moved: Sequence[Row], change: Change) -> list[Moved]:
        """The effects of moves that are stored."""
        self._ahead.reported.note(cause, moved, change.at_ms)
        if cause is not Cause.CLAIM:
            self._ahead.waiting = None
        groups: dict[State, list[Row]] = {}
        for row in moved:
            groups.setdefault(state_of(status, row[3], row[4]), []).append(row)
        done: list[Moved] = []
        ended = False
        for state, group in groups.items():
            # The guard excludes what the table refuses.
            move = MOVES[state][cause]
            self._record(status, move, group, change)
            done += [Moved(run, job, change.worker_id or worker, move) for run, job, worker, *_ in group]
            ended |= move.final
        return self._end_tasks(done, change) if ended else done

    def _record(self, status: RunStatus, move: Move, moved: Sequence[Row], change: Change) -> None:
        """The events of equal moves, the counters of their jobs, and the load of the worker."""
        became = move.became.status
        assert became is not None
        if not move.silent:
            given, reason = move.reason is GIVEN, move.reason
            at_ms, actor, detail, owner = change.at_ms, change.actor, change.detail or None, change.worker_id
            self._ledger.add(
                [
                    (
                        at_ms, actor, job, run, run, owner or worker, status, became,
                        change.reasons[run] if given else reason, detail,
                    )
                    for run, job, worker, *_ in moved
                ]
            )  # fmt: skip
        if len(moved[0]) > _PLACE:
            self._note_places(status, became, moved)
        if became is not status:
            self._ledger.count([row[1] for row in moved], status, became)
            self._tally([row[5] for row in moved], status, became)
        if move.final:
            took_ms = self._took_ms(status, moved, change.at_ms) if change.took_ms is None else change.took_ms
            self._ledger.usage.add(became, [(row[1], took_ms.get(row[0], 0)) for row in moved])
        held = {change.worker_id: len(moved)} if change.worker_id else Counter(row[2] for row in moved)
        for worker_id, runs in held.items():
            if became is RUNNING and status is not RUNNING:
                self._loads.enter(worker_id, runs, change.probation, change.lease_ms)
            elif status is RUNNING and became is not RUNNING:
                self._loads.leave(worker_id, runs)
            elif move.started:
                # It is on probation no more, and the bounds of the other runs are unknown.
                self._loads.drop(worker_id)

    def _note_places(self, status: RunStatus, became: RunStatus, moved: Sequence[Row]) -> None:
        """Count the runs of arrays that became pending without a place, or were. `moved`: with their places."""
        waiting = (became is PENDING) - (status is PENDING)
        for job_id, runs in Counter(row[1] for row in moved if row[_PLACE]).items():
            self._ledger.shift(job_id, Shift(waiting=waiting * runs))

    def _tally(self, demands: Sequence[int], was: RunStatus | None, became: RunStatus) -> None:
        """Count moved runs for their demands. Demands of plain jobs are not counted."""
        known = {demand_id: self._demand(DemandId(demand_id)) for demand_id in set(demands)}
        # Most turns move runs of plain jobs alone.
        if not any(demand.tallied for demand in known.values()):
            return
        for demand_id, runs in Counter(demands).items():
            if known[demand_id].tallied:
                self._tallies.change(DemandId(demand_id), known[demand_id], was, became, runs)

    def _took_ms(self, status: RunStatus, moved: Sequence[Row], now_ms: int) -> Mapping[int, int]:
        """How long runs ran that the scheduler has ended now, by run."""
        if status is PENDING:
            return {}
        started = self._engine.execute_list(usage.TIMES, [(row[0],) for row in moved])
        return {run_id: max(0, now_ms - started_ms) for run_id, started_ms in started}

    def _expire(self, runs: Sequence[int], now_ms: int) -> None:
        """Fail pending runs whose deadline has come."""
        change = Change(at_ms=now_ms, detail="it had not started at its deadline")
        rows = [(run_id,) for run_id in runs]
        self._move_list((PENDING, Cause.EXPIRE), (transitions.EXPIRE, (change.detail, now_ms)), rows, change)

    # --- the end of a task ---

    def last_fire_lives(self, job_id: JobId) -> bool:
        if job_id in self._arrays:
            return any(state.live for state in self._arrays.states([job_id]))
        stored = self._execute(sql.LAST_FIRE_LIVES, (job_id,))
        return bool(stored and stored[0][0])

    def _end_tasks(self, moved: list[Moved], change: Change) -> list[Moved]:
        """Each of these runs that has ended gets a successor, or its task has ended: no other place decides that.
        Returns them with their successors.
        """
        followed = [each for each in moved if each.move.successor is not None]
        successors = self._succeed(followed, change) if followed else {}
        ended = [each for each in moved if each.move.final and each.run_id not in successors]
        self._ledger.note_ends(each.job_id for each in ended)
        self._settle(ended)
        return [each._replace(successor=successors.get(each.run_id)) for each in moved] if successors else moved

    def _settle(self, ended: Iterable[Moved]) -> None:
        """Note those of the ended tasks for which others wait; followers.py does."""

    def _settle_part(self, job_id: JobId, part: tuple[int, int]) -> None:
        """The same for tasks of an array that have ended without a run, or some of which have."""

    def _restore_tasks(self, lease_ms: int, detail: str, now_ms: int) -> None:
        """Tasks of arrays that have no run may have got some after the backup. Those that may start only once fail, and
        those with leases wait until these are over.
        """

    def _succeed(self, ended: Sequence[Moved], change: Change) -> dict[int, RunId]:
        """Make the successors of ended runs whose tasks may have one; returns them by run."""
        by_run = {each.run_id: each.move for each in ended}
        made: dict[int, RunId] = {}
        for row in self._engine.execute_list(sql.ENDED_RUNS, [(run_id,) for run_id in by_run]):
            successor = self._follow(by_run[row[0]], row, change)
            if successor is not None:
                made[row[0]] = successor
        return made

    def _follow(self, move: Move, row: Row, change: Change) -> RunId | None:
        """Make the next run of a task whose run has ended, if it may have one. `row`: of sql.ENDED_RUNS."""
        run_id, job_id, task, failures, demand_id, owner_id, queue, retries, backoff, retry_on, *rest = row
        before, of_array, worker_id, *end = rest
        self._ledger.usage.know(job_id, owner_id, queue)
        due_ms, avoids, demand = change.due_ms, None, self._demand(demand_id)
        if move.successor is Cause.RETRY:
            if not is_retried(read_failures(retry_on), *end):
                return None
            try:
                if failures >= retries:
                    return None
                pause_ms = retry_ms(rows.backoff(backoff), failures + 1, f"{job_id} {task} {failures + 1}")
            except DAMAGED:
                # Its job's row is damaged: it is not tried again.
                return None
            due_ms, avoids = change.at_ms + pause_ms if pause_ms else None, worker_id
            line = "run %d of job %d failed: retry %d of %d in %d ms"
            log.info(line, run_id, job_id, failures + 1, retries, pause_ms)
        else:
            if demand.once:
                return None
            demand_id = self._probation_id(demand_id, demand, change.together or int(move.crash))
        blocked = (Blocked.LIMITED if demand.limits else 0) | (0 if due_ms is None else Blocked.DUE)
        if demand.limits:
            # A run that waits for room under its limits has no choice of workers.
            avoids = None
        if avoids is not None:
            blocked |= Blocked.AVOIDS
            due_ms = change.at_ms + AVOID_MS if due_ms is None else due_ms
        # What held its predecessor back holds it back, too.
        blocked |= before & (Blocked.HELD | Blocked.CAP | Blocked.PARENTS)
        if of_array and blocked & ~_OPEN:
            blocked |= Blocked.CAP
            self._ledger.shift(job_id, Shift(waiting=1))
        values = (move.attempt, demand_id, blocked, due_ms, move.failure, change.at_ms, avoids, run_id)
        statement = transitions.RETRY if move.successor is Cause.RETRY else transitions.REQUEUE
        assert move.successor is not None
        made = Change(at_ms=change.at_ms)
        return self._make(move.successor, statement, [(job_id, demand_id, values)], made, replaced=move.became.status)[
            0
        ]

    def _probation_id(self, demand_id: DemandId, demand: Demand, together: int) -> DemandId:
        """The demand of a suspect's successor: on probation, with at most `together` such runs; 0: as before."""
        if not together:
            return demand_id
        return self._demand_id(replace(demand, probation=min(together, demand.probation or together)))

    # --- new runs ---

    def _make(
        self,
        cause: Cause,
        statement: str,
        new: Sequence[tuple[JobId, int, Row]],
        change: Change,
        *,
        replaced: RunStatus | None = None,
        counted: bool = False,
    ) -> list[RunId]:
        """Make runs by an INSERT: each is given by its job, its demand, and the statement's parameters after the id.
        Returns their ids, which rise. Several runs have one event.

        `replaced`: the status of the run that each of them replaces in its task. `counted`: the rows of their jobs
        count them already.
        """
        move = MOVES[State.NEW][cause]
        self._ahead.waiting = None
        made = [RunId(number) for number in self._insert("runs", statement, [values for *_, values in new])]
        if not made:
            return made
        became = move.became.status
        assert became is not None
        if counted:
            self._ledger.note_counted([job_id for job_id, *_ in new])
        else:
            self._ledger.count([job_id for job_id, *_ in new], replaced, became)
        self._tally([demand_id for _, demand_id, _ in new], None, became)
        if not move.silent:
            # Of one job, or of as many as there are runs.
            job = new[0][0] if new[0][0] == new[-1][0] else None
            moved = (made[0], made[-1], None, None, became, move.reason, change.detail or None)
            self._ledger.add([(change.at_ms, change.actor, job, *moved)])
        return made

    def _insert(self, table: str, statement: str, values: Sequence[Row], first: int | None = None) -> range:
        """Insert rows, each given by the statement's parameters after the id. Returns their ids. `first`: these were
        taken before.
        """
        if not values:
            return range(0)
        if first is None:
            first = self._engine.take_ids(table, len(values))
        if len(values) == 1:
            self._engine.send(statement, (first, *values[0]), rows=1)
        else:
            self._engine.sendmany(statement, [(row_id, *row) for row_id, row in enumerate(values, first)])
        return range(first, first + len(values))
