"""/jobs: submit, list, look, edit, remove; end recurring jobs; the log post of workers that poll.

acts.py has what callers do with a job otherwise.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import NoReturn

import falcon

from zsched.api import idempotency, lists, ndjson, shapes, views
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
    reason,
    worker_name,
)
from zsched.api.http.parser import NDJSON
from zsched.api.http.upload import UPLOAD
from zsched.api.pages import address, answer_page
from zsched.api.problem import Problem, dotted, invalid
from zsched.api.runs import LOG, RunLog
from zsched.api.tasks import tasks_of
from zsched.host.files import PrivateFileError
from zsched.model.after import misplaced
from zsched.model.checks import REQUIRED
from zsched.model.edits import EditBody, job_edit
from zsched.model.entries import Entries
from zsched.model.faults import SpecError
from zsched.model.files import File, read_files
from zsched.model.lifecycle import TERMINAL
from zsched.model.limits import (
    AFTER_PER_SUBMIT_MAX,
    INTEGER_MAX,
    JOBS_BODY_BYTES_MAX,
    JOBS_PER_SUBMIT_MAX,
    LOG_BODY_BYTES_MAX,
    OUTPUT_BYTES_MAX,
    PAGE_ROWS_DEFAULT,
    PAGE_ROWS_MAX,
    WAIT_MS_MAX,
)
from zsched.model.output import cut
from zsched.model.spec import JobBody, Seal, job_spec
from zsched.model.types import Job, JobId, JobSpec, Run, RunId, RunStatus, Stream
from zsched.scheduler.dispatcher import answers
from zsched.scheduler.dispatcher.acts import Delete
from zsched.scheduler.dispatcher.commands import (
    EditJob,
    EndSchedule,
    FullError,
    JobState,
    Made,
    ParentError,
    Report,
    Submit,
)
from zsched.scheduler.dispatcher.why import why
from zsched.scheduler.live import of_job
from zsched.store.contract import Reader, Submitted

log = logging.getLogger(__name__)


class Jobs:
    """/jobs"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        lists.answer_jobs(self._context, req, resp)

    on_head = on_get

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        parameters(req)
        many, seal = False, self._context.seal

        def read_specs(digest: hashlib._Hash) -> tuple[JobSpec, ...]:
            nonlocal many
            if ndjson.is_lines(req):
                return (self._array(req, digest),)
            content = self._content(req, digest)
            many = isinstance(content, list)
            return _many(content, seal) if isinstance(content, list) else (read_job(content, "#", seal),)

        reply = submit(self._context, req, read_specs, lambda place: f"#/{place}" if many else "#")
        submitted: Made | _Stored
        if isinstance(reply, Submitted):
            resp.set_header(idempotency.REPLAYED, "true")
            submitted = self._stored(reply)
        else:
            submitted = reply
        if many:
            self._answer_many(resp, submitted)
            return
        with closing(submitted.jobs()) as jobs:
            job = next(jobs)
        resp.location = f"/jobs/{job.job_id}"
        answer(resp, views.job(job), 201)

    def _content(self, req: falcon.Request, digest: hashlib._Hash) -> object:
        """The JSON of the body. Raises a 400, 413 or 503 Problem."""
        try:
            return read_content(req, digest)
        except Problem as problem:
            if "Extra data: line 2 " not in problem.detail:
                raise
            raise invalid("#", f"{problem.detail}; lines of JSON have the Content-Type {NDJSON}") from None

    def _array(self, req: falcon.Request, digest: hashlib._Hash) -> JobSpec:
        """The job of a body of lines, which is added to the digest. Raises a 400, 408, 413 or 503 Problem."""
        if req.env.get(UPLOAD) is not None:
            req.context.admission.admit_upload(req)
        lines = ndjson.receive(req, self._context.folder, digest, _demand_lines)
        return read_job(lines.job, "#", self._context.seal, lines.entries)

    def _stored(self, done: Submitted) -> _Stored:
        """The jobs of an earlier request. Raises a 410 Problem."""
        demand_stored(self._context, done)
        return _Stored(self._context.reader, done)

    def _answer_many(self, resp: falcon.Response, submitted: Made | _Stored) -> None:
        """Answer with the first page of the submitted jobs. A header has the ids of all."""
        first, last = submitted.ids[0], submitted.ids[-1]
        page = self._context.pages.fill(submitted.jobs(), views.job)
        resp.set_header("Zsched-Jobs", f"{first}-{last}")
        assert page.last is not None
        following = address("/jobs", {}, first=page.last.job_id + 1, last=last, limit=PAGE_ROWS_MAX)
        answer_page(resp, page, following, 201)


