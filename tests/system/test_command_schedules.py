"""Recurring jobs by the `zsched` command and by zsched.Client: paused, resumed, changed and ended."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.process import WorkerProcess
from tests.system.session import Scheduler, until
from tests.system.test_command_line import Cli
from zsched.client.client import Client, NotFound, Refused

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow

NEVER = "0 0 1 1 *"
FIRE = r"\d{4}-01-01 00:00:00Z"


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    folder = tmp_path_factory.mktemp("schedules")
    with Scheduler(folder) as scheduler, WorkerProcess(scheduler.url, folder, slots=8):
        until(lambda: scheduler.workers() == {"w1": "active"})
        yield Cli(scheduler, folder)


def recurring(cli: Cli, *more: str, command: str = "true") -> str:
    """The number of a new recurring job."""
    return cli.good("submit", "-q", "--cron", NEVER, *more, command).strip()


def live(cli: Cli) -> str:
    """A recurring job whose run is running."""
    number = recurring(cli, "--run-now", command="sleep 60")
    until(lambda: cli.scheduler.get(f"/jobs/{number}")["status"] == "running")
    return number


def row(cli: Cli, number: str) -> list[str]:
    """A job's cells in `zsched list`, by more than one blank between them."""
    lines = cli.good("list", "--limit=1000").splitlines()
    (found,) = [line for line in lines if line.split()[0] == number]
    return re.split(r" {2,}", found.strip())


def test_a_schedule_is_paused_and_resumed(cli: Cli) -> None:
    number = recurring(cli, "--name", "nightly")
    header = cli.good("list", "--limit=1").splitlines()[0]
    assert re.split(r" {2,}", header.strip()) == ["job", "status", "submitted", "next fire", "owner", "name"]
    assert re.fullmatch(rf"{number} scheduled [^|]* {FIRE} user:\S+ nightly", " ".join(row(cli, number)))
    assert re.search(rf"^next fire +{FIRE}$", cli.good("show", number), re.MULTILINE)

    assert cli.good("pause", number) == f"{number} paused\n"
    assert cli.good("pause", number) == f"{number} paused\n"
    assert row(cli, number)[1] == "paused"
    shown = cli.good("show", number)
    assert re.search(r"^status +paused$", shown, re.MULTILINE)
    assert re.search(rf"^schedule +{re.escape(NEVER)}, paused since \d{{4}}-\d\d-\d\d [\d:]+Z$", shown, re.MULTILINE)
    assert "next fire" not in shown

    assert re.fullmatch(rf"{number} scheduled, next fire {FIRE}\n", cli.good("resume", number))
    assert cli.good("resume", "-q", number) == f"{number}\n"
    assert row(cli, number)[1] == "scheduled"


def test_an_ended_schedule_reads_ended_and_its_job_cancelled_in_json(cli: Cli) -> None:
    number = recurring(cli)
    assert cli.good("end", number) == f"{number} ended\n"
    assert cli.good("end", number) == f"{number} ended\n"
    assert row(cli, number)[1] == "ended"
    shown = cli.good("show", number)
    assert re.search(rf"^schedule +{re.escape(NEVER)}, ended \d{{4}}-\d\d-\d\d [\d:]+Z$", shown, re.MULTILINE)
    assert json.loads(cli.good("show", number, "--json"))["status"] == "cancelled"
    assert cli("wait", number) == (1, f"{number} cancelled\n", "")
    said = f"zsched: The schedule of job {number} has ended: submit the job again\n"
    for command in (("pause", number), ("resume", number), ("edit", number, "--name", "n")):
        assert cli(*command) == (1, "", said)


def test_live_run_survives_a_pause_of_its_schedule_and_ends_with_cancel(cli: Cli) -> None:
    number = live(cli)
    assert row(cli, number)[1] == "running"
    assert cli.good("pause", number) == f"{number} paused; its last run is still running\n"
    code, out, err = cli("end", number)
    assert (code, out) == (1, "")
    assert err == (
        f"zsched: The last fire of job {number} has not ended: cancel it as well with `zsched end --cancel {number}`"
        f" (DELETE /jobs/{number}?cancel=1), or pause the job and end it later\n"
    )
    assert cli.good("end", "--cancel", number) == f"{number} ended; its last run is being cancelled\n"
    until(lambda: row(cli, number)[1] == "ended")
    assert cli.scheduler.get(f"/jobs/{number}")["status"] == "cancelled"


