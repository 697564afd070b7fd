"""/jobs/bulk and /jobs/wait: one call for many jobs, by their numbers or as all of an owner's."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from typing import Final

import falcon

from zsched.api import shapes
from zsched.api.body import BulkBody, SelectBody, WaitBody, read
from zsched.api.context import Context, answer, caller, parameters, reason
from zsched.api.gate import Principal
from zsched.api.problem import Problem, invalid
from zsched.api.roll import Roll
from zsched.model import spans
from zsched.model.access import Scope
from zsched.model.lifecycle import TERMINAL
from zsched.model.limits import BULK_MS_MAX, FLOWS_SELECTED_MAX, SELECTED_JOBS_MAX, SPANS_SHOWN_MAX, WAIT_MS_MAX
from zsched.model.spans import Span, Spans, TooMany
from zsched.model.types import JobId, RunStatus
from zsched.model.units import parse_duration_ms
from zsched.scheduler.dispatcher import bulk
from zsched.scheduler.dispatcher.bulk import Action, BulkDone, Selection
from zsched.scheduler.inbox import ClosedError
from zsched.scheduler.live import RENEW_S, of_jobs
from zsched.store.contract import Reader, StoreError

ALL: Final = "all"
# What the selector of a flow begins with.
FLOW: Final = "flow:"

# Up to this number, jobs are read at once, without waiting for other large calls.
_SMALL_LOOK: Final = 1_000


class Bulk:
    """/jobs/bulk"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        parameters(req)
        body = read(req, BulkBody)
        status = None if body.status is None else RunStatus(body.status)
        selection = replace(_select(self._context, req, body), status=status)
        principal: Principal = req.context.principal
        others = body.all_owners or selection.owner not in (None, principal.owner)
        if selection.ids is None and others and not principal.may(Scope.OPERATE):
            raise Problem(403, "scope", "The jobs of other owners need the scope operate")
        why = reason({"reason": body.reason})
        outcomes: dict[str, list[Span]] = {}
        until_s = time.monotonic() + BULK_MS_MAX / 1000
        after: JobId | None = JobId(body.after)
        while after is not None:
            command = bulk.Bulk(Action(body.action), selection, caller(req), after, body.cancel, why)
            try:
                done = self._step(command)
            except (Problem, ClosedError, StoreError, TimeoutError):
                # There is no room, the scheduler ends, or this step can't be stored. The steps before stand, and the
                # caller may go on.
                if not outcomes:
                    raise
                break
            for outcome, ids in done.outcomes.items():
                outcomes.setdefault(outcome, []).extend(ids.spans)
            after = done.after
            if time.monotonic() >= until_s:
                break
        groups = {outcome: _group(spans.of(parts)) for outcome, parts in outcomes.items()}
        # Not as a BulkDone: a refusal for which that has no member would fail a call that has done its work.
        answer(resp, {"action": body.action, **groups, **({} if after is None else {"next": after})})

    def _step(self, command: bulk.Bulk) -> BulkDone:
        """One step, in one turn. Raises a 503 Problem if too many calls wait for a step."""
        taken = self._context.steps.take(1)
        try:
            done = self._context.inbox.call(command)
        finally:
            self._context.steps.give_back(taken)
        return done


class Wait:
    """/jobs/wait"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        parameters(req)
        body = read(req, WaitBody)
        wait_s = _wait_ms(body.timeout) / 1000
        selection = _select(self._context, req, body)
        if selection.ids is not None and selection.owner is not None:
            raise invalid("#/owner", "only with select all")
        if body.after is not None and (body.until == ALL or selection.ids is None):
            raise invalid("#/after", "not together with until all or select all")
        context = self._context
        roll = self._begin(selection, body.after)

        def look() -> Roll:
            roll.follow(context.reader)
            return roll

        def enough(roll: Roll) -> bool:
            # With `after` only changes are known.
            nothing = body.after is None and not roll.has(RunStatus.PENDING, RunStatus.RUNNING)
            if body.until == ALL:
                return nothing
            return nothing or roll.has(*TERMINAL) or (body.after is None and roll.has(None))

        # A look takes WAIT_EVENTS_MAX events at most, so there may be more to see without a change.
        context.live.hold(look, enough, wait_s, of_jobs(roll.ids), RENEW_S)
        resp.cache_control = ["no-store"]
        statuses = (*RunStatus, None) if body.after is None else tuple(RunStatus)
        groups = {str(status or "unknown_job"): _group(ids) for status in statuses if (ids := roll.jobs(status))}
        answer(resp, shapes.Waited(next=roll.next, **groups))

    def _begin(self, selection: Selection, after: int | None) -> Roll:
        """The jobs that are waited for, with their status now; or, after an event, without any."""
        reader = self._context.reader
        ids = selection.ids
        if ids is not None and (after is not None or len(ids) <= _SMALL_LOOK):
            roll = Roll(ids, after or 0)
            if after is None:
                roll.read(reader)
            return roll
        # Reading many jobs keeps the CPU from the loop for a while, so only one call does at a time.
        taken = self._context.looks.take(1)
        try:
            if ids is None:
                ids = spans.of_numbers(reader.unfinished(selection.owner))
            roll = Roll(ids, 0)
            roll.read(reader)
        finally:
            self._context.looks.give_back(taken)
        return roll


def _select(context: Context, req: falcon.Request, body: SelectBody) -> Selection:
    """The jobs that a body selects by numbers or by owner. Raises a 400, 404 or 413 Problem."""
    principal: Principal = req.context.principal
    named = body.select != ALL
    if body.all_owners and (named or body.owner is not None):
        raise invalid("#/all_owners", "only with select all, and without owner")
    owner = principal.owner if body.owner == "me" or (body.owner is None and not named) else body.owner
    return Selection(_ids(context.reader, body.select) if named else None, None if body.all_owners else owner)


def _ids(reader: Reader, select: str | tuple[int, ...]) -> Spans:
    """The numbers of the selected jobs. Raises a 400, 404 or 413 Problem."""
    try:
        parts = select.split(",") if isinstance(select, str) else list(map(str, select))
        flows = [part for part in parts if part.startswith(FLOW)]
        numbers = [part for part in parts if not part.startswith(FLOW)]
        ids = spans.parse(numbers, SELECTED_JOBS_MAX, "12, 3-8, 1,4,9, flow:12 or all")
        for number in spans.parse((part.removeprefix(FLOW) for part in flows), FLOWS_SELECTED_MAX, "flow:12"):
            with closing(reader.flow(JobId(number))) as found:
                jobs = spans.of_numbers(found)
            if not jobs:
                raise Problem(404, "unknown_flow", f"Flow {number} not found", errors=(("#/select", "unknown flow"),))
            ids |= jobs
        if 0 in ids:
            raise ValueError("job 0 does not exist; the first is 1")
    except TooMany as error:
        raise Problem(413, "too_many", f"select: {error}", errors=(("#/select", str(error)),)) from None
    except ValueError as error:
        raise invalid("#/select", error) from None
    if not ids:
        raise invalid("#/select", "names no job")
    return ids


def _wait_ms(timeout: str | float) -> int:
    if not isinstance(timeout, str):
        return int(min(timeout * 1000, WAIT_MS_MAX))
    try:
        return min(parse_duration_ms(timeout), WAIT_MS_MAX)
    except ValueError as error:
        raise invalid("#/timeout", error) from None


def _group(ids: Spans) -> shapes.Group:
    return shapes.Group(count=len(ids), jobs=str(ids.head(SPANS_SHOWN_MAX)))
