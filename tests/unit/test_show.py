"""What `zsched show` prints of a job that was on a worker that died."""

from __future__ import annotations

from typing import Any

from zsched.client.client import Client, Job
from zsched.commands import show

VIEW: dict[str, Any] = {
    "id": 1,
    "name": "a",
    "command": "true",
    "status": "running",
    "created_at": "2026-11-24T08:27:13.743Z",
}
RUN: dict[str, Any] = {"run_id": 2, "status": "running", "attempt": 2, "worker_id": "w1"}


def lines(**members: Any) -> dict[str, object]:
    return dict(show.details(Job(Client("http://localhost:1"), VIEW | members)))


def test_show_says_that_a_running_job_is_on_probation() -> None:
    said = "until it has lived for a second, because it was on a worker that died"
    assert lines(last_run=RUN | {"probation": True})["probation"] == said
    assert "probation" not in lines(last_run=RUN)


def test_show_says_nothing_of_the_probation_of_a_lost_run() -> None:
    assert "probation" not in lines(status="failed", last_run=RUN | {"status": "failed", "probation": True})


def test_show_says_that_a_pending_job_waits_for_its_probation() -> None:
    why = {"code": "probation", "detail": "after 1 crash: it waits for its probation"}
    assert lines(status="pending", why=why)["waits"] == "after 1 crash: it waits for its probation (probation)"
