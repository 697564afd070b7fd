"""The Falcon app: its routes with the scopes that they need, the gate, and the error handlers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import falcon

from zsched.api import (
    access,
    acts,
    artifacts,
    events,
    flows,
    foreign,
    jobs,
    many,
    openapi,
    problem,
    purge,
    queues,
    runs,
    standby,
    status,
    tasks,
    workers,
)
from zsched.api.context import Context
from zsched.api.etag import EntityTags
from zsched.api.gate import Gate, Needs, Scopes
from zsched.api.requests import Requests
from zsched.api.room import Admission
from zsched.model.access import Scope
from zsched.scheduler.dispatcher.acts import Hold, Release
from zsched.scheduler.dispatcher.commands import Cancel, PauseSchedule, ResumeSchedule, UseToken
from zsched.scheduler.inbox import StandbyError
from zsched.store.contract import StoreDeposed

READ, SUBMIT, WORKER, ADMIN = (Scope.READ,), (Scope.SUBMIT,), (Scope.WORKER,), (Scope.ADMIN,)
# For calls that change a job: `submit` for the caller's own jobs, `operate` for all.
ACT: Final = (Scope.SUBMIT, Scope.OPERATE)

# Path, handler, and for each method the scopes of which it needs one. HEAD needs the same as GET, OPTIONS none. Paths
# without scopes are open to everybody.
ROUTES: Final[tuple[tuple[str, Callable[[Context], object], Mapping[str, Scopes]], ...]] = (
    ("/jobs", jobs.Jobs, {"GET": READ, "POST": SUBMIT}),
    ("/jobs/bulk", many.Bulk, {"POST": ACT}),
    ("/jobs/purge", purge.JobsPurge, {"POST": (Scope.OPERATE,)}),
    ("/jobs/wait", many.Wait, {"POST": READ}),
    ("/jobs/{job}", jobs.JobItem, {"GET": READ, "PATCH": ACT, "DELETE": ACT}),
    ("/jobs/{job}/runs", jobs.JobRuns, {"GET": READ}),
    ("/jobs/{job}/tasks", tasks.JobTasks, {"GET": READ}),
    ("/jobs/{job}/cancel", partial(acts.TasksAct, Cancel), {"POST": ACT}),
    ("/jobs/{job}/hold", partial(acts.TasksAct, Hold), {"POST": ACT}),
    ("/jobs/{job}/release", partial(acts.TasksAct, Release), {"POST": ACT}),
    ("/jobs/{job}/rerun", acts.JobRerun, {"POST": ACT}),
    ("/jobs/{job}/pause", partial(acts.JobAct, PauseSchedule), {"POST": ACT}),
    ("/jobs/{job}/resume", partial(acts.JobAct, ResumeSchedule), {"POST": ACT}),
    ("/jobs/{job}/artifacts", artifacts.JobArtifacts, {"GET": READ}),
    ("/jobs/{job}/artifacts/{path:path}", artifacts.JobArtifact, {"GET": READ}),
    ("/jobs/{job}/log", jobs.JobLog, {"GET": READ, "POST": WORKER}),
    ("/flows", flows.Flows, {"POST": SUBMIT}),
    ("/flows/{flow}", flows.FlowItem, {"GET": READ}),
    ("/runs/{run}", runs.RunItem, {"GET": READ}),
    ("/runs/{run}/log", runs.RunLog, {"GET": READ}),
    ("/runs/{run}/artifacts", artifacts.RunArtifacts, {"GET": READ}),
    ("/runs/{run}/artifacts/{path:path}", artifacts.RunArtifact, {"GET": READ}),
    ("/workers", workers.Workers, {"GET": READ}),
    ("/workers/register", workers.Register, {"POST": WORKER}),
    ("/workers/heartbeat", workers.Heartbeat, {"POST": WORKER}),
    ("/workers/enrol", workers.Enrol, {"POST": WORKER}),
    ("/workers/{worker}", workers.WorkerItem, {"GET": READ, "DELETE": (Scope.OPERATE,)}),
    ("/workers/{worker}/next", workers.NextRun, {"GET": WORKER}),
    ("/queues", queues.Queues, {"GET": READ}),
    ("/queues/{queue}", queues.QueueItem, {"PATCH": (Scope.OPERATE,)}),
    ("/queues/{queue}/pause", queues.QueuePause, {"POST": (Scope.OPERATE,)}),
    ("/queues/{queue}/resume", queues.QueueResume, {"POST": (Scope.OPERATE,)}),
    ("/foreign", foreign.Foreign, {"GET": READ}),
    ("/foreign/{worker}/keep", foreign.Keep, {"POST": ADMIN}),
    ("/foreign/{worker}/discard", foreign.Discard, {"POST": ADMIN}),
    ("/tokens", access.Tokens, {"GET": ADMIN, "POST": ADMIN}),
    ("/tokens/{token}", access.TokenItem, {"DELETE": ADMIN}),
    ("/access", access.Keys, {"GET": ADMIN}),
    ("/access/{worker}", access.KeyItem, {"DELETE": ADMIN}),
    ("/events", events.Events, {"GET": READ}),
    ("/healthz", lambda _: status.Health(), {}),
    ("/readyz", status.Readiness, {}),
    ("/stats", status.Stats, {"GET": READ}),
    ("/usage", status.Usage, {"GET": READ}),
    ("/version", status.Version, {"GET": READ}),
    ("/openapi.json", lambda _: openapi.Document(NEEDS), {"GET": READ}),
)
NEEDS: Final[Needs] = {path: needed for path, _, needed in ROUTES}


def make_app(context: Context) -> falcon.App[falcon.Request, falcon.Response]:
    """The WSGI application."""
    gate = Gate(
        context.policy.trust, lambda: context.reader, NEEDS, lambda token_id: context.inbox.post(UseToken(token_id))
    )
    admission = Admission(context.bodies, context.uploads, context.inbox.postpone)
    standing_by = standby.Standby(context.active, NEEDS)
    app = falcon.App(middleware=(Requests(context, NEEDS), gate, standing_by, admission, EntityTags()))
    app.req_options.strip_url_path_trailing_slash = True
    app.req_options.auto_parse_qs_csv = False
    app.req_options.keep_blank_qs_values = True
    problem.install(app)
    standby.install(app, context.active, StandbyError, StoreDeposed)
    for path, handler, _ in ROUTES:
        app.add_route(path, handler(context))
    return app
