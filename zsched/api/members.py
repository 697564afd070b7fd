"""Members of request bodies as the OpenAPI document describes them, where their types do not say all.

The types accept more, so that an error can explain the constraint.
"""

from __future__ import annotations

from typing import Final

from zsched.api.queries import DURATION, Schema
from zsched.model.after import ENTRY
from zsched.model.failures import FAILURE
from zsched.model.flow import FLOW_ENTRY
from zsched.model.limits import (
    AFTER_PER_JOB_MAX,
    ARGV_BYTES_MAX,
    ARGV_WORDS_MAX,
    ARTIFACT_PATTERNS_MAX,
    BACKOFF_MS_MAX,
    COMMAND_BYTES_MAX,
    DURATION_MS_MAX,
    EXIT_CODE_MAX,
    FILE_PATH_BYTES_MAX,
    FILES_BYTES_MAX,
    FILES_MAX,
    GRACE_MS_MAX,
    INTEGER_MAX,
    JOB_LABELS_MAX,
    JOB_LIMITS_MAX,
    LIMIT_RUNS_MAX,
    NAME_CHARS_MAX,
    PATH_BYTES_MAX,
    PRIORITY_MAX,
    QUANTITY_CHARS_MAX,
    RETRY_ON_MAX,
    SCHEDULE_CHARS_MAX,
    STDIN_BYTES_MAX,
    TAGS_MAX,
)
from zsched.model.names import KEY_NAME, LABEL_NAME, LABEL_VALUE, QUEUE_NAME, TAG

_NULL: Final[Schema] = {"type": "null"}


