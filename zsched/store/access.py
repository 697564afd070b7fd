"""Tokens and keys in the store. Part of the write side, within its transactions.

Each change records an event that belongs to no job, run or worker: `became` states what was done, `detail` to what.
"""

from __future__ import annotations

from msgspec.structs import replace

from zsched.model.access import KeyOrigin, Token, WorkerKey
from zsched.model.events import EventKind
from zsched.model.types import JobId, WorkerId
from zsched.model.units import counted
from zsched.store import rows, sql
from zsched.store.contract import Ending
from zsched.store.engine import Engine
from zsched.store.ledger import Ledger, Note
from zsched.store.reader import EngineReader


class AccessWriter:
    """Implements contract.Access."""

    def __init__(self, engine: Engine, ledger: Ledger, reads: EngineReader) -> None:
        self._execute = engine.execute
        self._ledger = ledger
        self.token, self.token_named = reads.token, reads.token_named

    def _note(self, became: EventKind, detail: str, actor: str, at_ms: int) -> None:
        self._ledger.note(Note(at_ms=at_ms, actor=actor, became=became, detail=detail))

    # --- tokens ---

    def add_token(self, token: Token) -> None:
        scopes = " ".join(sorted(token.scopes))
        name = token.name or token.token_id
        new = replace(token, name=name, revoked_ms=None, last_used_ms=None)
        self._execute(sql.ADD_TOKEN, rows.row_of_token(new))
        shown = token.token_id if name == token.token_id else f"{token.token_id} ({name})"
        self._note(EventKind.TOKEN_ADDED, f"{shown}: {scopes}", token.created_by, token.created_ms)

    def is_name_used(self, name: str) -> bool:
        return bool(self._execute(sql.FIND_OWNER, (f"token:{name}",)))

    def revoke_token(self, token_id: str, actor: str, now_ms: int) -> bool:
        if not self._execute(sql.REVOKE_TOKEN, (now_ms, token_id)):
            return False
        self._note(EventKind.TOKEN_REVOKED, token_id, actor, now_ms)
        return True

    def use_token(self, token_id: str, now_ms: int) -> None:
        self._execute(sql.USE_TOKEN, (now_ms, token_id))

    # --- the end of a revoked token's jobs ---

    def end_jobs(self, token_id: str, actor: str, now_ms: int) -> None:
        self._execute(sql.END_JOBS, (actor, token_id))
        self._note(EventKind.TOKEN_JOBS_ENDED, token_id, actor, now_ms)

    def ending(self) -> Ending | None:
        stored = self._execute(sql.ENDING)
        if not stored:
            return None
        token_id, owner, actor, ended_to = stored[0]
        return Ending(token_id, owner, actor, JobId(ended_to))

    def note_ended(self, token_id: str, job_id: JobId) -> None:
        self._execute(sql.ENDED_TO, (job_id, token_id))

    def end_done(self, token_id: str) -> None:
        self._execute(sql.ENDED, (token_id,))

    # --- keys ---

    def key(self, public_key: str) -> WorkerKey | None:
        stored = self._execute(sql.KEY, (public_key,))
        return rows.key(stored[0]) if stored else None

    def key_of(self, worker_id: WorkerId) -> WorkerKey | None:
        stored = self._execute(sql.KEY_OF, (worker_id,))
        return rows.key(stored[0]) if stored else None

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
        self._note(EventKind.KEY_BOUND, f"{worker_id}: {public_key}", actor, now_ms)
        if slots_max is not None:
            self.limit_key(public_key, slots_max, actor, now_ms)

    def limit_key(self, public_key: str, slots_max: int | None, actor: str, now_ms: int) -> None:
        self._execute(sql.LIMIT_KEY, (slots_max, public_key))
        limit = "any number of slots" if slots_max is None else f"at most {counted(slots_max, 'slot')}"
        self._note(EventKind.KEY_LIMITED, f"{public_key}: {limit}", actor, now_ms)

    def revoke_key(self, worker_id: WorkerId, actor: str, now_ms: int) -> WorkerKey | None:
        revoked = self._execute(sql.REVOKE_KEY, (now_ms, worker_id))
        if not revoked:
            return None
        key = rows.key(revoked[0])
        self._note(EventKind.KEY_REVOKED, f"{worker_id}: {key.public_key}", actor, now_ms)
        return key
