"""Paths, methods and the error body: what is taken where, and how everything else is refused."""

from __future__ import annotations

import gc
import logging
import os
import re
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import falcon
import pytest
from falcon import inspect

from tests.unit.rest import Rest, problem
from zsched import __version__
from zsched.api import context
from zsched.api.app import make_app
from zsched.api.context import Context, Facts
from zsched.api.refusals import KINDS
from zsched.model.limits import KIB
from zsched.scheduler.inbox import Inbox

TAKEN = {
    "/jobs": {"GET", "HEAD", "POST"},
    "/jobs/bulk": {"POST"},
    "/jobs/purge": {"POST"},
    "/jobs/wait": {"POST"},
    "/flows": {"POST"},
    "/flows/{flow}": {"GET", "HEAD"},
    "/jobs/{job}": {"GET", "HEAD", "PATCH", "DELETE"},
    "/jobs/{job}/runs": {"GET", "HEAD"},
    "/jobs/{job}/cancel": {"POST"},
    "/jobs/{job}/pause": {"POST"},
    "/jobs/{job}/resume": {"POST"},
    "/jobs/{job}/hold": {"POST"},
    "/jobs/{job}/release": {"POST"},
    "/jobs/{job}/rerun": {"POST"},
    "/jobs/{job}/artifacts": {"GET", "HEAD"},
    "/jobs/{job}/artifacts/{path:path}": {"GET", "HEAD"},
    "/jobs/{job}/log": {"GET", "HEAD", "POST"},
    "/jobs/{job}/tasks": {"GET", "HEAD"},
    "/runs/{run}": {"GET", "HEAD"},
    "/runs/{run}/log": {"GET", "HEAD"},
    "/runs/{run}/artifacts": {"GET", "HEAD"},
    "/runs/{run}/artifacts/{path:path}": {"GET", "HEAD"},
    "/workers": {"GET", "HEAD"},
    "/workers/register": {"POST"},
    "/workers/heartbeat": {"POST"},
    "/workers/enrol": {"POST"},
    "/workers/{worker}": {"GET", "HEAD", "DELETE"},
    "/workers/{worker}/next": {"GET"},
    "/healthz": {"GET", "HEAD"},
    "/readyz": {"GET", "HEAD"},
    "/stats": {"GET", "HEAD"},
    "/usage": {"GET", "HEAD"},
    "/version": {"GET", "HEAD"},
    "/queues": {"GET", "HEAD"},
    "/queues/{queue}": {"PATCH"},
    "/queues/{queue}/pause": {"POST"},
    "/queues/{queue}/resume": {"POST"},
    "/foreign": {"GET", "HEAD"},
    "/foreign/{worker}/keep": {"POST"},
    "/foreign/{worker}/discard": {"POST"},
    "/tokens": {"GET", "HEAD", "POST"},
    "/tokens/{token}": {"DELETE"},
    "/access": {"GET", "HEAD"},
    "/access/{worker}": {"DELETE"},
    "/events": {"GET", "HEAD"},
    "/openapi.json": {"GET", "HEAD"},
}
# The parameters that a POST takes.
PARAMETERS = {
    **dict.fromkeys((f"/jobs/{{job}}/{act}" for act in ("pause", "resume")), "reason"),
    **dict.fromkeys((f"/jobs/{{job}}/{act}" for act in ("cancel", "hold", "release")), "reason, task"),
    "/jobs/{job}/rerun": "reason, task, only",
}
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE"}


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Rest]:
    with Rest(tmp_path) as started:
        yield started


def real(path: str) -> str:
    ids = {"job": "1", "flow": "1", "run": "1", "worker": "w1", "queue": "default", "token": "0", "path": "a"}
    return re.sub(r"\{(\w+)(?::path)?\}", lambda name: ids[name[1]], path)


def allowed(value: str) -> set[str]:
    return set(value.split(", "))


def test_this_is_all_that_there_is(rest: Rest) -> None:
    found = {
        route.path: {method.method for method in route.methods if not method.internal}
        for route in inspect.inspect_routes(rest.app)
    }
    assert found == TAKEN


@pytest.mark.slow
@pytest.mark.parametrize("path", TAKEN)
def test_every_other_method_is_405_with_what_is_taken(rest: Rest, path: str) -> None:
    rest.submit()
    rest.register("w1")
    before = rest.get("/jobs/1").text
    for method in sorted(METHODS - TAKEN[path]):
        answer = rest.call(method, real(path), body=b"{}" if method in ("PUT", "PATCH", "POST") else b"")
        assert answer.status_code == 405, method
        assert allowed(answer.headers["Allow"]) == TAKEN[path] | {"OPTIONS"}
        if method != "HEAD":
            assert answer.json["code"] == "method_not_allowed"
            sentence = f"{real(path)} does not take {method}; it takes {answer.headers['Allow']}"
            assert answer.json["error"] == answer.json["detail"] == sentence
    assert rest.get("/jobs/1").text == before


