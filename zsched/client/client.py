"""The Python client: submit jobs to a scheduler, wait for them, read what they wrote. Requests are http.py's.

Used by people's programs as `zsched.Client`, and by the commands of `zsched`. It keeps connections open, and any number
of threads may share one Client. Nothing is done twice: reads are repeated, and submits, which have a key each.

    with zsched.Client("http://localhost:8080") as client:
        job = client.submit("make test", name="ci", timeout="10m")
        if job.wait().status != "success":
            print(job.exit_code, job.logs("stderr"))
"""

from __future__ import annotations

import json
import math
import os
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Literal, NamedTuple, Self, TypedDict, Unpack
from urllib.parse import quote

from zsched.client import many
from zsched.client.arguments import check, check_fields, check_items
from zsched.client.http import (
    HOLD_S,
    LOOK_FACTOR,
    LOOK_S_MAX,
    LOOK_S_MIN,
    PATIENCE_S,
    Answer,
    ClientError,
    NotFound,
    Refused,
    Unreachable,
    Untrusted,
    Wire,
)
from zsched.client.many import Action, Group, WaitTimeout
from zsched.model import spans
from zsched.model.limits import CALL_S_MAX, JOBS_PER_SUBMIT_MAX, PAGE_ROWS_MAX, SUBMIT_BYTES_MAX, SUBMIT_VALUES_MAX
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
    "Fields",
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

# Of a command, what makes the name of a job that has no other.
NAME_CHARS: Final = 60

Stream = Literal["stdout", "stderr"]
View = dict[str, Any]


class Chunk(NamedTuple):
    """A piece of a run's output: the bytes from `offset` on, where to go on, and whether that is the stream's end."""

    offset: int
    data: bytes
    next: int
    end: bool


class PolicyFields(TypedDict, total=False):
    """How long a job's run may take, and what becomes of it when something goes wrong. Durations: `10m`, or seconds."""

    timeout: str | float | None
    kill_grace: str | float | None
    retries: int | None
    backoff: Mapping[str, str | float] | None
    on_lost: Literal["requeue", "fail"] | None
    on_disconnect: Literal["continue", "stop"] | None
    crash_limit: int | Literal["never"] | None


class Fields(PolicyFields, total=False):
    """What may be said of a job besides its command, as docs/rest.md describes it."""

    name: str | None
    schedule: str | None
    run_now: bool
    user: str | None
    env: Mapping[str, str] | None
    secret_env: Mapping[str, str] | None


class Changes(TypedDict, total=False):
    """What can be changed of a recurring job."""

    name: str
    command: str
    schedule: str
    timeout: str | float | None


class Job:
    """A job by the scheduler's last answer. Its fields stay the same until `refresh`, `wait`, `cancel` or a change."""

    def __init__(self, client: Client, view: View) -> None:
        self._client = client
        self.view = view

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.status}: {self.name!r}>"

    @property
    def id(self) -> int:
        """The job's number."""
        return int(self.view["id"])

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.view["name"])

    @property
    def command(self) -> str:
        """What sh runs."""
        return str(self.view["command"])

    @property
    def status(self) -> str:
        """One of pending, running, success, failed, cancelled."""
        return str(self.view["status"])

    @property
    def done(self) -> bool:
        """Whether it has ended, one way or another."""
        return self.status not in ("pending", "running")

    @property
    def schedule(self) -> str | None:
        """Its five cron fields; None for a job that runs once."""
        fields: str | None = self.view.get("schedule")
        return fields

    @property
    def run(self) -> View:
        """Its last run as REST shows it; empty when none is known."""
        run: View = self.view.get("last_run") or {}
        return run

    @property
    def exit_code(self) -> int | None:
        """The exit code of its last run; None when that ended otherwise, or not yet."""
        code: int | None = self.run.get("exit_code")
        return code

    @property
    def signal(self) -> int | None:
        """The number of the signal that ended its last run, if one did."""
        number: int | None = self.run.get("signal")
        return number

    @property
    def reason(self) -> str | None:
        """Why its last run ended: `exit`, `signal`, `timeout` and others that docs/rest.md lists."""
        reason: str | None = self.run.get("reason")
        return reason

    def refresh(self, patience_s: float = 0.0, hold_s: float = 0.0) -> Self:
        """Ask the scheduler again. It may hold its answer for up to hold_s, until the job has ended."""
        self.view = self._client.view(self.id, patience_s, hold_s)
        return self

    def wait(self, timeout: float | None = None) -> Self:
        """Return when the job has ended, whichever way. Raises WaitTimeout after `timeout` seconds."""
        check("timeout", timeout, float | None)
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        pause_s = LOOK_S_MIN
        while True:
            begin = time.monotonic()
            if self.refresh(PATIENCE_S, max(0.0, min(HOLD_S, deadline - begin))).done:
                return self
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise WaitTimeout(f"job {self.id} had not ended after {timeout:g} s")
            # A scheduler that holds no more answers is asked less often.
            pause_s = min(pause_s * LOOK_FACTOR, LOOK_S_MAX)
            time.sleep(min(pause_s, left_s))

    def logs(self, stream: Stream = "stdout") -> str:
        """What its last run wrote, as far as it is known and kept; what is no UTF-8 is replaced."""
        if not self.run:
            self.refresh()
        return self._client.log(self.run["run_id"], stream).decode(errors="replace") if self.run else ""

    def cancel(self) -> Self:
        """Cancel what is pending or running of it. Raises Refused with code `finished` when nothing is."""
        return self._change("POST", "/cancel")

    def pause(self) -> Self:
        """Stop the fires of a recurring job; a live run goes on. Raises Refused with code `no_schedule` for a job
        without schedule, `schedule_ended` for one that has ended.
        """
        return self._change("POST", "/pause")

    def resume(self) -> Self:
        """Let a paused job fire again, next at the first time from now. Raises as `pause` does."""
        return self._change("POST", "/resume")

    def end(self, *, cancel: bool = False) -> Self:
        """End the schedule of a recurring job for good, and with `cancel` its live run. Raises Refused with code `live`
        while a run is live and `cancel` is not given, `no_schedule` for a job without schedule.
        """
        return self._change("DELETE", "?cancel=1" if cancel else "")

    def edit(self, **changes: Unpack[Changes]) -> Self:
        """Change a recurring job, for the runs that a worker gets from now on. A `timeout` of None removes the limit;
        what is not given stays. Raises as `pause` does.
        """
        check_fields(changes, Changes)
        return self._change("PATCH", "", changes)

    def _change(self, method: str, call: str, body: object = None) -> Self:
        """Ask for a change; the answer is the job after it."""
        self.view = self._client.ask(method, f"/jobs/{self.id}{call}", body).json()
        return self


