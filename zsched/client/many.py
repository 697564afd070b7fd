"""Calls on many jobs at once: wait for them, change them, find those that have not ended.

Jobs are named by spans of their numbers, so a hundred thousand of them take a few bytes here and in each request.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple, Protocol

from zsched.client.http import HOLD_S, LOOK_FACTOR, LOOK_S_MAX, LOOK_S_MIN, PATIENCE_S, Answer, ClientError, NotFound
from zsched.model import spans
from zsched.model.limits import SPANS_PER_CALL_MAX, WAIT_UNPAUSED_JOBS_MAX
from zsched.model.spans import Spans

# The pause between two polls of more than WAIT_UNPAUSED_JOBS_MAX jobs: each poll may return only some that have ended.
MANY_S: Final = 0.2


Action = Literal["cancel", "pause", "resume", "end", "hold", "release", "rerun", "delete"]

_ENDED: Final = ("success", "failed", "cancelled")


class WaitTimeout(ClientError, TimeoutError):
    """The jobs did not end within the timeout."""


class Group(NamedTuple):
    """A group of jobs: its size, and the job numbers. The scheduler truncates `jobs` if it has very many spans."""

    size: int
    jobs: Spans


class Ask(Protocol):
    """Client.ask."""

    def __call__(self, method: str, path: str, body: object, *, patience_s: float, hold_s: float = 0.0) -> Answer: ...


def ended(ask: Ask, jobs: Spans, timeout: float | None) -> Iterator[tuple[str, Spans]]:
    """Yield jobs by status as they end, each job once. Raises WaitTimeout after `timeout` seconds, NotFound."""
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    left, after, pause_s = jobs, None, 0.0
    while left:
        time.sleep(min(pause_s, max(0.0, deadline - time.monotonic())))
        begin = time.monotonic()
        hold_s = max(0.0, min(HOLD_S, deadline - begin))
        groups, following = _look(ask, left.head(SPANS_PER_CALL_MAX), after, hold_s)
        news = Spans()
        for status in _ENDED:
            if status in groups and (new := left & groups[status].jobs):
                news |= new
                yield status, new
        left -= news
        # After a poll without news all jobs are read again: the scheduler may have been restarted on an older database.
        whole = len(left.spans) <= SPANS_PER_CALL_MAX and all(
            group.size == len(group.jobs) for group in groups.values()
        )
        after = following if news and whole else None
        if left and time.monotonic() >= deadline:
            raise WaitTimeout(f"{len(left)} of the jobs had not ended after {timeout:g} s")
        if news:
            pause_s = MANY_S if len(left) > WAIT_UNPAUSED_JOBS_MAX else LOOK_S_MIN
        else:
            # A scheduler that can't hold more answers returns early.
            early = time.monotonic() - begin < LOOK_S_MAX
            pause_s = min(max(LOOK_S_MIN, pause_s * LOOK_FACTOR), LOOK_S_MAX) if early else 0.0


def _look(ask: Ask, jobs: Spans, after: int | None, hold_s: float) -> tuple[dict[str, Group], int]:
    """Poll the jobs; the answer is held until one has ended. Returns them by status, and the last event's number."""
    body: dict[str, object] = {"select": str(jobs), "timeout": hold_s}
    if after is not None:
        body["after"] = after
    view = ask("POST", "/jobs/wait", body, patience_s=PATIENCE_S, hold_s=hold_s).json()
    following = int(view.pop("next"))
    groups = _groups(view)
    if "unknown_job" in groups:
        raise NotFound(404, "unknown_job", f"unknown job {groups['unknown_job'].jobs}")
    return groups, following


def unfinished(ask: Ask, owner: str | None) -> dict[str, Group]:
    """The pending and running jobs of an owner, None for all owners, by status and without recurring jobs."""
    owners = {"all_owners": True} if owner is None else {"owner": owner}
    body = {"select": "all", "timeout": 0, **owners}
    view = ask("POST", "/jobs/wait", body, patience_s=PATIENCE_S).json()
    del view["next"]
    return {status: group for status, group in _groups(view).items() if status not in _ENDED}


def bulk(
    ask: Ask, action: Action, jobs: Spans | None, owner: str | None, more: Mapping[str, object]
) -> dict[str, Group]:
    """Apply an action to jobs; None: to all of an owner, or of all owners. Repeated when the answer is lost. `more`:
    further members of the body, left out where they are empty.
    """
    body: dict[str, object] = {"action": action, **{name: value for name, value in more.items() if value}}
    if jobs is None:
        body |= {"all_owners": True} if owner is None else {"owner": owner}
    done: dict[str, Group] = {}
    for select in ["all"] if jobs is None else _texts(jobs):
        after: int | None = 0
        while after is not None:
            request = {**body, "select": select, "after": after}
            # A step may take as long as a held answer.
            view = ask("POST", "/jobs/bulk", request, patience_s=PATIENCE_S, hold_s=HOLD_S).json()
            after = view.pop("next", None)
            del view["action"]
            for name, group in _groups(view).items():
                before = done.get(name, Group(0, Spans()))
                done[name] = Group(before.size + group.size, before.jobs | group.jobs)
    return done


def _texts(jobs: Spans) -> Iterator[str]:
    """Split a selection into as few requests as can carry it, as texts."""
    for begin in range(0, len(jobs.spans), SPANS_PER_CALL_MAX):
        yield str(Spans(jobs.spans[begin : begin + SPANS_PER_CALL_MAX]))


def _groups(view: dict[str, Any]) -> dict[str, Group]:
    """The groups of jobs in an answer, by name."""
    return {
        name: Group(group["count"], spans.parse(group["jobs"].split(","), group["count"]))
        for name, group in view.items()
    }