def submit(
    context: Context,
    req: falcon.Request,
    read_specs: Callable[[hashlib._Hash], tuple[JobSpec, ...]],
    pointer: Callable[[int], str],
) -> Made | Submitted:
    """Submit the jobs of a request's body. `read_specs` reads it, and adds it to the digest of the request. `pointer`:
    the place of a job in the body, by its place in the specs. Raises a Problem.
    """
    key = idempotency.key(req)
    # Before the body is read, so that refusals are cheap. A repeated request needs no room.
    if context.inbox.full and not (key and idempotency.known(req, key, context.reader)):
        raise FullError
    digest = idempotency.begin(req, key)
    specs = read_specs(digest)
    _check_after(specs, pointer)
    once = None if key is None else idempotency.once(req, key, digest)
    try:
        return context.inbox.call(Submit(specs, caller(req), once))
    except ParentError as error:
        raise invalid(f"{pointer(error.place)}/after/{error.entry}", error) from None


def read_content(req: falcon.Request, digest: hashlib._Hash) -> object:
    """The JSON of a submit's body, which is added to the digest. Raises a 400 or 413 Problem."""
    body = read_bytes(req, bytes_max=JOBS_BODY_BYTES_MAX)
    digest.update(body)
    return parse(body)


def check_count_of_after(count: int) -> None:
    """Raises a 413 Problem for too many entries of `after` in a request."""
    if count > AFTER_PER_SUBMIT_MAX:
        sentence = f"One request takes at most {AFTER_PER_SUBMIT_MAX} entries of after, not {count}"
        raise Problem(413, "too_many", f"{sentence}: put a job between those that all wait for the same jobs")


def _check_after(specs: Sequence[JobSpec], pointer: Callable[[int], str]) -> None:
    """Raises a 400 Problem for a job that waits for a later one of its request, and 413 for too many entries."""
    check_count_of_after(sum(len(spec.after) for spec in specs))
    for place, spec in enumerate(specs):
        if spec.after and (fault := misplaced(spec.after, place + 1)) is not None:
            raise invalid(f"{pointer(place)}/after/{fault[0]}", fault[1])


def demand_stored(context: Context, done: Submitted) -> None:
    """Raises a 410 Problem unless all jobs of an earlier request are kept."""
    if context.reader.count_jobs_between(done.first, done.last) < done.jobs:
        raise Problem(410, "purged", "What this Idempotency-Key has submitted was done, and is not kept any more")


@dataclass(frozen=True, slots=True)
class _Stored:
    """The jobs of an earlier submit."""

    reader: Reader
    done: Submitted

    @property
    def ids(self) -> tuple[JobId, JobId]:
        return self.done.first, self.done.last

    def jobs(self) -> Generator[Job]:
        return self.reader.jobs_between(self.done.first, self.done.last, self.done.jobs)


class JobItem:
    """/jobs/{id}"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        given = parameters(req, "wait")
        number = job_id(job)
        found = self._context.live.hold(
            lambda: found_job(self._context.reader.job(number)),
            lambda found: found.status in TERMINAL,
            duration_ms(given, "wait", WAIT_MS_MAX) / 1000,
            of_job(number),
        )
        answer_state(resp, self._state(found))

    on_head = on_get

    def on_patch(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        why = reason(parameters(req, "reason"))
        number = job_id(job)
        try:
            edit = job_edit(read(req, EditBody))
        except SpecError as error:
            _refuse(error, "#")
        answer_state(resp, self._context.inbox.call(EditJob(number, edit, caller(req), why)))

    def on_delete(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        given = parameters(req, "cancel", "only", "reason")
        number, why, cancel = job_id(job), reason(given), flag(given, "cancel")
        match given.get("only"):
            case None | "ended" as only:
                state = self._context.inbox.call(Delete(number, caller(req), why, cancel, only is not None))
            case "schedule":
                state = self._context.inbox.call(EndSchedule(number, caller(req), cancel, why))
            case _:
                raise invalid("only", "ended or schedule")
        answer_state(resp, state)

    def _state(self, job: Job) -> JobState:
        reader = self._context.reader
        last = answers.telling_run(reader, job)
        output = None if last is None else reader.output(last.run_id)
        return JobState(job, last, output, why(reader, job, last))


class JobRuns:
    """/jobs/{id}/runs"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        given = parameters(req, "limit", "before", "task")
        limit = number(given, "limit", PAGE_ROWS_DEFAULT, 1, PAGE_ROWS_MAX)
        before = RunId(number(given, "before", 0, 1, INTEGER_MAX)) if "before" in given else None
        found = found_job(self._context.reader.job(job_id(job)))
        if (tasks := tasks_of(found, given)) is None:
            runs = self._context.reader.runs(found.job_id, limit + 1, before)
        else:
            if tasks[1] - tasks[0] >= PAGE_ROWS_MAX:
                raise invalid("task", f"at most {PAGE_ROWS_MAX} tasks: GET /jobs/{found.job_id}/tasks lists all")
            runs = self._context.reader.task_runs(found.job_id, tasks, limit + 1, before)
        # Without logs: a thousand runs may have written a gigabyte. /runs/{id} has them.
        page = self._context.pages.fill(runs, lambda run: views.run(run, None), limit)
        path = f"/jobs/{found.job_id}/runs"
        answer_page(resp, page, address(path, given, before=page.last.run_id) if page.last else "")

    on_head = on_get


