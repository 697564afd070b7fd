"""Tokens and keys in the store, on any engine. Part of the write side, and of its transactions (see contract.py).

Each change leaves an event that is about no job, run or worker: `became` says what was done, `detail` with what.
"""

from __future__ import annotations

from zsched.model import KeyOrigin, Token, WorkerId, WorkerKey
from zsched.store import rows, sql
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

    def add_token(self, token: Token) -> None:
        scopes = " ".join(sorted(token.scopes))
        facts = (token.token_id, token.digest, scopes, token.note, token.created_ms, token.created_by, token.expires_ms)
        self._execute(sql.ADD_TOKEN, facts)
        self._event(token.created_ms, token.created_by, None, "token_added", detail=f"{token.token_id}: {scopes}")

    def revoke_token(self, token_id: str, actor: str, now_ms: int) -> bool:
        if not self._execute(sql.REVOKE_TOKEN, (now_ms, token_id)):
            return False
        self._event(now_ms, actor, None, "token_revoked", detail=token_id)
        return True

    def key(self, public_key: str) -> WorkerKey | None:
        found = self._execute(sql.KEY, (public_key,))
        return rows.key(found[0]) if found else None

    def key_of(self, worker_id: WorkerId) -> WorkerKey | None:
        found = self._execute(sql.KEY_OF, (worker_id,))
        return rows.key(found[0]) if found else None

    def has_remote_key(self) -> bool:
        return bool(self._execute(sql.REMOTE_KEY))

    def bind_key(self, worker_id: WorkerId, public_key: str, origin: KeyOrigin, actor: str, now_ms: int) -> None:
        self.revoke_key(worker_id, actor, now_ms)
        self._execute(sql.ADD_KEY, (public_key, worker_id, origin, now_ms, actor))
        self._event(now_ms, actor, None, "key_bound", detail=f"{worker_id}: {public_key}")

    def revoke_key(self, worker_id: WorkerId, actor: str, now_ms: int) -> bool:
        revoked = self._execute(sql.REVOKE_KEY, (now_ms, worker_id))
        for (public_key,) in revoked:
            self._event(now_ms, actor, None, "key_revoked", detail=f"{worker_id}: {public_key}")
        return bool(revoked)
