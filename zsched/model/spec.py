"""Check a submitted job: a JobSpec, or a SpecError that names the field and the remedy. Pure.

edits.py checks changes of a job by the same rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Annotated, Any, Final

from msgspec import Meta

from zsched.model.after import AfterError, Dependency, parse_after
from zsched.model.arrays import TaskArray
from zsched.model.backoff import USUAL_BACKOFF
from zsched.model.checks import (
    BackoffBody,
    CrashLimit,
    Duration,
    check_array,
    check_backoff,
    check_command,
    check_deadline,
    check_duration,
    check_failures,
    check_name,
    check_queue,
    check_schedule,
    check_tags,
    check_timeout,
    time_ms,
)
from zsched.model.entries import Entries, pack
from zsched.model.failures import Failure
from zsched.model.faults import SpecError
from zsched.model.files import FileBody, check_patterns, read_files
from zsched.model.launch import Launch, launch_fields
from zsched.model.limits import (
    ARRAY_TASKS_MAX,
    CRASH_LIMIT_DEFAULT,
    GRACE_MS_DEFAULT,
    GRACE_MS_MAX,
    JOB_LIMITS_MAX,
    LIMIT_RUNS_MAX,
    PRIORITY_MAX,
    RETRIES_MAX,
)
from zsched.model.names import KEY_NAME, KEY_RULE, USER_NAME
from zsched.model.program import argv_command, check_argv, check_folder, check_stdin, check_umask, check_variables
from zsched.model.requirements import read_requirements
from zsched.model.signals import early_signal_text, parse_early_signal, signal_fault
from zsched.model.types import JobFields, JobSpec, OnDisconnect, OnLost, Policy


class JobBody(Launch, forbid_unknown_fields=True, frozen=True):
    """A job as it is submitted. Durations are `10m` and the like, or a number of seconds. `run_at`: a time.
    `deadline`: a time, or a duration from the submit.
    """

    name: str | None = None
    command: str | None = None
    stdin: str | None = None
    files: dict[str, str | FileBody] | None = None
    schedule: str | None = None
    run_now: bool = False
    hold: bool = False
    run_at: str | None = None
    delay: Duration | None = None
    deadline: Duration | None = None
    tags: tuple[str, ...] | None = None
    priority: Annotated[int, Meta(ge=-PRIORITY_MAX, le=PRIORITY_MAX)] = 0
    queue: str | None = None
    labels: dict[str, str] | None = None
    limits: dict[str, Annotated[int, Meta(ge=1, le=LIMIT_RUNS_MAX)]] | None = None
    unique: str | None = None
    after: tuple[int | str, ...] | None = None
    array: str | None = None
    each: list[Any] | None = None
    max_fails: Annotated[int, Meta(ge=0, le=ARRAY_TASKS_MAX)] | None = None
    timeout: Duration | None = None
    kill_grace: Duration | None = None
    signal: str | None = None
    retries: Annotated[int, Meta(ge=0, le=RETRIES_MAX)] = 0
    backoff: BackoffBody | None = None
    retry_on: tuple[Failure, ...] | None = None
    on_lost: OnLost = OnLost.REQUEUE
    on_disconnect: OnDisconnect = OnDisconnect.CONTINUE
    crash_limit: CrashLimit = CRASH_LIMIT_DEFAULT


# Seals a secret: (name, value) → the text that is stored.
Seal = Callable[[str, str], str]


def keeps_none(_name: str, _value: str) -> str:
    """The Seal of a scheduler without a key for secrets. Raises SpecError."""
    raise SpecError("secret_env", "no secrets are kept here")


def job_spec(body: JobBody, seal: Seal = keeps_none, entries: Entries | None = None) -> JobSpec:
    """Check a submitted job and seal its secrets. `entries`: those of its tasks, if they did not come in `each`. Raises
    SpecError, and the errors of `seal`.
    """
    name, command, cron = check_name(body.name), _program(body), check_schedule(body.schedule)
    check_folder("cwd", body.cwd)
    check_folder("cwd_hint", body.cwd_hint)
    check_umask("umask", body.umask)
    check_umask("umask_hint", body.umask_hint)
    check_stdin(body.stdin)
    if body.artifacts:
        check_patterns("artifacts", body.artifacts)
    if body.user is not None and not USER_NAME.fullmatch(body.user):
        raise SpecError("user", "a user's name: a letter, then letters, digits and . _ -")
    if body.env or body.secret_env:
        check_variables(body.env or {}, body.secret_env or {})
    # An empty object or array is as good as none.
    launch = {name: None if value in ({}, ()) else value for name, value in launch_fields(body).items()}
    if body.secret_env:
        launch["secret_env"] = {name: seal(name, value) for name, value in body.secret_env.items()}
    timing = _timing(body, recurring=cron is not None)
    policy = _policy(body)
    array, entries = _tasks(body, entries, recurring=cron is not None)
    return JobSpec(
        name=name,
        command=command,
        stdin=body.stdin,
        files=read_files("files", body.files) if body.files else (),
        schedule=cron,
        run_now=body.run_now,
        hold=_hold(body),
        tags=check_tags(body.tags or ()),
        priority=body.priority,
        queue=check_queue(body.queue),
        requires=read_requirements(body.labels),
        limits=_limits(body.limits or {}),
        unique=_unique(body.unique, recurring=cron is not None),
        after=_after(body.after, recurring=cron is not None) if body.after else (),
        array=array,
        each=entries,
        max_fails=body.max_fails,
        policy=policy,
        **timing,
        **launch,
    )


def _program(body: JobBody) -> str:
    """The command of a job, which stands for its arguments where it has those. Raises SpecError."""
    if body.argv is None:
        return check_command(body.command)
    if body.command is not None:
        raise SpecError("argv", "not together with command: give one of them")
    check_argv(body.argv)
    return argv_command(body.argv)


def _limits(given: Mapping[str, int]) -> Mapping[str, int]:
    if len(given) > JOB_LIMITS_MAX:
        raise SpecError("limits", f"at most {JOB_LIMITS_MAX} keys, not {len(given)}")
    for key in given:
        if not KEY_NAME.fullmatch(key):
            raise SpecError("limits", f"a key: {KEY_RULE}")
    return given


def _unique(given: str | None, *, recurring: bool) -> str | None:
    if given is not None and recurring:
        raise SpecError("unique", "not together with schedule: a recurring job has no end")
    if given is not None and not KEY_NAME.fullmatch(given):
        raise SpecError("unique", f"a key: {KEY_RULE}")
    return given


def _after(given: tuple[int | str, ...], *, recurring: bool) -> tuple[Dependency, ...]:
    if recurring:
        raise SpecError("after", "not together with schedule, which says when the job runs")
    try:
        return parse_after(given)
    except AfterError as error:
        raise SpecError("after" if error.place is None else f"after/{error.place}", str(error)) from None


def _tasks(body: JobBody, entries: Entries | None, *, recurring: bool) -> tuple[TaskArray | None, Entries | None]:
    """The array of a job, and its entries. Raises SpecError."""
    array = None if body.array is None else check_array(body.array)
    if array is None and body.each is None and entries is None:
        if body.max_fails is not None:
            raise SpecError("max_fails", "it counts failed tasks of an array: give array or each")
        return None, None
    if recurring:
        field = "array" if body.array is not None else "each"
        raise SpecError(field, "not together with schedule: submit the array by a job with a schedule")
    if body.each is not None:
        entries = pack(body.each)
    if entries is not None:
        return each_array(array, entries), entries
    if array is not None and not array.parts:
        raise SpecError("array", "without each it names the tasks, such as 0-15%4")
    return array, None


def each_array(given: TaskArray | None, entries: Entries) -> TaskArray:
    """The array of a job with entries: one task for each. `given`: its cap, if it has one. Raises SpecError."""
    if given is not None and given.parts:
        raise SpecError("array", "together with each only how many tasks run at once, such as %4")
    return TaskArray((range(entries.count),), None if given is None else given.cap)


def _hold(body: JobBody) -> bool:
    if body.hold and body.schedule:
        raise SpecError("hold", "not together with schedule: pause the job instead")
    return body.hold


def _timing(body: JobBody, *, recurring: bool) -> dict[str, Any]:
    """When the first run of a job may start, as fields of JobSpec. Raises SpecError."""
    if body.run_at is None and body.delay is None and body.deadline is None:
        return {}
    if recurring:
        field = "run_at" if body.run_at is not None else "delay" if body.delay is not None else "deadline"
        raise SpecError(field, "not together with schedule, which says when the job runs")
    if body.run_at is not None and body.delay is not None:
        raise SpecError("delay", "not together with run_at: give one of them")
    timing: dict[str, Any] = {}
    if body.run_at is not None:
        timing["run_at_ms"] = time_ms("run_at", body.run_at)
    if body.delay is not None:
        timing["delay_ms"] = check_duration("delay", body.delay)
    if body.deadline is not None:
        timing["deadline_ms"], timing["expiry_ms"] = check_deadline(body.deadline)
    for begin, end in (("run_at_ms", "deadline_ms"), ("delay_ms", "expiry_ms")):
        if (first := timing.get(begin)) is not None and (last := timing.get(end)) is not None and last <= first:
            raise SpecError("deadline", f"later than {begin.removesuffix('_ms')}: else the job could never start")
    return timing


def never_starts(job: JobFields) -> bool:
    """Whether the deadline of a job is not later than its start."""
    return job.deadline_ms is not None and job.run_at_ms is not None and job.deadline_ms <= job.run_at_ms


_NAMED: Final = attrgetter(
    "timeout", "kill_grace", "signal", "retries", "backoff", "retry_on", "on_lost", "on_disconnect", "crash_limit"
)
_NOTHING_NAMED: Final = _NAMED(JobBody())
_USUAL_POLICY: Final = Policy()


def _policy(body: JobBody) -> Policy:
    if _NAMED(body) == _NOTHING_NAMED:
        return _USUAL_POLICY
    timeout_ms = check_timeout(body.timeout)
    grace_ms = GRACE_MS_DEFAULT
    if body.kill_grace is not None:
        grace_ms = check_duration("kill_grace", body.kill_grace, GRACE_MS_MAX)
    return Policy(
        timeout_ms=timeout_ms,
        grace_ms=grace_ms,
        signal=_signal(body.signal, timeout_ms),
        retries=body.retries,
        backoff=USUAL_BACKOFF if body.backoff is None else check_backoff(body.backoff),
        retry_on=_retry_on(body),
        on_lost=body.on_lost,
        on_disconnect=body.on_disconnect,
        crash_limit=None if body.crash_limit == "never" else body.crash_limit,
    )


def _signal(given: str | None, timeout_ms: int | None) -> str | None:
    if given is None:
        return None
    try:
        text = early_signal_text(*parse_early_signal(given))
    except ValueError as error:
        raise SpecError("signal", str(error)) from None
    if fault := signal_fault(text, timeout_ms):
        raise SpecError("signal", fault)
    return text


def _retry_on(body: JobBody) -> tuple[str, ...]:
    if body.retry_on and not body.retries:
        raise SpecError("retry_on", "it chooses among retries: set retries")
    return check_failures(body.retry_on or ())
