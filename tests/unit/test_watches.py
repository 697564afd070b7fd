"""What a watched run writes is told while it writes it, from what is kept of it anyway."""

from __future__ import annotations

from zsched.model.limits import LOG_BYTES_MAX, LOG_INTERVAL_MS
from zsched.worker.guard.watches import Watches
from zsched.worker.messages import Logged, Look
from zsched.worker.process.capture import Capture


class Worker:
    """Runs by number, each with its two captures."""

    def __init__(self, *runs: int, bytes_max: int = 1_000) -> None:
        self.runs = {run: (Capture(bytes_max), Capture(bytes_max)) for run in runs}
        self.watches = Watches(self.runs.get)


def test_output_of_a_run_without_a_viewer_is_not_sent() -> None:
    worker = Worker(1)
    worker.runs[1][0].feed(b"x")
    assert worker.watches.take(0) == []
    assert worker.watches.deadline_ms() is None


def test_output_is_sent_once() -> None:
    worker = Worker(1)
    worker.runs[1][0].feed(b"early")
    worker.watches.add(Look(1, 0, 0, 1_000), 0)
    assert worker.watches.take(0) == [Logged(1, "stdout", 0, b"early")]
    worker.runs[1][0].feed(b" late")
    worker.runs[1][1].feed(b"err")
    assert worker.watches.take(1) == []
    assert worker.watches.deadline_ms() == LOG_INTERVAL_MS
    told = worker.watches.take(LOG_INTERVAL_MS)
    assert told == [Logged(1, "stdout", 5, b" late"), Logged(1, "stderr", 0, b"err")]
    assert worker.watches.take(2 * LOG_INTERVAL_MS) == []


def test_output_is_sent_from_where_the_viewer_is() -> None:
    worker = Worker(1)
    worker.runs[1][0].feed(b"0123456789")
    worker.watches.add(Look(1, 4, 0, 1_000), 0)
    assert worker.watches.take(0) == [Logged(1, "stdout", 4, b"456789")]


def test_run_that_writes_faster_than_it_is_sent_has_a_gap() -> None:
    worker = Worker(1)
    worker.runs[1][0].feed(b"a" * 600)
    worker.runs[1][0].feed(b"b" * 9_400)
    worker.watches.add(Look(1, 0, 0, 1_000), 0)
    (head,) = worker.watches.take(0)
    (tail,) = worker.watches.take(LOG_INTERVAL_MS)
    assert (head.offset, head.data) == (0, b"a" * 500)
    assert tail.offset > 500
    assert (tail.offset + len(tail.data), tail.data[-500:]) == (10_000, b"b" * 500)


def test_long_output_is_sent_in_pieces() -> None:
    worker = Worker(1, bytes_max=8 * LOG_BYTES_MAX)
    worker.runs[1][0].feed(b"x" * (LOG_BYTES_MAX + 1))
    worker.watches.add(Look(1, 0, 0, 1_000), 0)
    assert [len(logged.data) for logged in worker.watches.take(0)] == [LOG_BYTES_MAX]
    assert [len(logged.data) for logged in worker.watches.take(LOG_INTERVAL_MS)] == [1]


def test_it_ends_with_the_run_and_with_the_time() -> None:
    worker = Worker(1, 2)
    for run in (1, 2):
        worker.watches.add(Look(run, 0, 0, 1_000), 0)
    del worker.runs[1]
    worker.runs[2][0].feed(b"x")
    assert worker.watches.take(1_000) == []
    assert worker.watches.deadline_ms() is None
