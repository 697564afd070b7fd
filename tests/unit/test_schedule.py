"""When a recurring job fires: five cron fields, in UTC; and how long a retry waits."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsched.model import schedule
from zsched.model.backoff import Backoff, retry_ms
from zsched.model.limits import FIRE_LATE_MS_MAX
from zsched.model.schedule import ScheduleError

MINUTE_MS = 60_000


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


@pytest.mark.parametrize(
    ("expression", "after", "fire"),
    [
        ("* * * * *", "2026-01-01 00:00:00", "2026-01-01 00:01:00"),
        ("*/5 * * * *", "2026-01-01 00:04:59", "2026-01-01 00:05:00"),
        ("0 0 29 2 *", "2026-01-01 00:00:00", "2028-02-29 00:00:00"),
        ("30 4 * * MON", "2026-01-01 00:00:00", "2026-01-05 04:30:00"),
        # A day of the month and a day of the week: either is enough, as in Debian's cron.
        ("0 0 13 * 5", "2026-01-01 00:00:00", "2026-01-02 00:00:00"),
        # UTC knows no summer time: nothing is skipped or doubled in the night of the change.
        ("30 2 * * *", "2026-03-29 00:00:00", "2026-03-29 02:30:00"),
    ],
)
def test_the_next_fire_is_the_first_after_the_moment(expression: str, after: str, fire: str) -> None:
    assert schedule.next_fire_ms(expression, at(after)) == at(fire)


def test_a_moment_that_is_a_slot_itself_is_not_its_own_next_fire() -> None:
    slot_ms = at("2026-01-01 00:05:00")
    assert schedule.next_fire_ms("*/5 * * * *", slot_ms) == slot_ms + 5 * MINUTE_MS
    assert schedule.next_fire_ms("*/5 * * * *", slot_ms - 1) == slot_ms
    assert schedule.next_fire_ms("*/5 * * * *", slot_ms + 999) == slot_ms + 5 * MINUTE_MS


@pytest.mark.parametrize(
    "expression", ["", "every day", "* * * *", "* * * * * *", "@daily", "60 * * * *", "0 0 30 2 *"]
)
def test_invalid_schedule_is_refused_with_a_sentence(expression: str) -> None:
    with pytest.raises(ScheduleError, match=r"\w"):
        schedule.check(expression)


@given(st.text(max_size=30))
def test_any_text_is_a_schedule_or_a_schedule_error(expression: str) -> None:
    try:
        schedule.check(expression)
    except ScheduleError:
        return
    assert schedule.next_fire_ms(expression, 0) is not None


def test_the_latest_fire_is_the_due_one_when_no_other_has_passed() -> None:
    due_ms = at("2026-01-01 00:05:00")
    for late_ms in (0, 1, MINUTE_MS - 1):
        assert schedule.latest_fire_ms("* * * * *", due_ms, due_ms + late_ms) == due_ms
    assert schedule.latest_fire_ms("* * * * *", due_ms, due_ms + MINUTE_MS) == due_ms + MINUTE_MS


def test_the_latest_of_a_years_fires_is_found_at_once() -> None:
    due_ms = at("2025-01-01 00:00:00")
    now_ms = at("2026-01-01 00:00:30")
    assert schedule.latest_fire_ms("* * * * *", due_ms, now_ms) == at("2026-01-01 00:00:00")


@given(st.integers(0, 400), st.sampled_from(["* * * * *", "*/7 * * * *", "0 * * * *", "0 0 * * *"]))
def test_the_latest_fire_is_never_in_the_future_and_late_only_when_all_are(minutes: int, expression: str) -> None:
    due_ms = at("2026-01-01 00:00:00")
    now_ms = due_ms + minutes * MINUTE_MS + 17_000
    latest_ms = schedule.latest_fire_ms(expression, due_ms, now_ms)
    assert due_ms <= latest_ms <= now_ms
    if now_ms - latest_ms > FIRE_LATE_MS_MAX:
        later_ms = schedule.next_fire_ms(expression, now_ms - FIRE_LATE_MS_MAX - 1)
        assert later_ms is not None
        assert later_ms > now_ms


def test_pauses_of_a_retry_grow_up_to_the_bound() -> None:
    backoff = Backoff(initial_ms=1_000, factor=2, max_ms=5_000, jitter=0)
    assert [retry_ms(backoff, failures, "job") for failures in range(1, 6)] == [1_000, 2_000, 4_000, 5_000, 5_000]
    assert retry_ms(backoff, 10_000, "job") == 5_000


def test_retries_of_jobs_are_spread_and_always_at_the_same_times() -> None:
    backoff = Backoff(initial_ms=10_000, jitter=0.5)
    pauses = [retry_ms(backoff, 1, f"job {number}") for number in range(200)]
    assert pauses == [retry_ms(backoff, 1, f"job {number}") for number in range(200)]
    assert 5_000 <= min(pauses) < 5_500
    assert 9_500 < max(pauses) <= 10_000


def test_a_retry_may_come_at_once() -> None:
    assert retry_ms(Backoff(initial_ms=0), 3, "job") == 0
