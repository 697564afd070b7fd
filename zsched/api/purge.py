"""/jobs/purge: remove old jobs now, or count what would be removed."""

from __future__ import annotations

import time
from collections import Counter

import falcon

from zsched.api import shapes
from zsched.api.body import PurgeBody, read
from zsched.api.context import Context, actor, answer, parameters
from zsched.api.problem import invalid
from zsched.model.lifecycle import TERMINAL
from zsched.model.limits import BULK_MS_MAX, PURGE_COUNTED_MAX
from zsched.model.types import JobId, RunStatus
from zsched.model.units import parse_duration_ms
from zsched.scheduler.dispatcher.retention import Purge
from zsched.store.contract import Old


class JobsPurge:
    """/jobs/purge"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        parameters(req)
        body = read(req, PurgeBody)
        try:
            ended_ms = time.time_ns() // 1_000_000 - parse_duration_ms(body.older_than)
        except ValueError as error:
            raise invalid("#/older_than", error) from None
        statuses = sorted(TERMINAL) if body.status is None else [RunStatus(body.status)]
        until_s = time.monotonic() + BULK_MS_MAX / 1000
        done = Counter[RunStatus]()
        more = False
        for status in statuses:
            old, after = Old(status, ended_ms), JobId(0)
            # At least one step, so that repeated calls come to an end.
            while not more:
                found, reached = self._count(old, after) if body.dry_run else self._remove(old, after, actor(req))
                done[status] += found
                if reached is None:
                    break
                after = JobId(reached)
                more = time.monotonic() >= until_s
        counts = {str(status): done[status] for status in sorted(TERMINAL)}
        answer(resp, shapes.Purged(**counts, more=more))

    def _remove(self, old: Old, after: JobId, by: str) -> tuple[int, int | None]:
        """One step, in one turn: the number of jobs removed, and the last id looked at, None at the end. Raises a 503
        Problem if too many calls wait for a step.
        """
        taken = self._context.steps.take(1)
        try:
            step = self._context.inbox.call(Purge(old, after, by))
        finally:
            self._context.steps.give_back(taken)
        return step.removed, step.reached

    def _count(self, old: Old, after: JobId) -> tuple[int, int | None]:
        """The same without a change: the number of jobs that would be removed."""
        reader = self._context.reader
        last = JobId(after + PURGE_COUNTED_MAX)
        counted = reader.count_old(old, JobId(after + 1), last)
        return counted, None if last >= reader.last_job() else last
