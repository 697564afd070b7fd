"""When the guard starts an agent, when it kills one, and when it ends because jobs stop them. Time is an argument."""

from __future__ import annotations

import pytest

from zsched.model.limits import AGENT_STOPS_MAX, AGENT_WELL_MS
from zsched.worker.guard.supervisor import Supervisor
from zsched.worker.messages import Alive, Forget


def started(now_ms: int = 0) -> Supervisor:
    """The supervisor of an agent that has started now."""
    supervisor = Supervisor()
    assert supervisor.start_due(now_ms)
    supervisor.on_started(100, now_ms)
    return supervisor


def due_after_ms(supervisor: Supervisor, now_ms: int) -> int:
    deadline_ms = supervisor.deadline_ms()
    assert deadline_ms is not None
    assert not supervisor.start_due(deadline_ms - 1)
    assert supervisor.start_due(deadline_ms)
    return deadline_ms - now_ms


def test_agents_that_die_in_a_row_start_ever_later() -> None:
    supervisor, now_ms, gaps = started(), 0, []
    for pid in range(101, 110):
        now_ms += 50
        supervisor.on_exit(now_ms, again=True)
        gaps.append(due_after_ms(supervisor, now_ms))
        now_ms += gaps[-1]
        supervisor.on_started(pid, now_ms)
    assert gaps == [100, 200, 500, 1_000, 2_000, 5_000, 5_000, 5_000, 5_000]
    # One that was well is not counted with those before it.
    supervisor.on_exit(now_ms + 10_000, again=True)
    assert due_after_ms(supervisor, now_ms + 10_000) == 0


def test_agent_that_could_not_be_started_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    supervisor = Supervisor()
    supervisor.on_start_failed("Cannot allocate memory", 7)
    assert due_after_ms(supervisor, 7) == 5_000
    assert "the agent can't be started: Cannot allocate memory" in caplog.text


def test_worker_that_ends_starts_no_further_agent() -> None:
    supervisor = started()
    supervisor.on_exit(1_000, again=False)
    assert (supervisor.pid, supervisor.deadline_ms(), supervisor.start_due(10**9)) == (None, None, False)


def test_agent_that_is_silent_for_longer_than_it_said_is_killed() -> None:
    supervisor = started()
    supervisor.on_received([Alive(8_000)])
    # From the next check on it has the time that it said.
    assert not supervisor.silent(5_000)
    assert not supervisor.silent(12_999)
    assert supervisor.silent(13_000)
    assert supervisor.on_silent(13_000, stopped=False)
    # Once: its exit follows.
    assert not supervisor.silent(10**6)
    assert supervisor.pid == 100


def test_new_agent_has_half_a_minute_for_its_first_message() -> None:
    supervisor = started()
    for now_ms in range(5_000, 30_000, 5_000):
        assert supervisor.silent(now_ms)
        assert not supervisor.on_silent(now_ms, stopped=False)
    assert supervisor.silent(30_000)
    assert supervisor.on_silent(30_000, stopped=False)


def test_any_message_is_a_sign_of_life() -> None:
    supervisor = started()
    for now_ms in range(0, 60_000, 4_000):
        supervisor.on_received([Forget((1,))])
        assert not supervisor.silent(now_ms)


def stop(supervisor: Supervisor, now_ms: int, *, stopped: bool = True) -> int:
    """The agent is found silent, and the next one starts."""
    deadline_ms = supervisor.deadline_ms()
    assert deadline_ms is not None
    now_ms = max(now_ms, deadline_ms)
    assert supervisor.silent(now_ms) or now_ms > deadline_ms
    assert supervisor.on_silent(now_ms, stopped=stopped) is True
    supervisor.on_exit(now_ms, again=True)
    supervisor.on_started(101, now_ms)
    return now_ms


def test_agents_that_are_stopped_in_a_row_are_too_many() -> None:
    supervisor, now_ms = started(), 0
    for _ in range(AGENT_STOPS_MAX):
        assert not supervisor.stopped_too_often
        now_ms = stop(supervisor, now_ms)
    assert supervisor.stopped_too_often


def test_agent_that_was_well_before_it_was_stopped_begins_a_new_row() -> None:
    supervisor, now_ms = started(), 0
    for _ in range(AGENT_STOPS_MAX - 1):
        now_ms = stop(supervisor, now_ms)
    now_ms = stop(supervisor, now_ms + AGENT_WELL_MS)
    assert not supervisor.stopped_too_often
    for _ in range(AGENT_STOPS_MAX - 1):
        now_ms = stop(supervisor, now_ms)
    assert supervisor.stopped_too_often
