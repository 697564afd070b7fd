"""Live output: callers look at running runs, and their workers are asked to send what these write."""

from __future__ import annotations

from zsched import protocol
from zsched.model.limits import WATCH_MS
from zsched.model.types import Now, RunId, RunStatus
from zsched.scheduler.dispatcher.commands import Look
from zsched.scheduler.dispatcher.outbox import Outbox
from zsched.scheduler.dispatcher.session import Session, Sessions
from zsched.store.contract import Store


def on_look(store: Store, sessions: Sessions, outbox: Outbox, command: Look, now: Now) -> None:
    """Ask the run's worker for its output from now on, for WATCH_MS. A run that is not on a connected worker sends
    none.
    """
    run = store.run(command.run_id)
    if run is None or run.status is not RunStatus.RUNNING or run.worker_id is None:
        return
    session = sessions.of_worker(run.worker_id)
    if session is None or session.peer is None:
        return
    for run_id in [run_id for run_id, until_ms in session.watched.items() if until_ms < now.mono_ms]:
        del session.watched[run_id]
    session.watched[command.run_id] = now.mono_ms + 2 * WATCH_MS
    watch = protocol.Watch(
        s=session.token,
        ep=outbox.epoch,
        run=command.run_id,
        stdout=command.stdout,
        stderr=command.stderr,
        for_ms=WATCH_MS,
    )
    outbox.send(session, watch)


def on_log(session: Session, outbox: Outbox, frame: protocol.Log, now: Now) -> None:
    """Pass output of a watched run on to the callers; of any other run it is dropped."""
    if session.watched.get(RunId(frame.run), 0) >= now.mono_ms:
        outbox.output.append(frame)
