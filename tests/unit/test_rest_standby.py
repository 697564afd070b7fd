"""REST of a scheduler that stands by: reads are answered, and everything else names the active scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from tests.unit.rest import Rest, until
from zsched import __version__
from zsched.api.app import ROUTES
from zsched.model.records import Instance, Role
from zsched.scheduler.inbox import StandbyError
from zsched.store.contract import StoreDeposed
from zsched.store.sqlite.engine import SqliteEngine

A = Instance(
    instance="aa",
    role=Role.ACTIVE,
    host="a",
    pid=7,
    version="1.2.3",
    url="http://a:8080",
    endpoint="tcp://a:5555",
    public_key="",
    started_ms=1_700_000_000_000,
    seen_ms=1_700_000_001_000,
)
B = changed(A, instance="bb", role=Role.STANDBY, host="b", url="http://b:8080", endpoint="tcp://b:5555")

# What needs the loop, by hand: the table of scopes must agree.
WRITES = {
    *("POST /jobs", "POST /jobs/bulk", "PATCH /jobs/{job}", "DELETE /jobs/{job}", "POST /jobs/{job}/cancel"),
    *("POST /flows", "POST /jobs/purge", "POST /jobs/{job}/pause", "POST /jobs/{job}/resume", "POST /jobs/{job}/log"),
    *("POST /jobs/{job}/hold", "POST /jobs/{job}/release", "POST /jobs/{job}/rerun"),
    *("POST /workers/register", "POST /workers/heartbeat", "POST /workers/enrol", "GET /workers/{worker}/next"),
    *("POST /jobs/{job}/hold", "POST /jobs/{job}/release", "POST /jobs/{job}/rerun"),
    *("PATCH /queues/{queue}", "POST /queues/{queue}/pause", "POST /queues/{queue}/resume"),
    *("POST /foreign/{worker}/keep", "POST /foreign/{worker}/discard"),
    *("POST /tokens", "DELETE /tokens/{token}", "DELETE /access/{worker}", "DELETE /workers/{worker}"),
}


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Rest]:
    with Rest(tmp_path) as rest:
        rest.submit()
        rest.register("w1")
        rest.context.facts = replace(rest.context.facts, own=B, active="http://a:8080")
        rest.inbox.close(StandbyError)
        with closing(SqliteEngine(rest.path)) as engine:
            engine.execute(
                "INSERT INTO instances VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*(A.instance, A.role, A.host, A.pid, A.version, A.url, A.endpoint), "", A.started_ms, A.seen_ms),
            )
        yield rest


@pytest.mark.slow
@pytest.mark.parametrize("call", [f"{method} {path}" for path, _, needed in ROUTES for method in needed])
def test_standby_answers_reads_and_refuses_the_rest(rest: Rest, call: str) -> None:
    method, path = call.split(" ")
    path = path.replace(":path}", "}").format(job=1, flow=1, run=1, worker="w1", queue="q", token="0" * 12, path="a")
    answer = rest.call(method, path, **({"json": {}} if method == "POST" else {}))
    if call not in WRITES:
        assert answer.status_code in (200, 400, 404, 409), answer.text
        return
    assert (answer.status_code, answer.json["code"], answer.json["active"]) == (503, "standby", "http://a:8080")
    assert answer.headers["Retry-After"] == "1"
    assert answer.json["detail"] == "This scheduler stands by, and answers reads alone: send this to http://a:8080"


def test_standby_does_not_name_an_unknown_active_scheduler(rest: Rest) -> None:
    rest.context.facts = replace(rest.context.facts, active="")
    answer = rest.post("/jobs", {"name": "j", "command": "true"})
    assert (answer.status_code, answer.json["code"]) == (503, "standby")
    assert "active" not in answer.json


def test_caller_of_a_replaced_scheduler_is_sent_to_a_standby(rest: Rest) -> None:
    """It is not known yet that another one leads, and the loop is gone."""
    rest.context.facts = replace(rest.context.facts, own=A)
    for error in (StandbyError, StoreDeposed):
        rest.inbox.close(error)
        answer = rest.post("/jobs", {"name": "j", "command": "true"})
        assert (answer.status_code, answer.json["code"]) == (503, "standby"), answer.text


def test_live_output_is_the_active_schedulers(rest: Rest) -> None:
    rest.inbox.open()
    rest.context.facts = replace(rest.context.facts, own=A)
    rest.take("w1")
    rest.context.facts = replace(rest.context.facts, own=B)
    rest.inbox.close(StandbyError)
    answer = rest.get("/runs/1/log")
    assert (answer.status_code, answer.json["code"]) == (503, "standby")


def test_callers_that_wait_at_a_standby_look_again(rest: Rest) -> None:
    """The other scheduler ends the job: a standby looks again and again."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(rest.get, "/jobs/1?wait=30s")
        until(lambda: rest.live.waiting == 1 or waiting.done())
        rest.live.wake_all()
        rest.live.close()
        assert waiting.result(10).status_code == 200


def test_role_and_schedulers_are_shown(rest: Rest) -> None:
    stats = rest.get("/stats").json
    assert stats["role"] == rest.get("/version").json["role"] == "standby"
    assert [(one["role"], one["url"], one["id"]) for one in stats["schedulers"]] == [
        ("active", "http://a:8080", "aa"),
        ("standby", "http://b:8080", "bb"),
    ]
    ready = rest.get("/readyz")
    assert (ready.status_code, ready.text) == (200, "standby\nschedulers: 1 active, 1 standby\n")
    assert rest.get("/readyz?role=active").status_code == 503
    rest.ready = False
    unready = rest.get("/readyz")
    assert (unready.status_code, unready.text) == (503, "unready\n")


def test_scheduler_alone_shows_itself(tmp_path: Path) -> None:
    with Rest(tmp_path) as rest:
        stats = rest.get("/stats").json
        assert (stats["role"], len(stats["schedulers"])) == ("active", 1)
        assert stats["schedulers"][0]["version"] == __version__
        assert rest.get("/readyz").text == "ready\n"
        assert rest.get("/readyz?role=active").status_code == 200
        for query in ("role=standby", "role=", "role=active&role=active", "role=null&role=null"):
            assert rest.get(f"/readyz?{query}").status_code == 400, query
