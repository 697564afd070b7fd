"""Who is connected, and the first moment at which one of them may have been silent too long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zsched.dispatcher.session import Session, Sessions
from zsched.model import Worker, WorkerId, WorkerKind, WorkerStatus

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
    return Session(worker=worker, token=token, peer=peer, heard_ms=heard_ms)


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


def test_nobody_has_the_empty_token() -> None:
    sessions = Sessions(TIMEOUT_MS)
    sessions.open(session(token="", peer=None))
    assert sessions.of_frame("", b"a") is None


def test_closing_what_is_not_open_does_nothing() -> None:
    sessions = Sessions(TIMEOUT_MS)
    sessions.close(WorkerId("nobody"))
    assert sessions.judge_at_ms is None
    assert sessions.silent(10**9) == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["open", "hear", "close", "wait", "forgive"]), st.integers(0, 3), st.integers(1, 1500)
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
            expected = {one.name for one in sessions if now_ms - one.heard_ms >= TIMEOUT_MS}
            due = sessions.judge_at_ms is not None and sessions.judge_at_ms <= now_ms
            assert due or not expected
            assert {one.name for one in sessions.silent(now_ms)} == expected
            for silent in expected:
                sessions.close(silent)
            if len(sessions):
                assert sessions.judge_at_ms is not None
