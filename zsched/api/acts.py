"""POST /jobs/{id}/cancel, pause, resume, hold, release and rerun, each with a reason if the caller gives one."""

from __future__ import annotations

import falcon

from zsched.api.context import Context, caller, job_id, parameters, reason
from zsched.api.jobs import answer_state
from zsched.scheduler.dispatcher.commands import OnJob


class JobAct:
    """/jobs/{id}/cancel and the like. `act`: the command that the call sends."""

    def __init__(self, act: type[OnJob], context: Context) -> None:
        self._act = act
        self._context = context

    def on_post(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        why = reason(parameters(req, "reason"))
        answer_state(resp, self._context.inbox.call(self._act(job_id(job), caller(req), why)))
