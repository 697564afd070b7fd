"""What happens when a worker arrives: whether it may have its name, and what it really holds against what the store
believes.

`reconcile` is the one self-healing step. It serves a register, a heartbeat and a scheduler's restart alike: the store's
running runs that the worker doesn't hold are taken from it, and the worker must kill what it holds without right.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final

from zsched import protocol
from zsched.model.limits import FRAME_LIST_MAX, RIVALS_MAX
from zsched.model.types import Now, RunId, WorkerKind
from zsched.scheduler.dispatcher import foreign, losses
from zsched.scheduler.dispatcher.session import Session, Sessions
from zsched.store.contract import Holding, Store

log = logging.getLogger(__name__)

_NOT_HELD: Final = "does not hold it"


def is_late(old: Session, frame: protocol.Register) -> bool:
    """Whether a register was sent before the one that made the session that there is.

    It comes over an earlier connection: the kernel delivers what was written to it, also when the process has ended
    and another process was quicker. Its content is out of date.
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


def on_rival(old: Session, rival: str, now: Now) -> tuple[bool, str]:
    """Another worker registers or enrols under a name that is taken. Returns whether it must give up, and why. `rival`
    identifies the other worker: its incarnation, or its public key.

    It waits until the old worker times out. It gives up when a frame of that worker was read after the rival first
    asked. Only a frame counts: an excuse for silence (`excused_ms`) proves no life.
    """
    if rival not in old.rivals and len(old.rivals) >= RIVALS_MAX:
        old.rivals.clear()
    if old.heard_ms > old.rivals.setdefault(rival, now.mono_ms):
        del old.rivals[rival]
        return True, f"a worker named {old.name} is connected and alive: give this one another -id"
    return False, f"a worker named {old.name} was connected until now: wait until it times out"


def announce_end(store: Store, sessions: Sessions, session: Session, now: Now) -> None:
    """A worker announces its end, in each frame from now on: one of them is stored. It continues with its runs, and may
    be killed before they have ended.
    """
    if not session.leaving:
        log.info("worker %s is about to end", session.name)
        store.leave(session.name, now.wall_ms)
        sessions.announce_end(session, now.wall_ms)


def finished(store: Store, frame: protocol.Register) -> set[int]:
    """The runs of ours that a new start of a worker says have ended before it: their results are still to come."""
    return {one.run for one in foreign.own(store, frame) if one.phase == "finished"}


def adopt(store: Store, session: Session, frame: protocol.Register, now: Now) -> tuple[list[RunId], list[RunId], int]:
    """Reconcile a newcomer with the store: the runs that it goes on with, those that it must kill, and how many it was
    handed and does not hold.

    Runs of another database do not concern this function, unless the worker can't keep them.
    """
    ours, held = frame.db in ("", store.identity), foreign.own(store, frame)
    for run_id in foreign.discarded(store, frame):
        # It has run, so it is lost now, and never pending again under its own id.
        store.start(RunId(run_id), session.name, now.wall_ms)
    # A worker that has had another database since then may have forgotten which of our runs it started.
    kill, _, missing = reconcile(store, session, held, None, now, knows=ours)
    if foreign.ABILITY not in frame.can and not ours:
        kill.extend(RunId(one.run) for one in frame.runs)
    store.adopt(session.name)
    unwanted = set(kill)
    keep = [RunId(one.run) for one in held if one.run not in unwanted and one.phase != "finished"]
    return keep, kill, missing


def reconcile(
    store: Store,
    session: Session,
    listed: Sequence[protocol.Held],
    seen_n: int | None,
    now: Now,
    *,
    knows: bool = True,
) -> tuple[list[RunId], list[RunId], int]:
    """Bring the store and what a worker really holds together; returns the runs that it must kill, its own that shall
    stop, and how many it was handed and does not hold.

    A run of the store that the worker does not list is missing, if it was handed out in a frame that the worker has
    seen: a younger frame may still be on its way. `seen_n` None: this is a register, and the worker has given up the
    session that the run was handed out in. `knows`: the list has every run of this database that the worker started. So
    a missing run has not started and never will; docs/protocol.md, "Missing runs", has the proof.
    """
    phases = {one.run: one.phase for one in listed}
    had = store.held_by(session.name)
    _note_finished(session, had, phases)
    unstarted = knows and proves_absence(session, listed)
    own, lost = list[Holding](), list[Holding]()
    missing = 0
    for run in had:
        phase = phases.get(run.run_id)
        if phase is None:
            if seen_n is None or run.handed_n <= seen_n:
                missing += 1
                never = unstarted and run.run_id not in session.finished
                if losses.drop_run(store, session.name, run, _NOT_HELD, now, unstarted=never):
                    lost.append(run)
            else:
                own.append(run)
            continue
        own.append(run)
        if phase == "running" and not run.started:
            store.start(run.run_id, session.name, now.wall_ms)
        if phase == "running" and run.probation:
            session.suspects.setdefault(run.run_id, now.mono_ms)
    losses.log_lost(session.name, _NOT_HELD, lost)
    return *unwanted(own, listed), missing


def unwanted(own: Sequence[Holding], listed: Sequence[protocol.Held]) -> tuple[list[RunId], list[RunId]]:
    """Of the runs that a worker lists, those that it must kill because they are not its `own`; and of its own, those
    that have a stored cancel. A finished run is never killed: its result follows and is judged separately.
    """
    ids = {run.run_id for run in own}
    kill = [RunId(one.run) for one in listed if one.run not in ids and one.phase != "finished"]
    return kill, [run.run_id for run in own if run.cancelled]


def _note_finished(session: Session, had: Sequence[Holding], phases: Mapping[int, protocol.Phase]) -> None:
    """A run that the worker once said to have ended is not unstarted when a later list lacks it."""
    ended = (run.run_id for run in had if run.once and phases.get(run.run_id) == "finished")
    session.finished = session.finished.intersection(run.run_id for run in had).union(ended)


def proves_absence(session: Session, listed: Sequence[protocol.Held]) -> bool:
    """Whether a list shows that the worker has not started what it lacks. A full list may lack runs that have finished,
    and a register without a time of sending may be a late one.
    """
    return len(listed) < FRAME_LIST_MAX and session.sent_ms > 0 and session.worker.boot_id != ""
