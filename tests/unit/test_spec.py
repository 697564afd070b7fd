"""From what a caller wrote to a job, or to the field that is wrong."""

from __future__ import annotations

import pytest

from zsched.model.backoff import Backoff
from zsched.model.checks import BackoffBody
from zsched.model.faults import SpecError
from zsched.model.limits import (
    ARGV_BYTES_MAX,
    ARGV_SHOWN_CHARS_MAX,
    ARGV_WORDS_MAX,
    COMMAND_BYTES_MAX,
    ENV_BYTES_MAX,
    ENV_NAMES_MAX,
    NAME_CHARS_MAX,
    SECRETS_MAX,
    STDIN_BYTES_MAX,
)
from zsched.model.spec import JobBody, job_spec
from zsched.model.types import JobSpec, OnDisconnect, OnLost, Policy


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
def test_empty_schedule_counts_as_absent(schedule: str | None) -> None:
    assert job_spec(JobBody(name="a", command="true", schedule=schedule)).schedule is None


def test_a_schedule_is_kept_and_checked() -> None:
    spec = job_spec(JobBody(name="a", command="true", schedule=" */5 * * * * ", run_now=True))
    assert (spec.schedule, spec.run_now) == ("*/5 * * * *", True)
    assert refusal(JobBody(name="a", command="true", schedule="soon")).field == "schedule"


@pytest.mark.parametrize(("timeout", "timeout_ms"), [(None, None), ("10m", 600_000), (90, 90_000), ("1ns", 1)])
def test_a_timeout_is_a_duration_or_seconds(timeout: str | int | None, timeout_ms: int | None) -> None:
    assert job_spec(JobBody(name="a", command="true", timeout=timeout)).policy.timeout_ms == timeout_ms


@pytest.mark.parametrize("timeout", [0, "0", "0s", -1, "-5s", "soon", "10", 10**30, "9999999d"])
def test_invalid_or_endless_timeout_is_refused(timeout: str | int) -> None:
    assert refusal(JobBody(name="a", command="true", timeout=timeout)).field == "timeout"


# --- its own variables -----------------------------------------------------------------------------------------------


def seal(name: str, value: str) -> str:
    return f"sealed {name} {len(value)}"


def test_variables_are_kept_as_they_are_and_secret_ones_sealed() -> None:
    body = JobBody(name="a", command="true", env={"A": "", "b_2": "x\ny=ü"}, secret_env={"TOKEN": "12345678"})
    spec = job_spec(body, seal)
    assert (spec.env, spec.secret_env) == ({"A": "", "b_2": "x\ny=ü"}, {"TOKEN": "sealed TOKEN 8"})
    assert spec.needs == ("env", "secret_env")
    none = job_spec(JobBody(name="a", command="true", env={}, secret_env={}), seal)
    assert (none.env, none.secret_env, none.needs) == (None, None, ())


@pytest.mark.parametrize("kind", ["env", "secret_env"])
@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("", ""),
        ("1A", "1A"),
        ("A-B", "A-B"),
        ("A=B", "A=B"),
        ("A B", "A B"),
        ("Ä", "Ä"),
        ("A\n", "A\n"),
        ("a/b~c", "a~1b~0c"),
        ("ZSCHED_SPOOL", "ZSCHED_SPOOL"),
        ("ZSCHED_", "ZSCHED_"),
    ],
)
def test_what_can_be_no_variable_is_refused_with_its_place(kind: str, name: str, field: str) -> None:
    with pytest.raises(SpecError) as refused:
        job_spec(JobBody(name="a", command="true", **{kind: {name: "12345678"}}), seal)  # type: ignore[arg-type]
    assert refused.value.field == f"{kind}/{field}"


