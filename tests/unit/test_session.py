"""Who is connected, and the first moment at which one of them may have been silent too long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsched.model.types import Worker, WorkerId, WorkerKind, WorkerStatus
from zsched.scheduler.dispatcher.session import Session, Sessions

TIMEOUT_MS = 1_000


def session(name: str = "w1", heard_ms: int = 0, token: str = "", peer: bytes | None = None) -> Session:
    worker = Worker(
        worker_id=WorkerId(name),
        kind=WorkerKind.ZMQ,
        status=WorkerStatus.ACTIVE,
        slots=1,
        registered_ms=0,
        last_seen_ms=0,
    )
    return Session(worker=worker, token=token, peer=peer, heard_ms=heard_ms, seen_ms=heard_ms)


def usual(_: Session) -> int:
    return TIMEOUT_MS


def names(found: list[Session]) -> set[str]:
    return {str(one.name) for one in found}


def test_a_session_is_found_by_its_token_over_its_own_connection_only() -> None:
    sessions = Sessions(TIMEOUT_MS)
    one = session(token="t", peer=b"a")
    sessions.open(one)
    assert sessions.of_frame("t", b"a") is one
    assert sessions.of_frame("t", b"b") is None
    assert sessions.of_frame("u", b"a") is None


def test_a_new_session_takes_the_place_of_the_workers_old_one() -> None:
    sessions = Sessions(TIMEOUT_MS)
    sessions.open(session(token="old", peer=b"a"))
    new = session(token="new", peer=b"b")
    sessions.open(new)
    assert (len(sessions), sessions.of_worker(WorkerId("w1"))) == (1, new)
    assert sessions.of_frame("old", b"a") is None


def test_empty_token_has_no_session() -> None:
    sessions = Sessions(TIMEOUT_MS)
    sessions.open(session(token="", peer=None))
    assert sessions.of_frame("", b"a") is None


def test_closing_what_is_not_open_does_nothing() -> None:
    sessions = Sessions(TIMEOUT_MS)
    sessions.close(WorkerId("nobody"))
    assert sessions.judge_at_ms is None
    assert sessions.silent(10**9, usual) == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["open", "hear", "close", "wait", "forgive"]), st.integers(0, 2), st.integers(1, 1500)
        ),
        max_size=40,
    )
)
def test_the_silent_are_found_whatever_happened_before(steps: list[tuple[str, int, int]]) -> None:
    """The remembered deadline saves looking at each session each time; it must never hide one."""
    sessions, now_ms = Sessions(TIMEOUT_MS), 0
    for what, place, gap_ms in steps:
        name = WorkerId(f"w{place}")
        known = sessions.of_worker(name)
        if what == "open":
            sessions.open(session(name, now_ms))
        elif what == "hear" and known is not None:
            known.heard_ms = now_ms
        elif what == "close":
            sessions.close(name)
        elif what == "forgive":
            sessions.forgive(gap_ms, now_ms)
        elif what == "wait":
            now_ms += gap_ms
            expected = {one.name for one in sessions if now_ms - one.silent_since_ms >= TIMEOUT_MS}
            due = sessions.judge_at_ms is not None and sessions.judge_at_ms <= now_ms
            assert due or not expected
            assert {one.name for one in sessions.silent(now_ms, usual)} == expected
            for silent in expected:
                sessions.close(silent)
            if len(sessions):
                assert sessions.judge_at_ms is not None


def test_session_with_more_patience_is_lost_later_and_delays_no_other() -> None:
    sessions = Sessions(TIMEOUT_MS)
    sessions.open(session(WorkerId("w1"), 0))
    sessions.open(session(WorkerId("w2"), 0))

    def patient(one: Session) -> int:
        return TIMEOUT_MS + 300 if one.name == "w1" else TIMEOUT_MS

    assert names(sessions.silent(TIMEOUT_MS, patient)) == {"w2"}
    sessions.close(WorkerId("w2"))
    assert sessions.judge_at_ms == TIMEOUT_MS + 300
    assert sessions.silent(TIMEOUT_MS + 299, patient) == []
    assert names(sessions.silent(TIMEOUT_MS + 300, patient)) == {"w1"}


def test_silence_of_most_workers_at_once_grants_each_another_timeout() -> None:
    sessions = Sessions(TIMEOUT_MS)
    for place in range(5):
        sessions.open(session(WorkerId(f"w{place}"), 0))
    assert sessions.silent(TIMEOUT_MS, usual) == []
    assert sessions.silent(2 * TIMEOUT_MS - 1, usual) == []
    assert len(sessions.silent(2 * TIMEOUT_MS, usual)) == 5


def test_as_soon_as_most_workers_are_heard_the_silent_ones_are_given_up() -> None:
    sessions = Sessions(TIMEOUT_MS)
    for place in range(5):
        sessions.open(session(WorkerId(f"w{place}"), 0))
    assert sessions.silent(TIMEOUT_MS, usual) == []
    for one in list(sessions)[:3]:
        one.heard_ms = TIMEOUT_MS + 10
    assert sessions.judge_at_ms is not None
    assert names(sessions.silent(sessions.judge_at_ms, usual)) == {"w3", "w4"}


@pytest.mark.parametrize(("workers", "silent"), [(3, 3), (4, 2), (5, 2)])
def test_silence_of_few_workers_is_not_an_outage_of_the_network(workers: int, silent: int) -> None:
    sessions = Sessions(TIMEOUT_MS)
    for place in range(workers):
        sessions.open(session(WorkerId(f"w{place}"), 0 if place < silent else TIMEOUT_MS - 1))
    assert len(sessions.silent(TIMEOUT_MS, usual)) == silent


def test_silence_found_in_a_turn_that_was_rolled_back_is_found_again() -> None:
    sessions = Sessions(TIMEOUT_MS)
    sessions.open(session(WorkerId("w1"), 0))
    sessions.keep()
    assert names(sessions.silent(TIMEOUT_MS, usual)) == {"w1"}
    sessions.restore()
    assert sessions.judge_at_ms is not None
    assert names(sessions.silent(TIMEOUT_MS + 1, usual)) == {"w1"}


def test_verdicts_that_cannot_be_stored_leave_room_for_other_turns() -> None:
    sessions = Sessions(TIMEOUT_MS)
    sessions.open(session(WorkerId("w1"), 0))
    sessions.keep()
    found = []
    for now_ms in range(TIMEOUT_MS, TIMEOUT_MS + 2_000, 100):
        found.append(bool(sessions.silent(now_ms, usual)))
        if found[-1]:
            sessions.restore()
        else:
            sessions.keep()
    assert found == [*[True] * 2, *[False] * 9, *[True] * 2, *[False] * 7]


def test_sessions_of_a_turn_that_is_rolled_back_are_those_from_before_it() -> None:
    sessions = Sessions(TIMEOUT_MS)
    old, other = session("w1", token="old", peer=b"a"), session("w2", token="other", peer=b"b")
    sessions.open(old)
    sessions.open(other)
    sessions.keep()
    sessions.open(session("w1", token="new", peer=b"c"))
    sessions.open(session("w3", token="third", peer=b"d"))
    sessions.close(WorkerId("w2"))
    sessions.restore()
    assert {one.name: one for one in sessions} == {"w1": old, "w2": other}
    assert (sessions.of_frame("old", b"a"), sessions.of_frame("other", b"b")) == (old, other)
    assert (sessions.of_frame("new", b"c"), sessions.of_frame("third", b"d")) == (None, None)
