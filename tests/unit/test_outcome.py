"""The detail of a run: the job's message, its folder, and what of them is shown."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from zsched.model.limits import MESSAGE_BYTES_MAX, MESSAGE_CHARS_MAX
from zsched.protocol import RunOrder, RunResult
from zsched.worker.guard.life import Exit, Process
from zsched.worker.guard.outcome import result_of
from zsched.worker.guard.outputs import CapturedOutput


def outcome(report: bytes = b"", message: bytes = b"", exit_code: int = 0, **fields: object) -> RunResult:
    plain = RunOrder(run=1, job=1, task=0, attempt=1, command="true", grace_ms=1, output_bytes_max=100)
    order = replace(plain, **fields)
    outputs = CapturedOutput(order), CapturedOutput(order)
    ended = Exit(7, exit_code, None)
    return result_of(1, Process(order, 0, 7, "m", 0, outputs, exit=ended, report=report, message=message))


@pytest.mark.parametrize(
    ("report", "sentence"),
    [
        (b"missing\n", "the folder /a does not exist on the worker's host"),
        (b"denied\n", "the job's user may not enter the folder /a"),
        (b"file\n", "/a on the worker's host is not a folder"),
    ],
)
def test_folder_that_could_not_be_entered(report: bytes, sentence: str) -> None:
    missing = outcome(report, exit_code=1, cwd="/a")
    assert (missing.reason, missing.detail, missing.exit_code) == ("cwd_missing", sentence, None)
    hinted = outcome(report + b"/home/ann", cwd_hint="/a")
    assert (hinted.status, hinted.detail) == ("success", f"{sentence}: it ran in /home/ann")


def test_long_message_does_not_hide_where_the_job_ran() -> None:
    result = outcome(b"missing\n/b", b"x" * MESSAGE_BYTES_MAX, cwd_hint="/a/" + "y" * 4_000)
    assert result.detail.startswith("xxx")
    assert result.detail.endswith("y… does not exist on the worker's host: it ran in /b")
    assert len(result.detail) == MESSAGE_CHARS_MAX


@pytest.mark.parametrize("before", [b"", b"\n" * (MESSAGE_BYTES_MAX - 20), b"\n" * (MESSAGE_BYTES_MAX - 7)])
def test_message_that_is_cut_within_a_secret_shows_nothing_of_it(before: bytes) -> None:
    """White space is dropped, so the place of the cut can be seen."""
    message = (before + b"hunter2hunter2 ")[:MESSAGE_BYTES_MAX]
    shown = outcome(message=message, exit_code=1, secret_env={"P": "hunter2hunter2"}).detail
    assert "hunter" not in shown
