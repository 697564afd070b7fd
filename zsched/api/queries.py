"""Parameters of queries as the OpenAPI document describes them, by the names that operations.py uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from zsched.api.body import OWNER
from zsched.api.tasks import TASKS
from zsched.model.events import KINDS
from zsched.model.limits import (
    NAME_CHARS_MAX,
    OWNER_CHARS_MAX,
    PAGE_ROWS_DEFAULT,
    PAGE_ROWS_MAX,
    QUEUE_CHARS_MAX,
    REASON_CHARS_MAX,
    TAG_CHARS_MAX,
    TASK_INDEX_MAX,
    WORKER_CHARS_MAX,
)
from zsched.model.records import UsageBy
from zsched.model.types import RunStatus

Schema = dict[str, Any]

# As model/units.py reads it.
DURATION: Final[Schema] = {
    "type": "string",
    "pattern": r"^(0|([0-9]+(\.[0-9]+)?(d|h|m|s|ms|us|µs|ns))+)$",
    "maxLength": 64,
}
# A time of RFC 3339, of which zone and seconds may be left out.
_TIME: Final[Schema] = {
    "type": "string",
    "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?$",
}
_NUMBER: Final[Schema] = {"type": "integer", "minimum": 1}


def _text(chars_max: int) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": chars_max, "pattern": r"^[^\x00]*$"}


QUERY: Final[Mapping[str, Schema]] = {
    "limit": {
        "description": f"The most rows; more than {PAGE_ROWS_MAX} is cut to that",
        "schema": {"type": "integer", "minimum": 1, "default": PAGE_ROWS_DEFAULT},
    },
    "offset": {
        "description": "How many rows to leave out at the beginning",
        "schema": {"type": "integer", "minimum": 0},
    },
    "before": {
        "description": "Only rows with a smaller number, such as that of the last row seen",
        "schema": {"type": "integer", "minimum": 1},
    },
    "name": {
        "description": "Only jobs with exactly this name",
        "schema": _text(NAME_CHARS_MAX),
    },
    "queue": {
        "description": "Only jobs of this queue",
        "schema": {"type": "string", "minLength": 1, "maxLength": QUEUE_CHARS_MAX},
    },
    "flow": {"description": "Only jobs of the flow with this number", "schema": _NUMBER},
    "tag": {
        "description": "Only jobs with this tag",
        "schema": _text(TAG_CHARS_MAX),
    },
    "worker": {
        "description": "Only jobs of which this worker had a run, or events about this worker",
        "schema": _text(WORKER_CHARS_MAX),
    },
    "search": {
        "description": "Only jobs with this text in their name; ASCII letters match whatever their case",
        "schema": _text(NAME_CHARS_MAX),
    },
    "since": {
        "description": "Only what was submitted, or happened, at this time or later: RFC 3339, or a duration ago",
        "schema": {"anyOf": [DURATION, _TIME]},
        "examples": {"duration": {"value": "2h"}, "time": {"value": "2026-11-24T08:00:00Z"}},
    },
    "job_number": {"name": "job", "description": "Only events about this job", "schema": _NUMBER},
    "run_number": {"name": "run", "description": "Only events about this run", "schema": _NUMBER},
    "kind": {
        "description": "Only events with this word in `became`",
        "schema": {"enum": [str(kind) for kind in KINDS]},
    },
    "first": {
        "description": "Jobs from this number on, oldest first; not together with filters, offset or before",
        "schema": {"type": "integer", "minimum": 1},
    },
    "last": {
        "description": "Jobs up to this number, oldest first; not together with filters, offset or before",
        "schema": {"type": "integer", "minimum": 1},
    },
    "after": {
        "description": "Only events after the event with this number. `Link` has it",
        "schema": {"type": "integer", "minimum": 0},
    },
    "after_name": {
        "name": "after",
        "description": "Only rows after this worker, token id, public key, or WORKER/DATABASE. `Link` has it",
        "schema": {"type": "string"},
    },
    "wait": {
        "description": "Longest time to hold the answer until something changes; values above 20s count as 20s",
        "schema": DURATION,
        "example": "10ms",
    },
    "cancel": {
        "description": "Whether to cancel the last fire too, if it has not ended",
        "schema": {"enum": ["1", "0", "true", "false"], "default": "0"},
    },
    "by": {"description": "What is counted", "schema": {"enum": list(UsageBy), "default": UsageBy.OWNER}},
    "since_day": {
        "name": "since",
        "description": "Only what ended on the day (UTC) of this time or later: RFC 3339, or a duration ago",
        "schema": {"type": "string", "maxLength": 64},
        "example": "30d",
    },
    "only": {
        "description": "Do nothing unless the job has a schedule (`schedule`), or has none and has ended (`ended`)",
        "schema": {"enum": ["schedule", "ended"]},
    },
    "only_failed": {
        "name": "only",
        "description": "Only tasks of an array that have failed, or that `max_fails` has cancelled",
        "schema": {"const": "failed"},
    },
    "task": {
        "description": "Only this task of an array, by its index; or those from the first to the last index, as `3-8`",
        "schema": {"type": "string", "pattern": f"^{TASKS}$"},
        "example": "3",
    },
    "one_task": {
        "name": "task",
        "description": "This task of an array, by its index",
        "schema": {"type": "integer", "minimum": 0, "maximum": TASK_INDEX_MAX},
    },
    "after_task": {
        "name": "after",
        "description": "Only tasks with a higher index. `Link` has it",
        "schema": {"type": "integer", "minimum": 0},
    },
    "reason": {
        "description": "Why, for the event and for people",
        "schema": {"type": "string", "maxLength": REASON_CHARS_MAX},
        "example": "disk full",
    },
    "stream": {"schema": {"enum": ["stdout", "stderr"], "default": "stdout"}},
    "status": {"schema": {"enum": list(RunStatus)}},
    "owner": {
        "description": "`user:NAME` or `token:NAME`; `me` is the caller itself",
        "schema": {"type": "string", "pattern": OWNER.replace(r"\Z", "$"), "maxLength": OWNER_CHARS_MAX},
        "example": "me",
    },
    "jobs": {"description": "What to do with the token's jobs", "schema": {"const": "cancel"}},
    "role": {"description": "A scheduler of another role is not ready", "schema": {"const": "active"}},
}
