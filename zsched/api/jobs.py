"""/jobs: submit, list, look, cancel; pause, resume, edit and end recurring jobs; the log post of workers that poll."""

from __future__ import annotations

import logging
import re
from typing import Final, NoReturn

import falcon

from zsched.api import idempotency, views
from zsched.api.body import LogBody, convert, parse, read, read_bytes
from zsched.api.context import (
    Context,
    answer,
    caller,
    duration_ms,
    flag,
    job_id,
    number,
    parameters,
    worker_name,
)
from zsched.api.gate import Principal
from zsched.api.problem import Problem
from zsched.dispatcher.commands import (
    Cancel,
    EditJob,
    EndSchedule,
    FullError,
    PauseSchedule,
    Report,
    ResumeSchedule,
    Submit,
)
from zsched.keys import KeyFileError
from zsched.limits import (
    JOBS_BODY_BYTES_MAX,
    JOBS_PER_SUBMIT_MAX,
    LOG_BODY_BYTES_MAX,
    OUTPUT_BYTES_MAX,
    OWNER_CHARS_MAX,
    PAGE_ROWS_DEFAULT,
    PAGE_ROWS_MAX,
    WAIT_MS_MAX,
)
from zsched.model import TERMINAL, Job, JobId, JobSpec, RunId, RunStatus, Stream
from zsched.protocol import INTEGER_MAX
from zsched.spec import REQUIRED, EditBody, JobBody, Seal, SpecError, job_edit, job_spec
from zsched.store.contract import Submitted

log = logging.getLogger(__name__)

# An owner as callers name it; the last two stand for callers that have no name (see owners.py).
OWNER: Final = r"^((user|token):.+|me|local|anybody)\Z"


