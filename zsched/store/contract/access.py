"""Callers' tokens and workers' keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from zsched.model.access import KeyOrigin, Token, WorkerKey
from zsched.model.types import JobId, WorkerId


@dataclass(frozen=True, slots=True)
class Ending:
    """A revoked token whose jobs are being ended: the actor who asked for it, and the last job cancelled so far."""

    token_id: str
    owner: str
    actor: str
    ended_to: JobId


class Tokens(Protocol):
    """Tokens by id and by name."""

    def token(self, token_id: str) -> Token | None:
        """A token by its id, valid or not; None if it does not exist."""

    def token_named(self, name: str) -> Token | None:
        """A token by its name, valid or not; None if it does not exist."""


class Access(Tokens, Protocol):
    """Tokens and keys. Part of the write side."""

    def add_token(self, token: Token) -> None:
        """Store a new token. Its name must be new too; a token without a name is named by its id."""

    def is_name_used(self, name: str) -> bool:
        """Whether jobs belong to a token of this name, or a removed token had it."""

    def use_token(self, token_id: str, now_ms: int) -> None:
        """Store when a token was last used. Records no event."""

    def revoke_token(self, token_id: str, actor: str, now_ms: int) -> bool:
        """Revoke a token. Returns False if it does not exist or is already revoked."""

    def end_jobs(self, token_id: str, actor: str, now_ms: int) -> None:
        """Request the end of a revoked token's jobs, and record an event. `ending` has the token until `end_done`."""

    def ending(self) -> Ending | None:
        """The first token whose jobs are being ended, or None."""

    def note_ended(self, token_id: str, job_id: JobId) -> None:
        """Store that the token's jobs up to this one have been cancelled."""

    def end_done(self, token_id: str) -> None:
        """Store that all of the token's jobs have been ended."""

    def key(self, public_key: str) -> WorkerKey | None:
        """A worker's key, revoked or not; None if it is unknown."""

    def key_of(self, worker_id: WorkerId) -> WorkerKey | None:
        """The worker's present key, or None."""

    def has_remote_key(self) -> bool:
        """Whether a valid key exists that was not enrolled on this host, so its worker may be on another host."""

    def bind_key(
        self,
        worker_id: WorkerId,
        public_key: str,
        origin: KeyOrigin,
        actor: str,
        now_ms: int,
        *,
        slots_max: int | None = None,
    ) -> None:
        """Bind a new key to a worker; revokes the worker's previous key. `slots_max`: bound on the worker's slots."""

    def limit_key(self, public_key: str, slots_max: int | None, actor: str, now_ms: int) -> None:
        """Set the bound on the slots of a worker with this key, and record an event. None: no bound."""

    def revoke_key(self, worker_id: WorkerId, actor: str, now_ms: int) -> WorkerKey | None:
        """Revoke the worker's key and return it; None if it has none."""
