"""What GET /jobs/{id} says of why a job is pending."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.unit.rest import Rest
from zsched.store.sqlite.engine import SqliteEngine

# In no year that a test meets.
NEVER = "0 0 31 12 *"


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Rest]:
    with Rest(tmp_path) as rest:
        yield rest


def register(rest: Rest, worker: str, *can: str) -> None:
    assert rest.post("/workers/register", {"worker_id": worker, "can": can}).status_code == 200


def claim(rest: Rest, worker: str) -> int:
    """The run that the worker gets next."""
    run: int = rest.get(f"/workers/{worker}/next").json["job"]["run_id"]
    return run


def why(rest: Rest, job: int) -> tuple[str, str]:
    told = rest.get(f"/jobs/{job}").json["why"]
    return told["code"], told["detail"]


def test_without_workers_a_job_waits_for_one(rest: Rest) -> None:
    assert why(rest, rest.submit()) == ("no_workers", "no worker is active")


def test_a_job_that_no_worker_can_take_names_what_is_missing(rest: Rest) -> None:
    register(rest, "r1")
    job = rest.submit(env={"A": "b"})
    assert why(rest, job) == ("no_match", "no active worker can take it: worker r1 can't do env")
    register(rest, "r2", "env")
    assert why(rest, job) == ("no_capacity", "it waits for a free slot on a worker")


def test_a_worker_that_is_about_to_end_takes_nothing(rest: Rest) -> None:
    register(rest, "r1")
    job = rest.submit()
    with closing(SqliteEngine(rest.path)) as engine:
        engine.execute("UPDATE workers SET leaving_ms = 1")
    assert why(rest, job) == ("draining", "worker r1 could take it, but is about to end")


def test_a_recurring_job_waits_for_its_next_fire(rest: Rest) -> None:
    job = rest.submit(schedule=NEVER)
    assert why(rest, job) == ("scheduled", "it waits for its next fire")
    rest.post(f"/jobs/{job}/pause")
    assert why(rest, job) == ("paused", "its schedule is paused")


def test_a_retry_waits_for_its_time(rest: Rest) -> None:
    register(rest, "r1")
    job = rest.submit(retries=3, backoff={"initial": "1h", "jitter": 0})
    report = {"worker_id": "r1", "run_id": claim(rest, "r1"), "status": "failed", "exit_code": 1}
    assert rest.post(f"/jobs/{job}/log", report).status_code == 200
    due = rest.get(f"/jobs/{job}").json["last_run"]["due_at"]
    assert why(rest, job) == ("backoff", f"after 1 failure: it is tried again at {due}")


def test_a_suspect_waits_for_its_probation(rest: Rest) -> None:
    register(rest, "r1")
    job = rest.submit()
    report = {"worker_id": "r1", "run_id": claim(rest, "r1"), "status": "running"}
    assert rest.post(f"/jobs/{job}/log", report).status_code == 200
    register(rest, "r1")
    code, detail = why(rest, job)
    assert code == "probation"
    beside = "with at most 63 other suspects on a worker"
    assert detail == f"after 1 crash: it waits for its probation, {beside}, until it has lived there for a second"
    assert "probation" not in rest.get(f"/jobs/{job}").json["last_run"]


def test_a_running_job_says_that_it_is_on_probation(rest: Rest) -> None:
    register(rest, "r1")
    job = rest.submit()
    claim(rest, "r1")
    register(rest, "r1")
    run = claim(rest, "r1")
    assert rest.get(f"/jobs/{job}").json["last_run"]["probation"] is True
    assert rest.get(f"/runs/{run}").json["probation"] is True
    assert [listed.get("probation") for listed in rest.get(f"/jobs/{job}/runs").json] == [True, None]
    for report in ({"status": "running"}, {"status": "success", "exit_code": 0}):
        assert rest.post(f"/jobs/{job}/log", {"worker_id": "r1", "run_id": run} | report).status_code == 200
    assert "probation" not in rest.get(f"/jobs/{job}").json["last_run"]


def test_only_a_pending_job_says_why(rest: Rest) -> None:
    register(rest, "r1")
    job = rest.submit()
    claim(rest, "r1")
    assert "why" not in rest.get(f"/jobs/{job}").json
    assert "why" not in rest.get("/jobs").json[0]
