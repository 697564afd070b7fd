"""The agent's search for its scheduler among several: which one to ask, and when."""

from __future__ import annotations

import pytest

from zsched.model.limits import CALL_GAP_MS_MAX, ROUND_GAP_MS_MAX
from zsched.worker.agent.search import Search

START_MS = 50_000


class Walk:
    """A search that is driven as route.py does it. `registered`, `silent`: the state of the session."""

    def __init__(self, count: int) -> None:
        self.search = Search(count, "i1", START_MS)
        self.now_ms = START_MS
        self.registered = self.silent = False

    def seeks(self) -> bool:
        return self.search.seeks(self.now_ms, registered=self.registered, silent=self.silent)

    def ask(self) -> int:
        """Wait until a scheduler is asked; returns which."""
        assert self.seeks()
        self.now_ms = max(self.now_ms, self.search.at_ms)
        return self.search.index

    def fail(self) -> int:
        """Ask one, which fails; returns which."""
        index = self.ask()
        self.search.on_failed(self.now_ms)
        return index

    def register(self) -> int:
        """Ask one, which takes the worker; returns which."""
        index = self.ask()
        self.search.on_enrolled(index, self.now_ms)
        self.search.on_connected(index)
        self.registered = True
        assert not self.seeks()
        return index


def test_schedulers_are_asked_in_turn_without_a_delay() -> None:
    walk = Walk(3)
    assert [walk.fail() for _ in range(3)] == [0, 1, 2]
    assert walk.now_ms == START_MS


def test_delay_comes_after_a_round_and_grows() -> None:
    walk = Walk(3)
    gaps = []
    for _ in range(5):
        before_ms = walk.now_ms
        assert sorted(walk.fail() for _ in range(3)) == [0, 1, 2]
        walk.ask()
        gaps.append(walk.now_ms - before_ms)
    assert 800 <= gaps[0] <= 1_000
    assert 1_600 <= gaps[1] <= 2_000
    assert all(ROUND_GAP_MS_MAX * 0.8 <= gap <= ROUND_GAP_MS_MAX for gap in gaps[2:])


def test_enrolment_without_a_session_does_not_shorten_the_delays() -> None:
    """With an access file, each scheduler counts as one that accepts the worker, until its port does not answer."""
    walk = Walk(2)
    gaps = []
    for _ in range(3):
        before_ms = walk.now_ms
        for _ in range(2):
            walk.search.on_enrolled(walk.ask(), walk.now_ms)
            walk.search.on_failed(walk.now_ms)
        walk.ask()
        gaps.append(walk.now_ms - before_ms)
    assert 800 <= gaps[0] <= 1_000
    assert 1_600 <= gaps[1] <= 2_000
    assert ROUND_GAP_MS_MAX * 0.8 <= gaps[2] <= ROUND_GAP_MS_MAX


def test_single_scheduler_is_asked_at_growing_gaps() -> None:
    walk = Walk(1)
    gaps = []
    for _ in range(6):
        before_ms = walk.now_ms
        walk.fail()
        walk.ask()
        gaps.append(walk.now_ms - before_ms)
    assert gaps[-1] > ROUND_GAP_MS_MAX
    assert gaps[-1] <= CALL_GAP_MS_MAX


def test_standby_decides_which_one_is_asked_next() -> None:
    walk = Walk(4)
    walk.ask()
    walk.search.on_failed(walk.now_ms, 2)
    assert walk.fail() == 2
    # One that has failed in this round is not asked again in it.
    walk.ask()
    walk.search.on_failed(walk.now_ms, 2)
    assert walk.ask() not in (0, 2)


def test_lost_session_is_sought_at_the_scheduler_that_answered_last() -> None:
    walk = Walk(3)
    assert [walk.fail(), walk.register()] == [0, 1]
    walk.now_ms += 60_000
    walk.registered = False
    before_ms = walk.now_ms
    assert [walk.fail(), walk.fail(), walk.fail()] == [1, 2, 0]
    assert walk.now_ms == before_ms


def test_connection_that_comes_by_itself_is_the_one_in_use() -> None:
    """ZeroMQ connects again by itself, while others are asked."""
    walk = Walk(3)
    assert walk.fail() == 0
    walk.search.on_connected(0)
    walk.registered = True
    assert not walk.seeks()
    walk.registered = False
    assert walk.ask() == 0


def test_silent_session_is_kept_and_only_the_others_are_asked() -> None:
    walk = Walk(3)
    assert walk.register() == 0
    walk.silent = True
    assert [walk.fail() for _ in range(4)] == [1, 2, 1, 2]
    assert walk.search.left == 0
    walk.silent = False
    assert not walk.seeks()
    assert walk.search.index == 0
    assert walk.search.left is None


def test_silent_session_ends_when_another_scheduler_takes_the_worker() -> None:
    walk = Walk(2)
    assert walk.register() == 0
    walk.silent = True
    assert walk.fail() == 1
    assert walk.ask() == 1
    walk.search.on_enrolled(1, walk.now_ms)
    walk.search.on_moved(1, walk.now_ms)
    walk.registered = walk.silent = False
    assert walk.seeks()
    # It waits for `registered` before it asks again.
    assert walk.search.at_ms > walk.now_ms
    walk.registered = True
    assert not walk.seeks()
    assert walk.search.index == 1


def test_silent_session_that_ends_by_itself_leaves_all_to_be_asked() -> None:
    walk = Walk(2)
    walk.register()
    walk.silent = True
    assert walk.fail() == 1
    walk.registered = walk.silent = False
    assert sorted((walk.fail(), walk.fail())) == [0, 1]


def test_silence_of_the_only_scheduler_is_waited_out() -> None:
    walk = Walk(1)
    walk.register()
    walk.silent = True
    assert not walk.seeks()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_refusal_is_final_when_all_refuse(count: int) -> None:
    walk = Walk(count)
    for _ in range(count - 1):
        walk.ask()
        assert not walk.search.on_refused(walk.now_ms)
    walk.ask()
    assert walk.search.on_refused(walk.now_ms)


def test_refusal_is_not_final_while_another_scheduler_is_away() -> None:
    walk = Walk(2)
    for _ in range(5):
        walk.ask()
        assert not walk.search.on_refused(walk.now_ms)
        walk.fail()


def test_taken_name_is_asked_about_each_second() -> None:
    walk = Walk(2)
    for _ in range(5):
        before_ms = walk.now_ms
        for _ in range(2):
            walk.ask()
            walk.search.on_name_taken(walk.now_ms)
        walk.ask()
        assert walk.now_ms - before_ms <= 1_000


def test_rounds_are_shorter_than_the_schedulers_timeout() -> None:
    walk = Walk(2)
    walk.search.fit(3_000)
    for _ in range(4):
        before_ms = walk.now_ms
        walk.fail()
        walk.fail()
        walk.ask()
    assert walk.now_ms - before_ms <= 1_000
