"""The Falcon app: the routes, the gate in front of them, the one error body behind them."""

from __future__ import annotations

import falcon

from zsched.api import jobs, problem, runs, status, workers
from zsched.api.context import Context
from zsched.api.gate import Gate


def make_app(context: Context) -> falcon.App[falcon.Request, falcon.Response]:
    """The WSGI application."""
    app = falcon.App(middleware=[Gate()])
    app.req_options.strip_url_path_trailing_slash = True
    app.req_options.auto_parse_qs_csv = False
    app.req_options.keep_blank_qs_values = True
    problem.install(app)
    app.add_route("/jobs", jobs.Jobs(context))
    app.add_route("/jobs/{job}", jobs.JobItem(context))
    app.add_route("/jobs/{job}/runs", jobs.JobRuns(context))
    app.add_route("/jobs/{job}/cancel", jobs.JobCancel(context))
    app.add_route("/jobs/{job}/log", jobs.JobLog(context))
    app.add_route("/runs/{run}", runs.RunItem(context))
    app.add_route("/runs/{run}/log", runs.RunLog(context))
    app.add_route("/workers", workers.Workers(context))
    app.add_route("/workers/register", workers.Register(context))
    app.add_route("/workers/heartbeat", workers.Heartbeat(context))
    app.add_route("/workers/enrol", workers.Enrol(context))
    app.add_route("/workers/{worker}", workers.WorkerItem(context))
    app.add_route("/workers/{worker}/next", workers.NextRun(context))
    app.add_route("/healthz", status.Health())
    app.add_route("/readyz", status.Readiness(context))
    app.add_route("/stats", status.Stats(context))
    app.add_route("/version", status.Version())
    return app
