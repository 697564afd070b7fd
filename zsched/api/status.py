"""/healthz, /readyz, /stats, /version: the state of the scheduler, for monitoring."""

from __future__ import annotations

import falcon

from zsched import __version__
from zsched.api import shapes
from zsched.api.context import Context, answer, parameters
from zsched.model.units import counted
from zsched.store.contract import StoreError


class Health:
    """/healthz: the process lives."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = falcon.MEDIA_TEXT
        resp.text = "ok\n"

    on_head = on_get


class Readiness:
    """/readyz: the loop turns and the store takes what it decides. The first line is one word."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        ready = self._context.facts.ready()
        resp.status = 200 if ready else 503
        resp.content_type = falcon.MEDIA_TEXT
        resp.text = f"ready\n{self._undecided()}" if ready else "unready\n"

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
        )
        answer(resp, stats)

    on_head = on_get


class Version:
    """/version"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        parameters(req)
        answer(resp, shapes.Version(name="zsched", version=__version__))

    on_head = on_get
