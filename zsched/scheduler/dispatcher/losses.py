"""Crash attribution: what a worker's loss means for its runs, which of them start again, and which are to blame.

A worker that dies may have been killed by one of its jobs. Its runs become **suspects**: the successor of a suspect is
on **probation** until it has lived PROBATION_MS on some worker, or has ended. The bound of a suspect is how many
may be on probation at once on its worker. After a first death it is half of the runs that died, and at least
PROBATION_RUNS_MIN, so innocent runs are cleared in bulk. After a death on probation it is a quarter of those on
probation that died together. It never grows, and the lowest bound of a worker's suspects holds for all.

A crash counts against a run on probation only when it was the only one on its worker. So an innocent run pays for no
other that is on probation. A run that always kills its workers is alone after log4(bound) deaths on probation. After
`crash_limit` crashes a run fails for good.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from zsched.model.backoff import crash_delay_ms
from zsched.model.limits import ESTABLISHED_MS, PROBATION_MS, PROBATION_RUNS_MIN
from zsched.model.types import Now, Reason, RunId, WorkerId
from zsched.model.units import counted, some
from zsched.scheduler.dispatcher.session import Session
from zsched.store.contract import Holding, Store

log = logging.getLogger(__name__)

# In how many groups suspects are tried after a first death, and after one on probation. A group that survives costs a
# second, and one that dies costs a worker: so a group that has died on probation is tried in smaller parts.
_GROUPS_FIRST: Final = 2
_GROUPS: Final = 4


@dataclass(frozen=True, slots=True)
class Blame:
    """Whether a lost run gets the crash, and the bound of its successor, `together`; 0: as before."""

    crash: bool = False
    together: int = 0


NO_BLAME: Final = Blame()
CRASH: Final = Blame(crash=True)


def lose_worker(
    store: Store, worker_id: WorkerId, why: str, now: Now, *, crash: bool, spared: Collection[int] = ()
) -> None:
    """End all runs of a worker as lost and make their successors pending. Without `crash` no run is blamed or suspect.
    The runs in `spared` had ended before: their results come.

    With it all of them become suspect, because any may be the cause: those on probation as one group, and the others
    as another.
    """
    held = [run for run in store.held_by(worker_id) if run.run_id not in spared]
    blamed = find_blamed(held, now) if crash else set()
    suspects = sum(run.probation > 0 for run in held)
    on_probation = bound_of(suspects, _GROUPS)
    others = max(bound_of(len(held) - suspects, _GROUPS_FIRST), PROBATION_RUNS_MIN)
    for run in held:
        bound = on_probation if run.probation else others
        lose_run(store, worker_id, run, why, now, Blame(run.run_id in blamed, bound if crash else 0))
    log_lost(worker_id, why, held)


def find_blamed(held: Sequence[Holding], now: Now) -> set[RunId]:
    """The runs of a dead worker that get a crash.

    A run that was alone on probation gets it, started or not; of several none gets it. When none was on probation, each
    started run gets one. But a run that had lived for ESTABLISHED_MS is spared once if a younger run was there.
    """
    suspects = {run.run_id for run in held if run.probation}
    if suspects:
        return suspects if len(suspects) == 1 else set()
    spares = not all(_is_established(run, now) for run in held)
    return {run.run_id for run in held if run.started and (run.suspected or not (spares and _is_established(run, now)))}


def _is_established(run: Holding, now: Now) -> bool:
    """Whether a run has lived for so long that its start does not explain the death of its worker."""
    return run.started_ms is not None and now.wall_ms - run.started_ms >= ESTABLISHED_MS


def bound_of(died: int, groups: int) -> int:
    """The bound with which runs that died together are tried in about as many `groups`: a power of two, at least 1.
    Demands are stored, and so there are few of them.
    """
    return 1 << max(0, (died // groups).bit_length() - 1)


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
    named = some([f"{run.run_id} of job {run.job_id}" for run in runs])
    log.warning("worker %s %s: %s lost: %s", worker_id, why, counted(len(runs), "run"), named)


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
    if store.load(session.name).probation > len(session.suspects):
        # The scheduler has started again, or the turn that cleared some was given up: their time begins now.
        for run in store.held_by(session.name):
            if run.probation and run.started:
                session.suspects.setdefault(run.run_id, now.mono_ms)
    for run_id, since_ms in list(session.suspects.items()):
        if now.mono_ms - since_ms >= PROBATION_MS:
            outlive(store, session, run_id)


def outlive(store: Store, session: Session, run_id: RunId) -> None:
    """A worker lives, and its run has lived for long enough or has ended: it is no longer suspect."""
    if session.suspects.pop(run_id, None) is not None:
        store.clear_probation(run_id)