class Client:
    """A scheduler's REST. A context: leaving it closes its connections."""

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        """`url` is `http://HOST:PORT`, `https://HOST` or `unix:/PATH` of a scheduler's socket. Without it ZSCHED_URL
        counts, then the socket of a scheduler on this host, then http://localhost:8080. Without `token` ZSCHED_TOKEN
        counts, then the file of a token. An empty token is none. Connects at the first call.

        Raises ClientError for what is no URL, and for a token that can't be used. A call raises Untrusted, and sends
        nothing, where another user of this host listens; docs/security.md says who is trusted.
        """
        check("url", url, str | None)
        check("token", token, str | None)
        self._wire = Wire(url, token)
        self.url = self._wire.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are not in use; a later call opens a new one."""
        self._wire.close()

    def submit(
        self,
        command: str,
        *,
        idempotency_key: str | None = None,
        **fields: Unpack[Fields],
    ) -> Job:
        """Submit a job; when this returns it is on the scheduler's disk. `command` is a line for sh.

        When the answer is lost, or the scheduler can't store now, it is sent again for a minute, and stored once by the
        key, a random one unless given. With the same key the same job can be submitted again within seven days: it is
        the first one that is returned. Raises Refused with code `idempotency_key_reused` for another job.
        """
        check_fields(fields, Fields)
        return Job(self, self._submit(spec(command, **fields), idempotency_key).json())

    def map(self, command: str, inputs: Iterable[object], **fields: Unpack[Fields]) -> list[Job]:
        """Submit one job for each input, in order: `{}` in the command is the input, quoted for sh.

        What fits one request is stored as a whole or not at all; more than 10,000 jobs are several requests.
        """
        check("command", command, str)
        check_items("inputs", inputs)
        check_fields(fields, Fields)
        commands = (command.replace("{}", shlex.quote(str(one))) for one in inputs)
        bodies = [spec(line, **fields) for line in commands]
        return [job for batch in batches(bodies) for job in self.submit_all(batch)]

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
            # A token that may submit need not be allowed to read. The numbers of one submit follow one another.
            missing = enumerate(bodies[len(views) :], int(views[0]["id"]) + len(views))
            views += [
                {"id": number, "name": body["name"], "command": body["command"], "status": "pending"}
                for number, body in missing
            ]
        return [Job(self, view) for view in views]

    def _submit(self, body: object, key: str | None) -> Answer:
        check("idempotency_key", key, str | None)
        # As secrets.token_hex, whose import takes longer than this module's.
        key = os.urandom(16).hex() if key is None else key
        return self.ask("POST", "/jobs", body, patience_s=PATIENCE_S, key=key)

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
            raise NotFound(error.status, error.code, f"there is no job {job_id}") from None
        return view

    def jobs(
        self,
        status: str | None = None,
        limit: int | None = None,
        patience_s: float = 0.0,
        owner: str | None = None,
    ) -> Iterator[Job]:
        """Jobs, newest first, without their runs; asked for page by page as they are taken. `owner`: those of
        `user:NAME` or `token:NAME`, or `me` for the caller's own.
        """
        check("status", status, str | None)
        check("owner", owner, str | None)
        check("limit", limit, int | None)
        if limit is not None and limit < 0:
            raise ValueError(f"invalid limit {limit}: use 0 or more")
        filters = {"status": status, "owner": owner}
        chosen = "".join(f"&{name}={quote(value, safe='')}" for name, value in filters.items() if value)
        rows = PAGE_ROWS_MAX if limit is None else min(PAGE_ROWS_MAX, limit)
        found = islice(self.rows(f"/jobs?limit={rows}{chosen}", patience_s), limit)
        return (Job(self, view) for view in found)

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
            # Its answer is held, and brings the job itself.
            yield from (self._job(job).wait(timeout) for job in known.values())
            return
        for _, ended in self.ended(spans.of_numbers(known), timeout):
            for number in ended:
                yield self._job(known[number]).refresh(PATIENCE_S)

    def _job(self, job: Job | int) -> Job:
        return Job(self, {"id": job, "status": "pending"}) if isinstance(job, int) else job

    def wait(self, jobs: Iterable[Job | int], timeout: float | None = None) -> dict[int, str]:
        """Return when all of the jobs have ended, with the status of each by its number.

        Raises WaitTimeout after `timeout` seconds, NotFound. A failed job is no error.
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
                found = self.jobs(state, owner=owner)
                jobs |= spans.of_numbers(job.id for job in found if job.schedule is None)
        return jobs

    def cancel(self, jobs: Iterable[Job | int]) -> dict[str, Group]:
        """Cancel many jobs by one call. Returns what became of them: `done`; `ending` while workers end their runs;
        `finished` for those that had ended before; `not_owner`; `unknown_job`. Empty groups are left out.
        """
        return self.bulk("cancel", _numbers(jobs))

    def bulk(
        self,
        action: Action,
        jobs: Spans | None,
        *,
        owner: str | None = "me",
        status: str | None = None,
        cancel: bool = False,
    ) -> dict[str, Group]:
        """Do something to many jobs, as POST /jobs/bulk of docs/rest.md does. `jobs` None: all jobs of `owner`, and
        with `owner` None of all owners. Repeated for a minute when the answer is lost; what had been done by then is
        counted as `finished`.
        """
        check("action", action, Action)
        check("jobs", jobs, Spans | None)
        check("owner", owner, str | None)
        check("status", status, str | None)
        return many.bulk(self.ask, action, jobs, owner, status, cancel=cancel)

    def run(self, run_id: int) -> View:
        """A run as REST shows it. Raises NotFound."""
        check("run_id", run_id, int)
        view: View = self.ask("GET", f"/runs/{run_id}").json()
        return view

    def log(self, run_id: int, stream: Stream = "stdout") -> bytes:
        """What a run wrote to a stream, as far as it is known and kept; a line marks where something is left out."""
        check("run_id", run_id, int)
        check("stream", stream, Stream)
        return self.ask("GET", f"/runs/{run_id}/log?stream={stream}").body

    def read(self, run_id: int, stream: Stream, offset: int = 0, hold_s: float = 0.0, patience_s: float = 0.0) -> Chunk:
        """What is known of a stream from a byte on; while that is nothing, the scheduler waits for up to hold_s.

        The chunk begins later than asked for where bytes were not kept.
        """
        check("run_id", run_id, int)
        check("stream", stream, Stream)
        check("offset", offset, int)
        wait = f"&wait={hold_s:g}s" if hold_s else ""
        path = f"/runs/{run_id}/log?stream={stream}&offset={offset}{wait}"
        headers, body = self.ask("GET", path, patience_s=patience_s, hold_s=hold_s)
        begin = int(headers.get("Zsched-Offset", offset))
        following = int(headers.get("Zsched-Next", begin + len(body)))
        return Chunk(begin, body, following, headers.get("Zsched-End", "true") == "true")

    def follow(self, run_id: int, stream: Stream, offset: int = 0) -> Iterator[Chunk]:
        """The chunks of a stream as they come, until its end. Outlives a scheduler that starts again."""
        pause_s = 0.0
        while True:
            begin = time.monotonic()
            chunk = self.read(run_id, stream, offset, HOLD_S, PATIENCE_S)
            yield chunk
            if chunk.end:
                return
            offset = chunk.next
            # A scheduler that holds no more answers says so by an empty one: it is asked less often.
            early = not chunk.data and time.monotonic() - begin < LOOK_S_MAX
            pause_s = min(max(LOOK_S_MIN, pause_s * LOOK_FACTOR), LOOK_S_MAX) if early else 0.0
            time.sleep(pause_s)

    def workers(self) -> list[View]:
        """All workers that ever registered, as REST shows them."""
        return list(self.rows("/workers"))

    def foreign(self) -> list[View]:
        """What workers hold for other databases, as REST shows it."""
        return list(self.rows("/foreign"))

    def stats(self) -> View:
        """How many tasks and workers there are, by status."""
        view: View = self.ask("GET", "/stats").json()
        return view

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        patience_s: float = 0.0,
        hold_s: float = 0.0,
        key: str | None = None,
        repeatable: bool = False,
    ) -> Answer:
        """One request; any path of docs/rest.md. `key`: the Idempotency-Key of a submit. `repeatable`: doing it twice
        does no harm, as with every GET. Raises Unreachable, NotFound, Refused.

        A read that finds no scheduler, or one that can't answer now, is tried again for patience_s. So is a submit with
        a key that may have been done, or can't be stored now; not one to an address where nobody has ever listened.
        """
        check("method", method, str)
        check("path", path, str)
        check("key", key, str | None)
        repeatable |= method == "GET"
        assert repeatable or key is not None or not patience_s
        given_up = time.monotonic() + patience_s
        pause_s = LOOK_S_MIN
        while True:
            try:
                return self._wire.send(method, path, body, CALL_S_MAX + hold_s, key)
            except (Unreachable, Refused) as error:
                met = self._wire.met
                again = _may_pass(error, met=met) if repeatable else _may_be_done(error, met=met)
                if key is not None and isinstance(error, Refused):
                    pause_s = max(pause_s, error.retry_after_s or 0.0)
                if not again or time.monotonic() + pause_s > given_up:
                    raise
            time.sleep(pause_s)
            pause_s = min(pause_s * LOOK_FACTOR, LOOK_S_MAX)


