"""Access: tokens are added and revoked, keys are bound to the names of workers.

A worker's name belongs to the key that is bound to it. Enrolling replaces a key only while no session of that name
lives, so that no caller can silence a worker by enrolling in its place. It must not end another user's worker for good
either: the key of an access file is never replaced, and a key that was enrolled on the scheduler's own host only from
there, without a token. A revoked key never becomes valid again.
"""

from __future__ import annotations

import logging
from typing import Final

from msgspec.structs import replace

from zsched.model.access import Caller, KeyOrigin, Token, WorkerKey
from zsched.model.types import Now, Worker, WorkerId
from zsched.model.units import counted
from zsched.scheduler.dispatcher import answers, arrival, departures, losses
from zsched.scheduler.dispatcher.answers import Deferred
from zsched.scheduler.dispatcher.commands import (
    AddToken,
    BindKey,
    ConflictError,
    KeyBound,
    NotFoundError,
    RevokeKey,
    RevokeToken,
    TokenState,
)
from zsched.scheduler.dispatcher.outbox import Outbox, error
from zsched.scheduler.dispatcher.session import Sessions
from zsched.store.contract import Store

log = logging.getLogger(__name__)

# By the origin of a new key: the origins of keys that it may replace.
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
    if name and (store.access.token_named(name) is not None or store.access.is_name_used(name)):
        raise ConflictError("token_name_taken", f"A token named {name} exists or was revoked: take another name")
    expires_ms = None if command.life_ms is None else now.wall_ms + command.life_ms
    token = replace(command.token, created_ms=now.wall_ms, expires_ms=expires_ms)
    store.access.add_token(token)
    log.info("token %s created by %s", token.token_id, token.created_by)
    return token


def revoke_token(store: Store, command: RevokeToken, now: Now) -> Deferred[TokenState]:
    """Raises NotFoundError when there is no such token, or when it was revoked before and no jobs are to be ended."""
    revoked = store.access.revoke_token(command.token_id, command.actor, now.wall_ms)
    if not revoked and (not command.jobs or store.access.token(command.token_id) is None):
        raise NotFoundError("unknown_token", "No such token, or it was revoked before")
    if command.jobs:
        store.access.end_jobs(command.token_id, command.actor, now.wall_ms)
    log.info("token %s revoked by %s%s", command.token_id, command.actor, ", with its jobs" if command.jobs else "")
    return answers.token_state(command.token_id)


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
    # The store also knows the key of a worker that has not registered since a restart.
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
    """Whether a caller may change how many slots a key allows. Public keys are not secret, so knowing it is not enough.

    `created_by` begins with the owner that bound the key; a token's name is never used again.
    """
    return caller.admin or key.created_by.rpartition(" at ")[0] == caller.owner


def revoke_key(store: Store, sessions: Sessions, outbox: Outbox, command: RevokeKey, now: Now) -> WorkerKey:
    """Revoke a worker's key and end its session, if it is connected. Raises NotFoundError."""
    name = command.worker_id
    revoked = store.access.revoke_key(name, command.actor, now.wall_ms)
    if revoked is None:
        raise NotFoundError("unknown_key", f"Worker {name} has no key")
    log.warning("worker %s: its key was revoked by %s", name, command.actor)
    session = sessions.of_worker(name)
    if session is not None and not session.polls:
        losses.lose_worker(store, name, "had its key revoked", now, crash=False)
        departures.end_session(store, sessions, session, "key_revoked", now)
        outbox.send(session, error("E_KEY", "this key was revoked", fatal=True))
    return revoked


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
    """Why a key may not speak for a worker; None: it may."""
    known = store.access.key(key) if key else None
    if known is None:
        return "this key is not known: enrol again"
    if known.revoked_ms is not None:
        return "this key was revoked"
    if known.worker_id != name:
        return f"this key is that of worker {known.worker_id}, not of {name}"
    return None
