"""The Python client: submit jobs to a scheduler, wait for them, read their output. http.py sends the requests.

Used as `zsched.Client` by programs, and by the commands of `zsched`. It keeps connections open, and threads may share
a Client. Only calls that can safely be repeated are sent again: reads, and submits, which have an idempotency key.

    with zsched.Client("http://localhost:8080") as client:
        job = client.submit("make test", name="ci", timeout="10m")
        if job.wait().status != "success":
            print(job.exit_code, job.logs("stderr"))
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Self, Unpack

from zsched.client import everywhere, lists, many, template
from zsched.client.arguments import check, check_fields, check_items
from zsched.client.fleet import Fleet
from zsched.client.http import (
    HOLD_S,
    LOOK_FACTOR,
    LOOK_S_MAX,
    LOOK_S_MIN,
    PATIENCE_S,
    REPEATABLE,
    Answer,
    ClientError,
    NotFound,
    Refused,
    Stream,
    Unreachable,
    Untrusted,
    View,
    may_be_done,
    may_pass,
)
from zsched.client.job import Changes, Job
from zsched.client.lists import EventFilters, Filters
from zsched.client.many import Action, Group, WaitTimeout
from zsched.client.outputs import Chunk, Outputs
from zsched.client.schedulers import Schedulers
from zsched.client.submission import Fields, PolicyFields, batches, spec
from zsched.model import spans
from zsched.model.limits import CALL_S_MAX, PAGE_ROWS_MAX
from zsched.model.spans import Spans

__all__ = [
    "HOLD_S",
    "LOOK_FACTOR",
    "LOOK_S_MAX",
    "LOOK_S_MIN",
    "PATIENCE_S",
    "Action",
    "Answer",
    "Changes",
    "Chunk",
    "Client",
    "ClientError",
    "EventFilters",
    "Fields",
    "Filters",
    "Group",
    "Job",
    "NotFound",
    "PolicyFields",
    "Refused",
    "Stream",
    "Unreachable",
    "Untrusted",
    "View",
    "WaitTimeout",
    "batches",
    "spec",
]


class Client(Fleet, Outputs):
    """The REST of a scheduler, or of several of one database. A context: leaving it closes its connections."""

    def __init__(self, url: str | Sequence[str] | None = None, token: str | None = None) -> None:
        """`url` is `http://HOST:PORT`, `https://HOST` or `unix:/PATH` of a socket; or several of these, as a list or
        with commas between them. The default is ZSCHED_URL, then the socket of a scheduler on this host, then
        http://localhost:8080. The default of `token` is ZSCHED_TOKEN, then the token file; an empty text means no
        token. Connects at the first call.

        Of several schedulers, each call goes to the one that answered last. It goes on to the next one if that does
        not answer, or is not the active one. A scheduler without a sign of life for some seconds does not answer.

        Raises ClientError for an invalid URL or token. A call raises Untrusted, and sends nothing, if another user of
        this host listens; docs/security.md has the trusted users.
        """
        check("url", url, str | Sequence | None)
        if url is not None and not isinstance(url, str):
            check_items("url", url, str)
        check("token", token, str | None)
        self._schedulers = Schedulers(url, token)

    @property
    def url(self) -> str:
        """The URL of the scheduler that answered last; the first one before any answer."""
        return self._schedulers.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are not in use; a later call opens a new one."""
        self._schedulers.close()

    def submit(
        self,
        command: str | Sequence[str],
        *,
        each: Iterable[object] | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[Fields],
    ) -> Job:
        """Submit a job; when this returns it is on the scheduler's disk. `command` is a line for sh, or a list: a
        program and its arguments, executed without a shell.

        `each` has an entry for each task: a text, or a value that becomes JSON. `{}` in the command stands for it, and
        ZSCHED_ENTRY in the task's environment. With `array` alone, `{}` stands for the index, ZSCHED_TASK. A `{}`
        inside quotes is a ValueError.

        If the answer is lost, or the scheduler can't store now, the job is sent again for a minute. The
        idempotency key, by default a random one, makes the scheduler store it once. Within seven days a submit of the
        same job with the same key returns the first job. Raises Refused (`idempotency_key_reused`) for another job.
        """
        check_fields(fields, Fields)
        body = spec(command, **fields)
        if "command" in body and (each is not None or fields.get("array") is not None):
            body["command"] = template.fill(body["command"], template.INDEX if each is None else template.VARIABLE)
        if each is None:
            if "argv" in body and fields.get("array") is not None:
                template.demand_no_place(body["argv"])
            return Job(self, self._submit(body, idempotency_key).json())
        check_items("each", each)
        return self.submit_lines(body, each, idempotency_key=idempotency_key)

    def map(
        self,
        command: str | Sequence[str],
        *inputs: Iterable[object],
        idempotency_key: str | None = None,
        **fields: Unpack[Fields],
    ) -> Job:
        """Submit a job with a task for each input, in order. `{}` in the command is the input, as one argument. With
        several iterables, `{1}` is an item of the first, `{2}` one of the second, and so on.
        """
        check("command", command, str | list | tuple)
        for place, items in enumerate(inputs or (None,)):
            check_items("inputs" if len(inputs) < 2 else f"inputs[{place}]", items)
        if len(inputs) == 1:
            entries = (str(item) for item in inputs[0])
            return self.submit(command, each=entries, idempotency_key=idempotency_key, **fields)
        check("command", command, str)
        check_fields(fields, Fields)
        body = spec(command, **fields)
        body["command"] = template.for_several(body["command"], len(inputs))
        several = (template.entry_of_several([*map(str, items)]) for items in zip(*inputs, strict=True))
        return self.submit_lines(body, several, idempotency_key=idempotency_key)

    def submit_lines(self, body: View, entries: Iterable[object], *, idempotency_key: str | None = None) -> Job:
        """Submit a job as docs/rest.md describes it, with the entries of its tasks. They are never all in memory."""
        from zsched.client.entries import Lines

        with closing(Lines(body, entries)) as lines:
            return Job(self, self._submit(lines, idempotency_key).json())

    def submit_all(self, bodies: Sequence[View], *, idempotency_key: str | None = None) -> list[Job]:
        """Submit jobs as docs/rest.md describes them, all or none, at most 10,000. The key is as of `submit`."""
        check("bodies", bodies, Sequence)
        check_items("bodies", bodies, Mapping)
        answer = self._submit(list(bodies), idempotency_key)
        views: list[View] = answer.json()
        try:
            if answer.following:
                views += self.rows(answer.following, PATIENCE_S)
        except Refused as error:
            if error.code != "scope":
                raise
            # A token with the scope submit may lack read. The ids of one submit are consecutive.
            missing = enumerate(bodies[len(views) :], int(views[0]["id"]) + len(views))
            views += [
                {"id": number, "name": body["name"], **_program(body), "status": "pending"} for number, body in missing
            ]
        return [Job(self, view) for view in views]

    def submit_each_worker(
        self, command: str | Sequence[str], *, idempotency_key: str | None = None, **fields: Unpack[Fields]
    ) -> dict[str, Job]:
        """Submit one job for each active worker that serves its queue and has its labels, all or none. Returns them by
        worker. The key is as of `submit`. Raises ClientError if there is no such worker.
        """
        check_fields(fields, Fields)
        return everywhere.submit(self, spec(command, **fields), idempotency_key)

    def submit_flow(self, jobs: Mapping[str, View], *, idempotency_key: str | None = None) -> dict[str, Job]:
        """Submit named jobs that wait for each other by `after`, all or none: docs/rest.md, POST /flows. Returns them
        by name. The key is as of `submit`.
        """
        check("jobs", jobs, Mapping)
        answer: View = self._submit({"jobs": dict(jobs)}, idempotency_key, "/flows").json()
        stored = {"status": "pending", "flow": answer["flow"]}
        return {
            name: Job(self, {"id": number, "name": name, **_program(jobs[name]), **stored})
            for name, number in answer["jobs"].items()
        }

    def _submit(self, body: object, key: str | None, path: str = "/jobs") -> Answer:
        check("idempotency_key", key, str | None)
        # secrets.token_hex does the same, but its import takes longer than this module.
        key = os.urandom(16).hex() if key is None else key
        return self.ask("POST", path, body, patience_s=PATIENCE_S, key=key)

    def get(self, job_id: int) -> Job:
        """The job, with its last run. Raises NotFound."""
        return Job(self, self.view(job_id))

    def view(self, job_id: int, patience_s: float = 0.0, hold_s: float = 0.0) -> View:
        """The job as REST shows it, at once or when it has ended, but no later than after hold_s. Raises NotFound."""
        check("job_id", job_id, int)
        wait = f"?wait={hold_s:.3f}s" if hold_s else ""
        try:
            view: View = self.ask("GET", f"/jobs/{job_id}{wait}", patience_s=patience_s, hold_s=hold_s).json()
        except NotFound as error:
            raise NotFound(error.status, error.code, f"unknown job {job_id}") from None
        return view

    def jobs(
        self,
        status: str | None = None,
        limit: int | None = None,
        patience_s: float = 0.0,
        owner: str | None = None,
        **filters: Unpack[Filters],
    ) -> Iterator[Job]:
        """Jobs, newest first, without their runs; asked for page by page as they are taken. `owner`: those of
        `user:NAME` or `token:NAME`, or `me` for the caller's own. The other filters are those of `Filters`.
        """
        check("status", status, str | None)
        check("owner", owner, str | None)
        check("limit", limit, int | None)
        check_fields(filters, Filters)
        if limit is not None and limit < 0:
            raise ValueError(f"invalid limit {limit}: use 0 or more")
        rows = PAGE_ROWS_MAX if limit is None else min(PAGE_ROWS_MAX, limit)
        path = f"/jobs?limit={rows}{lists.query(status=status, owner=owner, **filters)}"
        return (Job(self, view) for view in islice(self.rows(path, patience_s), limit))

    def events(self, *, after: int = 0, follow: bool = False, **filters: Unpack[EventFilters]) -> Iterator[View]:
        """Events with a number above `after`, oldest first. `follow`: further ones as they happen, without end."""
        check("after", after, int)
        check("follow", follow, bool)
        check_fields(filters, EventFilters)
        return lists.events(self.ask, after, filters, follow=follow)

    def rows(self, path: str, patience_s: float = 0.0) -> Iterator[View]:
        """The rows of a list of docs/rest.md from this path on; asked for page by page as they are taken."""
        check("path", path, str)
        following: str | None = path
        while following:
            answer = self.ask("GET", following, patience_s=patience_s)
            yield from answer.json()
            following = answer.following

    def as_completed(self, jobs: Iterable[Job | int], timeout: float | None = None) -> Iterator[Job]:
        """Each of the jobs, given as such or by number, when it has ended, with its last run.

        Outlives a scheduler that starts again. Raises WaitTimeout when not all have ended after `timeout` seconds.
        """
        check("timeout", timeout, float | None)
        check_items("jobs", jobs, Job | int)
        known = {job if isinstance(job, int) else job.id: job for job in jobs}
        if len(known) == 1:
            # The scheduler holds the answer and returns the job itself.
            yield from (self._job(job).wait(timeout) for job in known.values())
            return
        for _, ended in self.ended(spans.of_numbers(known), timeout):
            for number in ended:
                yield self._job(known[number]).refresh(PATIENCE_S)

    def _job(self, job: Job | int) -> Job:
        return Job(self, {"id": job, "status": "pending"}) if isinstance(job, int) else job

    def wait(self, jobs: Iterable[Job | int], timeout: float | None = None) -> dict[int, str]:
        """Return when all of the jobs have ended, with the status of each by its number.

        Raises WaitTimeout after `timeout` seconds, NotFound. A failed job raises nothing.
        """
        return {number: status for status, ended in self.ended(_numbers(jobs), timeout) for number in ended}

    def ended(self, jobs: Spans, timeout: float | None = None) -> Iterator[tuple[str, Spans]]:
        """The jobs by status, as they end, each job once. Raises as `wait` does."""
        check("jobs", jobs, Spans)
        check("timeout", timeout, float | None)
        return many.ended(self.ask, jobs, timeout)

    def unfinished(self, owner: str | None = "me", status: str | None = None) -> Spans:
        """The jobs of an owner that have not ended, None for those of all owners, without recurring jobs. `status`:
        only those that are `pending`, or `running`.
        """
        jobs = Spans()
        for state, group in many.unfinished(self.ask, owner).items():
            if status not in (None, state):
                continue
            if group.size == len(group.jobs):
                jobs |= group.jobs
            else:
                unlisted = self.jobs(state, owner=owner)
                jobs |= spans.of_numbers(job.id for job in unlisted if job.schedule is None)
        return jobs

    def cancel(self, jobs: Iterable[Job | int], reason: str = "") -> dict[str, Group]:
        """Cancel many jobs by one call. Returns them by outcome: `done`; `ending` while workers end their runs;
        `finished` if they had ended before; `not_owner`; `unknown_job`. Empty groups are left out.
        """
        return self.bulk("cancel", _numbers(jobs), reason=reason)

    def bulk(
        self,
        action: Action,
        jobs: Spans | None,
        *,
        owner: str | None = "me",
        status: str | None = None,
        cancel: bool = False,
        reason: str = "",
    ) -> dict[str, Group]:
        """Apply an action to many jobs by POST /jobs/bulk (docs/rest.md). `jobs` None: all jobs of `owner`, or of all
        owners if that is None. Repeated for a minute when the answer is lost; jobs that were changed by then are
        counted as `finished`.
        """
        check("action", action, Action)
        check("jobs", jobs, Spans | None)
        check("owner", owner, str | None)
        check("status", status, str | None)
        return many.bulk(self.ask, action, jobs, owner, {"status": status, "cancel": cancel, "reason": reason})

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        patience_s: float = 0.0,
        hold_s: float = 0.0,
        key: str | None = None,
    ) -> Answer:
        """One request; any path of docs/rest.md. `key`: the Idempotency-Key of a submit. Raises Unreachable, NotFound,
        Refused.

        A repeatable call (every GET, and those of REPEATABLE) is repeated for patience_s while no scheduler answers, or
        none can. So is a submit with a key that may have been done, or that can't be stored now, unless no server has
        ever listened at the address.
        """
        check("method", method, str)
        check("path", path, str)
        check("key", key, str | None)
        repeatable = method == "GET" or path in REPEATABLE
        assert repeatable or key is not None or not patience_s
        may_repeat = repeatable or key is not None
        given_up = time.monotonic() + patience_s
        pause_s = LOOK_S_MIN
        while True:
            try:
                return self._schedulers.send(method, path, body, CALL_S_MAX + hold_s, key, again=may_repeat)
            except (Unreachable, Refused) as error:
                met = self._schedulers.met
                again = may_pass(error, met=met) if repeatable else may_be_done(error, met=met)
                if key is not None and isinstance(error, Refused):
                    pause_s = max(pause_s, error.retry_after_s or 0.0)
                if not again or time.monotonic() + pause_s > given_up:
                    raise
            time.sleep(pause_s)
            pause_s = min(pause_s * LOOK_FACTOR, LOOK_S_MAX)


def _numbers(jobs: Iterable[Job | int]) -> Spans:
    """The numbers of jobs that are given as Job or by number."""
    check_items("jobs", jobs, Job | int)
    return spans.of_numbers(job if isinstance(job, int) else job.id for job in jobs)


def _program(body: View) -> View:
    """What a job executes, as its view shows it."""
    return {"command": body.get("command") or shlex.join(body["argv"])}
