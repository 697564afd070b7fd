"""What the OpenAPI document says of each call: those about jobs and runs here, the others in fleet_operations.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from zsched.api import body, shapes
from zsched.api.fleet_operations import FLEET
from zsched.api.lists import FILTERS, SEARCHED
from zsched.api.operation import LISTS, Operation
from zsched.model.edits import EditBody
from zsched.model.spec import JobBody

_NO_SCHEDULE: Final = "The job has no schedule, or its schedule has ended"
_NO_JOB, _NO_RUN = "The job does not exist", "The run does not exist"
_NO_FLOW: Final = "A flow that is selected does not exist"
_NO_TASK: Final = "The job does not exist, or has no such task"
_NO_ARRAY: Final = "The job has no array"

_NO_ARTIFACT: Final = "The job or run does not exist, or has no such artifact"
_BYTES: Final = "application/octet-stream"

OPERATIONS: Final[Mapping[str, Operation]] = {
    "GET /jobs": Operation(
        "list_jobs",
        "List jobs, newest first, or some by their numbers",
        shapes.array(shapes.JOB),
        query=(*FILTERS, *SEARCHED, "limit", "offset", "before", "first", "last"),
        headers=LISTS,
    ),
    "POST /jobs": Operation(
        "submit",
        "Submit a job, or an array of jobs that is stored as a whole or not at all",
        shapes.JOB | shapes.array(shapes.JOB),
        201,
        JobBody | list[JobBody],
        {"name": "hello-job", "command": "echo Hello World"},
        headers=("Location", "Idempotency-Replayed", "Zsched-Jobs", *LISTS),
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
        headers=LISTS,
        lacks=_NO_TASK,
        conflicts=_NO_ARRAY,
    ),
    "GET /jobs/{job}/tasks": Operation(
        "list_tasks",
        "The tasks of an array by their indexes, those that have not been made yet included",
        shapes.array(shapes.TASK),
        query=("limit", "after_task", "status"),
        headers=LISTS,
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
    **FLEET,
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
