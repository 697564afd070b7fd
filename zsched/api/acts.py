"""POST /jobs/{id}/cancel, pause, resume, hold, release and rerun, each with a reason if the caller gives one."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import falcon

from zsched.api.context import Context, caller, job_id, parameters, reason
from zsched.api.jobs import answer_state
from zsched.api.problem import Problem, invalid
from zsched.api.tasks import part
from zsched.model.limits import TASK_INDEX_MAX
from zsched.scheduler.dispatcher.acts import Rerun
from zsched.scheduler.dispatcher.answers import job_state
from zsched.scheduler.dispatcher.commands import OnJob, Part
from zsched.scheduler.dispatcher.tasks import RerunTasks

# All tasks of an array.
ALL: Final[Part] = (0, TASK_INDEX_MAX)


class JobAct:
    """/jobs/{id}/cancel and the like. `act`: the command that the call sends."""

    def __init__(self, act: type[OnJob], context: Context) -> None:
        self._act = act
        self._context = context

    def on_post(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        given = parameters(req, "reason")
        answer_state(resp, self._context.inbox.call(self._act(job_id(job), caller(req), reason(given))))


class TasksAct(JobAct):
    """The same for calls that may name tasks of an array."""

    def on_post(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        given = parameters(req, "reason", "task")
        act = self._act(job_id(job), caller(req), reason(given), part(given))
        answer_state(resp, self._context.inbox.call(act))


class JobRerun:
    """/jobs/{id}/rerun"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_post(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        given = parameters(req, "reason", "task", "only")
        number, why, tasks = job_id(job), reason(given), part(given)
        if given.get("only", "failed") != "failed":
            raise invalid("only", "failed")
        if tasks is None and "only" not in given:
            answer_state(resp, self._context.inbox.call(Rerun(number, caller(req), why)))
            return
        self._rerun_tasks(RerunTasks(number, caller(req), tasks or ALL, failed="only" in given, reason=why))
        answer_state(resp, job_state(number).read(self._context.reader))

    def _rerun_tasks(self, command: RerunTasks) -> None:
        """Send the command until all tasks are done: each step is a turn. Raises a 409 Problem if there are none."""
        done, after = 0, None
        while True:
            step = self._context.inbox.call(command if after is None else replace(command, after=after))
            done, after = done + step.done, step.after
            if after is None:
                break
        if not done:
            tasks = "No task" if command.part == ALL else "None of these tasks"
            which = "failed" if command.failed else "ended"
            raise Problem(409, "live", f"{tasks} of job {command.job_id} has {which}")