def test_an_edit_changes_what_is_given(cli: Cli) -> None:
    number = recurring(cli, "--timeout", "1m", command="true")
    out = cli.good("edit", number, "--cron", "30 3 1 1 *", "--name=n", "--", "echo", "a b", "--name")
    assert re.fullmatch(rf"{number} edited, scheduled, next fire \d{{4}}-01-01 03:30:00Z\n", out)
    view = cli.scheduler.get(f"/jobs/{number}")
    assert (view["schedule"], view["name"], view["command"], view["timeout"]) == (
        "30 3 1 1 *",
        "n",
        "echo 'a b' --name",
        "1m",
    )
    assert "timeout" not in json.loads(cli.good("edit", "--no-timeout", number, "--json"))
    assert cli.good("edit", "-q", number, "--timeout=90s", "--", "ls -a | wc") == f"{number}\n"
    view = cli.scheduler.get(f"/jobs/{number}")
    assert (view["command"], view["timeout"]) == ("ls -a | wc", "1m30s")
    cli.good("pause", number)
    assert cli.good("edit", "last", "--name", "m") == f"{number} edited, paused\n"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((), "nothing to change: give a command or an option such as --timeout; --help lists them"),
        (("--cron=",), "--cron is empty"),
        (("--timeout=1s", "--no-timeout"), "--timeout and --no-timeout exclude each other"),
        (("--user=a",), "no option --user; --help lists them all"),
    ],
)
def test_wrong_usage_of_edit_changes_nothing(cli: Cli, options: tuple[str, ...], sentence: str) -> None:
    code, out, err = cli("edit", "1", *options)
    assert (code, out) == (2, "")
    assert err.startswith(f"zsched edit: {sentence}\n")


def test_what_the_scheduler_can_not_accept_is_exit_code_2(cli: Cli) -> None:
    number = recurring(cli)
    code, out, err = cli("edit", number, "--cron", "every day")
    assert (code, out) == (2, "")
    assert err.startswith("zsched: schedule: five fields: ")


def test_of_several_jobs_each_is_changed_that_can_be(cli: Cli) -> None:
    plain, number = cli.submit("true"), recurring(cli)
    code, out, err = cli("pause", f"{plain},{number}", "999999")
    assert (code, out) == (3, f"{number} paused\n")
    assert err == (
        f"zsched: Job {plain} has no schedule: only recurring jobs take this call\nzsched: unknown job 999999\n"
    )
    code, out, err = cli("end", str(plain), number, "--json")
    assert code == 1
    assert [job["id"] for job in json.loads(out)] == [int(number)]
    assert f"cancel it with `zsched cancel {plain}`" in err


@pytest.mark.parametrize("command", ["pause", "resume", "end"])
def test_all_is_not_understood_where_schedules_are_changed(cli: Cli, command: str) -> None:
    code, out, err = cli(command, "all")
    assert (code, out) == (2, "")
    assert err.startswith(f"zsched {command}: all: name the jobs by their numbers\n")


@pytest.mark.parametrize("argv", [["pause"], ["resume"], ["end"], ["edit", "--name=n"]])
def test_a_job_that_is_not_there_is_exit_code_3(cli: Cli, argv: list[str]) -> None:
    assert cli(*argv, "999999") == (3, "", "zsched: unknown job 999999\n")


def test_a_program_pauses_resumes_changes_and_ends(cli: Cli, tmp_path: Path) -> None:
    with Client(cli.scheduler.url) as client:
        job = client.submit("true", schedule=NEVER, timeout=60)
        assert job.schedule == NEVER
        assert job.pause().view["paused_at"]
        assert job.resume().view["next_fire_at"]
        assert job.edit(name="n", timeout=None).name == "n"
        assert "timeout" not in job.view
        with pytest.raises(Refused, match="nothing to change"):
            job.edit()
        assert job.end().done
        assert (job.status, job.view["live"]) == ("cancelled", False)
        with pytest.raises(Refused, match="has ended") as caught:
            job.pause()
        assert (caught.value.status, caught.value.code) == (409, "schedule_ended")

        running = client.submit("sleep 60", schedule=NEVER, run_now=True)
        until(lambda: running.refresh().status == "running")
        with pytest.raises(Refused) as caught:
            running.end()
        assert caught.value.code == "live"
        running.end(cancel=True)
        assert running.wait(20).status == "cancelled"
        with pytest.raises(NotFound):
            client.get(999_999)
