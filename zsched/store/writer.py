"""The write side on any engine: its roles combined. Called by the loop thread alone, inside the turn's transaction."""

from __future__ import annotations

from zsched.store.access import AccessWriter
from zsched.store.claims import ClaimsWriter
from zsched.store.engine import Engine
from zsched.store.foreign import ForeignWriter
from zsched.store.idempotency import IdempotencyWriter
from zsched.store.identity import IdentityWriter
from zsched.store.jobs import JobsWriter
from zsched.store.retention import RetentionWriter
from zsched.store.schedules import SchedulesWriter
from zsched.store.workers import WorkersWriter


class Writer(JobsWriter, SchedulesWriter, ClaimsWriter, IdentityWriter, WorkersWriter):
    """Implements contract.Store, one role per base class. zsched/store/contract/ documents the methods."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.access = AccessWriter(engine, self._ledger, self.reads)
        self.foreign = ForeignWriter(engine, self._ledger, self.reads)
        self.idempotency = IdempotencyWriter(engine, self.reads)
        self.retention = RetentionWriter(engine, self._ledger)
