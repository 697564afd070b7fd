"""Arrays as people type them: a real scheduler, a real worker, a process for each command."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.process import WorkerProcess
from tests.system.session import DEADLINE_S, Scheduler, until
from tests.system.test_command_line import Cli, interrupted
from zsched.client.client import Client, Refused

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = tmp_path_factory.mktemp("cli")
    with Scheduler(folder) as scheduler, WorkerProcess(scheduler.url, folder, slots=8):
        until(lambda: scheduler.workers() == {"w1": "active"})
        yield Cli(scheduler, folder)
    signal.signal(signal.SIGINT, before)


def submitted(out: str) -> int:
    """The number in the line of a submit."""
    match = re.match(r"job (\d+) \([\d,]+ tasks\)\n", out)
    assert match is not None, out
    return int(match[1])


@pytest.mark.parametrize("option", ["--each", "--each-line"])
def test_each_line_of_stdin_is_a_task(cli: Cli, option: str) -> None:
    out = cli.good("submit", "--wait", option, "-", "printf %s {}", given=b"a b\n\nit's $HOME\n; exit 3\n")
    job = submitted(out)
    assert out == f"job {job} (3 tasks)\n{job} success (3 tasks)\n"
    assert [cli.good("logs", f"{job}.{index}") for index in range(3)] == ["a b", "it's $HOME", "; exit 3"]
    assert cli.good("logs", "last.1") == "it's $HOME"
    code, out, err = cli("logs", str(job))
    assert (code, out, err) == (2, "", f"zsched: job {job} has 3 tasks: name one, such as {job}.0\n")
    code, out, err = cli("logs", f"{job}.3")
    assert (code, out, err) == (3, "", f"zsched: job {job} has no task 3\n")


def test_lines_without_a_command_are_commands_and_a_failure_is_a_line(cli: Cli) -> None:
    code, out, err = cli("submit", "--wait", "--each=-", given=b"true\nexit 3\necho x; kill -9 $$\n")
    job = submitted(out)
    assert (code, err) == (1, "")
    *failed, last = out.splitlines()[1:]
    assert sorted(failed) == [
        f"{job}.1 failed (exit code 3)  exit 3",
        f"{job}.2 failed (signal 9, SIGKILL)  echo x; kill -9 $$",
    ]
    assert last == f"{job} failed (2 failed of 3 tasks)"
    assert cli.scheduler.get(f"/jobs/{job}")["name"] == "stdin"
    assert cli("wait", "-q", str(job)) == (1, "", "")
    assert cli("wait", f"{job}.0-1") == (1, f"{job}.0 success  true\n{job}.1 failed (exit code 3)  exit 3\n", "")
    assert cli("wait", f"{job}.0") == (0, f"{job}.0 success  true\n", "")
    assert json.loads(cli.good("wait", "--json", f"{job}.0"))[0]["status"] == "success"
    code, out, err = cli("wait", f"{job}.0", f"flow:{job}")
    assert (code, out) == (2, "")
    assert err.startswith(f"zsched wait: {job}.0 and whole jobs: wait for them by two commands\n")
    assert re.search(rf"^ *{job}  failed  .*  3/3, 2 failed  .*$", cli.good("list"), re.MULTILINE)


def test_show_lists_failed_tasks_and_one_task_alone(cli: Cli) -> None:
    job = int(cli.good("submit", "-q", "--array=0-39:2%8", "--max-fails=99", "test {} -lt 6"))
    assert cli("wait", "-q", str(job)) == (1, "", "")
    shown = cli("show", str(job))
    assert re.search(r"^array +0-38:2%8$", shown[1], re.MULTILINE)
    assert re.search(r"^max fails +99$", shown[1], re.MULTILINE)
    assert re.search(r"^tasks +3 succeeded · 17 failed$", shown[1], re.MULTILINE)
    assert [line.split()[0] for line in shown[1].partition("\n\n")[2].splitlines()[1:]] == [
        f"{job}.{index}" for index in range(6, 40, 2)
    ]
    code, out, err = cli("show", str(job), "--status=failed", "--limit=2")
    assert (code, err) == (0, "zsched: 2 of 17 tasks are listed; --limit 17 lists all\n")
    assert out.splitlines()[-1].split() == [f"{job}.8", "failed", "(exit", "code", "1)", "w1"]
    assert [task["task"] for task in json.loads(cli.good("show", str(job), "--json", "--status=success"))] == [0, 2, 4]
    one = cli.good("show", f"{job}.8")
    assert re.match(rf"task +{job}\.8\nstatus +failed \(exit code 1\)\nrun ", one)
    assert json.loads(cli.good("show", f"{job}.8", "--json"))["last_run"]["exit_code"] == 1


def test_failed_tasks_run_again_by_one_command(cli: Cli, tmp_path: Path) -> None:
    mark = tmp_path / "mended"
    job = submitted(cli("submit", "--wait", "--array=0-9", f"test {{}} -lt 8 -o -e {mark}")[1])
    mark.touch()
    assert cli.good("rerun", "--failed", str(job)) == f"{job} runs again\n"
    assert cli.good("wait", str(job)) == f"{job} success (10 tasks)\n"
    runs = [task["last_run"]["attempt"] for task in cli.scheduler.get(f"/jobs/{job}/tasks")]
    assert runs == [1] * 8 + [2] * 2
    assert cli.good("rerun", f"{job}.3-4") == f"{job}.3-4 runs again\n"
    assert cli.good("wait", str(job)) == f"{job} success (10 tasks)\n"
    # Nothing has failed, and that is no failure.
    assert cli.good("rerun", "--failed", str(job)) == ""


def test_failed_tasks_among_other_jobs_run_again(cli: Cli) -> None:
    good, bad = cli.scheduler.submit("true", "exit 3")
    array = submitted(cli("submit", "--wait", "--array=0-3", "test {} -lt 2")[1])
    cli("wait", "-q", f"{good}-{bad}")
    assert cli.good("rerun", "--failed", f"{good}-{array}") == f"{bad} runs again\n{array} runs again\n"
    assert cli("wait", "-q", str(bad), str(array))[0] == 1
    assert cli.good("rerun", "--failed", str(bad)) == f"{bad} runs again\n"
    cli("wait", "-q", str(bad))
    assert str(array) in cli.good("rerun", "--failed", "all", "--yes")
    cli("wait", "-q", str(array))
    attempts = [task["last_run"]["attempt"] for task in cli.scheduler.get(f"/jobs/{array}/tasks")]
    assert attempts == [1, 1, 3, 3]


def test_tasks_are_cancelled_held_and_released(cli: Cli) -> None:
    job = submitted(cli.good("submit", "--array=0-5%1", "sleep 60"))
    until(lambda: cli.scheduler.get(f"/jobs/{job}")["tasks"]["running"] == 1)
    assert cli.good("hold", f"{job}.4-5") == f"{job}.4-5 held\n"
    assert cli.good("release", f"{job}.5") == f"{job}.5 released\n"
    assert cli.good("cancel", f"{job}.0-3,{job}.5") == f"{job}.0-3 cancelling\n{job}.5 cancelling\n"
    until(lambda: cli.scheduler.get(f"/jobs/{job}")["tasks"]["cancelled"] == 5)
    assert cli.scheduler.get(f"/jobs/{job}")["tasks"]["pending"] == 1
    code, out, err = cli("cancel", f"{job}.2", f"{job}.99")
    assert (code, out) == (3, "")
    assert len(err.splitlines()) == 2
    assert cli.good("cancel", str(job)) == f"{job} cancelled\n"
    assert cli("wait", str(job)) == (1, f"{job} cancelled (6 cancelled of 6 tasks)\n", "")


def test_new_command_of_an_array_has_places_too(cli: Cli) -> None:
    job = submitted(cli.good("submit", "--hold", "--array=5-6", "echo {}"))
    cli.good("edit", str(job), "echo", "no {}")
    cli.good("release", str(job))
    cli.good("wait", str(job))
    assert cli.good("logs", f"{job}.6") == "no 6\n"
    job = submitted(cli.good("submit", "--hold", "--each=-", "echo {}", given=b"a b\n"))
    code, _, err = cli("edit", str(job), "echo '{}'")
    assert code == 2
    assert "{} stands inside quotes" in err
    with Client(cli.scheduler.url) as client:
        assert client.get(job).edit(command="echo {} again").command == 'echo "$ZSCHED_ENTRY" again'
    assert cli.good("edit", str(job), "--priority", "1", "--", "echo {} | cat") == f"{job} edited\n"
    assert cli.scheduler.get(f"/jobs/{job}")["command"] == 'echo "$ZSCHED_ENTRY" | cat'
    plain = cli.good("submit", "-q", "--hold", "true").strip()
    cli.good("edit", plain, "find /etc -exec ls {} ;")
    assert cli.scheduler.get(f"/jobs/{plain}")["command"] == "find /etc -exec ls {} ;"


def test_progress_is_shown_on_a_terminal_and_ctrl_c_leaves_the_tasks(cli: Cli) -> None:
    job = submitted(cli.good("submit", "--array=0-3%1", "sleep 0.3; test {} != 1"))
    shown = cli.terminal("wait", str(job))
    text = shown.text()
    assert shown.process.wait(DEADLINE_S) == 1
    assert f"{job}.1 failed (exit code 1)" in text
    assert f"{job} failed (1 failed of 4 tasks)" in text
    assert "succeeded" in text
    slow = submitted(cli.good("submit", "--array=0-3", "test {} != 2 && sleep 60"))
    process = cli.start("wait", str(slow))
    assert process.stdout is not None
    assert process.stdout.readline() == f"{slow}.2 failed (exit code 1)\n".encode()
    said = f"zsched: no longer waiting; `zsched cancel {slow}` cancels what goes on\n"
    assert interrupted(process) == (130, "", said)
    cli.good("cancel", str(slow))


def test_an_array_through_the_client(cli: Cli, tmp_path: Path) -> None:
    with Client(cli.scheduler.url) as client:
        job = client.map("test {} != 2 && echo got {}", range(4), name="m")
        ended = {task.index: task for task in job.as_completed(DEADLINE_S)}
        assert [ended[index].status for index in range(4)] == ["success", "success", "failed", "success"]
        assert [ended[index].entry for index in range(4)] == ["0", "1", "2", "3"]
        assert job.task(3).logs() == "got 3\n"
        assert job.wait(DEADLINE_S).status == "failed"
        assert job.counts == {"total": 4, "pending": 0, "running": 0, "success": 3, "failed": 1, "cancelled": 0}
        assert [task.index for task in job.tasks("failed")] == [2]
        pairs = client.map("printf '%s-%s' {1} {2}", ["a b", "$HOME"], [1, 2])
        assert pairs.wait(DEADLINE_S).status == "success"
        assert [task.logs() for task in pairs.tasks()] == ["a b-1", "$HOME-2"]
        bare = client.submit(["printf", "<{}>"], each=["x y", {"n": 1}])
        bare.wait(DEADLINE_S)
        assert [task.logs() for task in bare.tasks()] == ["<x y>", '<{"n":1}>']
        with pytest.raises(Refused) as caught:
            job.task(2).cancel()
        assert caught.value.code == "finished"
        job.rerun(failed=True)
        assert job.task(2).wait(DEADLINE_S).run["attempt"] == 2


def test_many_lines_are_one_job_that_is_there_at_once(cli: Cli, tmp_path: Path) -> None:
    commands = tmp_path / "commands.txt"
    commands.write_text("".join(f"exit {int(place % 500 == 499)}\n" for place in range(2_000)))
    code, out, err = cli("submit", "--wait", "--each", str(commands))
    job = submitted(out)
    assert (code, err) == (1, "")
    assert out.splitlines()[-1] == f"{job} failed (4 failed of 2,000 tasks)"
    assert [line.split()[0] for line in sorted(out.splitlines()[1:-1])] == sorted(
        f"{job}.{index}" for index in range(499, 2_000, 500)
    )
