"""/queues: list, pause, resume and share queues."""

from __future__ import annotations

import falcon

from zsched.api import views
from zsched.api.body import QueueBody, ReasonBody, read
from zsched.api.context import Context, actor, answer, parameters
from zsched.api.problem import invalid
from zsched.model.names import QUEUE_NAME, QUEUE_RULE
from zsched.scheduler.dispatcher.queues import PauseQueue, ResumeQueue, ShareQueue


class Queues:
    """/queues"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        parameters(req)
        answer(resp, [views.queue(state) for state in self._context.reader.queues()])

    on_head = on_get


class QueueItem:
    """/queues/{queue}"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_patch(self, req: falcon.Request, resp: falcon.Response, queue: str) -> None:
        parameters(req)
        command = ShareQueue(_name(queue), read(req, QueueBody).fair, actor(req))
        answer(resp, views.queue(self._context.inbox.call(command)))


class QueuePause:
    """/queues/{queue}/pause"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_post(self, req: falcon.Request, resp: falcon.Response, queue: str) -> None:
        parameters(req)
        command = PauseQueue(_name(queue), _reason(req), actor(req))
        answer(resp, views.queue(self._context.inbox.call(command)))


class QueueResume:
    """/queues/{queue}/resume"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_post(self, req: falcon.Request, resp: falcon.Response, queue: str) -> None:
        parameters(req)
        command = ResumeQueue(_name(queue), _reason(req), actor(req))
        answer(resp, views.queue(self._context.inbox.call(command)))


def _name(queue: str) -> str:
    """The name of a queue in a path. Raises a 400 Problem."""
    if not QUEUE_NAME.fullmatch(queue):
        raise invalid("queue", f"a queue's name: {QUEUE_RULE}")
    return queue


def _reason(req: falcon.Request) -> str:
    """The reason in the body of a call, empty without a body. Raises a 400 Problem."""
    return read(req, ReasonBody).reason if req.content_length else ""
