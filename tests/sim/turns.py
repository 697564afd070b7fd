"""Judges the order of starts: priorities, queues, shares, limits and unique keys. Part of the judge.

It knows what jobs ask for, which queues each worker serves, and what the store says of runs before and after a turn. It
never asks the store what is ready.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from tests.sim.callers import Asked as Job
from tests.sim.execution import Execution
from tests.sim.fairness import Fairness
from tests.sim.machine import Machine
from tests.sim.overseer import stands_still
from tests.sim.pollers import SimPoller
from tests.sim.scheduler import Scheduler
from tests.sim.violation import Violation
from tests.sim.witness import Witness
from zsched.model.limits import LEASE_MARGIN_MS

_ASKED: Final = """
    SELECT coalesce(queue, 'default'), limits, on_disconnect = 'stop', demand_id FROM jobs WHERE job_id = ?"""
_PAUSED: Final = "SELECT queue, paused_ms FROM queues WHERE paused_ms IS NOT NULL"
_WAITING: Final = """
    SELECT run_id, job_id, priority, demand_id, blocked FROM runs WHERE status = 'pending' AND blocked IN (0, 4)"""
_HANDED: Final = """
    SELECT r.priority, r.demand_id, j.priority FROM runs r JOIN jobs j ON j.job_id = r.job_id WHERE r.run_id = ?"""
_WISH: Final = "SELECT wish FROM demands WHERE demand_id = ?"
_RUNNING: Final = """
    SELECT j.limits FROM runs r JOIN jobs j USING (job_id) WHERE r.status = 'running' AND j.limits IS NOT NULL"""
_DOUBLED: Final = """
    SELECT unique_key, count(*) FROM jobs WHERE unique_key IS NOT NULL AND pending + running + unmade > 0
    GROUP BY unique_key HAVING count(*) > 1"""


class Asked(NamedTuple):
    """What a job asks for. `strict`: its runs end when their worker can't reach the scheduler."""

    queue: str
    limits: Mapping[str, int]
    strict: bool


class Waiting(NamedTuple):
    """A pending run that has no bit but LIMITED."""

    job: int
    priority: int
    demand: int
    limited: bool


