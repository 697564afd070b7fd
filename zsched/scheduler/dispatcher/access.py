"""Access: tokens are made and revoked, keys are bound to the names of workers.

A worker's name belongs to the key that it was bound to. Enrolling replaces a key only while no session of that name
lives, so that no caller silences a worker by enrolling in its place. Nor may it end another owner's worker for good. So
no enrolling replaces the key of an access file. A key that was enrolled on the scheduler's own host is replaced only
from there, without a token. A key that was revoked never comes back.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Final

from zsched.model.types import Caller, KeyOrigin, Now, Token, Worker, WorkerId, WorkerKey
from zsched.model.units import counted
from zsched.scheduler.dispatcher import arrival, losses
from zsched.scheduler.dispatcher.commands import (
    AddToken,
    BindKey,
    ConflictError,
    KeyBound,
    NotFoundError,
    RevokeKey,
    RevokeToken,
)
from zsched.scheduler.dispatcher.session import Session, Sessions
from zsched.store.contract import Store

log = logging.getLogger(__name__)

# Which keys a new one replaces, by the origins of both.
_REPLACES: Final = {
    KeyOrigin.ENROLLED: frozenset({KeyOrigin.ENROLLED, KeyOrigin.REMOTE}),
    KeyOrigin.REMOTE: frozenset({KeyOrigin.REMOTE}),
    KeyOrigin.FILE: frozenset[KeyOrigin](),
}
_OF: Final = {
    KeyOrigin.ENROLLED: " that was enrolled on the scheduler's host",
    KeyOrigin.REMOTE: " that was enrolled with a token or from elsewhere",
    KeyOrigin.FILE: " from an access file",
}


def add_token(store: Store, command: AddToken, now: Now) -> Token:
    """Store a token and return it with its times. Raises ConflictError when another token has its name, or had it."""
    name = command.token.name
    if name and store.access.token_named(name) is not None:
        raise ConflictError("token_name_taken", f"A token named {name} exists or was revoked: take another name")
    expires_ms = None if command.life_ms is None else now.wall_ms + command.life_ms
    token = replace(command.token, created_ms=now.wall_ms, expires_ms=expires_ms)
    store.access.add_token(token)
    log.info("token %s created by %s", token.token_id, token.created_by)
    return token


def revoke_token(store: Store, command: RevokeToken, now: Now) -> None:
    """Raises NotFoundError when there is no such token, or when it was revoked before and no jobs are to be ended."""
    revoked = store.access.revoke_token(command.token_id, command.actor, now.wall_ms)
    if not revoked and (not command.jobs or store.access.token(command.token_id) is None):
        raise NotFoundError("unknown_token", "No such token, or it was revoked before")
    if command.jobs:
        store.access.end_jobs(command.token_id, command.actor, now.wall_ms)
    log.info("token %s revoked by %s%s", command.token_id, command.actor, ", with its jobs" if command.jobs else "")


def bind_key(store: Store, sessions: Sessions, command: BindKey, now: Now) -> KeyBound:
    """Raises ConflictError when the key is another worker's or was revoked, and when the name is taken: `name_taken`
    until its worker has timed out, `name_in_use` once that was heard after the first such enrol.
    """
    name = command.worker_id
    known = store.access.key(command.public_key)
    if known is not None and known.revoked_ms is not None:
        raise ConflictError("key_revoked", "This key was revoked: enrol with a new one")
    if known is not None and known.worker_id != name:
        raise ConflictError("key_taken", f"This key belongs to worker {known.worker_id}: enrol with a new one")
    if known is not None:
        if known.slots_max != command.slots_max and _may_limit(command.caller, known):
            store.access.limit_key(known.public_key, command.slots_max, command.caller.actor, now.wall_ms)
        return KeyBound(known.origin is not KeyOrigin.ENROLLED)
    # Asked of the store, which knows it also of a worker that has not come back since a restart.
    before = store.access.key_of(name)
    if before is not None and before.origin not in _REPLACES[command.origin]:
        raise ConflictError(
            "name_has_key",
            f"Worker {name} has another key{_OF[before.origin]}, which this one can't replace: revoke that with"
            f" `zsched access revoke {name}`, then enrol again or run `zsched access new {name}`",
        )
    session = sessions.of_worker(name)
    if session is not None and (session.polls or before is not None):
        alive, why = arrival.on_rival(session, command.public_key, now)
        raise ConflictError("name_in_use" if alive else "name_taken", why[:1].upper() + why[1:])
    store.access.bind_key(
        name, command.public_key, command.origin, command.caller.actor, now.wall_ms, slots_max=command.slots_max
    )
    log.info("worker %s: a key was bound to its name by %s (%s)", name, command.caller.actor, command.origin)
    return KeyBound(command.origin is not KeyOrigin.ENROLLED)


def _may_limit(caller: Caller, key: WorkerKey) -> bool:
    """Whether a caller may change how many slots a key allows. Public keys are no secret, so knowing it is not enough.

    `created_by` begins with the owner that bound the key; a token's name is never used again.
    """
    return caller.admin or key.created_by.rpartition(" at ")[0] == caller.owner


def revoke_key(store: Store, sessions: Sessions, command: RevokeKey, now: Now) -> Session | None:
    """Returns the session that this ends; its worker must get an error frame. Raises NotFoundError."""
    name = command.worker_id
    if not store.access.revoke_key(name, command.actor, now.wall_ms):
        raise NotFoundError("unknown_key", f"Worker {name} has no key")
    log.warning("worker %s: its key was revoked by %s", name, command.actor)
    session = sessions.of_worker(name)
    if session is None or session.polls:
        return None
    losses.lose_worker(store, name, "had its key revoked", now, crash=False)
    store.note_seen({name: session.seen_ms})
    store.deactivate(name, "key_revoked", now.wall_ms)
    sessions.close(name)
    return session


def within_slots(store: Store, worker: Worker, key: str) -> Worker:
    """A worker with no more slots than its key allows."""
    known = store.access.key(key)
    if known is None or known.slots_max is None or worker.slots <= known.slots_max:
        return worker
    log.warning(
        "worker %s asks for %s and gets %d, as its key allows",
        worker.worker_id,
        counted(worker.slots, "slot"),
        known.slots_max,
    )
    return replace(worker, slots=known.slots_max)


def wrong_key(store: Store, name: WorkerId, key: str) -> str | None:
    """What is wrong with a key that speaks for a worker; None when nothing is."""
    known = store.access.key(key) if key else None
    if known is None:
        return "this key is not known: enrol again"
    if known.revoked_ms is not None:
        return "this key was revoked"
    if known.worker_id != name:
        return f"this key is that of worker {known.worker_id}, not of {name}"
    return None
