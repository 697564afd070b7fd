"""Few lines of what fails again and again, and none of them false."""

from __future__ import annotations

import logging

import pytest

from zsched.logs import QUIET_MS, Outage

FULL = OSError("disk full")


@pytest.fixture
def outage() -> Outage:
    return Outage(logging.getLogger("test"), "it failed", "it works again")


def error(text: str) -> tuple[str, int, str]:
    return "test", logging.ERROR, text


def info(text: str) -> tuple[str, int, str]:
    return "test", logging.INFO, text


def test_the_first_failure_is_told_at_once_and_later_ones_once_in_ten_seconds_with_their_number(
    outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    for now_ms in range(5_000, 5_000 + 2 * QUIET_MS + 1, 100):
        outage.failed(FULL, now_ms)
    assert caplog.record_tuples == [
        error("it failed: disk full"),
        error("it failed: disk full (100 times since the last such line)"),
        error("it failed: disk full (100 times since the last such line)"),
    ]


def test_the_end_is_told_once_with_how_long_it_was(outage: Outage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    outage.worked(0)
    outage.failed(FULL, 1_000)
    outage.failed(FULL, 2_000)
    outage.worked(3_500)
    outage.worked(4_000)
    assert caplog.record_tuples == [error("it failed: disk full"), info("it works again, after 2.5 s")]


def test_what_fails_and_works_by_turns_is_told_no_more_often(outage: Outage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for now_ms in range(0, QUIET_MS, 1_000):
        outage.failed(FULL, now_ms)
        outage.worked(now_ms + 500)
    outage.failed(FULL, QUIET_MS)
    outage.worked(QUIET_MS + 500)
    assert caplog.record_tuples == [
        error("it failed: disk full"),
        info("it works again, after 0.5 s"),
        error("it failed: disk full (10 times since the last such line)"),
        info("it works again, after 0.5 s"),
    ]


def test_one_that_begins_anew_in_the_quiet_time_and_lasts_is_told_after_it(
    outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    outage.failed(FULL, 0)
    outage.worked(1_000)
    outage.failed(FULL, 4_000)
    outage.failed(FULL, QUIET_MS)
    outage.worked(QUIET_MS + 2_000)
    assert caplog.record_tuples[2:] == [
        error("it failed: disk full (2 times since the last such line)"),
        info("it works again, after 8.0 s"),
    ]
