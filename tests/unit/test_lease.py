"""Leases: the arithmetic of why no two runs of one task execute at the same moment, and the guard's book of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zsched.worker.lease import Leases, beat_ms, kill_at_ms, register_gap_ms, term_at_ms

# As docs/protocol.md states it.
DRIFT = 0.068
LEASE_MS = 30_000
TERM_MS, KILL_MS = 21_000, 27_000

lengths = st.integers(1_000, 7 * 86_400_000)


def margin_ms(lease_ms: int) -> float:
    """What the scheduler waits beyond the lease."""
    return max(1_000, lease_ms / 30)


@given(lengths, st.integers(0, 10**12))
def test_lease_sends_term_and_then_kill_before_the_run_goes_elsewhere(lease_ms: int, heard_ms: int) -> None:
    term, kill = term_at_ms(heard_ms, lease_ms), kill_at_ms(heard_ms, lease_ms)
    assert heard_ms < term < kill < heard_ms + lease_ms
    assert abs(term - heard_ms - 0.7 * lease_ms) < 1
    assert abs(kill - heard_ms - 0.9 * lease_ms) < 1


@given(lengths)
def test_both_clocks_may_be_wrong_by_the_drift_that_the_docs_state(lease_ms: int) -> None:
    dead_after_ms = kill_at_ms(0, lease_ms) / (1 - DRIFT)
    given_away_after_ms = (lease_ms + margin_ms(lease_ms)) / (1 + DRIFT)
    assert dead_after_ms < given_away_after_ms


@given(lengths)
def test_between_the_two_lie_what_the_docs_say(lease_ms: int) -> None:
    left_ms = lease_ms + margin_ms(lease_ms) - kill_at_ms(0, lease_ms)
    assert left_ms >= 0.133 * lease_ms
    assert left_ms >= 1_100


@given(lengths)
def test_lease_leaves_time_for_six_heartbeats_and_more_registers(lease_ms: int) -> None:
    assert term_at_ms(0, lease_ms) >= 6 * beat_ms(lease_ms)
    assert term_at_ms(0, lease_ms) >= 13 * register_gap_ms(lease_ms)


def test_lease_starts_no_run_before_anything_is_known_nor_after_its_end() -> None:
    leases = Leases()
    assert not leases.hold(LEASE_MS, 0)
    leases.renew(1_000)
    assert leases.hold(LEASE_MS, 1_000 + TERM_MS - 1)
    assert not leases.hold(LEASE_MS, 1_000 + TERM_MS)


def test_lease_sends_term_once_and_kill_once() -> None:
    leases = Leases()
    leases.renew(0)
    leases.add(1, LEASE_MS)
    assert leases.deadline_ms() == TERM_MS
    assert leases.take_ended(TERM_MS - 1) == []
    assert leases.take_ended(TERM_MS) == [1]
    assert leases.deadline_ms() == KILL_MS
    assert (leases.take_ended(TERM_MS), leases.take_overdue(KILL_MS - 1)) == ([], [])
    assert leases.take_overdue(KILL_MS) == [1]
    assert (leases.take_overdue(KILL_MS), leases.take_ended(KILL_MS)) == ([], [])
    assert leases.deadline_ms() is None
    # It is not gone yet.
    assert leases.lengths() == ((1, LEASE_MS),)
    leases.remove(1)
    assert len(leases) == 0


def test_renewal_saves_only_runs_that_did_not_get_term() -> None:
    leases = Leases()
    leases.renew(0)
    leases.add(1, LEASE_MS)
    leases.add(2, 2 * LEASE_MS)
    assert leases.take_ended(TERM_MS) == [1]
    leases.renew(TERM_MS)
    leases.renew(5)
    assert leases.take_overdue(KILL_MS) == [1]
    assert leases.deadline_ms() == TERM_MS + 2 * TERM_MS
    leases.remove(1)
    leases.remove(2)
    assert leases.deadline_ms() is None


def test_lease_that_is_checked_too_late_for_term_sends_kill() -> None:
    leases = Leases()
    leases.renew(0)
    leases.add(1, LEASE_MS)
    leases.add(2, 2 * LEASE_MS)
    assert leases.take_overdue(KILL_MS) == [1]
    assert leases.take_ended(KILL_MS) == []
    assert leases.take_ended(2 * TERM_MS) == [2]


def test_lease_ignores_runs_without_one() -> None:
    leases = Leases()
    leases.renew(0)
    leases.remove(7)
    assert (leases.take_ended(10**9), leases.take_overdue(10**9), leases.deadline_ms()) == ([], [], None)
