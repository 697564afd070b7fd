"""Labels on real processes: jobs for certain workers, and one for each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.system.process import WorkerProcess
from tests.system.session import Scheduler, until
from tests.system.test_command_line import Cli
from zsched.client.client import Client, ClientError, Refused

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A scheduler with three workers, two of which have labels of their own."""
    folder = tmp_path_factory.mktemp("labels")
    with ExitStack() as stack:
        scheduler = stack.enter_context(Scheduler(folder))
        for name, labels in (("w1", "disk=ssd"), ("w2", "disk=ssd,gpu=a100"), ("w3", "")):
            own = folder / name
            own.mkdir()
            stack.enter_context(WorkerProcess(scheduler.url, own, slots=4, id=name, labels=labels))
        until(lambda: scheduler.workers() == dict.fromkeys(("w1", "w2", "w3"), "active"))
        yield Cli(scheduler, folder)


def test_each_worker_gets_one_job(place: Cli) -> None:
    out = place.good("submit", "--each-worker", "--wait", "echo $ZSCHED_WORKER")
    lines = out.splitlines()
    on = {line.split()[-1]: line.split()[1] for line in lines[:3]}
    assert sorted(on) == ["w1", "w2", "w3"]
    assert sorted(lines[3:]) == sorted(f"{job} success" for job in on.values())
    assert {worker: place.good("logs", job).strip() for worker, job in on.items()} == {name: name for name in on}
    with Client(place.scheduler.url) as client:
        jobs = client.submit_each_worker("echo $ZSCHED_WORKER", labels={"disk": "ssd"}, idempotency_key="once")
        again = client.submit_each_worker("echo $ZSCHED_WORKER", labels={"disk": "ssd"}, idempotency_key="once")
        assert {name: job.id for name, job in jobs.items()} == {name: job.id for name, job in again.items()}
        assert sorted(jobs) == ["w1", "w2"]
        assert {name: job.wait(30).logs().strip() for name, job in jobs.items()} == {"w1": "w1", "w2": "w2"}
        with pytest.raises(ClientError, match="no active worker serves the queue default and has the label disk=no"):
            client.submit_each_worker("true", labels={"disk": "no"})


def test_job_with_labels_runs_where_they_are(place: Cli) -> None:
    shown = place.good("run", "--label", "gpu=a100", "--label", "disk=ssd", "echo $ZSCHED_WORKER")
    assert shown == "w2\n"
    job = place.good("submit", "-q", "--label", "disk=tape", "true").strip()
    view = json.loads(place.good("show", "--json", job))
    assert (view["status"], view["labels"], view["why"]["code"]) == ("pending", {"disk": "tape"}, "no_match")
    assert "labels           disk=tape\n".replace(" ", "") in place.good("show", job).replace(" ", "")
    assert "disk=ssd,gpu=a100" in place.good("workers")
    with Client(place.scheduler.url) as client:
        client.get(int(job)).cancel()
        with pytest.raises(Refused, match="labels"):
            client.submit("true", labels={"disk": ""})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--label", "ssd", "true"), "--label takes NAME=VALUE"),
        (("--label", "a=1", "--label", "a=2", "true"), "--label takes NAME=VALUE"),
        (("--each-worker", "--unique", "k", "true"), "--each-worker submits several jobs"),
        (("--each-worker", "--each", "-", "true"), "--each-worker submits several jobs"),
    ],
)
def test_wrong_usage_is_explained(place: Cli, words: tuple[str, ...], said: str) -> None:
    code, _, err = place("submit", *words)
    assert code == 2
    assert said in err
