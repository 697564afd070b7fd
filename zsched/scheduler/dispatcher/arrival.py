"""Whether a registering worker may have its name, and the reconciliation of its runs with the store.

`reconcile` is the one self-healing step. It serves a register, a heartbeat and a scheduler's restart alike. Running
runs that the worker does not hold are taken from it, and runs that it holds without right it has to kill.
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
    """Whether a register was sent before the one that opened the session `old`.

    It comes over an earlier connection. The kernel delivers what was written to that connection, even when the process
    has ended and a newer process was quicker. Its content is out of date.
    """
    return old.worker.boot_id == frame.boot_id != "" and 0 < frame.sent_ms < old.sent_ms


def may_take_over(old: Session, frame: protocol.Register) -> bool:
    """Whether a newcomer may have the name: it is the same start of the worker, or proves that the old start is dead.

    The proof is the same boot of the same machine, and the lock file that the old start held for all its life.
    """
    worker = old.worker
    if worker.kind is not WorkerKind.ZMQ:
        return False
    proof = worker.boot_id == frame.boot_id != "" and worker.lock == frame.lock != (0, 0)
    return proof or worker.incarnation == frame.incarnation


def on_rival(old: Session, rival: str, now: Now) -> tuple[bool, str]:
    """Another worker registers or enrols under a name that is taken. Returns whether it must give up, and why.
    `rival` identifies it: an incarnation, or a public key.

    It waits until the old worker times out, and gives up when a frame of that worker was read after the rival first
    asked. Only a frame counts: an excuse for silence (`excused_ms`) does not prove that the worker lives.
    """
    if rival not in old.rivals and len(old.rivals) >= RIVALS_MAX:
        old.rivals.clear()
    if old.heard_ms > old.rivals.setdefault(rival, now.mono_ms):
        del old.rivals[rival]
        return True, f"a worker named {old.name} is connected and alive: give this one another -id"
    return False, f"a worker named {old.name} was connected until now: wait until it times out"


def announce_end(store: Store, sessions: Sessions, session: Session, now: Now) -> None:
    """A worker announces its end, in each frame from now on; the first is stored. It continues with its runs, and may
    be killed before they have ended.
    """
    if not session.leaving:
        log.info("worker %s is about to end", session.name)
        store.leave(session.name, now.wall_ms)
        sessions.announce_end(session, now.wall_ms)


def finished(store: Store, frame: protocol.Register) -> set[int]:
    """The runs of this database that had ended before a new start of a worker: their results are still to come."""
    return {held.run for held in foreign.own(store, frame) if held.phase == "finished"}


def adopt(store: Store, session: Session, frame: protocol.Register, now: Now) -> tuple[list[RunId], list[RunId], int]:
    """Reconcile a newcomer with the store. Returns the runs that it continues, those that it must kill, and how many
    it was sent and does not hold.

    Runs of another database are left alone, unless the worker can't keep them.
    """
    ours, held = frame.db in ("", store.identity), foreign.own(store, frame)
    for run_id in foreign.discarded(store, frame):
        # It has run, so it is lost now, and never pending again under its own id.
        store.start(RunId(run_id), session.name, now.wall_ms)
    # A worker that has had another database since then may have forgotten which of our runs it started.
    kill, _, missing = reconcile(store, session, held, None, now, knows=ours)
    if foreign.ABILITY not in frame.can and not ours:
        kill.extend(RunId(run.run) for run in frame.runs)
    store.adopt(session.name)
    unwanted = set(kill)
    keep = [RunId(run.run) for run in held if run.run not in unwanted and run.phase != "finished"]
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
    """Reconcile the store with what a worker really holds. Returns the runs that it must kill, its own runs that it
    must end, and how many it was sent and does not hold.

    A run of the store that the worker does not list is missing if it was sent in a frame that the worker has seen; a
    later frame may still be on its way. `seen_n` None: this is a register, and the worker has given up the session in
    which the run was sent. `knows`: the list has every run of this database that the worker started. Then a missing run
    has not started and never will; docs/protocol.md, "Missing runs", has the proof.
    """
    phases = {run.run: run.phase for run in listed}
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
    """The listed runs that a worker must kill because they are not its `own`, and its own runs with a stored cancel.
    A finished run is never killed: its result comes and is judged by itself.
    """
    ids = {run.run_id for run in own}
    kill = [RunId(run.run) for run in listed if run.run not in ids and run.phase != "finished"]
    return kill, [run.run_id for run in own if run.cancelled]


def _note_finished(session: Session, had: Sequence[Holding], phases: Mapping[int, protocol.Phase]) -> None:
    """Remember runs once listed as finished: a later list that lacks one does not prove it unstarted."""
    ended = (run.run_id for run in had if run.once and phases.get(run.run_id) == "finished")
    session.finished = session.finished.intersection(run.run_id for run in had).union(ended)


def proves_absence(session: Session, listed: Sequence[protocol.Held]) -> bool:
    """Whether a list shows that the worker has not started what it lacks. A full list may lack runs that have finished,
    and a register without a sending time may be a late one.
    """
    return len(listed) < FRAME_LIST_MAX and session.sent_ms > 0 and session.worker.boot_id != ""
