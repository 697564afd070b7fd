"""Live output: what is held for callers who look while a run writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from zsched.model import spans
from zsched.model.limits import OUTPUT_BYTES_MAX, WAKE_JOBS_MAX, WATCHED_RUNS_MAX
from zsched.model.types import JobId, RunId, StreamName
from zsched.protocol import Log
from zsched.scheduler.live import Live, Topic, of_events, of_job, of_jobs, of_run
from zsched.store.contract import Changes


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


ANY = of_events()
EVENT = Changes(events=True)


def test_what_is_enough_is_found_at_once() -> None:
    assert Live(waiters_max=1).hold(lambda: "x", bool, 20, ANY) == "x"


def test_caller_without_a_place_is_answered_at_once() -> None:
    looks: list[int] = []
    Live(waiters_max=0).hold(lambda: looks.append(1), lambda _: False, 0.05, ANY)
    assert looks == [1]


def test_place_is_given_back() -> None:
    live = Live(waiters_max=1)
    for _ in range(2):
        answers = iter(["", "", "x"])

        def look(answers: Iterator[str] = answers) -> str:
            live.wake(EVENT)
            return next(answers)

        assert live.hold(look, bool, 20, ANY) == "x"
    assert not live.is_awaited


def test_waiting_ends_with_what_there_is() -> None:
    assert Live(waiters_max=1).hold(lambda: "", bool, 0.01, ANY) == ""


def test_caller_that_may_not_wait_looks_once() -> None:
    looks: list[int] = []
    Live(waiters_max=1).hold(lambda: looks.append(1), lambda _: False, 0, ANY)
    assert looks == [1]


def test_number_of_waiting_callers_is_passed_on() -> None:
    counts: list[int] = []
    live = Live(waiters_max=2, on_waiting=counts.append)

    def nested() -> str:
        if len(counts) == 1:
            live.hold(lambda: "", lambda _: len(counts) == 2, 20, ANY)
        return ""

    live.hold(nested, lambda _: bool(counts) and len(counts) == 2, 20, ANY, renew_s=0.001)
    assert counts == [1, 2]


class Waiting:
    """A caller that waits in a thread of its own. `looks` counts how often it has looked."""

    def __init__(self, live: Live, topic: Topic) -> None:
        self.looks = 0
        self._looked = threading.Condition()
        self.done = False
        self._thread = threading.Thread(target=lambda: live.hold(self._look, lambda _: self.done, 60, topic))
        self._thread.start()
        self.await_looks(1)

    def _look(self) -> None:
        with self._looked:
            self.looks += 1
            self._looked.notify()

    def await_looks(self, count: int) -> None:
        with self._looked:
            assert self._looked.wait_for(lambda: self.looks >= count, 20)

    def join(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()


def test_only_those_look_again_whose_topic_has_changed() -> None:
    topics = {
        "job 1": of_job(JobId(1)),
        "job 2": of_job(JobId(2)),
        "jobs 2 and 3": of_jobs(spans.of([(2, 3)])),
        "run 7": of_run(RunId(7)),
        "events": of_events(),
    }
    live = Live(waiters_max=len(topics))
    live.look(7)
    waiting = {name: Waiting(live, topic) for name, topic in topics.items()}
    looks = dict.fromkeys(topics, 1)
    for change, woken in [
        (Changes(jobs={JobId(1)}), []),
        (Changes(jobs={JobId(1)}, ended={JobId(1)}), ["job 1"]),
        (Changes(jobs={JobId(2), JobId(9)}, events=True, ended={JobId(2)}), ["job 2", "jobs 2 and 3", "events"]),
        (Changes(jobs={JobId(3)}, runs={RunId(8)}), ["jobs 2 and 3"]),
        (Changes(runs={RunId(7)}), ["run 7"]),
        (Changes(jobs={JobId(job) for job in range(100, 101 + WAKE_JOBS_MAX)}), ["jobs 2 and 3"]),
        (Changes(), []),
    ]:
        live.wake(change)
        for name in woken:
            looks[name] += 1
            waiting[name].await_looks(looks[name])
        assert {name: each.looks for name, each in waiting.items()} == looks
    live.feed([log(0, b"x", run=7)])
    waiting["run 7"].await_looks(3)
    for each in waiting.values():
        each.done = True
    live.close()
    for each in waiting.values():
        each.join()
    assert not live.is_awaited


def test_change_between_the_look_and_the_wait_is_not_missed() -> None:
    live = watching()

    def look() -> tuple[int, bytes]:
        found = live.read(1, "stdout", 0)
        if not found[1]:
            live.feed([log(0, b"x")])
        return found

    began = time.monotonic()
    assert live.hold(look, lambda piece: piece[1] != b"", 20, of_run(RunId(1))) == (0, b"x")
    assert time.monotonic() - began < 10


def test_without_a_change_the_look_is_repeated_after_a_while() -> None:
    answers = iter(["", "x"])
    assert Live(waiters_max=1).hold(lambda: next(answers), bool, 20, ANY, renew_s=0.001) == "x"


def test_waiting_callers_are_answered_when_the_scheduler_ends() -> None:
    live = Live(waiters_max=2)
    waiting = Waiting(live, ANY)
    live.close()
    waiting.join()
    assert waiting.looks == 2
    assert live.hold(lambda: 7, lambda _: False, 60.0, ANY) == 7
