"""The contract between scheduler and store, one role per module. The contract tests run it against every engine.

The loop thread calls all methods of `Store`, between `begin` and `commit`. After `commit` has returned, the changes
survive a power cut; before, they may be lost. So the loop sends and answers only after it. A method that raises
StoreError has changed nothing that a later `commit` would keep, once the caller has rolled back to its savepoint.

`Reader` is the read side: one per thread, read-only.
"""

from __future__ import annotations

from typing import Protocol

from zsched.model.types import Verdict
from zsched.store.contract.access import Access, Ending, Tokens
from zsched.store.contract.errors import (
    StoreBusy,
    StoreConstraint,
    StoreCorrupt,
    StoreDeposed,
    StoreError,
    StoreForeign,
    StoreFull,
    StoreLocked,
    StoreLoose,
    StoreMisplaced,
    StoreMoved,
    StoreNewer,
    StoreUnsupported,
    StoreUnsure,
)
from zsched.store.contract.foreign import Foreign
from zsched.store.contract.idempotency import Idempotency, Submitted
from zsched.store.contract.identity import KEY_CHECK, NO_LINEAGE, Identity, Lineage, Restoration
from zsched.store.contract.jobs import Cancelled, Jobs, Target
from zsched.store.contract.queues import Queues, QueueState
from zsched.store.contract.reader import EventFilter, JobFilter, Reader, RunOutput
from zsched.store.contract.retention import FireStep, Old, Retention, Step
from zsched.store.contract.runs import Avoiding, Claim, Claimed, Holding, Load, Ready, Runs
from zsched.store.contract.schedules import Due, Schedules
from zsched.store.contract.tasks import Again, Task, Tasks, TaskStep
from zsched.store.contract.transactions import Changes, Transactions
from zsched.store.contract.workers import Workers

__all__ = [
    "KEY_CHECK",
    "NO_LINEAGE",
    "Access",
    "Again",
    "Avoiding",
    "Cancelled",
    "Changes",
    "Claim",
    "Claimed",
    "Due",
    "Ending",
    "EventFilter",
    "FireStep",
    "Foreign",
    "Holding",
    "Idempotency",
    "Identity",
    "JobFilter",
    "Jobs",
    "Lineage",
    "Load",
    "Old",
    "QueueState",
    "Queues",
    "Reader",
    "Ready",
    "Restoration",
    "Retention",
    "RunOutput",
    "Runs",
    "Schedules",
    "Step",
    "Store",
    "StoreBusy",
    "StoreConstraint",
    "StoreCorrupt",
    "StoreDeposed",
    "StoreError",
    "StoreForeign",
    "StoreFull",
    "StoreLocked",
    "StoreLoose",
    "StoreMisplaced",
    "StoreMoved",
    "StoreNewer",
    "StoreUnsupported",
    "StoreUnsure",
    "Submitted",
    "Target",
    "Task",
    "TaskStep",
    "Tasks",
    "Tokens",
    "Transactions",
    "Verdict",
    "Workers",
]


class Store(Transactions, Identity, Jobs, Tasks, Schedules, Runs, Workers, Protocol):
    """The write side. Its further roles work within the same transactions."""

    @property
    def access(self) -> Access: ...

    @property
    def idempotency(self) -> Idempotency: ...

    @property
    def foreign(self) -> Foreign: ...

    @property
    def queues(self) -> Queues: ...

    @property
    def retention(self) -> Retention: ...

    @property
    def reads(self) -> Reader:
        """The read side as this transaction sees it. Events and counters are current after `flush_counters`."""
