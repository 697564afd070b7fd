"""Register frames: whether a worker may have its name, and the session that it gets then."""

from __future__ import annotations

import logging

from zsched import protocol
from zsched.model.limits import (
    LINE_INTERVAL_MS,
    REGISTER_GAP_MS,
    REGISTERS_MAX,
    SESSIONS_MAX,
    WINDOW_MAX,
    WINDOW_PER_SLOT_MAX,
)
from zsched.model.rate import Rate, Throttled
from zsched.model.types import Now, Worker, WorkerId
from zsched.model.units import counted
from zsched.scheduler.dispatcher import access, arrival, foreign, losses
from zsched.scheduler.dispatcher.outbox import error
from zsched.scheduler.dispatcher.returns import Returns
from zsched.scheduler.dispatcher.session import Session, Sessions
from zsched.scheduler.dispatcher.settings import Settings
from zsched.scheduler.dispatcher.translation import introduced
from zsched.store.contract import Store

log = logging.getLogger(__name__)


class Registration:
    """Registers the workers of one scheduler."""

    def __init__(self, store: Store, sessions: Sessions, returns: Returns, settings: Settings) -> None:
        self._store = store
        self._sessions = sessions
        self._returns = returns
        self._settings = settings
        self._registers = Rate(REGISTERS_MAX, REGISTER_GAP_MS)
        # Lines that a peer can cause with each of its frames.
        self._refusals = Throttled(log, logging.WARNING, LINE_INTERVAL_MS)
        self._rivals = Throttled(log, logging.WARNING, LINE_INTERVAL_MS)

    def on_register(
        self, peer: bytes, frame: protocol.Register, now: Now, key: str
    ) -> protocol.Registered | protocol.Error:
        """Open a session for a worker that may have its name, and reconcile what it holds; else the error to answer.

        `key`: the public key of its connection, empty if there is none.
        """
        refusal = self._refuse_peer(frame, now, key)
        if refusal is not None:
            return refusal
        old = self._sessions.of_worker(WorkerId(frame.worker))
        refusal = self._refuse_name(frame, old, now)
        if refusal is not None:
            return refusal
        if foreign.must_wait(self._store, frame, now):
            return error("E_BUSY", foreign.why_wait(WorkerId(frame.worker)))
        return self._open_session(peer, frame, old, now, key)

    def _refuse_peer(self, frame: protocol.Register, now: Now, key: str) -> protocol.Error | None:
        """The error for a peer that may not register under any circumstances; None: it may."""
        if self._settings.keyed and (wrong := access.wrong_key(self._store, WorkerId(frame.worker), key)) is not None:
            self._refusals.write(now.mono_ms, "worker %s is refused: %s", frame.worker, wrong)
            return error("E_KEY", wrong, fatal=True)
        if protocol.VERSION not in frame.versions:
            return error("E_VERSION", f"this scheduler speaks version {protocol.VERSION} of the protocol", fatal=True)
        return None

    def _refuse_name(self, frame: protocol.Register, old: Session | None, now: Now) -> protocol.Error | None:
        """The error for a worker that may not have its name now; None: it may. `old` is the session of that name."""
        name = WorkerId(frame.worker)
        if old is None and len(self._sessions) >= SESSIONS_MAX:
            return error("E_BUSY", f"the scheduler serves at most {SESSIONS_MAX} workers")
        if old is not None and arrival.is_late(old, frame):
            self._rivals.write(now.mono_ms, "worker %s: a register from before its session is ignored", name)
            return error("E_SESSION", "your worker has registered since then")
        if old is not None and not arrival.may_take_over(old, frame):
            fatal, sentence = arrival.on_rival(old, frame.incarnation, now)
            self._rivals.write(now.mono_ms, "worker %s: another worker asks for the same name", name)
            return error("E_DUP", sentence, fatal=fatal)
        if not self._registers.take(name, now.mono_ms):
            return error("E_BUSY", f"worker {name} registers too often")
        return None

    def _open_session(
        self, peer: bytes, frame: protocol.Register, old: Session | None, now: Now, key: str
    ) -> protocol.Registered:
        """Open a session in place of the worker's `old` one, and reconcile what the worker holds."""
        worker = access.within_slots(self._store, introduced(frame, now), key)
        if old is not None and old.worker.incarnation != worker.incarnation:
            self._lose_earlier_start(old, frame, now)
        self._store.register(worker, now.wall_ms)
        session = Session(
            worker=worker,
            token=self._settings.new_token(),
            peer=peer,
            heard_ms=now.mono_ms,
            seen_ms=now.wall_ms,
            key=key,
            sent_ms=frame.sent_ms,
            window_max=WINDOW_PER_SLOT_MAX * worker.slots if worker.slots < frame.slots else WINDOW_MAX,
        )
        if frame.leaving:
            arrival.announce_end(self._store, self._sessions, session, now)
        keep, kill, missing = arrival.adopt(self._store, session, frame, now)
        foreign.note(self._store, session, foreign.others(self._store, frame), now)
        self._returns.give_back(session, missing, now)
        # Last: when a part of this fails, the earlier session stays, and the next register does it all again.
        self._sessions.open(session)
        _log_registered(worker, len(keep), len(kill))
        timeout_ms = self._settings.timeout_ms
        return protocol.Registered(
            s=session.token,
            ep=self._settings.epoch,
            db=self._store.identity,
            heartbeat_ms=min(frame.heartbeat_ms or timeout_ms, timeout_ms // 3),
            timeout_ms=timeout_ms,
            keep=tuple(keep),
            kill=tuple(kill),
            discard=session.discard,
        )

    def _lose_earlier_start(self, old: Session, frame: protocol.Register, now: Now) -> None:
        """A new start of a worker: the runs of the earlier start are lost, except those whose results it still has."""
        spooled = arrival.finished(self._store, frame)
        self._returns.count(old.name, len(self._store.held_by(old.name)), now.mono_ms)
        losses.lose_worker(self._store, old.name, "started again", now, crash=not old.leaving, spared=spooled)


def _log_registered(worker: Worker, kept: int, killed: int) -> None:
    slots, runs = counted(worker.slots, "slot"), counted(kept, "run")
    log.info("worker %s registered: %s, holds %s", worker.worker_id, slots, runs)
    if killed:
        log.warning("worker %s must kill %s that it no longer owns", worker.worker_id, counted(killed, "run"))
