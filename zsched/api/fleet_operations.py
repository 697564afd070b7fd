"""What the OpenAPI document says of the calls about workers, queues, tokens and keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from zsched.api import body, shapes
from zsched.api.operation import LISTS, Operation

_CONNECTED: Final = "A worker with this name is connected over ZeroMQ"
_NO_WORKER: Final = "The worker does not exist"
_NO_FOREIGN: Final = "The worker holds nothing for another database"

FLEET: Final[Mapping[str, Operation]] = {
    "GET /workers": Operation(
        "list_workers",
        "All workers that ever registered",
        shapes.array(shapes.WORKER),
        query=("after_name",),
        headers=LISTS,
    ),
    "POST /workers/register": Operation(
        "register",
        "Register a worker that polls",
        shapes.WORKER,
        takes=body.RegisterBody,
        example={"worker_id": "w1"},
        conflicts=_CONNECTED,
    ),
    "POST /workers/heartbeat": Operation(
        "heartbeat",
        "Heartbeat of a worker that polls",
        shapes.Ok,
        takes=body.WorkerBody,
        example={"worker_id": "w1"},
        lacks=_NO_WORKER,
        conflicts=_CONNECTED,
    ),
    "POST /workers/enrol": Operation(
        "enrol",
        "Bind a worker's key to its name, and get the ZeroMQ endpoint",
        shapes.Enrolled,
        takes=body.EnrolBody,
        example={"worker_id": "worker-2", "public_key": "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"},
        conflicts="The name or the key is another's, the key was revoked, or it can't replace the one of this name",
    ),
    "GET /workers/{worker}": Operation("get_worker", "Look at a worker", shapes.WORKER, lacks=_NO_WORKER),
    "DELETE /workers/{worker}": Operation(
        "remove_worker",
        "Remove a worker that is gone",
        shapes.WORKER,
        lacks=_NO_WORKER,
        conflicts="The worker is active, or holds runs or results of another database",
    ),
    "GET /workers/{worker}/next": Operation(
        "next_run",
        "Get the next run of a worker that polls; the call assigns it",
        shapes.NEXT,
        kept=False,
        lacks=_NO_WORKER,
        conflicts=_CONNECTED,
    ),
    "GET /queues": Operation(
        "list_queues",
        "List the queues that are paused or fair, or have pending or running tasks, by name",
        shapes.array(shapes.QUEUE),
    ),
    "PATCH /queues/{queue}": Operation(
        "share_queue",
        "Set how a queue is shared, for jobs that are submitted from now on",
        shapes.QUEUE,
        takes=body.QueueBody,
        example={"fair": "owner"},
        conflicts="As many queues are paused or fair as may be",
    ),
    "POST /queues/{queue}/pause": Operation(
        "pause_queue",
        "Pause a queue: none of its runs is handed out; those that workers have go on",
        shapes.QUEUE,
        takes=body.ReasonBody,
        optional=True,
        example={"reason": "the disk of the build hosts is full"},
        conflicts="As many queues are paused or fair as may be",
    ),
    "POST /queues/{queue}/resume": Operation(
        "resume_queue",
        "Resume a queue",
        shapes.QUEUE,
        takes=body.ReasonBody,
        optional=True,
        example={"reason": "there is space again"},
        conflicts="As many queues are paused or fair as may be",
    ),
    "GET /foreign": Operation(
        "list_foreign",
        "List the runs and results that workers hold for other databases",
        shapes.array(shapes.FOREIGN),
        query=("after_name",),
        headers=LISTS,
    ),
    "POST /foreign/{worker}/keep": Operation(
        "keep_foreign",
        "Keep a worker's foreign runs; the worker gets new work on its other slots",
        shapes.array(shapes.FOREIGN),
        lacks=_NO_FOREIGN,
    ),
    "POST /foreign/{worker}/discard": Operation(
        "discard_foreign",
        "End a worker's foreign runs and drop their results; then the worker gets work",
        shapes.array(shapes.FOREIGN),
        lacks=_NO_FOREIGN,
    ),
    "GET /tokens": Operation(
        "list_tokens",
        "List tokens, without their secrets",
        shapes.array(shapes.TOKEN),
        query=("after_name",),
        headers=LISTS,
    ),
    "POST /tokens": Operation(
        "add_token",
        "Make a token; only this answer contains its secret",
        shapes.NEW_TOKEN,
        201,
        body.TokenBody,
        {"scopes": ["read"], "name": "dashboard", "expires": "30d"},
        conflicts="A token has this name, or had it",
    ),
    "DELETE /tokens/{token}": Operation(
        "revoke_token",
        "Revoke a token, by its id or its name; with `jobs=cancel` its jobs and schedules are ended",
        shapes.REVOKED_TOKEN,
        query=("jobs",),
        lacks="Unknown token, or it is revoked and `jobs` is not given",
    ),
    "GET /access": Operation(
        "list_keys", "List the keys of workers", shapes.array(shapes.KEY), query=("after_name",), headers=LISTS
    ),
    "DELETE /access/{worker}": Operation(
        "revoke_key", "Revoke a worker's key; its session ends", shapes.KEY, lacks="The worker has no key"
    ),
}