class JobLog:
    """/jobs/{id}/log: the output of its last run; and the report of a polling worker about its run."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        given = parameters(req, *LOG, "task")
        last = last_run(self._context, job, given)
        if last is None:
            what = f"Task {given['task']} of job {job}" if "task" in given else f"Job {job}"
            raise Problem(404, "unknown_run", f"{what} has not had a run yet")
        RunLog(self._context).answer(resp, given, last)

    on_head = on_get

    def on_post(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        parameters(req)
        number = job_id(job)
        body = read(req, LogBody, bytes_max=LOG_BODY_BYTES_MAX)
        if body.status == "success" and body.exit_code not in (None, 0):
            raise invalid("#/exit_code", "success means 0: send status failed, or no exit_code")
        logs = (body.logs or "").encode()
        report = Report(
            job_id=number,
            worker_id=worker_name(req, body.worker_id),
            status=RunStatus(body.status),
            run_id=None if body.run_id is None else RunId(body.run_id),
            logs=cut(Stream(head=logs, total=len(logs)), OUTPUT_BYTES_MAX),
            exit_code=body.exit_code,
            artifacts=_artifacts(body),
        )
        state = self._context.inbox.call(report)
        answer(resp, views.run(state.run, state.output))


def _artifacts(body: LogBody) -> tuple[File, ...]:
    """The artifacts in a report on the end of a run. Raises a 400 Problem."""
    if body.artifacts and body.status == "running":
        raise invalid("#/artifacts", "they come with the end of a run")
    try:
        return read_files("artifacts", body.artifacts or {})
    except SpecError as error:
        _refuse(error, "#")


def answer_state(resp: falcon.Response, state: JobState) -> None:
    """Answer with a job and its last run, and why it waits."""
    view = views.job(state.job)
    if state.last is not None:
        view["last_run"] = views.run(state.last, state.output)
    if state.cause is not None:
        view["why"] = shapes.Why(state.cause.code, state.cause.detail)
    answer(resp, view)


def last_run(context: Context, job: str, given: Mapping[str, str]) -> Run | None:
    """The last run of a job, or with the parameter `task` of that task. Raises a Problem."""
    found = found_job(context.reader.job(job_id(job)))
    if (tasks := tasks_of(found, given)) is None:
        return context.reader.last_run(found.job_id)
    if tasks[0] != tasks[1]:
        raise invalid("task", "the index of a single task, such as 3")
    with closing(context.reader.task_runs(found.job_id, tasks, 1)) as runs:
        return next(runs, None)


def found_job(job: Job | None) -> Job:
    """A job that exists. Raises a 404 Problem."""
    if job is None:
        raise Problem(404, "unknown_job", "Job not found")
    return job


def _many(items: list[object], seal: Seal) -> tuple[JobSpec, ...]:
    if not items:
        raise Problem(400, "invalid_request", "an array of jobs has at least one")
    if len(items) > JOBS_PER_SUBMIT_MAX:
        raise Problem(413, "too_many", f"One request takes at most {JOBS_PER_SUBMIT_MAX} jobs, not {len(items)}")
    return tuple(read_job(item, f"#/{place}", seal) for place, item in enumerate(items))


def _demand_lines(job: dict[str, object]) -> None:
    """Raises a 400 Problem for a job that can't be the first of some lines. Most faults are found here."""
    if "each" in job:
        raise invalid("#/each", "in a body of lines, the entries are the lines after the first: leave each out")
    convert(job, JobBody, "#")


def read_job(item: object, pointer: str, seal: Seal, entries: Entries | None = None) -> JobSpec:
    """A job of a body. `pointer` is its place there. Raises a 400 or 503 Problem."""
    body = convert(item, JobBody, pointer)
    try:
        return job_spec(body, seal, entries)
    except PrivateFileError as error:
        log.error("a secret can't be kept: %s", error)
        raise Problem(503, "no_secrets", "The scheduler's key for secrets can't be used; its log says why") from None
    except SpecError as error:
        _refuse(error, pointer)


def _refuse(error: SpecError, pointer: str) -> NoReturn:
    """Raises the 400 Problem of an invalid job. `pointer` is its place in the body."""
    if not error.field:
        raise Problem(400, "invalid_request", error.detail, errors=((pointer, error.detail),)) from None
    where = f"{pointer}/{error.field}"
    required = error.detail == REQUIRED
    # Of a single job as the first clients know it.
    named = error.detail if required and pointer == "#" else f"{dotted(where)}: {error.detail}"
    detail = "required" if required else error.detail
    raise Problem(400, "invalid_request", named, errors=((where, detail),)) from None
