"""The store's write side, on any engine: its parts put together. Called by the loop thread alone, inside the turn's
transaction (see contract.py).
"""

from __future__ import annotations

from zsched.store import sql
from zsched.store.access import AccessWriter
from zsched.store.claims import Claims
from zsched.store.ends import Ends
from zsched.store.engine import Engine
from zsched.store.idempotency import IdempotencyWriter
from zsched.store.jobs import Jobs
from zsched.store.reader import EngineReader
from zsched.store.workers import Workers


class Writer(Jobs, Claims, Ends, Workers):
    """Implements contract.Store; its methods' contracts stand there. Each of the parts has its own module."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.access = AccessWriter(engine, self._ledger)
        self.idempotency = IdempotencyWriter(engine)
        self.reads = EngineReader(engine)
        self._identity = str(self._execute(sql.IDENTITY)[0][0])

    @property
    def identity(self) -> str:
        return self._identity

    def begin_epoch(self, host: str, pid: int, version: str, now_ms: int) -> int:
        return int(self._execute(sql.BEGIN_EPOCH, (host, pid, version, now_ms))[0][0])

    def end_epoch(self, epoch: int, now_ms: int) -> None:
        self._execute(sql.END_EPOCH, (now_ms, epoch))
