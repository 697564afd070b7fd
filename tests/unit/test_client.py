"""The Python client where it needs no scheduler: what it sends, and what it makes of what it is given."""

from __future__ import annotations

import pytest

from zsched.client import JOBS_MAX, NAME_CHARS, SUBMIT_BYTES_MAX, Client, ClientError, Job, View, batches, spec


def test_a_job_without_a_name_is_called_by_the_beginning_of_its_command() -> None:
    assert spec("make\n  test")["name"] == "make test"
    assert spec("x" * 100)["name"] == "x" * (NAME_CHARS - 1) + "…"
    assert spec("make", name="ci")["name"] == "ci"


def test_only_what_was_asked_for_is_sent() -> None:
    assert spec("ls") == {"name": "ls", "command": "ls"}
    assert spec("ls", timeout=5, schedule="* * * * *", run_now=True) == {
        "name": "ls",
        "command": "ls",
        "timeout": 5,
        "schedule": "* * * * *",
        "run_now": True,
    }


def test_many_jobs_are_as_few_requests_as_can_carry_them_in_order() -> None:
    bodies: list[View] = [{"n": number} for number in range(JOBS_MAX + 5)]
    assert [len(batch) for batch in batches(bodies)] == [JOBS_MAX, 5]
    assert [body for batch in batches(bodies) for body in batch] == bodies
    assert list(batches([])) == []


def test_a_request_stays_below_its_size_unless_one_job_alone_is_larger() -> None:
    third: View = {"command": "x" * (SUBMIT_BYTES_MAX // 3)}
    huge: View = {"command": "x" * (SUBMIT_BYTES_MAX + 1)}
    assert [len(batch) for batch in batches([third, third, third, huge, third])] == [2, 1, 1, 1]


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://localhost", "http://", "http://[::1", "http://h:port"])
def test_what_is_no_url_of_a_scheduler_is_refused_with_the_form(url: str) -> None:
    with pytest.raises(ClientError, match="write it like http://localhost:8080"):
        Client(url)


def test_the_url_comes_from_the_caller_then_the_environment_then_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZSCHED_URL", "http://there:1/")
    assert Client("http://here:2").url == "http://here:2"
    assert Client().url == "http://there:1"
    monkeypatch.delenv("ZSCHED_URL")
    assert Client().url == "http://localhost:8080"


def test_a_job_reads_as_the_scheduler_told() -> None:
    run = {"run_id": 9, "exit_code": 3, "reason": "exit"}
    job = Job(Client(), {"id": 4, "name": "n", "command": "c", "status": "failed", "last_run": run})
    assert (job.id, job.name, job.command, job.status, job.done) == (4, "n", "c", "failed", True)
    assert (job.exit_code, job.signal, job.reason, job.run) == (3, None, "exit", run)
    assert repr(job) == "<Job 4 failed: 'n'>"
    pending = Job(Client(), {"id": 5, "name": "n", "command": "c", "status": "pending"})
    assert (pending.done, pending.exit_code, pending.run) == (False, None, {})