def _numbers(jobs: Iterable[Job | int]) -> Spans:
    """The numbers of jobs that are given as such or by number."""
    check_items("jobs", jobs, Job | int)
    return spans.of_numbers(job if isinstance(job, int) else job.id for job in jobs)


def spec(command: str, **fields: Unpack[Fields]) -> View:
    """A job as POST /jobs takes it. Without a name it is called by the beginning of its command.

    Raises ClientError for a command that no job can have.
    """
    check("command", command, str)
    if fault := _fault(command):
        raise ClientError(f"a command {fault}")
    # What is off or empty is as if it were not said; 0 is not.
    asked = {
        name: dict(value) if isinstance(value, Mapping) else value
        for name, value in fields.items()
        if value is not None and value is not False and value != {}
    }
    return {**asked, "name": fields.get("name") or _title(command), "command": command}


def batches(bodies: Sequence[View]) -> Iterator[Sequence[View]]:
    """Jobs in as few pieces as requests can carry, in order."""
    begin, size, values = 0, 0, 0
    for place, body in enumerate(bodies):
        length, count = len(json.dumps(body)), _values(body)
        large = size + length > SUBMIT_BYTES_MAX or values + count > SUBMIT_VALUES_MAX
        if place - begin == JOBS_PER_SUBMIT_MAX or (large and place > begin):
            yield bodies[begin:place]
            begin, size, values = place, 0, 0
        size += length
        values += count
    if begin < len(bodies):
        yield bodies[begin:]


