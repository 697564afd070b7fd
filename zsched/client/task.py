"""A task of an array in the Python client: its fields by the scheduler's last answer, and the calls about it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote

from zsched.client.arguments import check
from zsched.client.http import LOOK_FACTOR, LOOK_S_MAX, LOOK_S_MIN, PATIENCE_S, NotFound, Stream, View
from zsched.client.many import WaitTimeout
from zsched.model.limits import PAGE_ROWS_MAX

if TYPE_CHECKING:
    from zsched.client.client import Client

ENDED: Final = ("success", "failed", "cancelled")


class Task:
    """A task by the scheduler's last answer. Its fields stay the same until `refresh`, `wait` or an act."""

    def __init__(self, client: Client, job_id: int, view: View) -> None:
        self._client = client
        self.job_id = job_id
        self.view = view

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.status}>"

    @property
    def id(self) -> str:
        """The job's number and the index, as commands take it: `12.3`."""
        return f"{self.job_id}.{self.index}"

    @property
    def index(self) -> int:
        """Its index in the array."""
        return int(self.view["task"])

    @property
    def entry(self) -> str | None:
        """Its entry; None in an array without entries."""
        entry: str | None = self.view.get("entry")
        return entry

    @property
    def status(self) -> str:
        """One of pending, running, success, failed, cancelled."""
        return str(self.view["status"])

    @property
    def done(self) -> bool:
        """Whether it has ended, with any status."""
        return self.status in ENDED

    @property
    def run(self) -> View:
        """Its last run as REST shows it; empty if it has none."""
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
        """Why it ended: the reason of its last run, or that of its end without a run."""
        reason: str | None = self.run.get("reason") or self.view.get("reason")
        return reason

    def refresh(self, patience_s: float = 0.0) -> Self:
        """Ask the scheduler again. Raises NotFound."""
        self.view = find(self._client, self.job_id, self.index, patience_s).view
        return self

    def wait(self, timeout: float | None = None) -> Self:
        """Return when it has ended, with any status. Raises WaitTimeout after `timeout` seconds."""
        check("timeout", timeout, float | None)
        deadline, pause_s = math.inf if timeout is None else time.monotonic() + timeout, LOOK_S_MIN
        while not self.refresh(PATIENCE_S).done:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise WaitTimeout(f"task {self.id} had not ended after {timeout:g} s")
            time.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * LOOK_FACTOR, LOOK_S_MAX)
        return self

    def logs(self, stream: Stream = "stdout") -> str:
        """The known output of its last run. Invalid UTF-8 is replaced."""
        if not self.run:
            self.refresh()
        return self._client.log(self.run["run_id"], stream).decode(errors="replace") if self.run else ""

    def cancel(self, reason: str = "") -> Self:
        """Cancel it. Raises Refused with code `finished` if it has ended. `reason` is stored, as of the other acts."""
        return self._act("cancel", reason)

    def hold(self, reason: str = "") -> Self:
        """Let no run of it start; a running one goes on."""
        return self._act("hold", reason)

    def release(self, reason: str = "") -> Self:
        """Let its runs start again after a hold."""
        return self._act("release", reason)

    def rerun(self, reason: str = "") -> Self:
        """Run it again after its end. Raises Refused with code `live` if it has not ended."""
        return self._act("rerun", reason)

    def _act(self, act: str, reason: str) -> Self:
        check("reason", reason, str)
        why = f"&reason={quote(reason)}" if reason else ""
        self._client.ask("POST", f"/jobs/{self.job_id}/{act}?task={self.index}{why}")
        return self.refresh()


def find(client: Client, job_id: int, index: int, patience_s: float = 0.0) -> Task:
    """A task by its index. Raises NotFound."""
    after = f"after={index - 1}&" if index > 0 else ""
    rows = client.ask("GET", f"/jobs/{job_id}/tasks?{after}limit=1", patience_s=patience_s).json()
    if not rows or rows[0]["task"] != index:
        raise NotFound(404, "unknown_task", f"job {job_id} has no task {index}")
    return Task(client, job_id, rows[0])


def rows(
    client: Client, job_id: int, status: str | None = None, *, first: int = 0, limit: int = PAGE_ROWS_MAX
) -> Iterator[Task]:
    """The tasks of a job by index, with this status if it is given; asked for page by page of `limit` as they are
    taken.
    """
    chosen = (f"&status={status}" if status else "") + (f"&after={first - 1}" if first else "")
    path = f"/jobs/{job_id}/tasks?limit={min(limit, PAGE_ROWS_MAX)}{chosen}"
    return (Task(client, job_id, view) for view in client.rows(path, PATIENCE_S))


def as_completed(client: Client, job_id: int, timeout: float | None) -> Iterator[Task]:
    """Each task of a job when it has ended. Raises WaitTimeout after `timeout` seconds."""
    deadline, pause_s = math.inf if timeout is None else time.monotonic() + timeout, LOOK_S_MIN
    seen: set[int] = set()
    while True:
        begin_s = time.monotonic()
        counts = client.view(job_id, PATIENCE_S).get("tasks") or {}
        ended = sum(counts.get(status, 0) for status in ENDED)
        news = 0
        if ended > len(seen):
            for status in filter(counts.get, ENDED):
                for task in rows(client, job_id, status):
                    if task.index not in seen:
                        seen.add(task.index)
                        news += 1
                        yield task
        if len(seen) >= counts.get("total", 0):
            return
        now_s = time.monotonic()
        if now_s >= deadline:
            raise WaitTimeout(f"{counts['total'] - len(seen)} tasks of job {job_id} had not ended after {timeout:g} s")
        # All tasks that have ended are read again: the more there are, the less often.
        pause_s = LOOK_S_MIN if news else min(pause_s * LOOK_FACTOR, LOOK_S_MAX)
        time.sleep(max(0.0, min(max(pause_s, 4 * (now_s - begin_s)), deadline - now_s)))
