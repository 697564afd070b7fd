"""From what a caller wrote to a job, or to the field that is wrong."""

from __future__ import annotations

import pytest

from zsched.limits import COMMAND_BYTES_MAX, NAME_CHARS_MAX
from zsched.model import JobSpec
from zsched.spec import JobBody, SpecError, job_spec


def refusal(body: JobBody) -> SpecError:
    with pytest.raises(SpecError) as refused:
        job_spec(body)
    return refused.value


def test_a_job_needs_a_name_and_a_command_and_nothing_else() -> None:
    assert job_spec(JobBody(name="hello-job", command="echo 'Hello World'")) == JobSpec(
        name="hello-job", command="echo 'Hello World'"
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (JobBody(), "name"),
        (JobBody(command="true"), "name"),
        (JobBody(name="", command="true"), "name"),
        (JobBody(name=" \t", command="true"), "name"),
        (JobBody(name="a"), "command"),
        (JobBody(name="a", command=" \n"), "command"),
    ],
)
def test_what_is_missing_is_named_in_the_documented_words(body: JobBody, field: str) -> None:
    error = refusal(body)
    assert (error.field, error.detail) == (field, "Name and command are required")


@pytest.mark.parametrize("user", ["alice", "_apt", "svc-1.x", "HOST$", "A"])
def test_a_user_is_a_name(user: str) -> None:
    assert job_spec(JobBody(name="a", command="true", user=user)).user == user


@pytest.mark.parametrize("user", ["", "0", "1000", "-x", "--reuid=0", "a b", "a/b", "root\n", "a$(id)", "x" * 65, "ü"])
def test_what_can_be_no_users_name_is_refused(user: str) -> None:
    assert refusal(JobBody(name="a", command="true", user=user)).field == "user"


def test_the_bounds_are_in_characters_for_names_and_in_bytes_for_commands() -> None:
    job_spec(JobBody(name="ü" * NAME_CHARS_MAX, command="x" * COMMAND_BYTES_MAX))
    assert refusal(JobBody(name="x" * (NAME_CHARS_MAX + 1), command="true")).field == "name"
    error = refusal(JobBody(name="a", command="ü" * (COMMAND_BYTES_MAX // 2) + "x"))
    assert error.field == "command"
    assert str(COMMAND_BYTES_MAX + 1) in error.detail


@pytest.mark.parametrize("schedule", [None, "", "  "])
def test_an_empty_schedule_is_none(schedule: str | None) -> None:
    assert job_spec(JobBody(name="a", command="true", schedule=schedule)).schedule is None


def test_a_schedule_is_kept_and_checked() -> None:
    spec = job_spec(JobBody(name="a", command="true", schedule=" */5 * * * * ", run_now=True))
    assert (spec.schedule, spec.run_now) == ("*/5 * * * *", True)
    assert refusal(JobBody(name="a", command="true", schedule="soon")).field == "schedule"


@pytest.mark.parametrize(("timeout", "timeout_ms"), [(None, None), ("10m", 600_000), (90, 90_000), ("1ns", 1)])
def test_a_timeout_is_a_duration_or_seconds(timeout: str | int | None, timeout_ms: int | None) -> None:
    assert job_spec(JobBody(name="a", command="true", timeout=timeout)).timeout_ms == timeout_ms


@pytest.mark.parametrize("timeout", [0, "0", "0s", -1, "-5s", "soon", "10", 10**30, "9999999d"])
def test_a_timeout_that_is_none_or_endless_is_refused(timeout: str | int) -> None:
    assert refusal(JobBody(name="a", command="true", timeout=timeout)).field == "timeout"
