"""What the OpenAPI document says of each call beyond its route, such as what 404 and 409 mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from zsched.api import body, shapes
from zsched.api.lists import FILTERS, SEARCHED
from zsched.model.edits import EditBody
from zsched.model.spec import JobBody


@dataclass(frozen=True, slots=True)
class Operation:
    """A call. `answer` is the type of its JSON, None for text; `takes` the type of its body, which may be missing if it
    is `optional`, and may be lines of JSON with `lines`. `lacks` and `conflicts` describe 404 and 409. `once`: it takes
    an Idempotency-Key. `kept`: callers may keep the JSON of a GET, and it has an ETag. `media`: the type of an answer
    that is not JSON.
    """

    name: str
    summary: str
    answer: object = None
    status: int = 200
    takes: object = None
    example: object = None
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    lacks: str = ""
    conflicts: str = ""
    once: bool = False
    kept: bool = True
    optional: bool = False
    lines: bool = False
    media: str = "text/plain"


_CONNECTED: Final = "A worker with this name is connected over ZeroMQ"
_NO_SCHEDULE: Final = "The job has no schedule, or its schedule has ended"
_NO_JOB, _NO_RUN, _NO_WORKER = "The job does not exist", "The run does not exist", "The worker does not exist"
_NO_FLOW: Final = "A flow that is selected does not exist"
_NO_TASK: Final = "The job does not exist, or has no such task"
_NO_ARRAY: Final = "The job has no array"
_NO_FOREIGN: Final = "The worker holds nothing for another database"

_NO_ARTIFACT: Final = "The job or run does not exist, or has no such artifact"
_BYTES: Final = "application/octet-stream"

# What a list may have besides its rows.
_LIST: Final = ("Link",)

OPERATIONS: Final[Mapping[str, Operation]] = {
    "GET /jobs": Operation(
        "list_jobs",
        "List jobs, newest first, or some by their numbers",
        shapes.array(shapes.JOB),
        query=(*FILTERS, *SEARCHED, "limit", "offset", "before", "first", "last"),
        headers=_LIST,
    ),
    "POST /jobs": Operation(
        "submit",
        "Submit a job, or an array of jobs that is stored as a whole or not at all",
        shapes.JOB | shapes.array(shapes.JOB),
        201,
        JobBody | list[JobBody],
        {"name": "hello-job", "command": "echo Hello World"},
        headers=("Location", "Idempotency-Replayed", "Zsched-Jobs", *_LIST),
        conflicts="The token has as many recurring jobs as it may have, a job with the unique key has not ended, or a"
        " deadline comes before the start",
        once=True,
        lines=True,
    ),
    "POST /flows": Operation(
        "submit_flow",
        "Submit a flow: named jobs that wait for each other, stored as a whole or not at all",
        shapes.NewFlow,
        201,
        body.FlowBody,
        {"jobs": {"fetch": {"command": "echo data"}, "report": {"command": "echo done", "after": ["fetch"]}}},
        headers=("Location", "Idempotency-Replayed"),
        conflicts="A job with the unique key has not ended",
        once=True,
    ),
    "GET /flows/{flow}": Operation("get_flow", "Look at a flow", shapes.Flow, lacks="The flow does not exist"),
    "POST /jobs/bulk": Operation(
        "bulk",
        "Cancel, hold, release, rerun or remove many jobs, or pause, resume or end many schedules",
        shapes.BulkDone,
        takes=body.BulkBody,
        lacks=_NO_FLOW,
        example={"action": "cancel", "select": "5001-6000,7001"},
    ),
    "POST /jobs/purge": Operation(
        "purge",
        "Remove old jobs for good, or count those that would be removed",
        shapes.Purged,
        takes=body.PurgeBody,
        example={"older_than": "30d", "status": "failed", "dry_run": True},
    ),
    "POST /jobs/wait": Operation(
        "wait",
        "Wait until any or all of many jobs have ended",
        shapes.Waited,
        takes=body.WaitBody,
        lacks=_NO_FLOW,
        example={"select": "1-3", "timeout": "10ms"},
    ),
    "GET /jobs/{job}": Operation(
        "get_job", "Look at a job and its last run", shapes.JOB_WITH_RUN, query=("wait",), lacks=_NO_JOB
    ),
    "PATCH /jobs/{job}": Operation(
        "edit_job",
        "Change a recurring job, or one that waits for a worker; runs that a worker has stay as they are",
        shapes.JOB_WITH_RUN,
        query=("reason",),
        takes=EditBody,
        example={"schedule": "30 3 * * *", "timeout": "10m"},
        lacks=_NO_JOB,
        conflicts="The job is running or has ended, its schedule has ended, or the changes do not go together",
    ),
    "DELETE /jobs/{job}": Operation(
        "delete_job",
        "Remove a job that has ended; or end the schedule of a recurring job, which stays visible",
        shapes.JOB_WITH_RUN,
        query=("cancel", "only", "reason"),
        lacks=_NO_JOB,
        conflicts="The job, or its last fire without `cancel`, has not ended; or it is not what `only` says",
    ),
    "POST /jobs/{job}/pause": Operation(
        "pause_schedule",
        "Pause the schedule of a recurring job; a live run goes on",
        shapes.JOB_WITH_RUN,
        query=("reason",),
        lacks=_NO_JOB,
        conflicts=_NO_SCHEDULE,
    ),
    "POST /jobs/{job}/resume": Operation(
        "resume_schedule",
        "Resume a paused schedule: the next fire is the first one from now on",
        shapes.JOB_WITH_RUN,
        query=("reason",),
        lacks=_NO_JOB,
        conflicts=_NO_SCHEDULE,
    ),
    "GET /jobs/{job}/runs": Operation(
        "list_runs",
        "The runs of a job, newest first, without their logs",
        shapes.array(shapes.RUN),
        query=("limit", "before", "task"),
        headers=_LIST,
        lacks=_NO_TASK,
        conflicts=_NO_ARRAY,
    ),
    "GET /jobs/{job}/tasks": Operation(
        "list_tasks",
        "The tasks of an array by their indexes, those that have not been made yet included",
        shapes.array(shapes.TASK),
        query=("limit", "after_task", "status"),
        headers=_LIST,
        lacks=_NO_JOB,
        conflicts=_NO_ARRAY,
    ),
    "GET /jobs/{job}/log": Operation(
        "get_job_log",
        "What the last run of a job, or of a task of an array, wrote to a stream; as `GET /runs/{run}/log`",
        query=("stream", "offset", "wait", "one_task"),
        headers=("Zsched-Offset", "Zsched-Next", "Zsched-End"),
        lacks=f"{_NO_TASK}, or no run yet",
        conflicts=_NO_ARRAY,
    ),
    "POST /jobs/{job}/cancel": Operation(
        "cancel",
        "Cancel the pending and running runs of a job",
        shapes.JOB_WITH_RUN,
        query=("reason", "task"),
        lacks=_NO_TASK,
        conflicts="The job has ended",
    ),
    "POST /jobs/{job}/hold": Operation(
        "hold",
        "Hold a job: no run of it starts until it is released; running ones go on",
        shapes.JOB_WITH_RUN,
        query=("reason", "task"),
        lacks=_NO_TASK,
        conflicts="The job has ended, or has a schedule",
    ),
    "POST /jobs/{job}/release": Operation(
        "release",
        "Let the runs of a held job start",
        shapes.JOB_WITH_RUN,
        query=("reason", "task"),
        lacks=_NO_TASK,
        conflicts="The job has a schedule",
    ),
    "POST /jobs/{job}/rerun": Operation(
        "rerun",
        "Run a job again that has ended, with the same id; its failures and crashes count from 0",
        shapes.JOB_WITH_RUN,
        query=("reason", "task", "only_failed"),
        lacks=_NO_TASK,
        conflicts="The job has not ended, or has a schedule",
    ),
    "GET /jobs/{job}/artifacts": Operation(
        "list_job_artifacts",
        "The artifacts of the last run of a job, or of a task of an array, without their contents",
        shapes.array(shapes.Artifact),
        query=("one_task",),
        lacks=_NO_TASK,
        conflicts=_NO_ARRAY,
    ),
    "GET /jobs/{job}/artifacts/{path:path}": Operation(
        "get_job_artifact",
        "The content of an artifact of the last run of a job, or of a task of an array, as a download",
        query=("one_task",),
        conflicts=_NO_ARRAY,
        headers=("Content-Disposition",),
        lacks=_NO_ARTIFACT,
        media=_BYTES,
    ),
    "POST /jobs/{job}/log": Operation(
        "report",
        "A polling worker reports on its run",
        shapes.RUN,
        takes=body.LogBody,
        example={"worker_id": "w1", "status": "success", "exit_code": 0, "logs": "Hello World\n"},
        lacks=f"{_NO_JOB}, or unknown worker",
        conflicts="Another worker has the run, or the run has ended",
    ),
    "GET /runs/{run}": Operation("get_run", "A run with what it wrote", shapes.RUN, lacks=_NO_RUN),
    "GET /runs/{run}/log": Operation(
        "get_log",
        "What a run wrote to a stream, from `offset` on; also while it runs",
        query=("stream", "offset", "wait"),
        headers=("Zsched-Offset", "Zsched-Next", "Zsched-End"),
        lacks=_NO_RUN,
    ),
    "GET /runs/{run}/artifacts": Operation(
        "list_artifacts", "The artifacts of a run, without their contents", shapes.array(shapes.Artifact), lacks=_NO_RUN
    ),
    "GET /runs/{run}/artifacts/{path:path}": Operation(
        "get_artifact",
        "The content of an artifact, as a download",
        headers=("Content-Disposition",),
        lacks=_NO_ARTIFACT,
        media=_BYTES,
    ),
    "GET /workers": Operation(
        "list_workers",
        "All workers that ever registered",
        shapes.array(shapes.WORKER),
        query=("after_name",),
        headers=_LIST,
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
        headers=_LIST,
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
        headers=_LIST,
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
        "list_keys", "List the keys of workers", shapes.array(shapes.KEY), query=("after_name",), headers=_LIST
    ),
    "DELETE /access/{worker}": Operation(
        "revoke_key", "Revoke a worker's key; its session ends", shapes.KEY, lacks="The worker has no key"
    ),
    "GET /events": Operation(
        "list_events",
        "The audit log: what happened, in order, and who caused it",
        shapes.array(shapes.EVENT),
        query=("after", "limit", "wait", "job_number", "run_number", "worker", "kind", "since"),
        headers=("Zsched-Next", "Link"),
        kept=False,
    ),
    "GET /healthz": Operation("health", "The process is running"),
    "GET /readyz": Operation(
        "readiness",
        "The scheduler works and can store, or stands by. Further lines count schedulers and undecided foreign runs",
        query=("role",),
    ),
    "GET /stats": Operation(
        "stats", "Count tasks and workers by state, and list the schedulers", shapes.Stats, kept=False
    ),
    "GET /usage": Operation(
        "usage",
        "What ended runs have used since a day, from counters: the most run time first",
        shapes.array(shapes.USAGE),
        query=("by", "since_day", "limit"),
        kept=False,
    ),
    "GET /version": Operation("version", "Name, version and role", shapes.Version),
    "GET /openapi.json": Operation("openapi", "This document", dict[str, Any]),
}
