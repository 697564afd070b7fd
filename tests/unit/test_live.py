"""Live output: what is held for callers who look while a run writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from zsched.model.limits import OUTPUT_BYTES_MAX, WATCHED_RUNS_MAX
from zsched.protocol import Log, StreamName
from zsched.scheduler.live import RENEW_S, Live


def log(offset: int, data: bytes, run: int = 1, stream: StreamName = "stdout") -> Log:
    return Log(s="s", run=run, stream=stream, offset=offset, data=data)


def watching(*runs: int) -> Live:
    live = Live(waiters_max=2)
    for run in runs or (1,):
        assert live.look(run) == (0, 0)
    return live


def test_pieces_are_joined_and_read_from_any_byte() -> None:
    live = watching()
    live.feed([log(0, b"hel"), log(3, b"lo"), log(0, b"err", stream="stderr")])
    assert live.read(1, "stdout", 0) == (0, b"hello")
    assert live.read(1, "stdout", 4) == (4, b"o")
    assert live.read(1, "stdout", 9) == (9, b"")
    assert live.read(1, "stderr", 0) == (0, b"err")


def test_piece_that_was_sent_before_is_not_doubled() -> None:
    live = watching()
    live.feed([log(0, b"hello"), log(2, b"llo w"), log(0, b"he")])
    assert live.read(1, "stdout", 0) == (0, b"hello w")


def test_reader_after_a_gap_learns_where_the_output_goes_on() -> None:
    live = watching()
    live.feed([log(0, b"start"), log(100, b"later")])
    assert live.read(1, "stdout", 5) == (100, b"later")


def test_only_the_last_bytes_of_a_stream_are_held() -> None:
    live = watching()
    live.feed([log(0, b"a" * OUTPUT_BYTES_MAX), log(OUTPUT_BYTES_MAX, b"b" * 10)])
    offset, data = live.read(1, "stdout", 0)
    assert (offset, len(data)) == (10, OUTPUT_BYTES_MAX)
    assert data.endswith(b"a" + b"b" * 10)


def test_output_without_a_viewer_is_not_held() -> None:
    live = watching(1)
    live.feed([log(0, b"x", run=2)])
    assert live.read(2, "stdout", 0) == (0, b"")


def test_the_run_looked_at_longest_ago_makes_room() -> None:
    runs = range(1, WATCHED_RUNS_MAX + 1)
    live = watching(*runs)
    live.feed([log(0, b"x", run=run) for run in runs])
    live.look(1)
    live.look(999)
    assert live.read(1, "stdout", 0) == (0, b"x")
    assert live.read(2, "stdout", 0) == (0, b"")


def test_look_at_a_watched_run_does_not_renew_the_watch_each_time() -> None:
    assert watching().look(1) is None


def test_what_is_enough_is_found_at_once() -> None:
    assert Live(waiters_max=1).hold(lambda: "x", bool, 20) == "x"


def test_viewer_without_a_place_is_answered_at_once() -> None:
    assert Live(waiters_max=0).hold(lambda: "", bool, 20) == ""


def test_a_place_is_given_back() -> None:
    live = Live(waiters_max=1)
    for _ in range(2):
        answers = iter(["", "", "x"])

        def look(answers: Iterator[str] = answers) -> str:
            live.wake()
            return next(answers)

        assert live.hold(look, bool, 20) == "x"


def test_waiting_viewer_is_answered_in_the_end_with_what_there_is() -> None:
    assert Live(waiters_max=1).hold(lambda: "", bool, 0.01) == ""


def test_turn_wakes_the_waiting_callers() -> None:
    live = watching()
    found: list[tuple[int, bytes]] = []

    def wait() -> None:
        found.append(live.hold(lambda: live.read(1, "stdout", 0), lambda piece: piece[1] != b"", 20))

    waiter = threading.Thread(target=wait)
    waiter.start()
    began = time.monotonic()
    live.feed([log(0, b"x")])
    while waiter.is_alive():
        live.wake()
        waiter.join(0.001)
    assert found == [(0, b"x")]
    assert time.monotonic() - began < RENEW_S


def test_a_turn_between_the_look_and_the_wait_is_not_missed() -> None:
    live = watching()

    def look() -> tuple[int, bytes]:
        found = live.read(1, "stdout", 0)
        if not found[1]:
            live.feed([log(0, b"x")])
            live.wake()
        return found

    began = time.monotonic()
    assert live.hold(look, lambda piece: piece[1] != b"", 20) == (0, b"x")
    assert time.monotonic() - began < RENEW_S


def test_end_of_the_scheduler_answers_waiting_callers_and_later_ones() -> None:
    live = watching()
    looked = threading.Event()
    found: list[int] = []

    def look() -> int:
        looked.set()
        return 7

    waiter = threading.Thread(target=lambda: found.append(live.hold(look, lambda _: False, 60.0)))
    waiter.start()
    assert looked.wait(20)
    live.close()
    waiter.join(20)
    assert found == [7]
    assert live.hold(look, lambda _: False, 60.0) == 7
