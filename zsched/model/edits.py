"""Changes of a stored job: which fields PATCH takes, checked by the rules of a submit. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from zsched.model import checks
from zsched.model.backoff import Backoff
from zsched.model.checks import BackoffBody, CrashLimit, Duration
from zsched.model.failures import Failure
from zsched.model.faults import SpecError
from zsched.model.limits import GRACE_MS_MAX, PRIORITY_MAX, RETRIES_MAX
from zsched.model.types import Job, Policy


class EditBody(Struct, forbid_unknown_fields=True, frozen=True):
    """Changes of a job, a JSON merge patch (RFC 7396): what is left out stays, `null` removes a timeout or deadline."""

    name: str | UnsetType | None = UNSET
    command: str | UnsetType | None = UNSET
    schedule: str | UnsetType | None = UNSET
    tags: tuple[str, ...] | UnsetType | None = UNSET
    priority: Annotated[int, Meta(ge=-PRIORITY_MAX, le=PRIORITY_MAX)] | UnsetType = UNSET
    queue: str | UnsetType = UNSET
    deadline: Duration | UnsetType | None = UNSET
    timeout: Duration | UnsetType | None = UNSET
    kill_grace: Duration | UnsetType = UNSET
    retries: Annotated[int, Meta(ge=0, le=RETRIES_MAX)] | UnsetType = UNSET
    backoff: BackoffBody | UnsetType = UNSET
    retry_on: tuple[Failure, ...] | UnsetType | None = UNSET
    crash_limit: CrashLimit | UnsetType = UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEdit:
    """Changes of a job, checked: fields of Job or of its Policy, None where the job stays as it is. For a time or a
    bound, 0 stands for none. A new command replaces the arguments of a job without a shell.

    `expiry_ms` counts from the edit, which turns it into `deadline_ms`.
    """

    name: str | None = None
    command: str | None = None
    schedule: str | None = None
    tags: tuple[str, ...] | None = None
    priority: int | None = None
    queue: str | None = None
    deadline_ms: int | None = None
    expiry_ms: int | None = None
    timeout_ms: int | None = None
    grace_ms: int | None = None
    retries: int | None = None
    backoff: Backoff | None = None
    retry_on: tuple[str, ...] | None = None
    crash_limit: int | None = None

    def applied_to(self, job: Job, now_ms: int = 0) -> Job:
        """The job with the changes. Its `next_fire_ms` stays as it was."""
        changes = {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}
        if "expiry_ms" in changes:
            changes["deadline_ms"] = now_ms + changes.pop("expiry_ms")
        changes |= {name: changes[name] or None for name in _REMOVABLE & changes.keys()}
        if "command" in changes:
            changes["argv"] = None
        of_policy = {name: changes.pop(name) for name in Policy.__struct_fields__ if name in changes}
        return replace(job, policy=replace(job.policy, **of_policy), **changes)


_REMOVABLE: Final = {"deadline_ms", "timeout_ms", "crash_limit"}


def job_edit(body: EditBody) -> JobEdit:
    """Check an edit, by the rules of a submit. Raises SpecError."""
    if body == EditBody():
        raise SpecError("", f"nothing to change: give at least one of {', '.join(EditBody.__struct_fields__)}")
    cron = None if body.schedule is UNSET else checks.check_schedule(body.schedule)
    if cron is None and body.schedule is not UNSET:
        raise SpecError("schedule", "a recurring job keeps a schedule: DELETE the job to end it")
    deadline_ms, expiry_ms = _deadline(body)
    return JobEdit(
        name=None if body.name is UNSET else checks.check_name(body.name),
        command=None if body.command is UNSET else checks.check_command(body.command),
        schedule=cron,
        tags=None if body.tags is UNSET else checks.check_tags(body.tags or ()),
        priority=None if body.priority is UNSET else body.priority,
        queue=None if body.queue is UNSET else checks.check_queue(body.queue),
        deadline_ms=deadline_ms,
        expiry_ms=expiry_ms,
        timeout_ms=None if body.timeout is UNSET else checks.check_timeout(body.timeout) or 0,
        grace_ms=None
        if body.kill_grace is UNSET
        else checks.check_duration("kill_grace", body.kill_grace, GRACE_MS_MAX),
        retries=None if body.retries is UNSET else body.retries,
        backoff=None if body.backoff is UNSET else checks.check_backoff(body.backoff),
        retry_on=None if body.retry_on is UNSET else checks.check_failures(body.retry_on or ()),
        crash_limit=None if body.crash_limit is UNSET else 0 if body.crash_limit == "never" else body.crash_limit,
    )


def _deadline(body: EditBody) -> tuple[int | None, int | None]:
    """`deadline_ms` and `expiry_ms` of an edit."""
    if body.deadline is UNSET:
        return None, None
    if body.deadline is None:
        return 0, None
    return checks.check_deadline(body.deadline)
