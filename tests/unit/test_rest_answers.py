"""What callers are answered when the database can be written and not be read by their own thread: its file has no name
any more. What was done is never answered as if it had not been.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.rest import ME, Rest
from tests.unit.world import TEST, World
from zsched.model.backoff import Backoff
from zsched.model.limits import OUTPUT_BYTES_MAX
from zsched.model.types import JobId, JobSpec, OnDisconnect, OnLost, Policy
from zsched.scheduler.dispatcher.commands import Made, Submit
from zsched.security.keys import new_pair

NEVER = "0 0 1 1 *"
JOB = {"name": "j", "command": "true"}
UNUSUAL = Policy(
    timeout_ms=5,
    grace_ms=6,
    retries=7,
    backoff=Backoff(initial_ms=1, factor=2.5, max_ms=3, jitter=0.5),
    on_lost=OnLost.FAIL,
    on_disconnect=OnDisconnect.STOP,
    crash_limit=8,
)


@pytest.fixture
def blind(tmp_path: Path) -> Iterator[Rest]:
    """A scheduler whose database is open in the loop alone."""
    with Rest(tmp_path) as started:
        started.path.unlink()
        assert started.get("/jobs").status_code == 503
        yield started


def done(answer: Any, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json


def test_a_submit_is_answered_with_its_jobs(blind: Rest) -> None:
    one = done(blind.post("/jobs", JOB | {"timeout": "5s", "retries": 2}), 201)
    assert (one["id"], one["status"], one["owner"], one["timeout"], one["retries"]) == (1, "pending", ME, "5s", 2)
    answer = blind.post("/jobs", [JOB, JOB | {"schedule": NEVER}, JOB])
    assert [(job["id"], job["status"], job.get("schedule")) for job in done(answer, 201)] == [
        (2, "pending", None),
        (3, "pending", NEVER),
        (4, "pending", None),
    ]
    assert answer.headers["Zsched-Jobs"] == "2-4"


def test_changes_of_a_job_are_answered_with_the_job(blind: Rest) -> None:
    plain, cron = blind.submit(), blind.submit(schedule=NEVER, run_now=True)
    cancelled = done(blind.post(f"/jobs/{plain}/cancel"))
    assert (cancelled["status"], cancelled["last_run"]["status"]) == ("cancelled", "cancelled")
    assert "paused_at" in done(blind.post(f"/jobs/{cron}/pause"))
    assert "next_fire_at" in done(blind.post(f"/jobs/{cron}/resume"))
    assert done(blind.call("PATCH", f"/jobs/{cron}", json={"name": "other"}))["name"] == "other"
    ended = done(blind.call("DELETE", f"/jobs/{cron}?cancel=1"))
    assert (ended["last_run"]["status"], "ended_at" in ended) == ("cancelled", True)


def test_what_a_worker_says_is_answered_with_its_run(blind: Rest) -> None:
    job = blind.submit()
    assert done(blind.post("/workers/register", {"worker_id": "w1"}))["status"] == "active"
    run = blind.take("w1")["run_id"]
    assert done(blind.report(job, "w1", "running"))["status"] == "running"
    ended = done(blind.report(job, "w1", "failed", logs="no", exit_code=3))
    assert (ended["run_id"], ended["status"], ended["exit_code"], ended["logs"]) == (run, "failed", 3, "no")


def test_tokens_and_keys_are_answered_with_what_was_stored(tmp_path: Path) -> None:
    with Rest(tmp_path, server_key=new_pair().public) as rest:
        made = done(rest.post("/tokens", {"scopes": ["submit"], "name": "ci"}), 201)
        key = new_pair().public
        done(rest.post("/workers/enrol", {"worker_id": "w1", "public_key": key}))
        rest.path.unlink()
        assert done(rest.call("DELETE", "/access/w1"))["public_key"] == key
        # Its name is looked up before anything is done.
        rest.context._local.__dict__.clear()
        answer = rest.call("DELETE", "/tokens/ci")
        assert answer.status_code == 503
        assert made["name"] == "ci"


def test_a_change_is_answered_without_an_output_that_is_damaged(world: World) -> None:
    job_id = world.recurring("0 0 1 1 *", run_now=True)
    run_id = world.runs(job_id)[0].run_id
    world.by_hand("UPDATE runs SET detail = CAST(x'ff' AS TEXT) WHERE run_id = ?", run_id)
    world.by_hand("UPDATE jobs SET name = 'n' WHERE job_id = ?", job_id)
    state = world.pause(job_id)
    assert (state.job.job_id, state.job.paused_ms is not None, state.last) == (job_id, True, None)


@pytest.mark.parametrize(
    "spec",
    [
        JobSpec(name="plain", command="true"),
        JobSpec(name="all", command="x", policy=UNUSUAL),
        JobSpec(name="cron", command="true", schedule="*/5 * * * *"),
        JobSpec(name="now", command="true", schedule="*/5 * * * *", run_now=True),
        JobSpec(name="vars", command="true", user="nobody", env={"A": "ä"}, secret_env={"B": "sealed"}),
        JobSpec(name="none", command="true", env={}, secret_env={}),
    ],
    ids=lambda spec: str(spec.name),
)
def test_a_job_as_it_is_answered_is_the_job_as_it_is_stored(world: World, spec: JobSpec) -> None:
    made = world.ask(Submit((spec, spec), TEST))
    assert isinstance(made, Made)
    assert list(made.jobs()) == [world.job(JobId(1)), world.job(JobId(2))]


def test_the_output_of_a_report_is_in_its_answer(blind: Rest) -> None:
    job = blind.submit()
    blind.register("w1")
    blind.take("w1")
    logs = "x" * OUTPUT_BYTES_MAX
    assert done(blind.report(job, "w1", "success", logs=logs))["logs"].startswith("xxx")