def _values(value: object) -> int:
    """How many JSON values there are in one, with itself and the names of members."""
    if isinstance(value, Mapping):
        return 1 + len(value) + sum(map(_values, value.values()))
    return 1


def _fault(command: str) -> str:
    """Why this can't be a job's command; empty when it can."""
    if "\0" in command:
        return "can't have a NUL character"
    try:
        command.encode()
    except UnicodeEncodeError:
        return "must be UTF-8"
    return ""


def _title(command: str) -> str:
    line = " ".join(command.split())
    return line if len(line) <= NAME_CHARS else line[: NAME_CHARS - 1] + "…"


def _may_pass(error: Unreachable | Refused, *, met: bool) -> bool:
    """Whether a failed read may succeed later. An untrusted server may have the port of a scheduler that is
    down for a moment; without a scheduler before it, the address or the set-up is wrong.
    """
    if isinstance(error, Untrusted):
        return met
    return isinstance(error, Unreachable) or error.status in (429, 503)


def _may_be_done(error: Unreachable | Refused, *, met: bool) -> bool:
    """Whether to send a failed submit again: it may have been done, or the answer has Retry-After. Where no server has
    ever listened, the address is wrong. A 429 is not repeated: the caller has to know that there is no room.
    """
    if isinstance(error, Unreachable):
        return met
    return error.status == 503 and error.retry_after_s is not None