class Jobs:
    """/jobs"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        given = parameters(req, "status", "owner", "limit", "offset")
        limit = number(given, "limit", PAGE_ROWS_DEFAULT, 1, PAGE_ROWS_MAX)
        offset = number(given, "offset", 0, 0, INTEGER_MAX)
        status = _status(given["status"]) if "status" in given else None
        owner = _owner(req, given["owner"]) if "owner" in given else None
        answer(resp, [views.job(job) for job in self._context.reader.jobs(status, limit, offset, owner)])

    on_head = on_get

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        parameters(req)
        key = idempotency.key(req)
        # Told before the body is read: a crowd beyond the bound costs next to nothing. What was done needs no room.
        if self._context.inbox.full and not (key and idempotency.known(req, key, self._context.reader)):
            raise FullError
        body = read_bytes(req, bytes_max=JOBS_BODY_BYTES_MAX)
        asked = parse(body)
        many = isinstance(asked, list)
        seal = self._context.seal
        specs = _many(asked, seal) if many else (_spec(asked, "#", seal),)
        once = None if key is None else idempotency.once(req, key, body)
        reply = self._context.inbox.call(Submit(specs, caller(req), once))
        if isinstance(reply, Submitted):
            first, last, count = reply.first, reply.last, reply.jobs
            resp.set_header(idempotency.REPLAYED, "true")
        else:
            assert isinstance(reply, list)
            first, last, count = reply[0], reply[-1], len(reply)
        jobs = [views.job(made) for made in self._context.reader.jobs_between(first, last)]
        if len(jobs) < count:
            raise Problem(410, "purged", "What this Idempotency-Key has submitted was done, and is not kept any more")
        if not many:
            resp.location = f"/jobs/{first}"
        answer(resp, jobs if many else jobs[0], 201)


class JobItem:
    """/jobs/{id}"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        given = parameters(req, "wait")
        number = job_id(job)
        found = self._context.live.hold(
            lambda: _found(self._context.reader.job(number)),
            lambda found: found.status in TERMINAL,
            duration_ms(given, "wait", WAIT_MS_MAX) / 1000,
        )
        answer(resp, self._view(found))

    on_head = on_get

    def on_patch(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        parameters(req)
        number = job_id(job)
        try:
            edit = job_edit(read(req, EditBody))
        except SpecError as error:
            _refuse(error, "#")
        self._context.inbox.call(EditJob(number, edit, caller(req)))
        answer(resp, self.view(number))

    def on_delete(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        given = parameters(req, "cancel")
        number = job_id(job)
        self._context.inbox.call(EndSchedule(number, caller(req), flag(given, "cancel")))
        answer(resp, self.view(number))

    def view(self, number: JobId) -> views.View:
        """The job with its last run. Raises a 404 Problem."""
        return self._view(_found(self._context.reader.job(number)))

    def _view(self, job: Job) -> views.View:
        reader = self._context.reader
        view = views.job(job)
        last = reader.last_run(job.job_id)
        if last is not None:
            view["last_run"] = views.run(last, reader.output(last.run_id))
        return view


class JobRuns:
    """/jobs/{id}/runs"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        given = parameters(req, "limit")
        limit = number(given, "limit", PAGE_ROWS_DEFAULT, 1, PAGE_ROWS_MAX)
        reader = self._context.reader
        _found(reader.job(job_id(job)))
        # Without logs: a thousand runs may have written a gigabyte. /runs/{id} has them.
        answer(resp, [views.run(run, None) for run in reader.runs(job_id(job), limit)])

    on_head = on_get


class JobCancel:
    """/jobs/{id}/cancel"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_post(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        parameters(req)
        number = job_id(job)
        self._context.inbox.call(Cancel(number, caller(req)))
        answer(resp, JobItem(self._context).view(number))


class JobPause:
    """/jobs/{id}/pause"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_post(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        parameters(req)
        number = job_id(job)
        self._context.inbox.call(PauseSchedule(number, caller(req)))
        answer(resp, JobItem(self._context).view(number))


class JobResume:
    """/jobs/{id}/resume"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_post(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        parameters(req)
        number = job_id(job)
        self._context.inbox.call(ResumeSchedule(number, caller(req)))
        answer(resp, JobItem(self._context).view(number))


class JobLog:
    """/jobs/{id}/log: what a worker that polls says of its run."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_post(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        parameters(req)
        number = job_id(job)
        body = read(req, LogBody, bytes_max=LOG_BODY_BYTES_MAX)
        if body.status == "success" and body.exit_code not in (None, 0):
            detail = "success means 0: send status failed, or no exit_code"
            raise Problem(400, "invalid_request", f"exit_code: {detail}", errors=(("#/exit_code", detail),))
        report = Report(
            job_id=number,
            worker_id=worker_name(req, body.worker_id),
            status=RunStatus(body.status),
            run_id=None if body.run_id is None else RunId(body.run_id),
            logs=_stream((body.logs or "").encode()),
            exit_code=body.exit_code,
        )
        told = self._context.inbox.call(report)
        assert isinstance(told, int)
        reader = self._context.reader
        run = reader.run(RunId(told))
        assert run is not None
        answer(resp, views.run(run, reader.output(run.run_id)))


def _found(job: Job | None) -> Job:
    if job is None:
        raise Problem(404, "unknown_job", "Job not found")
    return job


def _status(word: str) -> RunStatus:
    try:
        return RunStatus(word)
    except ValueError:
        detail = f"one of {', '.join(RunStatus)}"
        raise Problem(400, "invalid_request", f"status: {detail}", errors=(("status", detail),)) from None


def _owner(req: falcon.Request, text: str) -> str:
    """The owner that a parameter names; `me` is the caller. Raises a 400 Problem."""
    if len(text) > OWNER_CHARS_MAX or re.match(OWNER, text) is None:
        detail = "me, user:NAME or token:NAME"
        raise Problem(400, "invalid_request", f"owner: {detail}", errors=(("owner", detail),))
    principal: Principal = req.context.principal
    return principal.owner if text == "me" else text


def _many(asked: list[object], seal: Seal) -> tuple[JobSpec, ...]:
    if not asked:
        raise Problem(400, "invalid_request", "an array of jobs has at least one")
    if len(asked) > JOBS_PER_SUBMIT_MAX:
        raise Problem(413, "too_many", f"One request takes at most {JOBS_PER_SUBMIT_MAX} jobs, not {len(asked)}")
    return tuple(_spec(one, f"#/{place}", seal) for place, one in enumerate(asked))


def _spec(asked: object, pointer: str, seal: Seal) -> JobSpec:
    body = convert(asked, JobBody, pointer)
    try:
        return job_spec(body, seal)
    except KeyFileError as error:
        log.error("a secret can't be kept: %s", error)
        raise Problem(503, "no_secrets", "The scheduler's key for secrets can't be used; its log says why") from None
    except SpecError as error:
        _refuse(error, pointer)


def _refuse(error: SpecError, pointer: str) -> NoReturn:
    """Raises the 400 Problem of a job that can't be accepted; `pointer` says where it stands in the body."""
    if not error.field:
        raise Problem(400, "invalid_request", error.detail, errors=((pointer, error.detail),)) from None
    where = f"{pointer}/{error.field}"
    required = error.detail == REQUIRED
    # Of a single job as the first clients know it.
    named = (
        error.detail if required and pointer == "#" else f"{where.removeprefix('#/').replace('/', '.')}: {error.detail}"
    )
    told = "required" if required else error.detail
    raise Problem(400, "invalid_request", named, errors=((where, told),)) from None


def _stream(text: bytes) -> Stream:
    """A posted text, of which a long one keeps its first and last bytes."""
    if len(text) <= OUTPUT_BYTES_MAX:
        return Stream(head=text, total=len(text))
    half = OUTPUT_BYTES_MAX // 2
    return Stream(head=text[:half], tail=text[-half:], total=len(text))
