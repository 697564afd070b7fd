"""/jobs/{id}/tasks: the tasks of an array; and tasks as parameters name them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import falcon

from zsched.api import views
from zsched.api.context import Context, job_id, number, parameters
from zsched.api.lists import status_of
from zsched.api.pages import address, answer_page
from zsched.api.problem import Problem, invalid
from zsched.api.search import Search
from zsched.model.limits import PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX, TASK_INDEX_MAX
from zsched.model.types import Job
from zsched.scheduler.dispatcher.commands import Part
from zsched.scheduler.dispatcher.tasks import find_part

# Tasks as a parameter names them: `3` or `3-8`.
TASKS: Final = r"[0-9]{1,10}(-[0-9]{1,10})?"


class JobTasks:
    """/jobs/{id}/tasks"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        given = parameters(req, "limit", "after", "status")
        limit = number(given, "limit", PAGE_ROWS_DEFAULT, 1, PAGE_ROWS_MAX)
        status = status_of(given["status"]) if "status" in given else None
        reader = self._context.reader
        found = reader.job(job_id(job))
        if found is None:
            raise Problem(404, "unknown_job", "Job not found")
        array = demand_array(found).array
        assert array is not None
        begin = array.position(number(given, "after", 0, 0, TASK_INDEX_MAX) + 1) if "after" in given else 0
        # By positions: indexes may have large gaps.
        search = Search(lambda low, high: reader.tasks(found, low, high, status), begin, len(array) - 1)
        page = self._context.pages.fill(search.rows(), views.task, limit)
        following = page.last.index if page.more and page.last is not None else array.at(search.left[0] - 1)
        path = f"/jobs/{found.job_id}/tasks"
        answer_page(resp, search.finish(page), address(path, given, after=following))

    on_head = on_get


def demand_array(job: Job) -> Job:
    """Raises a 409 Problem for a job without an array."""
    if job.array is None:
        raise Problem(409, "no_array", f"Job {job.job_id} has one task: only jobs with array or each have several")
    return job


def tasks_of(job: Job, given: Mapping[str, str]) -> Part | None:
    """The tasks of a job that the parameter `task` names; None without it. Raises a 400 Problem, and what `find_part`
    raises.
    """
    named = part(given)
    return None if named is None else find_part(job, named)


def part(given: Mapping[str, str]) -> Part | None:
    """The parameter `task`: one index, or the first and the last of some. Raises a 400 Problem."""
    text = given.get("task")
    if text is None:
        return None
    if not re.fullmatch(TASKS, text, re.ASCII):
        raise invalid("task", "an index such as 3, or the first and the last as 3-8")
    first, _, last = text.partition("-")
    named = int(first), int(last or first)
    if named[0] > named[1] or named[1] > TASK_INDEX_MAX:
        raise invalid("task", f"indexes from 0 to {TASK_INDEX_MAX}, the lower one first")
    return named
