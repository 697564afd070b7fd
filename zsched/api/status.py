"""/healthz, /readyz, /stats, /usage, /version: the state of the scheduler, for monitoring."""

from __future__ import annotations

from collections import Counter

import falcon

from zsched import __version__
from zsched.api import shapes, views
from zsched.api.context import Context, answer, number, parameters, since_ms
from zsched.api.problem import invalid
from zsched.model.limits import INSTANCE_LIVE_MS, PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX
from zsched.model.records import Role, UsageBy
from zsched.model.units import counted
from zsched.store.contract import StoreError


class Health:
    """/healthz: the process lives."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = falcon.MEDIA_TEXT
        resp.text = "ok\n"

    on_head = on_get


class Readiness:
    """/readyz: the loop turns and the store takes what it decides; a standby reads the store, and could take over.

    The first line is one word: ready, standby or unready. With `?role=active` a standby is unready too.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        # Other parameters are ignored, as those that a load balancer adds.
        role = req.params.get("role")
        if role not in (None, Role.ACTIVE):
            raise invalid("role", f"{Role.ACTIVE}, or leave the parameter out")
        facts = self._context.facts
        ready = facts.ready() and not (facts.standby and role == Role.ACTIVE)
        resp.status = 200 if ready else 503
        resp.content_type = falcon.MEDIA_TEXT
        word = "standby" if facts.standby else "ready"
        resp.text = f"{word}\n{self._schedulers()}{self._undecided()}" if ready else "unready\n"

    def _schedulers(self) -> str:
        """A line with the number of living schedulers by role, or empty where this is the only one."""
        own = self._context.facts.own.instance
        try:
            schedulers = self._context.schedulers()
        except StoreError:
            return ""
        # By the clock of the database, but for our own row.
        latest_ms = max((other.seen_ms for other in schedulers if other.instance != own), default=0)
        roles = Counter(
            other.role for other in schedulers if other.instance == own or other.seen_ms >= latest_ms - INSTANCE_LIVE_MS
        )
        if roles.total() == 1:
            return ""
        return f"schedulers: {', '.join(f'{roles[role]} {role}' for role in Role)}\n"

    def _undecided(self) -> str:
        """A line about foreign runs that wait for a decision, or empty."""
        try:
            runs, workers = self._context.reader.foreign_undecided()
        except StoreError:
            # The store's own troubles are the matter of `ready`.
            return ""
        if not runs:
            return ""
        held = f"{counted(runs, 'foreign run')} on {counted(workers, 'worker')}"
        return f"{held} {'waits' if runs == 1 else 'wait'} for `zsched foreign keep` or `discard`\n"

    on_head = on_get


class Stats:
    """/stats: numbers of tasks, workers and refused calls, from counters."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        parameters(req)
        reader = self._context.reader
        stats = shapes.Stats(
            tasks=shapes.Tasks(**{str(status): count for status, count in reader.totals().items()}),
            workers=shapes.WorkersByStatus(
                **{str(status): count for status, count in reader.workers_by_status().items()}
            ),
            refused=self._context.policy.refusals.counts(),
            version=__version__,
            role=self._context.facts.own.role,
            schedulers=tuple(map(views.scheduler, self._context.schedulers())),
        )
        # The times of schedulers change with each call.
        resp.cache_control = ["no-store"]
        answer(resp, stats)

    on_head = on_get


class Usage:
    """/usage: what ended runs have used, from counters kept by day."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        given = parameters(req, "by", "since", "limit")
        if given.get("by", UsageBy.OWNER) not in list(UsageBy):
            raise invalid("by", f"one of {', '.join(UsageBy)}")
        limit = number(given, "limit", PAGE_ROWS_DEFAULT, 1, PAGE_ROWS_MAX)
        by = UsageBy(given.get("by", UsageBy.OWNER))
        used = self._context.reader.usage(by, since_ms(given) or 0, limit)
        resp.cache_control = ["no-store"]
        answer(resp, [views.usage(each) for each in used])

    on_head = on_get


class Version:
    """/version"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        parameters(req)
        answer(resp, shapes.Version(name="zsched", version=__version__, role=self._context.facts.own.role))

    on_head = on_get
