"""Why a pending job waits, as a stable code and a sentence. Read from the store, by the rules that the dispatcher uses.

The order of the causes is that in which they hold a run back: what waits for a time asks no worker, and what no worker
can take does not wait for a slot.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import closing

from zsched.model.blocked import Blocked
from zsched.model.demand import Demand, serves, why_unfit
from zsched.model.limits import WAITS_SHOWN_MAX
from zsched.model.queues import shown_key
from zsched.model.records import ForeignDecision
from zsched.model.types import Job, Run, RunStatus, Worker, WorkerId, WorkerStatus
from zsched.model.units import counted, format_time
from zsched.scheduler.dispatcher.commands import Cause
from zsched.store.contract import Reader, Waits


def why(reader: Reader, job: Job, last: Run | None) -> Cause | None:
    """Why the job waits; `last` is its run with the highest id. None for a job that is not pending."""
    if job.status is not RunStatus.PENDING:
        return None
    if job.array is not None and job.held_ms is not None:
        return Cause("held", _held(job))
    if job.array is not None and job.after and (waits := reader.waits_for(job.job_id, WAITS_SHOWN_MAX)).count:
        return Cause("dependency", _after(waits))
    idle = job.array is not None and (last is None or last.status is not RunStatus.PENDING)
    if idle and job.after and (waits := reader.waits_for(job.job_id, WAITS_SHOWN_MAX, same=True)).count:
        return Cause("dependency", _after(waits))
    if idle and reader.has_unmade(job.job_id):
        # A turn makes a number of tasks.
        return Cause("no_capacity", "its next tasks start after those of other arrays")
    if job.array is not None and (last is None or last.status is not RunStatus.PENDING or last.blocked & Blocked.HELD):
        return Cause("held", f"its tasks are held; `zsched release {job.job_id}` lets them start")
    if last is None or last.status is not RunStatus.PENDING:
        return _unfired(job)
    if job.held_ms is not None:
        return Cause("held", _held(job))
    if last.blocked & Blocked.PARENTS:
        return Cause("dependency", _after(reader.waits_for(job.job_id, WAITS_SHOWN_MAX)))
    if last.blocked == Blocked.AVOIDS and last.due_ms is not None:
        until = f"until {format_time(last.due_ms)} another worker than {last.avoids} is preferred, where it has failed"
        return Cause("backoff", f"{_history(last)}: {until}")
    if last.due_ms is not None and _is_first(job, last):
        return Cause("scheduled", f"it starts at {format_time(last.due_ms)}")
    if last.due_ms is not None:
        return Cause("backoff", f"{_history(last)}: it is tried again at {format_time(last.due_ms)}")
    demand = reader.demand(last.run_id)
    if demand is None:
        return None
    queue = reader.queue(demand.queue)
    if queue.paused_ms is not None:
        more = f": {queue.pause_reason}" if queue.pause_reason else ""
        return Cause("paused", f"the queue {queue.queue} is paused{more}")
    kept = ForeignDecision.KEEP
    withheld = {held.worker_id for held in reader.foreign() if held.running and held.decision is not kept}
    with closing(reader.workers()) as workers:
        unfit = _unfit(demand, workers, withheld)
    if unfit is not None:
        return unfit
    if demand.limits and (limit := _limit(demand, reader.running_by_key())) is not None:
        return limit
    if demand.probation:
        return Cause("probation", _on_probation(last, demand))
    return Cause("no_capacity", "it waits for a free slot on a worker")


def _held(job: Job) -> str:
    why = f" ({job.hold_reason})" if job.hold_reason else ""
    held = f"it is held since {format_time(job.held_ms or 0)}{why}"
    return f"{held}; `zsched release {job.job_id}` lets it start"


def _after(waits: Waits) -> str:
    """The jobs that a job waits for."""
    named = [f"{dependency} ({status})" for dependency, status in waits.first]
    if (others := waits.count - len(named)) > 0:
        named.append(f"{counted(others, 'other job')}")
    ends = ", ".join(named[:-1]) + " and " + named[-1] if len(named) > 1 else "".join(named)
    return f"it waits for the end of job {ends}"


def _is_first(job: Job, run: Run) -> bool:
    """Whether the run waits for the start time of its job, and not for a back-off."""
    return job.run_at_ms is not None and run.attempt == 1 and not run.failures and not run.crashes


def _unfired(job: Job) -> Cause | None:
    if job.paused_ms is not None:
        return Cause("paused", "its schedule is paused")
    return None if job.next_fire_ms is None else Cause("scheduled", "it waits for its next fire")


def _limit(demand: Demand, running: Mapping[str, int]) -> Cause | None:
    """The limits that have no room; None: all have some."""
    full = [(key, most) for key, most in demand.limits if running.get(key, 0) >= most]
    words = [f"{running[key]} of {most} with the limit {shown_key(key)}" for key, most in full]
    return Cause("limit", f"as many runs as may be are running: {', '.join(words)}") if words else None


def _unfit(demand: Demand, workers: Iterable[Worker], withheld: Collection[WorkerId]) -> Cause | None:
    """Why no worker can take the run now or later; None: one can when it has a free slot. `withheld`: workers that get
    no work because of foreign runs.
    """
    ends, foreign, wrong, served = "", "", "", False
    for worker in workers:
        if worker.status is not WorkerStatus.ACTIVE:
            continue
        reason = why_unfit(demand, worker)
        served |= serves(worker, demand.queue)
        if reason is not None:
            wrong = wrong or reason
        elif worker.leaving_ms is not None:
            ends = ends or f"worker {worker.worker_id} could take it, but is about to end"
        elif worker.worker_id in withheld:
            jobs = "runs jobs of another database: `zsched foreign` lists them"
            foreign = foreign or f"worker {worker.worker_id} could take it, but {jobs}"
        else:
            return None
    if foreign:
        return Cause("foreign", foreign)
    if ends:
        return Cause("draining", ends)
    if wrong and not served:
        remedy = f"start one with -queues {demand.queue}"
        return Cause("no_match", f"no active worker serves the queue {demand.queue}: {remedy}")
    if wrong:
        return Cause("no_match", f"no active worker can take it: {wrong}")
    return Cause("no_workers", "no worker is active")


def _on_probation(run: Run, demand: Demand) -> str:
    company = "alone" if demand.probation == 1 else f"with at most {demand.probation - 1} other suspects"
    return f"{_history(run)}: it waits for its probation, {company} on a worker, until it has lived there for a second"


def _history(run: Run) -> str:
    """What happened to a task before this run of it."""
    counted = ((run.failures, "failure", "failures"), (run.crashes, "crash", "crashes"))
    happened = [f"{count} {single if count == 1 else several}" for count, single, several in counted if count]
    return f"after {' and '.join(happened) or 'the loss of its worker'}"
