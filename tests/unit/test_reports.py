"""Results in batches: whatever they hold, each batch fits a frame."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zsched.model.limits import FRAME_FROM_WORKER_BYTES_MAX, INTEGER_MAX, OUTPUT_BYTES_MAX, RESULTS_PER_FRAME_MAX
from zsched.protocol import Output, Result, RunResult, pack, unpack_from_worker
from zsched.worker.agent.reports import Reports

# The longest word that a session may be named by: 64 characters of four bytes.
SESSION = "\U0001f600" * 64


def outputs(most: int) -> st.SearchStrategy[Output]:
    halves = st.integers(0, most // 2)
    return st.builds(lambda head, tail: Output(bytes(head), bytes(tail), INTEGER_MAX), halves, halves)


def result(run: int, stdout: Output, stderr: Output, detail: str) -> RunResult:
    """A result whose other fields take the most that they can."""
    return RunResult(
        INTEGER_MAX - run, "failed", "spawn_error", INTEGER_MAX, INTEGER_MAX, exit_code=-(2**31), signal=128,
        detail=detail, stdout=stdout, stderr=stderr,
    )  # fmt: skip


def frames(batches: list[tuple[RunResult, ...]]) -> list[Result]:
    """The frames of these batches. Each has to fit."""
    found = [Result(s=SESSION, results=batch) for batch in batches]
    for frame in found:
        body = pack(frame)
        assert len(body) < FRAME_FROM_WORKER_BYTES_MAX
        assert unpack_from_worker(body) == frame
    return found


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            outputs(OUTPUT_BYTES_MAX) | outputs(1_000),
            outputs(OUTPUT_BYTES_MAX) | outputs(1_000),
            st.integers(0, 1024).map(lambda count: "\U0001f600" * count),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_every_batch_of_results_fits_a_frame(kept: list[tuple[Output, Output, str]]) -> None:
    results = [result(run, *one) for run, one in enumerate(kept)]
    sent = frames(Reports(results).unsent(0))
    assert [one for frame in sent for one in frame.results] == results


def test_many_small_results_fit_their_frames() -> None:
    results = [result(run, Output(), Output(), "") for run in range(3 * RESULTS_PER_FRAME_MAX)]
    sent = frames(Reports(results).all(0))
    assert [one for frame in sent for one in frame.results] == results


def test_largest_results_go_one_by_one() -> None:
    full = Output(bytes(OUTPUT_BYTES_MAX // 2), bytes(OUTPUT_BYTES_MAX // 2), OUTPUT_BYTES_MAX)
    sent = frames(Reports([result(run, full, full, "") for run in range(3)]).all(0))
    assert [len(frame.results) for frame in sent] == [1, 1, 1]


def test_result_added_twice_before_it_is_sent_goes_once() -> None:
    reports = Reports()
    first, second = result(1, Output(), Output(), "first"), result(1, Output(), Output(), "second")
    reports.add([first])
    reports.add([second])
    assert reports.unsent(0) == [(second,)]