def _seconds(most_ms: int) -> Schema:
    return {"type": "number", "minimum": 0, "maximum": most_ms // 1000}


def _text(description: str, example: str, **schema: object) -> Schema:
    """A text that may be left out."""
    return {"description": description, "anyOf": [{"type": "string", **schema}, _NULL], "examples": [example]}


_COMMAND: Final[Schema] = {
    "description": f"Run by `sh -c --`; at most {COMMAND_BYTES_MAX} bytes",
    "type": "string",
    "minLength": 1,
    "maxLength": COMMAND_BYTES_MAX,
    "pattern": r"\S",
}
_ARGV: Final[Schema] = {
    "description": f"A program and its arguments, executed without a shell; at most {ARGV_BYTES_MAX} bytes in all",
    "type": "array",
    "items": {"type": "string"},
    "minItems": 1,
    "maxItems": ARGV_WORDS_MAX,
    "examples": [["convert", "a b.png", "c.jpg"]],
}
# A job has a command or arguments. Each of these says nothing about the other members.
PROGRAM: Final[list[Schema]] = [
    {"required": ["command"], "properties": {"command": _COMMAND, "argv": _NULL}, "additionalProperties": True},
    {"required": ["argv"], "properties": {"argv": _ARGV, "command": _NULL}, "additionalProperties": True},
]
_FOLDER: Final[Schema] = {"pattern": "^/", "maxLength": PATH_BYTES_MAX}
_UMASK: Final[Schema] = {"pattern": "^0?[0-7]{3}$"}
# The pause of a back-off.
PAUSE: Final[Schema] = {"anyOf": [DURATION, _seconds(BACKOFF_MS_MAX)]}
JOB: Final[Schema] = {
    "priority": {
        "description": "Jobs with a higher one start first",
        "type": "integer",
        "minimum": -PRIORITY_MAX,
        "maximum": PRIORITY_MAX,
        "default": 0,
    },
    "queue": _text("Only workers that serve this queue run the job", "nightly", pattern=f"^{QUEUE_NAME.pattern}$"),
    "labels": {
        "description": "Labels that the worker must have; each worker has the labels `worker` and `host`",
        "anyOf": [
            {
                "type": "object",
                "propertyNames": {"pattern": f"^{LABEL_NAME.pattern}$"},
                "additionalProperties": {"type": "string", "pattern": f"^{LABEL_VALUE.pattern}$"},
                "maxProperties": JOB_LABELS_MAX,
            },
            _NULL,
        ],
        "examples": [{"disk": "ssd"}],
    },
    "limits": {
        "description": "For each key, the number of runs with it that may be running when one of this job starts",
        "anyOf": [
            {
                "type": "object",
                "propertyNames": {"pattern": f"^{KEY_NAME.pattern}$"},
                "additionalProperties": {"type": "integer", "minimum": 1, "maximum": LIMIT_RUNS_MAX},
                "maxProperties": JOB_LIMITS_MAX,
            },
            _NULL,
        ],
        "examples": [{"db": 3}],
    },
    "unique": _text("Refused while a job with this key has not ended", "index", pattern=f"^{KEY_NAME.pattern}$"),
    "after": {
        "description": "The job starts when these jobs have ended: `12` (with success), `12:failed` (after a start),"
        " `12:any`, `12.3` (one task), `12:same` (task by task). `#1` is the first job of the same request; a job"
        " may name earlier ones only",
        "anyOf": [
            {
                "type": "array",
                "items": {
                    "anyOf": [
                        {"type": "integer", "minimum": 1, "maximum": INTEGER_MAX},
                        {"type": "string", "pattern": ENTRY},
                    ]
                },
                "maxItems": AFTER_PER_JOB_MAX,
                "uniqueItems": True,
            },
            _NULL,
        ],
        "examples": [[12, "13:any"]],
    },
    "name": {"type": "string", "minLength": 1, "maxLength": NAME_CHARS_MAX, "pattern": r"\S"},
    "command": {"anyOf": [_COMMAND, _NULL]},
    "argv": {"anyOf": [_ARGV, _NULL]},
    "cwd": _text("Folder to run in. Where it is missing, the run fails as `cwd_missing`", "/srv/data", **_FOLDER),
    "cwd_hint": _text("Folder to run in where it exists and the user may enter it", "/srv/data", **_FOLDER),
    "umask": _text("Mask of new files' permissions, in octal", "027", **_UMASK),
    "umask_hint": _text("As `umask`, for workers that can do that", "027", **_UMASK),
    "stdin": _text(f"Input of the job; at most {STDIN_BYTES_MAX} bytes", "a line\n", maxLength=STDIN_BYTES_MAX),
    "files": {
        "description": f"Files for the run's scratch folder, by path; at most {FILES_BYTES_MAX} bytes in all",
        "anyOf": [
            {
                "type": "object",
                "propertyNames": {"minLength": 1, "maxLength": FILE_PATH_BYTES_MAX},
                "additionalProperties": {"anyOf": [{"type": "string"}, {"$ref": "#/components/schemas/FileBody"}]},
                "maxProperties": FILES_MAX,
            },
            _NULL,
        ],
        "examples": [{"job.conf": "level=3", "tool": {"base64": "IyEvYmluL3NoCg==", "mode": "755"}}],
    },
    "artifacts": {
        "description": "Patterns of files in the scratch folder that are kept after the run",
        "anyOf": [
            {
                "type": "array",
                "items": {"type": "string", "minLength": 1, "maxLength": FILE_PATH_BYTES_MAX},
                "maxItems": ARTIFACT_PATTERNS_MAX,
            },
            _NULL,
        ],
        "examples": [["result.csv", "plots/*.png"]],
    },
    "tags": {
        "description": "Words by which lists can be filtered",
        "anyOf": [
            {"type": "array", "items": {"type": "string", "pattern": f"^{TAG.pattern}$"}, "maxItems": TAGS_MAX},
            _NULL,
        ],
        "examples": [["nightly", "team=data"]],
    },
    "schedule": _text("Five cron fields in UTC", "*/5 * * * *", maxLength=SCHEDULE_CHARS_MAX),
    "run_at": _text("Time at which it may start, by RFC 3339", "2026-11-24T07:50:35Z", maxLength=QUANTITY_CHARS_MAX),
    "delay": {
        "description": "Duration from the submit after which it may start, or a number of seconds",
        "anyOf": [DURATION, _seconds(DURATION_MS_MAX), _NULL],
        "examples": ["10m", 600],
    },
    "deadline": {
        "description": "Latest start: a time by RFC 3339, a duration from the submit, or a number of seconds",
        "anyOf": [{"type": "string", "maxLength": QUANTITY_CHARS_MAX}, _seconds(DURATION_MS_MAX), _NULL],
        "examples": ["1h", "2026-11-24T07:50:35Z"],
    },
    "timeout": {
        "description": "A duration, or a number of seconds",
        "anyOf": [DURATION, _seconds(DURATION_MS_MAX) | {"minimum": 0.001}, _NULL],
        "examples": ["10m", 600],
    },
    "retry_on": {
        "description": "Failures that are retried: exit codes, ranges of them, signals, and reasons",
        "anyOf": [
            {
                "type": "array",
                "items": {
                    "anyOf": [
                        {"type": "integer", "minimum": 1, "maximum": EXIT_CODE_MAX},
                        {"type": "string", "pattern": FAILURE},
                    ]
                },
                "maxItems": RETRY_ON_MAX,
            },
            _NULL,
        ],
        "examples": [[75, "100-120", "TERM", "timeout"]],
    },
    "kill_grace": {
        "description": "From TERM to KILL: a duration, or a number of seconds",
        "anyOf": [DURATION, _seconds(GRACE_MS_MAX), _NULL],
        "examples": ["10s", 10],
    },
    "signal": _text("Signal to the main process, and how long before the timeout", "USR1@60s"),
}
# `after` of a job in a flow.
FLOW_AFTER: Final[Schema] = {
    "description": "Jobs of the flow by their names, or earlier ones by their numbers: `fetch`, `fetch:any`, `12`",
    "anyOf": [
        {
            "type": "array",
            "items": {
                "anyOf": [
                    {"type": "integer", "minimum": 1, "maximum": INTEGER_MAX},
                    {"type": "string", "pattern": FLOW_ENTRY},
                ]
            },
            "maxItems": AFTER_PER_JOB_MAX,
            "uniqueItems": True,
        },
        _NULL,
    ],
    "examples": [["fetch", "train:any"]],
}
_SELECTED: Final = "([0-9]{1,16}(-[0-9]{1,16})?|flow:[0-9]{1,16})"
SELECT: Final[Schema] = {
    "description": "The numbers of jobs as a text such as `1-5000,7001` or as an array, or flows, such as `flow:12`; or"
    " `all`: the caller's own",
    "anyOf": [
        {"type": "string", "pattern": f"^(all|{_SELECTED}(,{_SELECTED})*)$"},
        {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": INTEGER_MAX}, "minItems": 1},
    ],
    "examples": ["1-5000,7001", [1, 2, 3], "all"],
}
