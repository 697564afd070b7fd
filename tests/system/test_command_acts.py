"""Hold, release, rerun, edit, removal and usage of jobs: by the `zsched` command and by zsched.Client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.process import WorkerProcess
from tests.system.session import Scheduler, until
from tests.system.test_command_line import Cli
from zsched.client.client import Client, Refused

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    folder = tmp_path_factory.mktemp("acts")
    with Scheduler(folder) as scheduler, WorkerProcess(scheduler.url, folder, slots=2):
        until(lambda: scheduler.workers() == {"w1": "active"})
        yield Cli(scheduler, folder)


def ended(cli: Cli, command: str = "exit 3") -> str:
    """The number of a new job that has ended."""
    number = cli.good("submit", "-q", command).strip()
    cli("wait", number)
    return number


def test_held_job_starts_when_it_is_released(cli: Cli) -> None:
    number = cli.good("submit", "-q", "--hold", "true").strip()
    assert cli.good("release", number) == f"{number} released\n"
    cli.good("wait", number)
    code, out, err = cli("hold", number)
    assert (code, out) == (1, "")
    assert "has ended: nothing of it would start" in err


def test_hold_with_a_reason_is_shown(cli: Cli) -> None:
    number = cli.good("submit", "-q", "--delay", "1h", "true").strip()
    assert cli.good("hold", number, "--reason", "disk full") == f"{number} held\n"
    shown = cli.good("show", number)
    assert "(disk full)" in shown
    assert "(held)" in shown
    assert json.loads(cli.good("hold", "all", "--json", "--status", "pending")) == {
        "done": {"count": 1, "jobs": number}
    }
    assert cli.good("release", "all", "-q") == ""
    assert cli.good("cancel", number, "--reason", "no need") == f"{number} cancelled\n"
    assert "(no need)" in cli.good("show", number)
    events = cli.good("events", "--job", number)
    assert "disk full" in events
    assert "no need" in events


def test_rerun_of_failed_jobs(cli: Cli) -> None:
    bad, fine = ended(cli), ended(cli, "true")
    assert cli.good("rerun", bad, fine, "--failed", "--reason", "fixed") == f"{bad} runs again\n"
    cli("wait", bad)
    assert "attempt 2" in cli.good("show", bad)
    code, _, err = cli("rerun", "all")
    assert code == 2
    assert "all reruns all your ended jobs: give --yes too" in err
    waiting = cli.good("submit", "-q", "--hold", "true").strip()
    code, _, err = cli("rerun", waiting)
    assert code == 1
    assert f"Job {waiting} has not ended" in err
    assert cli("rerun", "999999")[0] == 3
    cli.good("cancel", waiting, "-q")


def test_edit_of_a_waiting_job(cli: Cli) -> None:
    number = cli.good("submit", "-q", "--hold", "--timeout", "1h", "echo old").strip()
    options = (
        "--name",
        "new",
        "--no-timeout",
        "--tag",
        "x",
        "--retries",
        "2",
        "--retry-on",
        "75,TERM",
        "--deadline",
        "1h",
    )
    assert cli.good("edit", number, *options, "--reason", "typo", "echo", "new") == f"{number} edited\n"
    view = cli.scheduler.get(f"/jobs/{number}")
    assert (view["name"], view["command"], view["tags"], view["retries"]) == ("new", "echo new", ["x"], 2)
    assert view["retry_on"] == [75, "TERM"]
    assert "timeout" not in view
    cli.good("release", number)
    assert cli.good("wait", number).startswith(f"{number} success")
    assert cli.good("logs", number) == "new\n"
    code, _, err = cli("edit", number, "--name", "late")
    assert code == 1
    assert "only a job that waits for a worker can be changed" in err


def test_delete_of_ended_jobs(cli: Cli) -> None:
    first, second = ended(cli), ended(cli)
    assert cli.good("delete", first) == f"{first} removed\n"
    assert cli("show", first)[0] == 3
    held = cli.good("submit", "-q", "--hold", "true").strip()
    code, out, err = cli("delete", f"{second},{held}", "--reason", "tidy")
    assert (code, out) == (1, f"{second} removed\n")
    assert "have not ended" in err
    cli.good("cancel", held, "-q")


def test_rerun_of_all_says_what_did_not_run_again(cli: Cli) -> None:
    jobs = []
    for _ in range(2):
        jobs.append(cli.good("submit", "-q", "--unique", "index", "false").strip())
        cli("wait", jobs[-1])
    second = jobs[1]
    code, out, err = cli("rerun", "all", "--failed", "--yes", "--json")
    refused = json.loads(out)["unique"]
    assert (code, refused) == (1, {"count": 1, "jobs": second})
    assert f"1 have a unique key that another job has taken: {second}" in err


def test_lines_with_a_taken_unique_key_are_the_job_that_has_it(cli: Cli, tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_text("true\ntrue\n")
    holder = cli.good("submit", "-q", "--hold", "--unique", "nightly", "true").strip()
    for words in (("true",), ("--each-line", str(lines))):
        code, out, err = cli("submit", "-q", "--unique", "nightly", *words)
        assert (code, out.strip()) == (0, holder)
        assert f"Job {holder} has not ended, and has the unique key nightly" in err
    cli.good("cancel", holder, "-q")


def test_changes_of_several_workers_and_queues_go_on_or_are_shown(cli: Cli) -> None:
    cli.scheduler.post("/workers/register", {"worker_id": "idle"})
    code, _, err = cli("workers", "remove", "nope", "w1", "idle")
    assert code == 3
    assert err.startswith("zsched: unknown worker nope\nzsched: Worker w1 is active")
    assert "idle is active" in err
    code, out, err = cli("queue", "pause", "-q", "later", "a b")
    assert (code, out) == (2, "later\n")
    assert "invalid queue 'a b': use 1 to 64 letters" in err
    cli.good("queue", "resume", "later")


def test_usage_of_owners(cli: Cli) -> None:
    ended(cli, "sleep 0.3")
    (used,) = json.loads(cli.good("usage", "--json", "--since", "1d"))
    assert used["success"] >= 1
    assert used["run_seconds"] >= 0.3
    head, row = cli.good("usage").splitlines()
    assert head.split() == ["owner", "success", "failed", "cancelled", "run", "seconds"]
    assert row.split()[0] == used["key"]


def test_acts_of_the_client(cli: Cli) -> None:
    with Client(cli.scheduler.url) as client:
        job = client.submit("true", hold=True)
        assert client.get(job.id).view["why"]["code"] == "held"
        assert job.edit(name="renamed", reason="r").name == "renamed"
        assert "held_at" not in job.release("go").view
        assert job.wait(30).status == "success"
        assert job.rerun().wait(30).run["attempt"] == 2
        with pytest.raises(Refused, match="has no schedule"):
            job.end()
        assert job.delete("tidy").status == "success"
        assert client.usage(since="1d")[0]["success"] >= 2
        held = client.submit("true", hold=True)
        assert client.bulk("release", None)["done"].size == 1
        held.wait(30)
