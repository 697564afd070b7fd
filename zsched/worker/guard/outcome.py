"""The result of a run whose processes are gone: its end, its output and its detail. Pure."""

from __future__ import annotations

from typing import Final, Literal

from zsched.model.limits import ARTIFACT_NOTE_CHARS_MAX, FOLDER_SHOWN_CHARS_MAX, MESSAGE_BYTES_MAX, MESSAGE_CHARS_MAX
from zsched.model.units import counted
from zsched.protocol import RunOrder, RunResult
from zsched.worker.guard.life import Process
from zsched.worker.process.collected import Collected
from zsched.worker.process.redact import Redactor, patterns

_FOUND: Final = {
    b"missing": "the folder {} does not exist on the worker's host",
    b"denied": "the job's user may not enter the folder {}",
    b"file": "{} on the worker's host is not a folder",
}


def result_of(run: int, process: Process) -> RunResult:
    """The result of a run whose processes are gone."""
    order, ended = process.order, process.exit
    assert ended is not None
    found, _, _ = process.report.partition(b"\n")
    if order.cwd is not None and found in _FOUND:
        # Only the shell in front of the job has run, whatever its end was.
        return RunResult(
            run=run,
            status="failed",
            reason=process.why or "cwd_missing",
            finished_ms=process.finished_ms,
            detail=_found(found, order.cwd),
        )
    if order.cwd is None and order.has_scratch and found in _FOUND:
        return RunResult(
            run=run,
            status="failed",
            reason=process.why or "spawn_error",
            finished_ms=process.finished_ms,
            detail="its user may not enter its scratch folder",
        )
    collected = process.collected
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
        detail=_with_note(_detail(process, order), collected),
        stdout=stdout,
        stderr=stderr,
        files=collected.files,
        left_out=collected.left_out,
    )


def _with_note(detail: str, collected: Collected) -> str:
    """A detail that says why artifacts were left out."""
    if not collected.left_out:
        return detail
    why = "".join(char if char.isprintable() else "?" for char in collected.why)
    note = f"{counted(collected.left_out, 'artifact')} not kept: {why}"
    if len(note) > ARTIFACT_NOTE_CHARS_MAX:
        note = note[: ARTIFACT_NOTE_CHARS_MAX - 1] + "…"
    room = MESSAGE_CHARS_MAX - len(note) - 2
    return f"{detail[:room]}; {note}" if detail else note


def _detail(process: Process, order: RunOrder) -> str:
    """The lease or the message of the job, cut to leave room, and where it ran instead of in the folder of a hint."""
    text, place = "", ""
    if process.why == "lease_stop" and order.lease_ms is not None:
        lease_s = order.lease_ms / 1000
        text = f"its worker could not reach the scheduler: ended within its lease of {lease_s:g} s"
    elif process.message:
        text = _message(process.message, order)
    found, _, folder = process.report.partition(b"\n")
    if order.cwd is None and order.cwd_hint is not None and found in _FOUND:
        instead = _shown(folder.decode(errors="replace")) or "the worker's folder"
        place = f"{_found(found, order.cwd_hint)}: it ran in {instead}"
    if not text or not place:
        return (text or place)[:MESSAGE_CHARS_MAX]
    return f"{text[: MESSAGE_CHARS_MAX - len(place) - 2]}; {place}"


def _message(message: bytes, order: RunOrder) -> str:
    """The text of a message file on one line, without secrets."""
    if secrets := (order.secret_env or {}).values():
        redactor = Redactor(patterns(secrets))
        shown = redactor.feed(message)
        # The reading may have stopped in the middle of a secret.
        message = shown if len(message) == MESSAGE_BYTES_MAX else shown + redactor.end()
    return " ".join(message.decode(errors="replace").replace("\0", " ").split())


def _found(found: bytes, folder: str) -> str:
    return _FOUND[found].format(_shown(folder))


def _shown(folder: str) -> str:
    return folder if len(folder) <= FOLDER_SHOWN_CHARS_MAX else folder[:FOLDER_SHOWN_CHARS_MAX] + "…"
