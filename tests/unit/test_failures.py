"""`retry_on`: how a caller writes failures, and which of them a run's end is."""

from __future__ import annotations

import pytest

from zsched.model.failures import is_retried, parse_failures
from zsched.model.faults import SpecError
from zsched.model.limits import RETRY_ON_MAX
from zsched.model.spec import JobBody, job_spec


def test_failures_have_one_stored_form() -> None:
    given: list[int | str] = [75, "75", "100-120", "7-7", "SIGTERM", "term", "TERM", "timeout", "exit"]
    assert parse_failures(given) == ("75", "100-120", "7", "TERM", "timeout", "exit")


@pytest.mark.parametrize(
    "given", ["0", "256", "20-10", "1-300", "SIGNOPE", "", "7 8", "lost", "-3", "Timeout", "٣", "٣-٥"]
)
def test_invalid_failures_are_refused_with_the_forms(given: str) -> None:
    with pytest.raises(ValueError, match=r"invalid failure .*: write exit codes from 1 to 255"):
        parse_failures([given])


def test_entries_of_retry_on_are_bounded() -> None:
    parse_failures(list(range(1, RETRY_ON_MAX + 1)))
    with pytest.raises(ValueError, match="at most 32 entries, not 33: write ranges"):
        parse_failures(list(range(1, RETRY_ON_MAX + 2)))


def test_retry_on_without_retries_is_refused_with_the_remedy() -> None:
    with pytest.raises(SpecError, match="it chooses among retries: set retries") as caught:
        job_spec(JobBody(name="j", command="true", retry_on=(75,)))
    assert caught.value.field == "retry_on"
    spec = job_spec(JobBody(name="j", command="true", retries=1, retry_on=(75, "SIGHUP")))
    assert spec.policy.retry_on == ("75", "HUP")


def test_stopped_run_matches_its_timeout_and_not_the_signal_that_ended_it() -> None:
    assert not is_retried(("KILL", "signal"), "timeout", None, 9)
    assert is_retried(("timeout",), "timeout", None, 9)
