"""A job in the Python client: its fields by the scheduler's last answer, and the calls about it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Self, TypedDict, Unpack
from urllib.parse import quote

from zsched.client import task, template
from zsched.client.arguments import check, check_fields
from zsched.client.http import HOLD_S, LOOK_FACTOR, LOOK_S_MAX, LOOK_S_MIN, PATIENCE_S, Stream, View
from zsched.client.many import WaitTimeout
from zsched.client.task import Task

if TYPE_CHECKING:
    from zsched.client.client import Client


class Changes(TypedDict, total=False):
    """Fields of a job that can be changed: of a recurring one, or of one that waits for a worker."""

    name: str
    command: str
    schedule: str
    tags: Sequence[str]
    priority: int
    queue: str
    deadline: str | float | None
    timeout: str | float | None
    kill_grace: str | float
    retries: int
    backoff: Mapping[str, str | float]
    retry_on: Sequence[int | str]
    crash_limit: int | Literal["never"]


class Artifact(NamedTuple):
    """A file that a run has left: its path below the scratch folder, its size, and its permission bits."""

    run_id: int
    path: str
    size: int
    mode: int


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
        """The command line for sh."""
        return str(self.view["command"])

    @property
    def status(self) -> str:
        """One of pending, running, success, failed, cancelled."""
        return str(self.view["status"])

    @property
    def done(self) -> bool:
        """Whether it has ended, with any status."""
        return self.status not in ("pending", "running")

    @property
    def schedule(self) -> str | None:
        """Its five cron fields; None for a job without schedule."""
        fields: str | None = self.view.get("schedule")
        return fields

    @property
    def run(self) -> View:
        """Its last run as REST shows it; empty if none is known."""
        run: View = self.view.get("last_run") or {}
        return run

    @property
    def exit_code(self) -> int | None:
        """The exit code of its last run; None if it ended otherwise, or not yet."""
        code: int | None = self.run.get("exit_code")
        return code

    @property
    def signal(self) -> int | None:
        """The signal that ended its last run, or None."""
        number: int | None = self.run.get("signal")
        return number

    @property
    def reason(self) -> str | None:
        """Why its last run ended: `exit`, `signal`, `timeout` and others that docs/rest.md lists."""
        reason: str | None = self.run.get("reason")
        return reason

    @property
    def counts(self) -> View | None:
        """How many tasks an array has: `total`, and of each status. None for a job that is not an array."""
        counts: View | None = self.view.get("tasks")
        return counts

    def tasks(self, status: str | None = None) -> Iterator[Task]:
        """The tasks of an array by index, all or those with a status."""
        check("status", status, str | None)
        return task.rows(self._client, self.id, status)

    def task(self, index: int) -> Task:
        """The task of an array with an index. Raises NotFound."""
        check("index", index, int)
        return task.find(self._client, self.id, index)

    def as_completed(self, timeout: float | None = None) -> Iterator[Task]:
        """Each task of an array when it has ended. Raises WaitTimeout when not all have after `timeout` seconds."""
        check("timeout", timeout, float | None)
        return task.as_completed(self._client, self.id, timeout)

    def refresh(self, patience_s: float = 0.0, hold_s: float = 0.0) -> Self:
        """Ask the scheduler again. It may hold its answer for up to hold_s, until the job has ended."""
        self.view = self._client.view(self.id, patience_s, hold_s)
        return self

    def wait(self, timeout: float | None = None) -> Self:
        """Return when the job has ended, with any status. Raises WaitTimeout after `timeout` seconds."""
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
            # A scheduler that can't hold more answers is asked less often.
            pause_s = min(pause_s * LOOK_FACTOR, LOOK_S_MAX)
            time.sleep(min(pause_s, left_s))

    def logs(self, stream: Stream = "stdout") -> str:
        """The known output of its last run. Invalid UTF-8 is replaced."""
        if not self.run:
            self.refresh()
        return self._client.log(self.run["run_id"], stream).decode(errors="replace") if self.run else ""

    def artifacts(self, run_id: int | None = None) -> list[Artifact]:
        """The artifacts of its last run, or of another one, without their contents."""
        views = self._client.ask("GET", self._artifacts(run_id)).json()
        return [Artifact(view["run_id"], view["path"], view["bytes"], int(view["mode"], 8)) for view in views]

    def artifact(self, path: str, run_id: int | None = None) -> bytes:
        """The content of an artifact of its last run, or of another one. Raises NotFound."""
        check("path", path, str)
        return self._client.ask("GET", f"{self._artifacts(run_id)}/{quote(path)}").body

    def _artifacts(self, run_id: int | None) -> str:
        check("run_id", run_id, int | None)
        return f"/jobs/{self.id}/artifacts" if run_id is None else f"/runs/{run_id}/artifacts"

    def cancel(self, reason: str = "") -> Self:
        """Cancel its pending or running runs. Raises Refused with code `finished` if it has none. `reason` is stored,
        as of the other acts.
        """
        return self._act("cancel", reason)

    def hold(self, reason: str = "") -> Self:
        """Let no run of it start; running ones go on. Raises Refused with code `finished` if it has ended."""
        return self._act("hold", reason)

    def release(self, reason: str = "") -> Self:
        """Let its runs start again after a hold."""
        return self._act("release", reason)

    def rerun(self, reason: str = "", *, failed: bool = False) -> Self:
        """Run it again after its end. Raises Refused with code `live` if it has not ended. `failed`: only the tasks of
        an array that failed; the others may still run.
        """
        check("reason", reason, str)
        check("failed", failed, bool)
        return self._change("POST", f"/rerun{_query(only='failed' if failed else '', reason=reason)}")

    def pause(self, reason: str = "") -> Self:
        """Stop the fires of a recurring job; a live run goes on. Raises Refused with code `no_schedule` for a job
        without schedule, `schedule_ended` for one that has ended.
        """
        return self._act("pause", reason)

    def resume(self, reason: str = "") -> Self:
        """Let a paused job fire again, next at the first time from now. Raises as `pause` does."""
        return self._act("resume", reason)

    def end(self, *, cancel: bool = False, reason: str = "") -> Self:
        """End the schedule of a recurring job for good, and with `cancel` its live run. Raises Refused with code `live`
        while a run is live and `cancel` is not given, `no_schedule` for a job without schedule.
        """
        check("reason", reason, str)
        return self._change("DELETE", _query(only="schedule", cancel="1" if cancel else "", reason=reason))

    def delete(self, reason: str = "") -> Self:
        """Remove it from the scheduler's database after its end. Raises Refused with code `live` if it has not ended,
        `recurring` if it has a schedule.
        """
        check("reason", reason, str)
        return self._change("DELETE", _query(only="ended", reason=reason))

    def edit(self, reason: str = "", **changes: Unpack[Changes]) -> Self:
        """Change a job, for runs dispatched from now on. A `timeout` or `deadline` of None removes it; other fields
        stay as they are. Raises Refused with code `started` for a job without schedule that a worker has or had.
        """
        check("reason", reason, str)
        check_fields(changes, Changes)
        if self.counts and "command" in changes:
            # As in a submit.
            variable = template.VARIABLE if "entries" in self.view else template.INDEX
            changes["command"] = template.fill(changes["command"], variable)
        return self._change("PATCH", _query(reason=reason), changes)

    def _act(self, act: str, reason: str) -> Self:
        check("reason", reason, str)
        return self._change("POST", f"/{act}{_query(reason=reason)}")

    def _change(self, method: str, call: str, body: object = None) -> Self:
        """Ask for a change; the answer is the job after it."""
        self.view = self._client.ask(method, f"/jobs/{self.id}{call}", body).json()
        return self


def _query(**given: str) -> str:
    """The parameters with a value, as the end of a path."""
    pairs = [f"{name}={quote(value)}" for name, value in given.items() if value]
    return f"?{'&'.join(pairs)}" if pairs else ""