@pytest.mark.parametrize("path", [path for path, methods in TAKEN.items() if methods == {"POST"} or path == "/jobs"])
def test_post_with_an_unknown_parameter_does_nothing(rest: Rest, path: str) -> None:
    """What it was meant to change would be done without the change."""
    rest.submit()
    before = rest.get("/jobs").text
    body = {"name": "j", "command": "true"} if path == "/jobs" else {"worker_id": "w2"}
    answer = rest.post(real(path), body, query_string="dry_run=1")
    known = PARAMETERS.get(path)
    detail = f"unknown parameter; there are {known}" if known else "no parameter is taken here"
    problem(answer, 400, "invalid_request", f"dry_run: {detail}", ("dry_run", detail))
    assert rest.get("/jobs").text == before
    assert rest.get("/workers").json == []


@pytest.mark.parametrize("path", ["/version", "/stats", "/openapi.json"])
def test_a_read_that_takes_no_parameters_says_so(rest: Rest, path: str) -> None:
    detail = "no parameter is taken here"
    problem(rest.get(path, query_string="x=1"), 400, "invalid_request", f"x: {detail}", ("x", detail))


def test_a_number_may_begin_with_any_number_of_zeros(rest: Rest) -> None:
    for _ in range(3):
        rest.submit()
    zeros = "0" * 5_000
    assert [job["id"] for job in rest.get("/jobs", query_string=f"limit={zeros}1&offset={zeros}1").json] == [2]
    assert rest.get("/jobs", query_string=f"offset={'9' * 5_000}").json == []
    assert rest.get("/jobs", query_string=f"limit={zeros}").status_code == 400


@pytest.mark.slow
@pytest.mark.parametrize("path", TAKEN)
def test_options_says_what_is_taken(rest: Rest, path: str) -> None:
    answer = rest.call("OPTIONS", real(path))
    assert (answer.status_code, answer.content) == (200, b"")
    assert allowed(answer.headers["Allow"]) - {"OPTIONS"} == TAKEN[path]


def test_head_is_a_get_without_its_body(rest: Rest) -> None:
    rest.submit(artifacts=["a"])
    rest.register("w1", can=["artifacts"])
    rest.take("w1")
    rest.report(1, "w1", "success", artifacts={"a": "x"})
    rest.submit(array="0-1")
    rest.post("/flows", {"jobs": {"first": {"command": "true"}}})
    for path in (real(path) for path, methods in TAKEN.items() if "HEAD" in methods):
        path = path.replace("/jobs/1/tasks", "/jobs/2/tasks").replace("/flows/1", "/flows/3")
        named = {"X-Request-Id": "same"}
        head, get = rest.call("HEAD", path, headers=named), rest.get(path, headers=named)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers == get.headers


def test_a_head_of_next_hands_out_nothing(rest: Rest) -> None:
    """A HEAD whose body is thrown away would lose a job."""
    rest.submit()
    rest.register("w1")
    answer = rest.call("HEAD", "/workers/w1/next")
    assert answer.status_code == 405
    assert allowed(answer.headers["Allow"]) == {"GET", "OPTIONS"}
    assert rest.get("/jobs/1").json["status"] == "pending"


@pytest.mark.parametrize("path", ["/", "/job", "/jobs/1/2/3", "/jobs/1/Log", "/JOBS", "/workers/w1/next/x", "/metrics"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_path_that_is_not_there_is_404(rest: Rest, path: str, method: str) -> None:
    problem(rest.call(method, path), 404, "not_found", f"There is nothing at {path}")


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("application/problem+json", "application/problem+json"),
        ("application/json, application/problem+json;q=0.9", "application/problem+json"),
        ("text/html", "application/json"),
    ],
)
def test_an_error_is_a_problem_document_for_whoever_asks_for_one(rest: Rest, accept: str | None, media: str) -> None:
    headers = {} if accept is None else {"Accept": accept}
    for answer in (
        rest.post("/jobs", {}, headers=headers),
        rest.get("/jobs/7", headers=headers),
        rest.call("DELETE", "/jobs", headers=headers),
        rest.get("/jobs", host="example.com", headers=headers),
    ):
        assert answer.headers["Content-Type"] == media
        assert answer.json["status"] == answer.status_code
        assert answer.json["type"] == "about:blank"


