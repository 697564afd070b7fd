"""/flows: named jobs that wait for each other, submitted by one request; and what became of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final

import falcon
from msgspec.structs import replace

from zsched.api import idempotency, shapes
from zsched.api.body import FlowParts, convert, escaped
from zsched.api.context import Context, answer, flow_id, parameters
from zsched.api.jobs import check_count_of_after, demand_stored, read_content, read_job, submit
from zsched.api.problem import Problem, dotted
from zsched.model import spans
from zsched.model.flow import FlowError, in_order
from zsched.model.limits import FAULTS_SHOWN_MAX, SPANS_SHOWN_MAX
from zsched.model.spec import JobBody, Seal
from zsched.model.types import JobId, JobSpec, RunStatus
from zsched.model.units import counted
from zsched.scheduler.dispatcher.commands import Made
from zsched.store.contract import Submitted

# A job by its place among the submitted ones.
_PLACE: Final = re.compile("#([1-9][0-9]*)")
# Of a flow whose jobs differ, the first that one of them has.
_ORDER: Final = (RunStatus.RUNNING, RunStatus.PENDING, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.SUCCESS)


class Flows:
    """/flows"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        parameters(req)
        names: list[str] = []

        def read_specs(digest: hashlib._Hash) -> tuple[JobSpec, ...]:
            specs = _specs(convert(read_content(req, digest), FlowParts, "#").jobs, self._context.seal)
            names.extend(specs)
            return tuple(specs.values())

        try:
            reply = submit(self._context, req, read_specs, lambda place: _pointer(names[place]))
        except Problem as problem:
            raise _by_name(problem, names) from None
        if isinstance(reply, Submitted):
            demand_stored(self._context, reply)
            resp.set_header(idempotency.REPLAYED, "true")
        first = _first(reply)
        resp.location = f"/flows/{first}"
        answer(resp, shapes.NewFlow(flow=first, jobs={name: first + place for place, name in enumerate(names)}), 201)


class FlowItem:
    """/flows/{id}"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response, flow: str) -> None:
        parameters(req)
        number, reader = flow_id(flow), self._context.reader
        with closing(reader.flow(number)) as found:
            jobs = spans.of_numbers(found)
        counts = reader.count_flow(number)
        if not jobs:
            raise Problem(404, "unknown_flow", "Flow not found")
        status = next((status for status in _ORDER if status in counts), RunStatus.SUCCESS)
        group = shapes.Group(count=len(jobs), jobs=str(jobs.head(SPANS_SHOWN_MAX)))
        tasks = shapes.Tasks(**{str(state): counts.get(state, 0) for state in RunStatus})
        answer(resp, shapes.Flow(flow=number, status=status, jobs=group, by_status=tasks))

    on_head = on_get


def _first(reply: Made | Submitted) -> JobId:
    return reply.first if isinstance(reply, Submitted) else reply.ids[0]


def _specs(jobs: Mapping[str, Any], seal: Seal) -> dict[str, JobSpec]:
    """The jobs of a flow in an order in which they can be submitted. Raises a 400 Problem with all that is wrong."""
    faults: list[tuple[str, str]] = []
    afters: dict[str, list[object]] = {}
    entries = {name: _after(job) for name, job in jobs.items()}
    check_count_of_after(sum(map(len, entries.values())))
    try:
        afters = in_order(entries)
    except FlowError as error:
        faults += [(f"{_pointer(name)}/{field}".rstrip("/"), detail) for name, field, detail in error.faults]
    specs: dict[str, JobSpec] = {}
    for name in afters or jobs:
        job = jobs[name]
        if isinstance(job, dict):
            job = {"name": name, **job}
            if isinstance(job.get("after"), list):
                job["after"] = afters.get(name, [])
        try:
            # Any number marks it as a job of a flow.
            specs[name] = replace(read_job(job, _pointer(name), seal), flow=JobId(1))
        except Problem as problem:
            if problem.status != 400:
                raise
            wrong = _wrong_fields(job, _pointer(name)) if len(faults) <= FAULTS_SHOWN_MAX else []
            faults += wrong or problem.errors
    if faults:
        raise _refusal(faults)
    return specs


def _after(job: object) -> list[object]:
    after = job.get("after") if isinstance(job, dict) else None
    return after if isinstance(after, list) else []


def _wrong_fields(job: object, pointer: str) -> list[tuple[str, str]]:
    """All fields of a job that are unknown or of a wrong type: each is left out to find the next one."""
    faults: list[tuple[str, str]] = []
    left = dict(job) if isinstance(job, dict) else {}
    while left:
        try:
            convert(left, JobBody, pointer)
            break
        except Problem as problem:
            faults += problem.errors
            field = problem.errors[0][0].removeprefix(f"{pointer}/").partition("/")[0]
            if left.pop(field.replace("~1", "/").replace("~0", "~"), left) is left or len(faults) > FAULTS_SHOWN_MAX:
                break
    return faults


def _pointer(name: str) -> str:
    return f"#/jobs/{escaped(name)}"


def _by_name(problem: Problem, names: list[str]) -> Problem:
    """An error of the submit, with the names of jobs in place of their places."""
    if problem.status != 400 or not names or not problem.errors:
        return problem
    return _refusal(
        [(pointer, _PLACE.sub(lambda place: names[int(place[1]) - 1], detail)) for pointer, detail in problem.errors]
    )


def _refusal(faults: list[tuple[str, str]]) -> Problem:
    shown = faults[:FAULTS_SHOWN_MAX]
    sentences = [f"{dotted(pointer).removeprefix('jobs.')}: {detail}" for pointer, detail in shown]
    if more := len(faults) - len(shown):
        sentences.append(f"and {more} more")
        shown.append(("#/jobs", f"{counted(more, 'more fault')} {'is' if more == 1 else 'are'} not listed"))
    return Problem(400, "invalid_request", "; ".join(sentences), errors=tuple(shown))