@pytest.mark.parametrize(
    ("env", "secret_env", "field"),
    [
        ({"A": "a\0b"}, {}, "env/A"),
        ({}, {"A": "12345678\0"}, "secret_env/A"),
        ({}, {"A": "1234567"}, "secret_env/A"),
        ({"A": "x"}, {"A": "12345678"}, "secret_env/A"),
        ({"A": "x" * ENV_BYTES_MAX}, {}, "env"),
        ({"A": "x" * (ENV_BYTES_MAX // 2)}, {"B": "x" * (ENV_BYTES_MAX // 2)}, "secret_env"),
        ({f"A{n}": "" for n in range(ENV_NAMES_MAX + 1)}, {}, "env"),
        ({}, {f"A{n}": "12345678" for n in range(SECRETS_MAX + 1)}, "secret_env"),
    ],
)
def test_a_value_that_can_not_be_is_refused_and_never_shown(
    env: dict[str, str], secret_env: dict[str, str], field: str
) -> None:
    with pytest.raises(SpecError) as refused:
        job_spec(JobBody(name="a", command="true", env=env, secret_env=secret_env), seal)
    assert refused.value.field == field
    assert "1234567" not in refused.value.detail


def test_the_bounds_of_variables_are_exact() -> None:
    job_spec(JobBody(name="a", command="true", env={"A": "x" * (ENV_BYTES_MAX - 3)}), seal)
    job_spec(JobBody(name="a", command="true", env={f"A{n}": "" for n in range(ENV_NAMES_MAX)}), seal)
    job_spec(JobBody(name="a", command="true", secret_env={"A": "üüüü"}), seal)


def test_a_job_says_what_becomes_of_its_failures() -> None:
    body = JobBody(
        name="a",
        command="true",
        kill_grace="3s",
        retries=4,
        backoff=BackoffBody(initial=1, factor=3, max="1m", jitter=0),
        on_lost=OnLost.FAIL,
        on_disconnect=OnDisconnect.STOP,
        crash_limit=2,
    )
    spec = job_spec(body)
    assert spec.policy == Policy(
        grace_ms=3_000,
        retries=4,
        backoff=Backoff(initial_ms=1_000, factor=3, max_ms=60_000, jitter=0),
        on_lost=OnLost.FAIL,
        on_disconnect=OnDisconnect.STOP,
        crash_limit=2,
    )
    assert spec.needs == ("stop",)


def test_crash_limit_of_never_is_unlimited() -> None:
    assert job_spec(JobBody(name="a", command="true", crash_limit="never")).policy == Policy(crash_limit=None)


def test_a_job_that_says_nothing_of_its_failures_has_the_usual_policy() -> None:
    assert job_spec(JobBody(name="a", command="true")).policy == Policy()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (JobBody(name="a", command="true", kill_grace="2h"), "kill_grace"),
        (JobBody(name="a", command="true", kill_grace="soon"), "kill_grace"),
        (JobBody(name="a", command="true", backoff=BackoffBody(initial="31d")), "backoff/initial"),
        (JobBody(name="a", command="true", backoff=BackoffBody(max=-1)), "backoff/max"),
    ],
)
def test_invalid_or_too_long_duration_is_refused_with_its_field(body: JobBody, field: str) -> None:
    assert refusal(body).field == field


# --- times -----------------------------------------------------------------------------------------------------------

AT = "2030-01-02T03:04:05.678Z"
AT_MS = 1_893_553_445_678


@pytest.mark.parametrize(
    ("body", "times"),
    [
        ({"run_at": AT}, (AT_MS, None, None, None)),
        ({"run_at": "2030-01-02T04:04:05.678+01:00"}, (AT_MS, None, None, None)),
        ({"delay": "2h"}, (None, 7_200_000, None, None)),
        ({"delay": 2.5}, (None, 2_500, None, None)),
        ({"deadline": AT}, (None, None, AT_MS, None)),
        ({"deadline": "90s"}, (None, None, None, 90_000)),
        ({"delay": "1m", "deadline": "2m"}, (None, 60_000, None, 120_000)),
        ({"delay": "1m", "deadline": AT}, (None, 60_000, AT_MS, None)),
    ],
)
def test_times_of_a_job_are_dates_or_durations(body: dict[str, str | float], times: tuple[int | None, ...]) -> None:
    spec = job_spec(JobBody(name="a", command="true", **body))  # type: ignore[arg-type]
    assert (spec.run_at_ms, spec.delay_ms, spec.deadline_ms, spec.expiry_ms) == times


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"run_at": "tomorrow"}, "run_at"),
        ({"run_at": "2030-01-02T03:04:05"}, "run_at"),
        ({"run_at": "1960-01-02T03:04:05Z"}, "run_at"),
        ({"run_at": "2h"}, "run_at"),
        ({"run_at": AT, "delay": "1h"}, "delay"),
        ({"delay": AT}, "delay"),
        ({"deadline": "2030-13-02T03:04:05Z"}, "deadline"),
        ({"deadline": "soon"}, "deadline"),
        ({"run_at": AT, "deadline": AT}, "deadline"),
        ({"delay": "2m", "deadline": "1m"}, "deadline"),
        ({"run_at": AT, "schedule": "* * * * *"}, "run_at"),
        ({"delay": "1h", "schedule": "* * * * *"}, "delay"),
        ({"deadline": "1h", "schedule": "* * * * *"}, "deadline"),
    ],
)
def test_times_that_no_job_can_have_are_refused(body: dict[str, str], field: str) -> None:
    assert refusal(JobBody(name="a", command="true", **body)).field == field  # type: ignore[arg-type]


