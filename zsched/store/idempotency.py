"""Results of submits with an Idempotency-Key. Part of the write side, within its transactions."""

from __future__ import annotations

from zsched.store import sql
from zsched.store.contract import Submitted
from zsched.store.engine import Engine
from zsched.store.reader import EngineReader


class IdempotencyWriter:
    """Implements contract.Idempotency."""

    def __init__(self, engine: Engine, reads: EngineReader) -> None:
        self._execute = engine.execute
        self.find = reads.submitted

    def keep(self, caller: str, key: bytes, submitted: Submitted, now_ms: int) -> None:
        self._execute(
            sql.KEEP_SUBMITTED,
            (caller, key, submitted.digest, submitted.first, submitted.last, submitted.jobs, now_ms),
        )

    def forget(self, until_ms: int, count: int) -> int:
        return len(self._execute(sql.FORGET_SUBMITTED, (until_ms, count)))
