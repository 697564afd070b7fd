"""Kinds of events: the words in `became` of an event that is not a change of a run's or a worker's state. Pure.

A verb of the store writes an event as a `Note` (store/ledger.py). docs/rest.md lists the words.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from zsched.model.records import ForeignDecision
from zsched.model.types import RunStatus, WorkerStatus


class EventKind(StrEnum):
    """What was done. The words are stored and shown, so they never change."""

    # A job's schedule.
    SCHEDULED = "scheduled"
    SCHEDULE_PAUSED = "schedule_paused"
    SCHEDULE_RESUMED = "schedule_resumed"
    SCHEDULE_ENDED = "schedule_ended"
    JOB_EDITED = "job_edited"
    # A job's starts.
    HELD = "held"
    RELEASED = "released"
    TASKS_HELD = "tasks_held"
    TASKS_RELEASED = "tasks_released"
    TASKS_CANCELLED = "tasks_cancelled"
    TASKS_FAILED = "tasks_failed"
    TASKS_RERUN = "tasks_rerun"
    FIRE_SKIPPED = "fire_skipped"
    # A run's artifacts.
    ARTIFACTS_LEFT_OUT = "artifacts_left_out"
    # Queues.
    QUEUE_PAUSED = "queue_paused"
    QUEUE_RESUMED = "queue_resumed"
    QUEUE_CHANGED = "queue_changed"
    # Tokens and keys.
    TOKEN_ADDED = "token_added"  # noqa: S105  (a word, not a secret)
    TOKEN_REVOKED = "token_revoked"  # noqa: S105
    TOKEN_JOBS_ENDED = "token_jobs_ended"  # noqa: S105
    TOKEN_REMOVED = "token_removed"  # noqa: S105
    KEY_BOUND = "key_bound"
    KEY_LIMITED = "key_limited"
    KEY_REVOKED = "key_revoked"
    WORKER_REMOVED = "worker_removed"
    # Runs that a worker holds for another database.
    FOREIGN_FOUND = "foreign_found"
    FOREIGN_GONE = "foreign_gone"
    FOREIGN_KEEP = "foreign_keep"
    FOREIGN_DISCARD = "foreign_discard"
    # Old jobs were removed.
    PURGED = "purged"
    # The database and its host.
    RESTORED = "restored"
    CLOCK_SET = "clock_set"


DECISIONS: Final = {
    ForeignDecision.KEEP: EventKind.FOREIGN_KEEP,
    ForeignDecision.DISCARD: EventKind.FOREIGN_DISCARD,
}

# What an event's `became` may be.
Became = RunStatus | WorkerStatus | EventKind

# The words that an event's `became` may be.
KINDS: Final = (*RunStatus, *WorkerStatus, *EventKind)
