"""What submits with an Idempotency-Key stored, on any engine. Part of the write side, and of its transactions (see
contract.py).
"""

from __future__ import annotations

from zsched.store import rows, sql
from zsched.store.contract import Submitted
from zsched.store.engine import Engine


class IdempotencyWriter:
    """Implements contract.Idempotency; its methods' contracts stand there."""

    def __init__(self, engine: Engine) -> None:
        self._execute = engine.execute

    def find(self, caller: str, key: bytes, after_ms: int) -> Submitted | None:
        found = self._execute(sql.SUBMITTED, (caller, key, after_ms))
        return rows.submitted(found[0]) if found else None

    def keep(self, caller: str, key: bytes, submitted: Submitted, now_ms: int) -> None:
        one = submitted
        self._execute(sql.KEEP_SUBMITTED, (caller, key, one.digest, one.first, one.last, one.jobs, now_ms))

    def forget(self, until_ms: int, count: int) -> int:
        return len(self._execute(sql.FORGET_SUBMITTED, (until_ms, count)))
