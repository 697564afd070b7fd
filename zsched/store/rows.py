"""The entities as rows, for the store's two doors; how they are derived stands in mapping.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from zsched.model.access import Token, WorkerKey
from zsched.model.backoff import USUAL_BACKOFF, Backoff, read_backoff
from zsched.model.demand import Demand
from zsched.model.names import DEFAULT_QUEUE
from zsched.model.queues import Queue
from zsched.model.records import Event, ForeignRuns, Instance
from zsched.model.requirements import NOTHING, Requirements
from zsched.model.types import Job, JobFields, JobId, Policy, Run, RunStatus, Worker
from zsched.store.contract import Claimed, Submitted
from zsched.store.engine import Row
from zsched.store.mapping import DAMAGED, decoder, encoder

job: Final = decoder(Job)
run: Final = decoder(Run)
worker: Final = decoder(Worker)
foreign: Final = decoder(ForeignRuns)
token: Final = decoder(Token)
key: Final = decoder(WorkerKey)
event: Final = decoder(Event)
instance: Final = decoder(Instance)
queue: Final = decoder(Queue)

# A look-up of an enum by its value takes three times as long.
RUN_STATUS: Final = {str(status): status for status in RunStatus}

# Of the columns of Order, and what a claim knows of the run; a damaged job can't be handed out.
claimed: Final = decoder(Claimed, lenient=False)

row_of_job_fields: Final = encoder(JobFields)
row_of_policy: Final = lru_cache(maxsize=256)(encoder(Policy))
row_of_requirements: Final = lru_cache(maxsize=256)(encoder(Requirements))
row_of_queue: Final = encoder(Queue)
row_of_worker: Final = encoder(Worker)
row_of_foreign: Final = encoder(ForeignRuns)
row_of_token: Final = encoder(Token)
row_of_key: Final = encoder(WorkerKey)


def argv_text(argv: Sequence[str] | None) -> str | None:
    """The arguments of a job as their column has them."""
    return None if argv is None else json.dumps(argv)


def backoff(text: str | None) -> Backoff:
    """Raises ValueError, TypeError for a damaged one."""
    return USUAL_BACKOFF if text is None else read_backoff(text)


# --- what has no description -----------------------------------------------------------------------------------------


def demand_key(demand: Demand) -> str:
    """A demand as the canonical text that makes it unique."""
    # A truth value where it says the same: so earlier releases wrote it.
    probation = demand.probation if demand.probation > 1 else bool(demand.probation)
    asked: dict[str, object] = {"needs": sorted(demand.needs), "probation": probation}
    if demand.once:
        asked["once"] = True
    if demand.queue != DEFAULT_QUEUE:
        asked["queue"] = demand.queue
    if demand.requires != NOTHING:
        asked["labels"] = demand.requires.labels
    if demand.owner:
        asked["owner"] = demand.owner
    if demand.limits:
        asked["limits"] = demand.limits
    return json.dumps(asked, sort_keys=True, separators=(",", ":"))


def demand(text: str) -> Demand:
    """The demand that `demand_key` wrote."""
    read = json.loads(text)
    return Demand(
        needs=tuple(read["needs"]),
        probation=int(read["probation"]),
        once=read.get("once", False),
        queue=read.get("queue", DEFAULT_QUEUE),
        requires=_requirements(read),
        owner=read.get("owner", ""),
        limits=tuple((str(key), int(runs)) for key, runs in read.get("limits", ())),
    )


def _requirements(read: dict[str, Any]) -> Requirements:
    if "labels" not in read:
        return NOTHING
    return Requirements(labels=tuple((str(name), str(value)) for name, value in read["labels"]))


def readable_demand(text: str) -> Demand | None:
    """The demand that `demand_key` wrote; None for what is damaged."""
    try:
        return demand(text)
    except DAMAGED:
        return None


def submitted(row: Row) -> Submitted:
    digest, first, last, jobs = row
    return Submitted(digest, JobId(first), JobId(last), jobs)
