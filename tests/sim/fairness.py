"""Judges who comes first in a queue that is shared fairly between owners. Part of the judge.

It knows which token has submitted each job, and which queues were shared when the job was stored. It counts what is
running by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from tests.sim.callers import Asked
from tests.sim.scheduler import Scheduler
from tests.sim.violation import Violation

_JOBS: Final = """
    SELECT job_id, name, coalesce(queue, 'default'), owner FROM jobs LEFT JOIN owners USING (owner_id)
    WHERE job_id > ? ORDER BY job_id"""
_FAIR: Final = "SELECT queue FROM queues WHERE fair = 'owner'"
_RUNNING: Final = "SELECT run_id, job_id FROM runs WHERE status = 'running'"


class Share(NamedTuple):
    """An owner's part of a fair queue."""

    queue: str
    owner: str


class Fairness:
    """`asked`: what the client asked for, by the name of the job."""

    def __init__(self, scheduler: Scheduler, asked: Mapping[str, Asked]) -> None:
        self._scheduler = scheduler
        self._asked = asked
        # The owner of each job; and its share where its queue was fair when it was stored, None where that is unknown
        # because the queue changed in the same turn.
        self._owners: dict[int, str] = {}
        self._shares: dict[int, Share | None] = {}
        self._fair: frozenset[str] = frozenset()
        # The jobs of the runs that were running after the turn before, by run.
        self._running: dict[int, int] = {}
        # For each share, its running runs, and those that were running before the turn and are no more.
        self._counts = Counter[Share]()
        self._left = Counter[Share]()

    def owner(self, job: int) -> str:
        return self._owners[job]

    def after_turn(self) -> None:
        """Once a turn, before `check`."""
        fair = self._look_fair()
        for job, name, queue, owner in self._scheduler.engine.look(_JOBS, max(self._owners, default=0)):
            asked = self._asked.get(name)
            if asked is not None and owner != asked.by.owner:
                raise Violation(f"job {job} belongs to {owner}, not to {asked.by.owner} who submitted it")
            self._owners[job] = owner
            if queue in fair & self._fair:
                self._shares[job] = Share(queue, owner)
            elif queue in fair | self._fair:
                self._shares[job] = None
        self._fair = fair
        running = dict(self._scheduler.engine.look(_RUNNING))
        self._counts = self._count(running.values())
        self._left = self._count(job for run, job in self._running.items() if run not in running)
        self._running = running

    def forget(self) -> None:
        """The store is that of an earlier moment again."""
        self._fair = self._look_fair()
        self._running = dict(self._scheduler.engine.look(_RUNNING))

    def is_shared(self, job: int) -> bool:
        """Whether the runs of a job count for its owner in a fair queue."""
        return self._shares.get(job) is not None

    def check(self, run: int, job: int, worker: str, rival: tuple[int, int]) -> None:
        """The owner with the fewest running runs comes first. `run` has become running on a worker in this turn;
        `rival`: a run with its job of the same queue that could have been given in its place.

        When the run was claimed, its owner had no fewer others than now, and the rival's owner no more than now with
        those that have ended in this turn.
        """
        share, its_share = self._shares[job], self._shares.get(rival[1])
        if share is None or its_share is None or its_share == share:
            return
        most = self._counts[its_share] + self._left[its_share]
        if self._counts[share] - 1 > most:
            raise Violation(
                f"run {run} of {share.owner} is given to {worker}, which makes {self._counts[share]} in the queue"
                f" {share.queue}, but run {rival[0]} of {its_share.owner} waits, which has {most} at most"
            )

    def _count(self, jobs: Iterable[int]) -> Counter[Share]:
        return Counter(share for job in jobs if (share := self._shares.get(job)) is not None)

    def _look_fair(self) -> frozenset[str]:
        return frozenset(queue for (queue,) in self._scheduler.engine.look(_FAIR))
