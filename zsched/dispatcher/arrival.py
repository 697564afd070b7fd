"""What happens when a worker arrives: whether it may have its name, and what it really holds against what the store
believes.

`reconcile` is the one self-healing step. It serves a register, a heartbeat and a scheduler's restart alike: the store's
running runs that the worker doesn't hold are taken from it, and what it holds without right it is told to kill.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from zsched import protocol
from zsched.dispatcher import losses
from zsched.dispatcher.session import Session
from zsched.model import Now, RunId, WorkerKind
from zsched.store.contract import Holding, Store

log = logging.getLogger(__name__)

_NOT_HELD: Final = "does not hold it"


def is_late(old: Session, frame: protocol.Register) -> bool:
    """Whether a register was sent before the one that made the session that there is.

    It comes over an earlier connection: the kernel delivers what was written to one, also when the process has ended
    and another one was quicker. What it tells is no longer so.
    """
    return old.worker.boot_id == frame.boot_id != "" and 0 < frame.sent_ms < old.sent_ms


def may_take_over(old: Session, frame: protocol.Register) -> bool:
    """Whether a newcomer may have the name: it is the same start of the worker, or it proves that the old one is dead.

    Proof is the same boot of the same machine, and the lock file in hand that the old one held for all its life.
    """
    worker = old.worker
    if worker.kind is not WorkerKind.ZMQ:
        return False
    proof = worker.boot_id == frame.boot_id != "" and worker.lock == frame.lock != (0, 0)
    return proof or worker.incarnation == frame.incarnation


def on_rival(old: Session, now: Now) -> tuple[bool, str]:
    """Another worker registers or enrols under a name that is taken. Returns whether it must give up, and why.

    It waits until the old worker times out, and gives up once that was heard after the newcomer first asked.
    """
    alive = old.rival_ms is not None and old.heard_ms > old.rival_ms
    # Once one rival has been told to stop, a later one is judged anew.
    old.rival_ms = None if alive else old.rival_ms or now.mono_ms
    if alive:
        return True, f"a worker named {old.name} is connected and alive: give this one another -id"
    return False, f"a worker named {old.name} was connected until now: wait until it times out"


def finished(store: Store, frame: protocol.Register) -> set[int]:
    """The runs of ours that a new start of a worker says have ended before it: their results are still to come."""
    if frame.db not in ("", store.identity):
        return set()
    return {one.run for one in frame.runs if one.phase == "finished"}


def adopt(store: Store, session: Session, frame: protocol.Register, now: Now) -> tuple[list[RunId], list[RunId], int]:
    """Reconcile a newcomer with the store: the runs that it goes on with, those that it must kill, and how many it was
    handed and does not hold.

    What it holds for another database is nothing to this one.
    """
    ours = frame.db in ("", store.identity)
    held = frame.runs if ours else ()
    kill, _, missing = reconcile(store, session, held, None, now)
    if not ours:
        kill.extend(RunId(one.run) for one in frame.runs)
    store.adopt(session.name)
    unwanted = set(kill)
    keep = [RunId(one.run) for one in held if one.run not in unwanted and one.phase != "finished"]
    return keep, kill, missing


def reconcile(
    store: Store, session: Session, listed: Sequence[protocol.Held], seen_n: int | None, now: Now
) -> tuple[list[RunId], list[RunId], int]:
    """Bring the store and what a worker really holds together; returns the runs that it must kill, its own that shall
    stop, and how many it was handed and does not hold.

    A run of the store that the worker does not list is missing, if it was handed out in a frame that the worker has
    seen: a younger frame may still be on its way. `seen_n` None: in a new session no older frame can take effect any
    more.
    """
    phases = {one.run: one.phase for one in listed}
    session.load = None
    own = set()
    cancel, lost = list[RunId](), list[Holding]()
    missing = 0
    for run in store.held_by(session.name):
        phase = phases.get(run.run_id)
        if phase is None:
            if seen_n is None or run.handed_n <= seen_n:
                missing += 1
                if losses.drop_run(store, session.name, run, _NOT_HELD, now):
                    lost.append(run)
            elif run.cancelled:
                cancel.append(run.run_id)
            continue
        if run.cancelled:
            cancel.append(run.run_id)
        own.add(run.run_id)
        if phase == "running" and not run.started:
            store.start(run.run_id, session.name, now.wall_ms)
        if phase == "running" and run.probation:
            session.suspects.setdefault(run.run_id, now.mono_ms)
    losses.log_lost(session.name, _NOT_HELD, lost)
    # A finished run is no business of this: its result comes and is judged by itself.
    return [RunId(one.run) for one in listed if one.run not in own and one.phase != "finished"], cancel, missing
