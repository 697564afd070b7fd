"""How the commands of zsched end: the exit codes, and the error line, which names the problem and the remedy.

Results go to stdout; everything here goes to stderr.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from zsched.client.client import Job
    from zsched.client.task import Task
    from zsched.model.address import PostgresUrl

FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
UNREACHABLE: Final = 4
# As in timeout(1).
TIMEOUT: Final = 124
# As in env(1): zsched itself failed, in commands that otherwise return the job's exit code.
OWN_FAULT: Final = 125
INTERRUPTED: Final = 130
# As in a shell.
SIGNALLED: Final = 128
BROKEN_PIPE: Final = SIGNALLED + signal.SIGPIPE

_START: Final = "start one with `zsched up`, or name another by --url or ZSCHED_URL"
_CHECK: Final = "check --url or ZSCHED_URL"


class Failure(Exception):
    """A command can't go on. The message is one line for a person; an empty one is not printed."""

    def __init__(self, sentence: str, code: int = FAILED) -> None:
        super().__init__(sentence)
        self.code = code


def say(sentence: str) -> None:
    """Print a line for a person to stderr. If that fails, only the exit code remains."""
    from zsched.commands.text import clean

    with suppress(OSError):
        print(f"zsched: {clean(sentence)}", file=sys.stderr, flush=True)


def demand_database(db: Path | PostgresUrl) -> None:
    """Raises Failure when the file does not exist. Whether a database on PostgreSQL exists, its server says later."""
    from pathlib import Path

    if isinstance(db, Path) and not db.exists():
        raise Failure(f"there is no database {db}: name its file with --db", os.EX_IOERR)


def demand_file(db: Path | PostgresUrl, instead: str) -> Path:
    """The file of an SQLite database. Raises Failure for another database, with the remedy."""
    from pathlib import Path

    if not isinstance(db, Path):
        raise Failure(f"{db} is not an SQLite database: {instead}", USAGE)
    return db


def report(error: Exception) -> int:
    """Print an error; returns the exit code. Raises the error again when it is a bug."""
    failure = to_failure(error)
    if str(failure):
        say(str(failure))
    return failure.code


def in_place_of_job(error: Exception) -> Failure:
    """The failure of a command that otherwise returns the job's exit code: exit code 125, except for wrong usage."""
    failure = to_failure(error)
    return failure if failure.code in (USAGE, BROKEN_PIPE) else Failure(str(failure), OWN_FAULT)


def to_failure(error: Exception) -> Failure:
    """The message and the exit code of an error; no message if stdout is a broken pipe. Raises a bug again."""
    from zsched.client import client

    match error:
        case BrokenPipeError():
            return Failure("", BROKEN_PIPE)
        case Failure():
            return error
        case client.WaitTimeout():
            return Failure(str(error), TIMEOUT)
        case client.Untrusted():
            return Failure(str(error), UNREACHABLE)
        case client.Unreachable():
            return Failure(f"{error}; {_START if error.absent else _CHECK}", UNREACHABLE)
        case client.NotFound():
            return Failure(str(error), NOT_FOUND)
        case client.Refused():
            return Failure(str(error), USAGE if error.status in (400, 413) else FAILED)
        case client.ClientError():
            return Failure(str(error), USAGE)
        case OSError():
            return Failure(f"the output can't be written: {error.strerror or error}")
    raise error


def of_job(job: Job) -> int:
    """The exit code of a job that has ended, as a shell reports it: its own, or 128+n for signal n. Of an array 1 if a
    task failed.
    """
    if job.status == "success":
        return 0
    if job.counts:
        return FAILED
    if job.reason == "timeout":
        return TIMEOUT
    if job.status == "cancelled":
        return FAILED
    if job.signal:
        return SIGNALLED + job.signal
    if job.reason in ("exit", "reported"):
        code = job.exit_code or 0
        return code if 0 < code < 256 else FAILED
    return OWN_FAULT


def describe_end(job: Job) -> str:
    """The status and the reason of a job's end: `success`, `failed (exit code 7)`, `failed (signal 9, SIGKILL)`; of an
    array `failed (20 failed of 5,000 tasks)`.
    """
    if job.counts:
        parts = [f"{count:,} {status}" for status in ("failed", "cancelled") if (count := job.counts[status])]
        total = f"{job.counts['total']:,} tasks"
        why = f"{' and '.join(parts)} of {total}" if parts else total
        return f"{job.status} ({why})"
    return _end(job, job.view.get("timeout"))


def describe_task(task: Task) -> str:
    """The same of a task."""
    if task.status == "pending" and task.view.get("held"):
        return "pending (held)"
    return "cancelled (max_fails)" if task.reason == "max_fails" else _end(task, None)


def _end(ended: Job | Task, timeout: str | None) -> str:
    why = ended.reason or ""
    if ended.status in ("success", "cancelled", "pending", "running"):
        return ended.status
    if ended.reason == "timeout":
        why = f"timeout after {timeout}" if timeout else "timeout"
    elif ended.signal:
        why = f"signal {ended.signal}, {_signal_name(ended.signal)}"
    elif ended.exit_code is not None:
        why = f"exit code {ended.exit_code}"
    if "detail" in ended.run:
        why = f"{why}: {ended.run['detail']}"
    return f"{ended.status} ({why})" if why else ended.status


def say_note(job: Job) -> None:
    """Print what the last run of a job says of itself, where `describe_end` does not show it."""
    if job.status == "success" and "detail" in job.run:
        say(f"job {job.id}: {job.run['detail']}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "no name"