# --- what a job executes ---------------------------------------------------------------------------------------------


def test_arguments_stand_for_a_command_and_are_kept_whole() -> None:
    spec = job_spec(JobBody(name="a", argv=("convert", "a b", "$x")))
    assert (spec.argv, spec.command) == (("convert", "a b", "$x"), "convert 'a b' '$x'")
    long = job_spec(JobBody(name="a", argv=("x" * ARGV_SHOWN_CHARS_MAX * 2,)))
    assert len(long.command) == ARGV_SHOWN_CHARS_MAX


def test_what_needs_a_worker_with_a_feature_and_what_is_a_hint() -> None:
    body = JobBody(
        name="a", argv=("true",), cwd="/a", umask="022", stdin="", timeout="2m", signal="sigusr1@60s", cwd_hint="/b"
    )
    spec = job_spec(body)
    assert spec.needs == ("argv", "cwd", "signal", "stdin", "umask")
    assert (spec.policy.signal, spec.stdin_bytes) == ("USR1@1m", 0)
    assert job_spec(JobBody(name="a", command="true", cwd_hint="/b", umask_hint="0077")).needs == ()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"argv": ()}, "argv"),
        ({"argv": ("",)}, "argv"),
        ({"argv": ("a", "b\0")}, "argv/1"),
        ({"argv": ("a",) * (ARGV_WORDS_MAX + 1)}, "argv"),
        ({"argv": ("a", "x" * ARGV_BYTES_MAX)}, "argv"),
        ({"argv": ("a",), "command": "b"}, "argv"),
        ({"argv": ("a",), "command": ""}, "argv"),
        ({"command": "true", "cwd": "a"}, "cwd"),
        ({"command": "true", "cwd": ""}, "cwd"),
        ({"command": "true", "cwd": "/a\0"}, "cwd"),
        ({"command": "true", "cwd": "/" + "a" * 256}, "cwd"),
        ({"command": "true", "cwd": "/a" * 2_048}, "cwd"),
        ({"command": "true", "cwd_hint": "~"}, "cwd_hint"),
        ({"command": "true", "umask": "8"}, "umask"),
        ({"command": "true", "umask": "1777"}, "umask"),
        ({"command": "true", "umask_hint": "-022"}, "umask_hint"),
        ({"command": "true", "stdin": "a\0"}, "stdin"),
        ({"command": "true", "stdin": "ü" * (STDIN_BYTES_MAX // 2) + "x"}, "stdin"),
        ({"command": "true", "signal": "USR1@60s"}, "signal"),
        ({"command": "true", "timeout": "60s", "signal": "USR1@60s"}, "signal"),
        ({"command": "true", "timeout": "60s", "signal": "KILL@1s"}, "signal"),
        ({"command": "true", "timeout": "60s", "signal": "USR1"}, "signal"),
        ({"command": "true", "timeout": "60s", "signal": "USR1@soon"}, "signal"),
    ],
)
def test_what_no_host_can_start_is_refused_at_the_submit(body: dict[str, str], field: str) -> None:
    assert refusal(JobBody(name="a", **body)).field == field  # type: ignore[arg-type]
