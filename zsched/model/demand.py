"""Which worker can take which run. Pure. One function answers the dispatcher and whoever asks why a run waits."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from zsched.model.names import ALL_QUEUES, DEFAULT_QUEUE
from zsched.model.requirements import HOST_LABEL, NOTHING, WORKER_LABEL, Requirements
from zsched.model.types import Worker

# Features of workers that make a run neither large nor long to start.
_LIGHT: Final = frozenset({"entry", "task"})


@dataclass(frozen=True, slots=True)
class Demand:
    """What a run asks of a worker, and with which runs it competes. Runs that ask the same share one demand, so
    matching costs per demand and not per run.

    `needs`: features beyond a plain command line that the worker must announce in `can`. `probation`: the run may kill
    its worker, so at most that many such runs, itself included, are on probation at once on a worker, and none goes
    ahead of a free slot; 0: it is not suspect. `once`: it may start at most once, so it never waits on a worker either.

    `queue`: the worker must serve it. `requires`: what else the worker must have. `owner`: the owner of the job, if the
    queue is shared fairly between owners.
    `limits`: keys as they are stored, each with the number of runs with this key that may be running at once.
    """

    needs: tuple[str, ...] = ()
    probation: int = 0
    once: bool = False
    queue: str = DEFAULT_QUEUE
    requires: Requirements = NOTHING
    owner: str = ""
    limits: tuple[tuple[str, int], ...] = ()

    @property
    def plain(self) -> bool:
        """Whether a worker may hold such runs before it has a free slot for them."""
        return not (self.probation or self.once or self.limits or self.heavy)

    @property
    def heavy(self) -> bool:
        """Whether its runs may bring more to the worker than a command and an entry."""
        return bool(self.needs) and not _LIGHT.issuperset(self.needs)

    @property
    def leased(self) -> bool:
        """Whether a worker ends such a run when it can't reach the scheduler."""
        return "stop" in self.needs

    @property
    def whose(self) -> str:
        """The owner to which such runs belong alone, by a fair queue or a key of limits; empty if any may have them."""
        if self.owner or not self.limits:
            return self.owner
        return next((key.rpartition(" ")[0] for key, _ in self.limits if " " in key), "")

    @property
    def tallied(self) -> bool:
        """Whether the store counts the pending and running runs of this demand."""
        return bool(self.owner or self.limits) or self.queue != DEFAULT_QUEUE or self.requires != NOTHING


class Misfit(StrEnum):
    """What a worker lacks for a demand. The words are shown, so they never change."""

    QUEUE = "queue"
    FEATURE = "feature"
    LABEL = "label"


@dataclass(frozen=True, slots=True)
class Lack:
    """Why a worker can never take a run of a demand. `text` is a sentence without its subject, the worker."""

    misfit: Misfit
    text: str


def serves(worker: Worker, queue: str) -> bool:
    return queue in worker.queues or ALL_QUEUES in worker.queues


def label(worker: Worker, name: str) -> str | None:
    """The value of a label of a worker, or None. Its own name and host do not come from its setting."""
    if name == WORKER_LABEL:
        return worker.worker_id
    return worker.host or None if name == HOST_LABEL else worker.labels.get(name)


def lacks(demand: Demand, worker: Worker) -> list[Lack]:
    """All that a worker lacks for a demand; empty if it can take such runs. The only place that decides this."""
    lacking = []
    if not serves(worker, demand.queue):
        lacking.append(Lack(Misfit.QUEUE, f"doesn't serve the queue {demand.queue}"))
    missing = [need for need in demand.needs if need not in worker.can]
    if missing:
        lacking.append(Lack(Misfit.FEATURE, f"can't do {', '.join(missing)}"))
    missing = [f"{name}={value}" for name, value in demand.requires.labels if label(worker, name) != value]
    if missing:
        lacking.append(Lack(Misfit.LABEL, f"doesn't have the label {', '.join(missing)}"))
    return lacking


def kind(worker: Worker) -> Hashable:
    """What `lacks` reads of a worker besides labels: of workers with the same labels, those of one kind take the same
    demands.
    """
    return worker.queues, worker.can


def why_unfit(demand: Demand, worker: Worker) -> str | None:
    """Why a worker can never take a run of this demand, as a sentence; None when it can."""
    lacking = lacks(demand, worker)
    return f"worker {worker.worker_id} {lacking[0].text}" if lacking else None
