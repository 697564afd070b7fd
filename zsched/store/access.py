"""Tokens and keys in the store, on any engine. Part of the write side, and of its transactions (see contract.py).

Each change leaves an event that is about no job, run or worker: `became` says what was done, `detail` with what.
"""

from __future__ import annotations

from msgspec.structs import replace

from zsched.model.access import KeyOrigin, Token, WorkerKey
from zsched.model.types import JobId, WorkerId
from zsched.store import rows, sql
from zsched.store.contract import Ending
from zsched.store.engine import Engine
from zsched.store.ledger import Ledger


class AccessWriter:
    """Implements contract.Access; its methods' contracts stand there."""

    def __init__(self, engine: Engine, ledger: Ledger) -> None:
        self._execute = engine.execute
        self._event = ledger.event

    def token(self, token_id: str) -> Token | None:
        found = self._execute(sql.TOKEN, (token_id,))
        return rows.token(found[0]) if found else None

    def token_named(self, name: str) -> Token | None:
        found = self._execute(sql.TOKEN_NAMED, (name,))
        return rows.token(found[0]) if found else None

    def add_token(self, token: Token) -> None:
        scopes = " ".join(sorted(token.scopes))
        name = token.name or token.token_id
        new = replace(token, name=name, revoked_ms=None, last_used_ms=None)
        self._execute(sql.ADD_TOKEN, rows.row_of_token(new))
        whose = token.token_id if name == token.token_id else f"{token.token_id} ({name})"
        self._event(token.created_ms, token.created_by, None, "token_added", detail=f"{whose}: {scopes}")

    def revoke_token(self, token_id: str, actor: str, now_ms: int) -> bool:
        if not self._execute(sql.REVOKE_TOKEN, (now_ms, token_id)):
            return False
        self._event(now_ms, actor, None, "token_revoked", detail=token_id)
        return True

    def use_token(self, token_id: str, now_ms: int) -> None:
        self._execute(sql.USE_TOKEN, (now_ms, token_id))

    # --- the end of a revoked token's jobs ---

    def end_jobs(self, token_id: str, actor: str, now_ms: int) -> None:
        self._execute(sql.END_JOBS, (actor, token_id))
        self._event(now_ms, actor, None, "token_jobs_ended", detail=token_id)

    def ending(self) -> Ending | None:
        found = self._execute(sql.ENDING)
        if not found:
            return None
        token_id, owner, actor, ended_to = found[0]
        return Ending(token_id, owner, actor, JobId(ended_to))

    def ended_to(self, token_id: str, job_id: JobId) -> None:
        self._execute(sql.ENDED_TO, (job_id, token_id))

    def ended(self, token_id: str) -> None:
        self._execute(sql.ENDED, (token_id,))

    # --- keys ---

    def key(self, public_key: str) -> WorkerKey | None:
        found = self._execute(sql.KEY, (public_key,))
        return rows.key(found[0]) if found else None

    def key_of(self, worker_id: WorkerId) -> WorkerKey | None:
        found = self._execute(sql.KEY_OF, (worker_id,))
        return rows.key(found[0]) if found else None

    def has_remote_key(self) -> bool:
        return bool(self._execute(sql.REMOTE_KEY))

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
        self.revoke_key(worker_id, actor, now_ms)
        key = WorkerKey(public_key=public_key, worker_id=worker_id, origin=origin, created_ms=now_ms, created_by=actor)
        self._execute(sql.ADD_KEY, rows.row_of_key(key))
        self._event(now_ms, actor, None, "key_bound", detail=f"{worker_id}: {public_key}")
        if slots_max is not None:
            self.limit_key(public_key, slots_max, actor, now_ms)

    def limit_key(self, public_key: str, slots_max: int | None, actor: str, now_ms: int) -> None:
        self._execute(sql.LIMIT_KEY, (slots_max, public_key))
        limit = "any number of slots" if slots_max is None else f"at most {slots_max} slots"
        self._event(now_ms, actor, None, "key_limited", detail=f"{public_key}: {limit}")

    def revoke_key(self, worker_id: WorkerId, actor: str, now_ms: int) -> bool:
        revoked = self._execute(sql.REVOKE_KEY, (now_ms, worker_id))
        for (public_key,) in revoked:
            self._event(now_ms, actor, None, "key_revoked", detail=f"{worker_id}: {public_key}")
        return bool(revoked)
