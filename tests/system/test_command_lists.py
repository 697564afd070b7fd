"""Filtered lists, the audit log, and the removal of old jobs: by the `zsched` command and by zsched.Client."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.system.process import WorkerProcess
from tests.system.session import Scheduler, until
from tests.system.test_command_line import Cli
from zsched.client.client import Client, Refused

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    folder = tmp_path_factory.mktemp("lists")
    with Scheduler(folder) as scheduler, WorkerProcess(scheduler.url, folder, slots=2):
        until(lambda: scheduler.workers() == {"w1": "active"})
        yield Cli(scheduler, folder)


def submit(cli: Cli, *words: str) -> str:
    """The number of a new job that has ended."""
    number = cli.good("submit", "-q", *words).strip()
    until(lambda: cli.scheduler.get(f"/jobs/{number}")["status"] in ("success", "failed"))
    return number


def test_tags_and_filters_of_the_list(cli: Cli) -> None:
    tagged = submit(cli, "--tag", "nightly", "--tag", "team=data", "--name", "Build-all", "true")
    failed = submit(cli, "--name", "Deploy", "false")
    lines = cli.good("list", "--tag", "nightly").splitlines()
    assert re.split(r" {2,}", lines[0].strip()) == ["job", "status", "submitted", "owner", "tags", "name"]
    assert re.split(r" {2,}", lines[1].strip())[-2:] == ["nightly,team=data", "Build-all"]
    filters = {
        ("--name", "Deploy"): [failed],
        ("--search", "BUILD"): [tagged],
        ("--worker", "w1", "--status", "failed", "--name", "Deploy"): [failed],
        ("--worker", "nobody"): [],
        ("--since", "1h", "--tag", "team=data"): [tagged],
        ("--since", "2099-01-01"): [],
    }
    for words, found in filters.items():
        assert cli.good("list", "-q", *words).split() == found, words
    # A script's variable may be unset: that is not every job.
    for option in ("--name", "--search", "--tag", "--worker", "--queue", "--owner", "--since"):
        assert cli("list", "-q", option, "")[:2] == (2, "")
    assert cli("events", "--worker", "")[:2] == (2, "")
    assert cli("usage", "--since", "")[:2] == (2, "")
    with Client(cli.scheduler.url) as client:
        assert [job.id for job in client.jobs(tag="nightly")] == [int(tagged)]
        assert client.submit("true", tags=["one"]).view["tags"] == ["one"]
        with pytest.raises(Refused, match="name: 1 to 256 characters"):
            list(client.jobs(name=""))
        with pytest.raises(Refused, match="invalid time"):
            list(client.jobs(since="soon"))
        with pytest.raises(TypeError, match="unexpected argument 'tagged'"):
            client.jobs(tagged="x")  # type: ignore[call-arg]


def test_events_of_a_job_and_those_that_follow(cli: Cli) -> None:
    number = submit(cli, "--name", "watched", "exit 3")
    lines = cli.good("events", "--job", number).splitlines()
    assert len(lines) == 3
    assert re.fullmatch(
        rf"\S+ \S+Z #\d+ job {number} run \d+ on w1 running → failed \(exit\)( \(.*\))? by worker w1", lines[-1]
    ), lines[-1]
    assert [json.loads(line)["became"] for line in cli.good("events", "--json", "--job", number).splitlines()] == [
        *("pending", "running", "failed")
    ]
    assert len(cli.good("events", "--kind", "failed", "--limit", "1").splitlines()) == 1
    assert len(cli.good("events").splitlines()) <= 20
    with Client(cli.scheduler.url) as client:
        last = max(event["id"] for event in client.events())
        followed = client.events(after=last, follow=True, kind="cancelled")
        job = client.submit("true", schedule="0 0 1 1 *", run_now=False)
        client.submit("sleep 60").cancel()
        assert next(followed)["became"] == "cancelled"
        assert job.schedule == "0 0 1 1 *"


def test_old_jobs_are_removed_for_good(cli: Cli) -> None:
    number = submit(cli, "--name", "old", "false")
    code, _, error = cli("purge", "--older-than", "0")
    assert code == 2
    assert "give --yes too" in error
    shown = json.loads(cli.good("purge", "--older-than", "0", "--status", "failed", "--dry-run", "--json"))
    assert shown["success"] == 0
    assert shown["failed"] >= 1
    assert cli.good("list", "-q", "--name", "old").split() == [number]
    assert re.fullmatch(
        r"removed: \d+ jobs? \(\d+ failed\)\n", cli.good("purge", "--older-than", "0", "--status", "failed", "--yes")
    )
    assert cli.good("list", "-q", "--status", "failed") == ""
    until(lambda: not cli.good("events", "--job", number))
    assert "purged" in cli.good("events", "--kind", "purged")
