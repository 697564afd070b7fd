"""Queues, limits and unique keys on real processes: what a witness file, the command and the client see."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.system.process import WorkerProcess
from tests.system.session import Scheduler, until
from tests.system.test_command_line import Cli
from zsched.client.client import Client, Refused, View

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow

JOBS, LIMIT = 200, 3
# Of the large owner; the small one has ten.
CROWD = 10_000


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Cli]:
    """A scheduler with three workers: two serve `default` alone, one also `nightly`."""
    with ExitStack() as stack:
        scheduler = stack.enter_context(Scheduler(tmp_path))
        for name, queues in (("w1", "default"), ("w2", "default"), ("w3", "default,nightly")):
            folder = tmp_path / name
            folder.mkdir()
            stack.enter_context(WorkerProcess(scheduler.url, folder, slots=4, id=name, queues=queues))
        until(lambda: scheduler.workers() == dict.fromkeys(("w1", "w2", "w3"), "active"))
        yield Cli(scheduler, tmp_path)


def most_at_once(witness: Path) -> int:
    """The most jobs that were there at once, by what each wrote at its start and its end."""
    most = count = 0
    for sign in witness.read_text("ascii").split():
        count += 1 if sign == "+" else -1
        most = max(most, count)
    assert count == 0
    return most


def test_no_more_jobs_than_the_limit_run_at_once_on_three_workers(place: Cli, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    command = f"echo + >> {witness}; sleep 0.05; echo - >> {witness}"
    body = {"name": "j", "command": command, "limits": {"db": LIMIT}}
    with Client(place.scheduler.url) as client:
        jobs = client.submit_all([body] * JOBS)
        assert set(client.wait(jobs, timeout=120).values()) == {"success"}
    assert witness.read_text("ascii").count("+") == JOBS
    assert most_at_once(witness) == LIMIT
    workers = {place.scheduler.last_run(job.id)["worker_id"] for job in jobs}
    assert workers == {"w1", "w2", "w3"}
    assert place.scheduler.get("/queues") == [{"name": "default", "paused": False, "pending": 0, "running": 0}]


def test_small_owner_does_not_wait_behind_a_crowd(place: Cli) -> None:
    url = place.scheduler.url
    tokens = {
        name: place.scheduler.post("/tokens", {"scopes": ["read", "submit"], "name": name})["token"]
        for name in ("large", "small")
    }
    place.scheduler.ask("PATCH", "/queues/default", {"fair": "owner"})
    with Client(url, tokens["large"]) as large, Client(url, tokens["small"]) as small:
        large.submit_all([{"name": "j", "command": "sleep 0.02"}] * CROWD)
        until(lambda: place.scheduler.get("/queues")[0]["running"] > 0)
        begin = time.monotonic()
        jobs = small.submit_all([{"name": "j", "command": "sleep 0.02"}] * 10)
        small.wait(jobs, timeout=60)
        took_s = time.monotonic() - begin
        left = place.scheduler.get("/stats")["tasks"]["pending"]
    # Shown by pytest -s.
    sys.stderr.write(f"10 jobs beside {CROWD:,} of another owner: {took_s:.2f} s, {left:,} of the others left\n")
    assert left > CROWD // 2
    assert took_s < 10


def test_unique_job_is_printed_and_not_submitted_again(place: Cli) -> None:
    first = place.good("submit", "-q", "--unique", "index", "--queue", "nowhere", "true").strip()
    said = f"zsched: Job {first} has not ended, and has the unique key index\n"
    assert place("submit", "-q", "--unique", "index", "false") == (0, f"{first}\n", said)
    assert place("submit", "--unique", "index", "false") == (0, f"job {first}\n", said)
    assert json.loads(place("submit", "--json", "--unique", "index", "false")[1])["id"] == int(first)
    with Client(place.scheduler.url) as client:
        with pytest.raises(Refused) as refused:
            client.submit("false", unique="index")
        assert (refused.value.code, refused.value.existing) == ("unique", int(first))
        client.get(int(first)).cancel()
    assert place.good("run", "--unique", "index", "echo again") == "again\n"


def test_queue_is_paused_and_resumed_by_command(place: Cli) -> None:
    assert place.good("queue", "-q").split() == ["default"]
    lines = place.good("queue", "pause", "nightly", "--reason", "disk full").splitlines()
    assert lines[1].split()[:4] == ["nightly", "paused", "0", "0"]
    assert lines[1].endswith("disk full")
    job = place.good("submit", "-q", "--queue", "nightly", "--priority", "7", "true").strip()
    assert "the queue nightly is paused: disk full" in place.good("show", job)
    assert place.good("list", "-q", "--queue", "nightly").split() == [job]
    head, row = place.good("list", "--queue", "nightly").splitlines()[:2]
    assert ("queue" in head, "priority" in head, "nightly" in row, "7" in row) == (True,) * 4
    assert "queue" not in place.good("list", "--queue", "default").splitlines()[0]
    assert place.good("queue", "resume", "nightly", "--json").startswith("[")
    until(lambda: place.scheduler.get(f"/jobs/{job}")["status"] == "success")
    assert place.scheduler.last_run(int(job))["worker_id"] == "w3"
    shared: list[View] = json.loads(place.good("queue", "share", "--fair", "owner", "nightly", "--json"))
    assert shared[0]["fair"] == "owner"
    assert place.good("queue", "share", "--fair", "none", "nightly", "-q").split() == ["nightly"]
    assert "default,nightly" in place.good("workers")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("submit", "--priority", "high", "true"), "--priority takes a number"),
        (("submit", "--limit", "db", "true"), "--limit takes KEY=COUNT"),
        (("submit", "--limit", "db=x", "true"), "--limit takes KEY=COUNT"),
        (("submit", "--queue", "a b", "true"), "queue: a queue's name"),
        (("queue", "share", "nightly"), "missing --fair=BY"),
        (("queue", "pause"), "missing <queue>"),
        (("queue", "pause", ""), "invalid queue '': use 1 to 64 letters"),
    ],
)
def test_wrong_usage_is_explained(place: Cli, words: tuple[str, ...], said: str) -> None:
    code, _, err = place(*words)
    assert code == 2
    assert said in err