def test_the_stats_count_tasks_and_workers_by_status(rest: Rest) -> None:
    for _ in range(3):
        rest.submit()
    rest.register("w1")
    assert rest.get("/workers/w1/next").json["job"]["id"] == 1
    stats = rest.get("/stats").json
    assert len(stats.pop("schedulers")) == 1
    assert stats == {
        "tasks": {"pending": 2, "running": 1, "success": 0, "failed": 0, "cancelled": 0},
        "workers": {"active": 1, "inactive": 0},
        "refused": dict.fromkeys(KINDS, 0),
        "version": __version__,
        "role": "active",
    }


def test_submit_beyond_the_pending_runs_allowed_is_429_and_stores_nothing(tmp_path: Path) -> None:
    with Rest(tmp_path, pending_max=2) as rest:
        rest.submit()
        refused = rest.post("/jobs", [{"name": "a", "command": "true"}, {"name": "b", "command": "true"}])
        assert refused.status_code == 429
        assert refused.json["code"] == "too_many_pending"
        assert refused.headers["Retry-After"] == "1"
        rest.submit()
        assert len(rest.get("/jobs").json) == 2
        # One starts, so another may wait.
        rest.register("w1")
        assert rest.post("/jobs", {"name": "c", "command": "true"}).status_code == 429
        rest.get("/workers/w1/next")
        rest.submit()


def test_version_is_answered(rest: Rest) -> None:
    assert rest.get("/version").json == {"name": "zsched", "version": __version__, "role": "active"}


def test_health_is_one_word(rest: Rest) -> None:
    answer = rest.get("/healthz")
    assert (answer.status_code, answer.text) == (200, "ok\n")
    answer = rest.get("/readyz")
    assert (answer.status_code, answer.text) == (200, "ready\n")
    rest.ready = False
    answer = rest.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "unready\n")
    assert rest.get("/healthz").status_code == 200


# --- when the scheduler can't ---------------------------------------------------------------------------------------


def test_a_scheduler_that_stops_says_try_again_and_still_answers_reads(rest: Rest) -> None:
    job = rest.submit()
    rest.register("w1")
    rest.stop()

    for answer in (
        rest.post("/jobs", {"name": "j", "command": "true"}),
        rest.post(f"/jobs/{job}/cancel"),
        rest.get("/workers/w1/next"),
        rest.post("/workers/heartbeat", {"worker_id": "w1"}),
    ):
        problem(answer, 503, "unavailable", "The scheduler is stopping")
        assert answer.headers["Retry-After"] == "1"
    assert rest.get(f"/jobs/{job}").json["status"] == "pending"


def test_a_full_store_says_try_again_and_has_stored_nothing(tmp_path: Path) -> None:
    with Rest(tmp_path, pages_free=8) as rest:
        small = rest.submit()

        answer = rest.post("/jobs", {"name": "j", "command": "x" * (90 * KIB)})
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "1"
        problem(answer, 503, "unavailable", answer.json["error"])
        assert "full" in answer.json["error"]

        assert [job["id"] for job in rest.get("/jobs").json] == [small]
        assert rest.submit() == small + 1


@contextmanager
def no_free_files() -> Iterator[list[int]]:
    """All descriptors of this process are taken, until those of the list are closed."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    # What earlier tests have left would close its files later.
    gc.collect()
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 10, limits[1]))
    taken: list[int] = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield taken
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        while taken:
            os.close(taken.pop())


def test_first_read_of_a_thread_waits_for_free_files(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "READER_WAIT_S", 60.0)
    rest.submit()
    with ThreadPoolExecutor(1) as pool, no_free_files() as taken:
        call = pool.submit(rest.get, "/jobs")
        with pytest.raises(TimeoutError):
            call.result(0.2)
        while taken:
            os.close(taken.pop())
        assert call.result(10).status_code == 200


def test_read_without_free_files_is_refused_after_its_time(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "READER_WAIT_S", 0.1)
    with ThreadPoolExecutor(1) as pool, no_free_files():
        answer = pool.submit(rest.get, "/jobs").result(10)
    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")


def test_bug_is_answered_without_its_traceback_and_logged_with_it(caplog: pytest.LogCaptureFixture) -> None:
    def open_reader() -> None:
        raise ZeroDivisionError("a secret")

    facts = Facts(db="", zmq_host="", zmq_port=0, ready=lambda: True)
    app = make_app(Context(Inbox(1), open_reader, facts))  # type: ignore[arg-type]  # it never returns
    with caplog.at_level(logging.ERROR):
        answer = Rest.ask(app, "GET", "/jobs")
    problem(answer, 500, "internal", "The scheduler failed at this request; its log says why")
    assert "ZeroDivisionError: a secret" in caplog.text
    assert isinstance(app, falcon.App)
