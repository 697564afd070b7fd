"""Runs that workers hold for other databases: a scheduler that starts on an empty or wrong one must not end them.

Such runs go on, and their worker gets nothing from this scheduler until they have ended or the operator decides: `keep`
lets them go on beside new work, `discard` ends them. Runs of a predecessor, the database that this one was restored
from, are always discarded: this database has their tasks, and lets them run again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from zsched import protocol
from zsched.model.limits import FOREIGN_DATABASES_MAX, FOREIGN_NAMED_MAX
from zsched.model.records import ForeignDecision, ForeignRuns
from zsched.model.types import Now, WorkerId
from zsched.scheduler.dispatcher.commands import DecideForeign, NotFoundError
from zsched.scheduler.dispatcher.session import Session
from zsched.store.contract import Store

log = logging.getLogger(__name__)

# A worker that has this in `can` keeps runs of other databases. Another one kills them when it is registered.
ABILITY: Final = "foreign"


def own(store: Store, frame: protocol.Register) -> Sequence[protocol.Held]:
    """What a worker holds for this database."""
    if frame.db in ("", store.identity):
        return frame.runs
    for held in frame.foreign:
        if held.db == store.identity:
            # Those that are ending are lost when they are gone, and not before: others may have to wait for their end.
            running = [protocol.Held(run, "running") for run in (*held.running, *held.ending)]
            return [*running, *(protocol.Held(run, "finished") for run in held.finished)]
    return ()


def discarded(store: Store, frame: protocol.Register) -> list[int]:
    """The runs of this database that a worker has discarded for the scheduler of another one, and that are gone."""
    return [run for held in frame.foreign if held.db == store.identity for run in held.ended]


def others(store: Store, frame: protocol.Register) -> tuple[protocol.Foreign, ...]:
    """What a worker holds for other databases, in the form of a heartbeat."""
    found = [_brief(held) for held in frame.foreign if held.db != store.identity]
    if frame.db not in ("", store.identity) and frame.runs:
        running = tuple(one.run for one in frame.runs if one.phase != "finished")
        found.append(protocol.Foreign(frame.db, running, results=len(frame.runs) - len(running)))
    return _trimmed(found)


def must_wait(store: Store, frame: protocol.Register, now: Now) -> bool:
    """Whether a worker that can't keep foreign runs has to register later: it would kill them now."""
    if ABILITY in frame.can:
        return False
    name = WorkerId(frame.worker)
    found = others(store, frame)
    _store(store, name, found, now)
    discard = _to_discard(store, name, found)
    return any(held.running and held.db not in discard for held in found)


def why_wait(name: WorkerId) -> str:
    """The sentence for a worker that has to register later."""
    remedy = f"wait for their end, or run `zsched foreign discard {name}`"
    return f"this worker's release can't keep its runs of another database: {remedy}"


def note(store: Store, session: Session, found: tuple[protocol.Foreign, ...], now: Now) -> None:
    """Store what a worker holds for other databases, and find out whether it may get work."""
    found = _trimmed(found)
    if found == session.foreign:
        return
    if found or session.foreign is None or session.foreign:
        _store(store, session.name, found, now)
    session.foreign = found
    _judge(store, session)


def decide(store: Store, session: Session | None, command: DecideForeign, now: Now) -> None:
    """Raises NotFoundError when the worker holds nothing for another database."""
    held = store.foreign.of(command.worker_id)
    if not held:
        raise NotFoundError("no_foreign", f"Worker {command.worker_id} holds nothing of another database")
    for one in held:
        if one.decision is not command.decision:
            store.foreign.decide(one, command.decision, command.actor, now.wall_ms)
    runs, results = sum(one.running for one in held), sum(one.results for one in held)
    line = "worker %s: %s of %d foreign runs and %d results by %s"
    log.warning(line, command.worker_id, command.decision, runs, results, command.actor)
    if session is not None:
        _judge(store, session)


def forget_processes(store: Store, name: WorkerId, now: Now) -> None:
    """A worker leaves, and all its processes are gone. Results stay on its disk."""
    left = [protocol.Foreign(one.db, results=one.results) for one in store.foreign.of(name)]
    _store(store, name, left, now)


def _judge(store: Store, session: Session) -> None:
    found = session.foreign or ()
    session.discard = _to_discard(store, session.name, found)
    kept = {one.db for one in store.foreign.of(session.name) if one.decision is ForeignDecision.KEEP} if found else ()
    session.withheld = any(
        held.ending or (held.running and (held.db in session.discard or held.db not in kept)) for held in found
    )


def _to_discard(store: Store, name: WorkerId, found: Sequence[protocol.Foreign]) -> tuple[str, ...]:
    if not found:
        return ()
    decided = {one.db for one in store.foreign.of(name) if one.decision is ForeignDecision.DISCARD}
    return tuple(held.db for held in found if held.db in decided.union(store.predecessors()))


def _store(store: Store, name: WorkerId, found: Sequence[protocol.Foreign], now: Now) -> None:
    known = {one.db: one for one in store.foreign.of(name)}
    for held in found:
        running = len(held.running) + len(held.ending)
        if not running and not held.results:
            continue
        before = known.pop(held.db, None)
        counts = ForeignRuns(
            worker_id=name,
            db=held.db,
            running=running,
            results=held.results,
            runs=(*held.running, *held.ending)[:FOREIGN_NAMED_MAX],
            since_ms=now.wall_ms,
        )
        if before is None:
            store.foreign.found(counts, f"worker {name}")
            _warn(store, counts)
        elif (before.running, before.results, before.runs) != (running, held.results, counts.runs):
            store.foreign.update(counts)
    for gone in known.values():
        store.foreign.gone(gone, f"worker {name}", now.wall_ms)
        log.info("worker %s holds nothing of database %s any more", name, gone.db)


def _warn(store: Store, held: ForeignRuns) -> None:
    if held.db in store.predecessors():
        line = "worker %s discards %d runs and %d results of database %s: this database was restored from it"
        log.warning(line, held.worker_id, held.running, held.results, held.db)
    elif held.running:
        log.warning(
            "worker %s holds %d runs of database %s, and this scheduler has database %s: they go on, and the worker"
            " gets no work. If this is the wrong database, stop this scheduler and start it with the right -db."
            " Otherwise run `zsched foreign keep %s` or `zsched foreign discard %s`",
            *(held.worker_id, held.running, held.db, store.identity, held.worker_id, held.worker_id),
        )
    else:
        line = "worker %s keeps %d results of database %s, for its scheduler"
        log.info(line, held.worker_id, held.results, held.db)


def _trimmed(found: Sequence[protocol.Foreign]) -> tuple[protocol.Foreign, ...]:
    """At most FOREIGN_DATABASES_MAX, and none of which nothing is left."""
    return tuple([held for held in found if held.running or held.ending or held.results][:FOREIGN_DATABASES_MAX])


def _brief(held: protocol.Foreign) -> protocol.Foreign:
    return protocol.Foreign(held.db, held.running, held.ending, held.results)
