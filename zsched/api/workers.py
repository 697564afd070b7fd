"""/workers: list workers; enrolling for the ZeroMQ port; and the calls of workers that poll."""

from __future__ import annotations

from collections import defaultdict

import falcon
from msgspec import UNSET

from zsched.api import shapes, views
from zsched.api.body import EnrolBody, RegisterBody, WorkerBody, read
from zsched.api.context import Context, actor, answer, bound_slots, caller, parameters, worker_name
from zsched.api.gate import why_foreign
from zsched.api.pages import address, answer_page
from zsched.api.problem import Problem, invalid
from zsched.model.access import KeyOrigin
from zsched.model.limits import WORKER_FACTS_BYTES_MAX
from zsched.model.records import ForeignRuns
from zsched.model.types import WorkerId
from zsched.model.units import counted
from zsched.protocol import facts_bytes, too_many_facts
from zsched.scheduler.dispatcher.commands import Beat, BindKey, Next, RegisterWorker
from zsched.scheduler.dispatcher.departures import RemoveWorker
from zsched.security import keys

# Settings of zmq_host that mean every address of this host, or loopback until a worker elsewhere has a key.
_ALL = ("", "0.0.0.0", "::", "*")  # noqa: S104  (nothing is bound here)


class Workers:
    """/workers"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        given = parameters(req, "after")
        reader, view = self._context.reader, self._context.view_worker
        held = defaultdict[WorkerId, list[ForeignRuns]](list)
        for one in reader.foreign():
            held[one.worker_id].append(one)
        page = self._context.pages.fill(
            reader.workers(given.get("after", "")), lambda worker: view(worker, held.get(worker.worker_id, ()))
        )
        answer_page(resp, page, address("/workers", {}, after=page.last.worker_id) if page.last is not None else "")

    on_head = on_get


class WorkerItem:
    """/workers/{id}"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response, worker: str) -> None:
        parameters(req)
        found = self._context.reader.worker(WorkerId(worker))
        if found is None:
            raise Problem(404, "unknown_worker", "Worker not found")
        answer(resp, self._context.view_worker(found, self._context.reader.foreign_of(found.worker_id)))

    on_head = on_get

    def on_delete(self, req: falcon.Request, resp: falcon.Response, worker: str) -> None:
        """Remove a worker that is gone. It may register again."""
        parameters(req)
        removed = self._context.inbox.call(RemoveWorker(WorkerId(worker), actor(req)))
        answer(resp, self._context.view_worker(removed, ()))


class Register:
    """/workers/register"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        parameters(req)
        body = read(req, RegisterBody)
        name = worker_name(req, body.worker_id)
        allowed = bound_slots(req)
        if allowed is not None and body.slots > allowed:
            detail = f"this token's workers have at most {counted(allowed, 'slot')}, not {body.slots}"
            raise Problem(403, "slots_max", f"slots: {detail}", errors=(("#/slots", detail),))
        size = facts_bytes(body.can, body.labels, body.queues)
        if size > WORKER_FACTS_BYTES_MAX:
            raise invalid("#/labels", too_many_facts(size))
        worker = self._context.inbox.call(RegisterWorker(name, body.slots, body.can, body.labels, body.queues))
        answer(resp, views.worker(worker))


class Heartbeat:
    """/workers/heartbeat"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        parameters(req)
        self._context.inbox.call(Beat(worker_name(req, read(req, WorkerBody).worker_id)))
        answer(resp, shapes.Ok("ok"))


class NextRun:
    """/workers/{id}/next. Asking assigns, so there is no HEAD, and nothing may be cached."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response, worker: str) -> None:
        parameters(req)
        claimed = self._context.inbox.call(Next(worker_name(req, worker)))
        resp.cache_control = ["no-store"]
        answer(resp, {"job": views.handed_job(claimed) if claimed is not None else None})


class Enrol:
    """/workers/enrol: binds a worker's key to its name, and answers with the ZeroMQ endpoint. Its host is the one that
    the worker called, unless `zmq_advertise` or an address in `zmq_host` names another.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        parameters(req)
        body = read(req, EnrolBody)
        name = worker_name(req, body.worker_id)
        facts = self._context.facts
        if facts.server_key:
            key = public_key(body.public_key)
            self._context.inbox.call(BindKey(name, key, _origin(req, body), caller(req), bound_slots(req)))
        host = facts.advertise or (req.host if facts.zmq_host in _ALL else facts.zmq_host)
        address = f"[{host}]" if ":" in host and not host.startswith("[") else host
        endpoint = f"tcp://{address}:{facts.zmq_port}"
        answer(resp, shapes.Enrolled(endpoint=endpoint, db=facts.db, server_key=facts.server_key or UNSET))


def _origin(req: falcon.Request, body: EnrolBody) -> KeyOrigin:
    """Where the worker is that this key is for.

    Only a local caller without a token enrols a key of this host. A token works from everywhere, also by a tunnel that
    ends at our loopback, so its key never replaces one of this host.
    """
    if body.access_file:
        return KeyOrigin.FILE
    local = req.context.principal.token is None and why_foreign(req) is None
    return KeyOrigin.ENROLLED if local else KeyOrigin.REMOTE


def public_key(text: str) -> str:
    """A key as it came. Raises a 400 Problem unless it is one."""
    if not keys.is_key(text):
        raise invalid("#/public_key", "a public key of CURVE, 40 characters of Z85")
    return text
