"""How the commands of zsched end: the exit codes, and the one line that says what went wrong and what to do.

Results are on stdout; everything here goes to stderr.
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

FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
UNREACHABLE: Final = 4
# As timeout(1) has it: what was waited for took too long.
TIMEOUT: Final = 124
# As env(1) and its kin have it: the command in front of the job failed, so there is no exit code of the job.
OWN_FAULT: Final = 125
INTERRUPTED: Final = 130
# As a shell shows it.
SIGNALLED: Final = 128
BROKEN_PIPE: Final = SIGNALLED + signal.SIGPIPE

_START: Final = "start one with `zsched up`, or name another by --url or ZSCHED_URL"
_CHECK: Final = "check --url or ZSCHED_URL"


class Failure(Exception):
    """A command can't go on. The text is one line for a person."""

    def __init__(self, sentence: str, code: int = FAILED) -> None:
        super().__init__(sentence)
        self.code = code


def say(sentence: str) -> None:
    """One line on stderr for a person. Where it can't be written, the exit code has to do."""
    from zsched.commands.text import clean

    with suppress(OSError):
        print(f"zsched: {clean(sentence)}", file=sys.stderr, flush=True)


def demand_database(path: Path) -> None:
    """Raises Failure when there is no such file."""
    if not path.exists():
        raise Failure(f"there is no database {path}: name its file with --db", os.EX_IOERR)


def told(error: Exception) -> int:
    """Say what went wrong; returns the exit code. Raises the error when it is a fault of the program."""
    failure = failed_by(error)
    if str(failure):
        say(str(failure))
    return failure.code


def in_place_of_job(error: Exception) -> Failure:
    """How a command fails that else ends with a job's exit code: 125, which is no job's, but for wrong usage."""
    failure = failed_by(error)
    return failure if failure.code in (USAGE, BROKEN_PIPE) else Failure(str(failure), OWN_FAULT)


def failed_by(error: Exception) -> Failure:
    """An error as a sentence and an exit code; no sentence where nobody reads. Raises it when it is the program's."""
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
    """The exit code of a job that has ended, as if it had been run here: its own, or 128+n for a signal."""
    if job.status == "success":
        return 0
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


def ending(job: Job) -> str:
    """How a job ended, for a person: `success`, `failed (exit code 7)`, `failed (signal 9, SIGKILL)`."""
    why = job.reason or ""
    if job.status in ("success", "cancelled", "pending", "running"):
        return job.status
    if job.reason == "timeout":
        why = f"timeout after {job.view['timeout']}" if "timeout" in job.view else "timeout"
    elif job.signal:
        why = f"signal {job.signal}, {_signal_name(job.signal)}"
    elif job.exit_code is not None:
        why = f"exit code {job.exit_code}"
    elif "detail" in job.run:
        why = f"{why}: {job.run['detail']}"
    return f"{job.status} ({why})" if why else job.status


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "no name"
