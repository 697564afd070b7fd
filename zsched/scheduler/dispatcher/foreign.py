"""Runs that workers hold for other databases: a scheduler that starts on an empty or wrong database must not end them.

Such runs continue, and their worker gets nothing from this scheduler until they have ended or the operator decides.
`keep` lets them continue while the worker gets new runs; `discard` ends them. Runs of a predecessor, from which this
database was restored, are always discarded: this database has their tasks, and runs them again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from zsched import protocol
from zsched.model.limits import FOREIGN_DATABASES_MAX, FOREIGN_NAMED_MAX
from zsched.model.records import ForeignDecision, ForeignRuns
from zsched.model.types import Now, WorkerId
from zsched.model.units import counted
from zsched.scheduler.dispatcher.commands import DecideForeign, ForeignState, NotFoundError
from zsched.scheduler.dispatcher.outbox import Outbox
from zsched.scheduler.dispatcher.session import Session, Sessions
from zsched.store.contract import Store

log = logging.getLogger(__name__)

# A worker with this word in `can` keeps runs of other databases. Any other worker kills them once it is registered.
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
    """Runs of this database that a worker has discarded for the scheduler of another database, and that are gone."""
    return [run for held in frame.foreign if held.db == store.identity for run in held.ended]


def others(store: Store, frame: protocol.Register) -> tuple[protocol.Foreign, ...]:
    """What a worker holds for other databases, in the form of a heartbeat. Its last database comes first, since the
    others may be too many.
    """
    holdings = []
    if frame.db not in ("", store.identity) and frame.runs:
        running = tuple(run.run for run in frame.runs if run.phase != "finished")
        holdings.append(protocol.Foreign(frame.db, running, results=len(frame.runs) - len(running)))
    holdings += [_brief(held) for held in frame.foreign if held.db != store.identity]
    return _trimmed(holdings)


def must_wait(store: Store, frame: protocol.Register, now: Now) -> bool:
    """Whether a worker that can't keep foreign runs has to register later: it would kill them now."""
    if ABILITY in frame.can:
        return False
    name = WorkerId(frame.worker)
    holdings = others(store, frame)
    _store(store, name, holdings, now)
    discard = _to_discard(store, name, holdings)
    return any(held.running and held.db not in discard for held in holdings)


def why_wait(name: WorkerId) -> str:
    """The sentence for a worker that has to register later."""
    remedy = f"wait for their end, or run `zsched foreign discard {name}`"
    return f"this worker's release can't keep its runs of another database: {remedy}"


def note(store: Store, session: Session, holdings: tuple[protocol.Foreign, ...], now: Now) -> None:
    """Store what a worker holds for other databases, and decide whether it may get work."""
    holdings = _trimmed(holdings)
    if holdings == session.foreign:
        return
    _store(store, session.name, holdings, now)
    session.foreign = holdings
    _judge(store, session)


def on_decide(store: Store, sessions: Sessions, outbox: Outbox, command: DecideForeign, now: Now) -> ForeignState:
    """Store the operator's decision, and send a worker that is connected what it must discard. Raises NotFoundError
    when the worker holds nothing for another database.
    """
    held = store.foreign.of(command.worker_id)
    if not held:
        raise NotFoundError("no_foreign", f"Worker {command.worker_id} holds nothing of another database")
    decided = tuple(_decide(store, runs, command, now) for runs in held)
    running, results = sum(runs.running for runs in held), sum(runs.results for runs in held)
    holds = counted(running, "foreign run"), counted(results, "result")
    log.warning("worker %s: %s of %s and %s by %s", command.worker_id, command.decision, *holds, command.actor)
    session = sessions.of_worker(command.worker_id)
    # After a failed turn the scheduler doesn't know what the worker holds: its next frame says it.
    if session is not None and session.foreign is not None:
        _judge(store, session)
        if session.discard:
            # Each heartbeat_ack repeats it until they are gone.
            outbox.send(session, protocol.Cancel(s=session.token, ep=outbox.epoch, runs=(), discard=session.discard))
    return ForeignState(decided)


def _decide(store: Store, held: ForeignRuns, command: DecideForeign, now: Now) -> ForeignRuns:
    if held.decision is command.decision:
        return held
    return store.foreign.decide(held, command.decision, command.actor, now.wall_ms)


def forget_processes(store: Store, name: WorkerId, now: Now) -> None:
    """A worker leaves, and all its processes are gone. Results stay on its disk."""
    left = [protocol.Foreign(held.db, results=held.results) for held in store.foreign.of(name)]
    _store(store, name, left, now)


def _judge(store: Store, session: Session) -> None:
    holdings = session.foreign or ()
    session.discard = _to_discard(store, session.name, holdings)
    stored = store.foreign.of(session.name) if holdings else ()
    kept = {held.db for held in stored if held.decision is ForeignDecision.KEEP}
    session.withheld = any(
        held.ending or (held.running and (held.db in session.discard or held.db not in kept)) for held in holdings
    )


def _to_discard(store: Store, name: WorkerId, holdings: Sequence[protocol.Foreign]) -> tuple[str, ...]:
    if not holdings:
        return ()
    decided = {held.db for held in store.foreign.of(name) if held.decision is ForeignDecision.DISCARD}
    return tuple(held.db for held in holdings if held.db in decided.union(store.predecessors()))


def _store(store: Store, name: WorkerId, holdings: Sequence[protocol.Foreign], now: Now) -> None:
    known = {held.db: held for held in store.foreign.of(name)}
    for held in holdings:
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
            store.foreign.add(counts, f"worker {name}")
            _warn(store, counts)
        elif (before.running, before.results, before.runs) != (running, held.results, counts.runs):
            store.foreign.update(counts)
    for gone in known.values():
        store.foreign.remove(gone, f"worker {name}", now.wall_ms)
        log.info("worker %s holds nothing of database %s any more", name, gone.db)


def _warn(store: Store, held: ForeignRuns) -> None:
    runs, results = counted(held.running, "run"), counted(held.results, "result")
    if held.db in store.predecessors():
        line = "worker %s discards %s and %s of database %s: this database was restored from it"
        log.warning(line, held.worker_id, runs, results, held.db)
    elif held.running:
        log.warning(
            "worker %s goes on with %s of database %s, and this scheduler has database %s: so the worker gets no work."
            " If this is the wrong database, stop this scheduler and start it with the right -db."
            " Otherwise run `zsched foreign keep %s` or `zsched foreign discard %s`",
            *(held.worker_id, runs, held.db, store.identity, held.worker_id, held.worker_id),
        )
    else:
        log.info("worker %s keeps %s of database %s, for its scheduler", held.worker_id, results, held.db)


def _trimmed(holdings: Sequence[protocol.Foreign]) -> tuple[protocol.Foreign, ...]:
    """The first FOREIGN_DATABASES_MAX that are not empty."""
    return tuple([held for held in holdings if held.running or held.ending or held.results][:FOREIGN_DATABASES_MAX])


def _brief(held: protocol.Foreign) -> protocol.Foreign:
    return protocol.Foreign(held.db, held.running, held.ending, held.results)
