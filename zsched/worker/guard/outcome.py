"""The result of a run whose processes are gone: its end, its output and its detail. Pure."""

from __future__ import annotations

from typing import Final, Literal

from zsched.model.limits import FOLDER_SHOWN_CHARS_MAX, MESSAGE_CHARS_MAX
from zsched.protocol import RunOrder, RunResult
from zsched.worker.guard.life import Process
from zsched.worker.process.redact import Redactor, patterns

_FOUND: Final = {
    b"missing": "the folder {} does not exist on the worker's host",
    b"denied": "the job's user may not enter the folder {}",
}


def result_of(run: int, process: Process) -> RunResult:
    """The result of a run whose processes are gone."""
    order, ended = process.order, process.exit
    assert ended is not None
    if order.cwd is not None and process.report in _FOUND:
        # Only the shell in front of the job has run, whatever its end was.
        return RunResult(
            run=run,
            status="failed",
            reason=process.why or "cwd_missing",
            finished_ms=process.finished_ms,
            detail=_found(process.report, order.cwd),
        )
    stdout, stderr = (output.capture.output() for output in process.outputs)
    natural: Literal["exit", "signal"] = "signal" if ended.exit_code is None else "exit"
    return RunResult(
        run=run,
        status="success" if ended.exit_code == 0 and process.why is None else "failed",
        reason=process.why or natural,
        finished_ms=process.finished_ms,
        started_ms=process.started_ms,
        exit_code=ended.exit_code,
        signal=ended.signal,
        detail=_detail(process, order),
        stdout=stdout,
        stderr=stderr,
    )


def _detail(process: Process, order: RunOrder) -> str:
    """The lease or the message of the job, and where it ran instead of in the folder of a hint."""
    parts = []
    if process.why == "lease_stop" and order.lease_ms is not None:
        lease_s = order.lease_ms / 1000
        parts.append(f"its worker could not reach the scheduler: ended within its lease of {lease_s:g} s")
    elif process.message:
        parts.append(_message(process.message, order))
    if order.cwd is None and order.cwd_hint is not None and process.report in _FOUND:
        parts.append(f"{_found(process.report, order.cwd_hint)}: it ran in the worker's folder")
    return "; ".join(part for part in parts if part)[:MESSAGE_CHARS_MAX]


def _message(message: bytes, order: RunOrder) -> str:
    """The text of a message file on one line, without secrets."""
    if secrets := (order.secret_env or {}).values():
        redactor = Redactor(patterns(secrets))
        message = redactor.feed(message) + redactor.end()
    return " ".join(message.decode(errors="replace").replace("\0", " ").split())


def _found(report: bytes, folder: str) -> str:
    shown = folder if len(folder) <= FOLDER_SHOWN_CHARS_MAX else folder[:FOLDER_SHOWN_CHARS_MAX] + "…"
    return _FOUND[report].format(shown)
