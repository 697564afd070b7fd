"""GET /runs/{id}/log: the output of a run, whole or piece by piece, ended or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.rest import Rest, problem
from zsched.model.limits import OUTPUT_BYTES_MAX

HALF = OUTPUT_BYTES_MAX // 2


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Rest]:
    with Rest(tmp_path) as started:
        started.register("w1")
        yield started


def ended(rest: Rest, logs: str) -> int:
    job = rest.submit()
    run: int = rest.take("w1")["run_id"]
    rest.report(job, "w1", "success", logs=logs)
    return run


def piece(rest: Rest, run: int, query: str) -> tuple[int, bytes, int, bool]:
    """Where the answer begins, what it is, what to ask next, and whether that is all."""
    answer = rest.get(f"/runs/{run}/log?{query}")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    offset, after = int(answer.headers["Zsched-Offset"]), int(answer.headers["Zsched-Next"])
    return offset, answer.content, after, {"true": True, "false": False}[answer.headers["Zsched-End"]]


def test_the_output_of_an_ended_run_comes_from_any_byte(rest: Rest) -> None:
    run = ended(rest, "0123456789")
    assert piece(rest, run, "offset=0") == (0, b"0123456789", 10, True)
    assert piece(rest, run, "offset=4&wait=20s") == (4, b"456789", 10, True)
    assert piece(rest, run, "offset=10&wait=20s") == (10, b"", 10, True)
    assert piece(rest, run, "offset=99&wait=20s") == (10, b"", 10, True)
    assert piece(rest, run, "offset=0&stream=stderr") == (0, b"", 0, True)


def test_what_was_not_kept_is_skipped_with_the_place_where_it_goes_on(rest: Rest) -> None:
    run = ended(rest, "a" * HALF + "-" * 1_000 + "z" * HALF)
    total = OUTPUT_BYTES_MAX + 1_000
    assert piece(rest, run, "offset=0") == (0, b"a" * HALF, HALF, False)
    assert piece(rest, run, f"offset={HALF}") == (HALF + 1_000, b"z" * HALF, total, True)
    assert piece(rest, run, f"offset={HALF + 10}") == (HALF + 1_000, b"z" * HALF, total, True)
    assert piece(rest, run, f"offset={total - 1}") == (total - 1, b"z", total, True)


def test_the_whole_output_marks_what_was_not_kept(rest: Rest) -> None:
    run = ended(rest, "a" * HALF + "-" * 1_000 + "z" * HALF)
    whole = rest.get(f"/runs/{run}/log").content
    assert whole == b"a" * HALF + b"\n[... 1000 bytes left out; they were not kept ...]\n" + b"z" * HALF


def test_a_run_that_waits_has_written_nothing_yet(rest: Rest) -> None:
    rest.submit()
    assert piece(rest, 1, "offset=0") == (0, b"", 0, False)


def test_wait_without_a_free_place_is_answered_at_once(rest: Rest) -> None:
    rest.submit()
    assert piece(rest, 1, "offset=0&wait=20s") == (0, b"", 0, False)


@pytest.mark.parametrize("wait", ["soon", "20", "-1s", ""])
def test_invalid_wait_is_refused_by_name(rest: Rest, wait: str) -> None:
    rest.submit()
    answer = rest.get(f"/runs/1/log?wait={wait}")
    assert answer.status_code == 400
    assert answer.json["detail"].startswith("wait: ")


def test_invalid_offset_is_refused_by_name(rest: Rest) -> None:
    rest.submit()
    detail = "a whole number, 0 or more"
    problem(rest.get("/runs/1/log?offset=x"), 400, "invalid_request", f"offset: {detail}", ("offset", detail))
