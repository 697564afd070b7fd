"""Crash attribution: what a worker's loss means for its runs, which of them start again, and which are to blame.

A worker that dies may have been killed by one of its jobs. A run is **suspect** when it was there, and its successor is
then on **probation** until it has lived PROBATION_MS on some worker. Two bounds hold for the number of runs on
probation at once on a worker. The worker's bound grows by one with each that it outlives, so from one at first it
doubles about every second. A run's bound is half of the number that were suspect together when their worker died, so
halving separates the innocent runs from the guilty one.

A crash counts against a run on probation only when it was the only one on its worker. So an innocent run pays for no
other that is on probation, and one that always kills its workers is alone after log2(n) further deaths, of n runs that
were there first. After `crash_limit` crashes a run fails for good.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from zsched.model.backoff import crash_delay_ms
from zsched.model.limits import PROBATION_MS, RUNS_NAMED_MAX
from zsched.model.types import Now, Reason, RunId, WorkerId
from zsched.scheduler.dispatcher.session import Session
from zsched.store.contract import Holding, Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Blame:
    """Whether a lost run gets the crash, and how many suspects may be on probation `together` with its successor; 0: as
    before. See Store.fail_lost.
    """

    crash: bool = False
    together: int = 0


NO_BLAME: Final = Blame()
CRASH: Final = Blame(crash=True)


def lose_worker(
    store: Store, worker_id: WorkerId, why: str, now: Now, *, crash: bool, spared: Collection[int] = ()
) -> None:
    """End all runs of a worker as lost and make their successors pending. Without `crash` no run is blamed or suspect.
    The runs in `spared` had ended before: their results come.

    A run that was alone on probation gets the crash, started or not; of several none gets it. When none was on
    probation, each started run gets one. In each case all of them become suspect, because any may be the cause.
    """
    held = [run for run in store.held_by(worker_id) if run.run_id not in spared]
    suspects = sum(run.probation > 0 for run in held)
    for run in held:
        group = suspects if run.probation else len(held) - suspects
        blamed = group == 1 if run.probation else run.started and not suspects
        blame = Blame(crash and blamed, half(group) if crash else 0)
        lose_run(store, worker_id, run, why, now, blame)
    log_lost(worker_id, why, held)


def half(group: int) -> int:
    """How many of a group that was suspect together may be on probation at once: a power of two, at most half of it but
    at least 1. Demands are stored, and so there are few of them.
    """
    return 1 << max(0, (group // 2).bit_length() - 1)


def lose_run(store: Store, worker_id: WorkerId, run: Holding, why: str, now: Now, blame: Blame) -> None:
    """End a run of a worker as lost. Its successor waits if the run has crashed before. The caller logs it by
    `log_lost`, in one line with the others.
    """
    delay_ms = crash_delay_ms(run.crashes + 1) if blame.crash else 0
    due_ms = now.wall_ms + delay_ms if delay_ms else None
    became = store.fail_lost(
        run.run_id, why, crash=blame.crash, together=blame.together, due_ms=due_ms, now_ms=now.wall_ms
    )
    log.debug("run %d of job %d lost: worker %s %s; its task is %s", run.run_id, run.job_id, worker_id, why, became)


def log_lost(worker_id: WorkerId, why: str, runs: Sequence[Holding]) -> None:
    """Log the runs that were lost together: a worker may hold thousands."""
    if not runs:
        return
    named = ", ".join(f"{run.run_id} of job {run.job_id}" for run in runs[:RUNS_NAMED_MAX])
    more = ", …" if len(runs) > RUNS_NAMED_MAX else ""
    log.warning("worker %s %s: %d of its runs are lost: %s%s", worker_id, why, len(runs), named, more)


def drop_run(store: Store, worker_id: WorkerId, run: Holding, why: str, now: Now, *, unstarted: bool) -> bool:
    """A worker does not hold a run that it was sent, without any blame. Pending again if it never started, else lost.
    `unstarted`: it is sure that the run has not started and never will. A run that may start only once is lost without
    that. Returns whether the run is lost.
    """
    back = unstarted or not run.once
    if back and not run.started and store.requeue_unstarted(run.run_id, worker_id, Reason.RETURNED, now.wall_ms):
        return False
    lose_run(store, worker_id, run, why, now, NO_BLAME)
    return True


def clear_suspects(store: Store, session: Session, now: Now) -> None:
    """Called when a worker is heard: its runs that have lived for PROBATION_MS are no longer suspect."""
    for run_id, since_ms in list(session.suspects.items()):
        if now.mono_ms - since_ms >= PROBATION_MS:
            outlive(store, session, run_id)


def outlive(store: Store, session: Session, run_id: RunId) -> None:
    """A worker lives, and its run has lived for long enough or has ended: it is no longer suspect."""
    if session.suspects.pop(run_id, None) is not None and store.clear_probation(run_id):
        session.survived += 1