class Turns:
    """Part of the judge."""

    def __init__(
        self,
        scheduler: Scheduler,
        witness: Witness,
        machines: Mapping[str, Machine],
        pollers: Mapping[str, SimPoller],
        asked: Mapping[str, Job],
    ) -> None:
        self._scheduler = scheduler
        self._witness = witness
        self._machines = machines
        self._pollers = pollers
        self._asked: dict[int, Asked] = {}
        self._waiting: dict[int, Waiting] = {}
        self._paused: dict[str, int] = {}
        self._fairness = Fairness(scheduler, asked)
        self.owner = self._fairness.owner
        # A restored database has lost runs that go on, so what is really running says nothing any more.
        self.restored = False

    def forget(self) -> None:
        """The store is that of an earlier moment again."""
        self.restored = True
        self._asked.clear()
        self._waiting = self._look_waiting()
        self._paused = dict(self._look(_PAUSED))
        self._fairness.forget()

    def check(self, given: Iterable[tuple[int, int, str]]) -> None:
        """After a turn. `given`: runs that have become running, with their jobs and workers."""
        waiting, paused = self._look_waiting(), dict(self._look(_PAUSED))
        still = {run: one for run, one in waiting.items() if self._waiting.get(run) == one}
        shut = {queue for queue, since_ms in paused.items() if self._paused.get(queue) == since_ms}
        pausing = paused.keys() | self._paused.keys()
        given = list(given)
        self._fairness.after_turn()
        for run, job, worker in given:
            self._check_queue(run, job, worker, shut)
            self._check_order(run, worker, still, pausing)
            self._check_share(run, job, worker, still, pausing)
        if any(self._of(job).limits for _, job, _ in given):
            self._check_limits(job for _, job, _ in given)
        for key, count in self._look(_DOUBLED):
            raise Violation(f"{count} jobs with the unique key {key} have not ended")
        self._waiting, self._paused = waiting, paused

    def on_start(self, machine: Machine, execution: Execution) -> None:
        """No more processes with a key than its limit live, if each of them ends with its lease; but for one that no
        KILL ends, and for a guard that stands still.
        """
        if self.restored or execution.script.world:
            return
        asked = self._of(execution.order.job)
        for key, most in asked.limits.items() if asked.strict else ():
            others = [
                life
                for life in self._witness.alive()
                if life.run != execution.ident and life.host in self._machines and self._counts(life.run, life.host)
                and key in self._of(life.job).limits
            ]  # fmt: skip
            if len(others) >= most:
                raise Violation(f"run {execution.order.run} starts on {machine.name} beside {others}, of {most} {key}")

    def _counts(self, run: int, host: str) -> bool:
        machine = self._machines[host]
        execution = machine.executions.get(run)
        if execution is None or execution.script.world or execution.main.clinging:
            return False
        lasts = stands_still(machine.guard, machine.timeline.now_ms, LEASE_MARGIN_MS)
        return self._of(execution.order.job).strict and not lasts

    def _check_queue(self, run: int, job: int, worker: str, shut: set[str]) -> None:
        """A run goes only to a worker that serves its queue, and none from a paused queue."""
        queue = self._of(job).queue
        if queue in shut:
            raise Violation(f"run {run} is given to {worker}, but its queue {queue} is paused")
        if not self._serves(worker, queue):
            raise Violation(f"run {run} of the queue {queue} is given to {worker}, which does not serve it")

    def _check_order(self, run: int, worker: str, still: Mapping[int, Waiting], paused: Iterable[str]) -> None:
        """No run that was ready before the turn, and still is, should have been given in its place: of the same demand
        one with a higher priority or an older one; of another demand that asks for nothing, a higher priority.
        """
        priority, demand, asked = self._look(_HANDED, run)[0]
        if priority != asked:
            raise Violation(f"run {run} has the priority {priority}, but its job has {asked}")
        paused = set(paused)
        for other, one in still.items():
            better = one.priority > priority or (one.priority == priority and other < run)
            if one.demand == demand and better:
                raise Violation(f"run {run} is given to {worker}, but run {other} of its demand comes first: {one}")
            if one.priority <= priority or one.limited:
                continue
            queue = self._of(one.job).queue
            if queue not in paused and self._serves(worker, queue) and self._is_plain(one.demand):
                raise Violation(f"run {run} of priority {priority} is given to {worker}, but run {other} waits: {one}")

    def _check_share(
        self, run: int, job: int, worker: str, still: Mapping[int, Waiting], paused: Iterable[str]
    ) -> None:
        """In a fair queue it is the turn of the owner with the fewest running runs, among runs of the same priority."""
        queue = self._of(job).queue
        if queue in paused or not self._fairness.is_shared(job):
            return
        priority = self._look(_HANDED, run)[0][0]
        for other, one in still.items():
            rival = one.priority == priority and not one.limited and self._of(one.job).queue == queue
            if rival and self._is_plain(one.demand):
                self._fairness.check(run, job, worker, (other, one.job))

    def _check_limits(self, jobs: Iterable[int]) -> None:
        """No run is given beyond a limit of its job."""
        taken = Counter(key for (limits,) in self._look(_RUNNING) for key in json.loads(limits))
        for job in jobs:
            for key, most in self._of(job).limits.items():
                if taken[key] > most:
                    raise Violation(f"a run of job {job} is given, and {taken[key]} with {key} are running, of {most}")

    def _is_plain(self, demand: int) -> bool:
        wish = json.loads(self._look(_WISH, demand)[0][0])
        return not (wish["needs"] or wish["probation"] or wish.get("once") or wish.get("limits"))

    def _serves(self, worker: str, queue: str) -> bool:
        """Whether a worker of this name serves a queue. There may be several."""
        named: list[tuple[str, ...]] = [
            machine.queues for machine in self._machines.values() if machine.worker == worker
        ]
        named += [poller.queues for name, poller in self._pollers.items() if name == worker]
        # A stranger names none.
        return any("*" in queues or queue in queues for queues in named or [("default",)])

    def _of(self, job: int) -> Asked:
        if job not in self._asked:
            queue, limits, strict, _ = self._look(_ASKED, job)[0]
            self._asked[job] = Asked(queue, json.loads(limits or "{}"), bool(strict))
        return self._asked[job]

    def _look_waiting(self) -> dict[int, Waiting]:
        return {
            run: Waiting(job, priority, demand, bool(blocked))
            for run, job, priority, demand, blocked in self._look(_WAITING)
        }

    def _look(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self._scheduler.engine.look(statement, *parameters)
