"""The `zsched` command as people and scripts use it: a real scheduler, a real worker, a process for each command."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.system.process import WorkerProcess
from tests.system.session import DEADLINE_S, Scheduler, environment, free_ports, until
from zsched.model import spans

# Each starts a scheduler and some commands.
pytestmark = pytest.mark.slow

ZSCHED = (sys.executable, "-P", "-m", "zsched.commands.zsched")
COUNT = "for i in 1 2 3; do echo $i; echo e$i >&2; sleep 1; done; exit 7"


class Terminal:
    """The command as a person has it: both outputs on one terminal."""

    def __init__(self, process: subprocess.Popen[bytes], end: int) -> None:
        self.process = process
        self._end = end

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def text(self) -> str:
        """All that it shows until it ends."""
        shown = b""
        # A terminal whose other end is closed says EIO.
        with contextlib.suppress(OSError):
            while data := os.read(self._end, 65536):
                shown += data
        os.close(self._end)
        return shown.decode()


class Cli:
    """Runs `zsched` for one scheduler."""

    def __init__(self, scheduler: Scheduler, folder: Path, **more: str) -> None:
        """`more` is added to the environment of the commands."""
        self.scheduler = scheduler
        self._folder = folder
        self._env = environment(folder, ZSCHED_URL=scheduler.url, TERM="xterm", **more)
        self._env.pop("NO_COLOR", None)

    def start(
        self, *words: str, argv: Sequence[str] = ZSCHED, extra: Mapping[str, str] | None = None, **more: Any
    ) -> subprocess.Popen[bytes]:
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        env = {**self._env, **(extra or {})}
        return subprocess.Popen([*argv, *words], cwd=self._folder, env=env, **(pipes | more))

    def __call__(self, *argv: str, given: bytes = b"") -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        with self.start(*argv, stdin=subprocess.PIPE) as process:
            out, err = process.communicate(given, timeout=DEADLINE_S)
        return process.returncode, out.decode(), err.decode()

    def good(self, *argv: str, given: bytes = b"") -> str:
        """The stdout of a command that has nothing to complain of."""
        code, out, err = self(*argv, given=given)
        assert (code, err) == (0, ""), (argv, out)
        return out

    def terminal(self, *argv: str) -> Terminal:
        end, other = pty.openpty()
        process = self.start(*argv, stdin=other, stdout=other, stderr=other)
        os.close(other)
        return Terminal(process, end)

    def submit(self, command: str) -> int:
        return self.scheduler.submit(command)[0]

    def running(self) -> int:
        """The number of the newest job, once it runs."""
        until(lambda: [job["status"] for job in self.scheduler.get("/jobs?limit=1")] == ["running"])
        number: int = self.scheduler.get("/jobs?limit=1")[0]["id"]
        return number


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    # A shell that started the tests with & in a script has them, and all they start, ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = tmp_path_factory.mktemp("cli")
    with Scheduler(folder) as scheduler, WorkerProcess(scheduler.url, folder, slots=8):
        until(lambda: scheduler.workers() == {"w1": "active"})
        yield Cli(scheduler, folder)
    signal.signal(signal.SIGINT, before)


def interrupted(process: subprocess.Popen[bytes], *numbers: signal.Signals) -> tuple[int, str, str]:
    """Send it signals; exit code, stdout, stderr."""
    for number in numbers or (signal.SIGINT,):
        process.send_signal(number)
    out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out.decode(), err.decode()


# submit and list, show, wait, cancel, workers, summary.


def test_submit_prints_the_number_when_the_job_is_stored(cli: Cli) -> None:
    number = int(cli.good("submit", "-q", "--name", "hello", "--timeout=1m", "--", "echo", "a b", "--name"))
    stored = cli.scheduler.get(f"/jobs/{number}")
    assert (stored["name"], stored["command"], stored["timeout"]) == ("hello", "echo 'a b' --name", "1m")
    assert cli.good("submit", "true") == f"job {number + 1}\n"
    assert json.loads(cli.good("submit", "--json", "true"))["id"] == number + 2


def test_submit_with_crash_limit_never_is_shown_with_why_it_waits(cli: Cli) -> None:
    number = int(cli.good("submit", "-q", "--crash-limit", "never", "--retries", "1", "--backoff", "1h", "false"))
    assert cli.scheduler.get(f"/jobs/{number}")["crash_limit"] == "never"
    until(lambda: "due_at" in cli.scheduler.last_run(number))
    shown = cli.good("show", str(number))
    assert re.search(r"^crash limit +never$", shown, re.MULTILINE)
    assert re.search(r"^waits +after 1 failure: it is tried again at .* \(backoff\)$", shown, re.MULTILINE)
    cli.good("cancel", str(number))
    code, out, err = cli("submit", "--crash-limit", "ever", "true")
    assert (code, out) == (2, "")
    assert err.startswith("zsched submit: invalid --crash-limit 'ever': use a whole number, 1 or more, or never")


def test_submit_with_a_key_submits_once(cli: Cli) -> None:
    once = ("submit", "-q", "--idempotency-key", "night, 1")
    number = int(cli.good(*once, "true"))
    assert int(cli.good(*once, "true")) == number
    code, out, err = cli(*once, "false")
    assert (code, out) == (1, "")
    assert err.startswith("zsched: This Idempotency-Key was used for another request")
    assert int(cli.good("submit", "-q", "true")) == number + 1


def test_submit_of_a_recurring_job(cli: Cli) -> None:
    number = int(cli.good("submit", "-q", "--cron", "0 0 1 1 *", "true"))
    assert cli.scheduler.get(f"/jobs/{number}")["schedule"] == "0 0 1 1 *"
    code, out, err = cli("submit", "--cron", "every day", "true")
    assert (code, out) == (2, "")
    assert re.fullmatch(r"zsched: schedule: .*\n", err)


@pytest.mark.parametrize(("command", "code"), [("true", 0), ("exit 9", 9), ("kill -9 $$", 137), ("kill -TERM $$", 143)])
def test_submit_wait_ends_with_the_jobs_own_code(cli: Cli, command: str, code: int) -> None:
    assert cli("submit", "--wait", "-q", command)[0] == code


def test_submit_wait_reports_why_the_job_has_no_exit_code(cli: Cli) -> None:
    code, out, err = cli("submit", "--wait", "-q", "--timeout=200ms", "sleep 60")
    number = out.strip()
    assert (code, err) == (124, f"zsched: job {number} failed (timeout after 200ms)\n")


def test_wait_tells_each_end_and_fails_when_a_job_did(cli: Cli) -> None:
    good, bad = cli.scheduler.submit("sleep 0.1", "exit 4")
    code, out, err = cli("wait", f"{good}-{bad}")
    assert (code, err) == (1, "")
    assert sorted(out.splitlines()) == [f"{good} success", f"{bad} failed (exit code 4)"]
    assert cli("wait", "--quiet", str(good)) == (0, "", "")
    assert json.loads(cli.good("wait", "--json", str(good)))[0]["id"] == good


def test_wait_gives_up_when_its_time_is_over(cli: Cli) -> None:
    number = cli.submit("sleep 60")
    assert cli("wait", "last", "--timeout", "200ms") == (124, "", f"zsched: job {number} had not ended after 0.2 s\n")
    cli.good("cancel", str(number))


def test_ctrl_c_leaves_the_jobs_that_somebody_waits_for(cli: Cli) -> None:
    number = cli.submit("sleep 60")
    process = cli.start("wait", str(cli.submit("true")), str(number))
    assert process.stdout is not None
    assert b"success" in process.stdout.readline()
    said = f"zsched: no longer waiting; `zsched cancel {number}` cancels what goes on\n"
    assert interrupted(process) == (130, "", said)
    assert cli.scheduler.get(f"/jobs/{number}")["status"] == "running"
    cli.good("cancel", str(number))


def test_cancel(cli: Cli) -> None:
    number = cli.submit("sleep 60")
    cli.running()
    assert cli.good("cancel", "last") == f"{number} cancelling\n"
    assert cli("wait", str(number)) == (1, f"{number} cancelled\n", "")
    assert cli("cancel", str(number)) == (1, "", f"zsched: Nothing of job {number} is pending or running\n")
    recurring = cli.good("submit", "-q", "--cron=0 0 1 1 *", "true").strip()
    said = (
        f"zsched: Nothing of job {recurring} is pending or running now; its schedule goes on: end it with"
        f" `zsched end {recurring}` (DELETE /jobs/{recurring})\n"
    )
    assert cli("cancel", recurring) == (1, "", said)
    other = cli.submit("sleep 60")
    code, out, err = cli("cancel", "-q", f"{number},{other}", "999999")
    assert (code, out, err) == (3, "", "zsched: unknown job 999999\n")


def test_cancel_all_means_what_has_not_ended(cli: Cli) -> None:
    numbers = cli.scheduler.submit("sleep 60", "sleep 60")
    met = json.loads(cli.good("cancel", "all", "--json"))
    cancelled = [spans.parse(group["jobs"].split(","), 1000) for group in met.values()]
    assert all(any(number in ids for ids in cancelled) for number in numbers)
    cli("wait", "all")
    assert cli.good("list", "--status=running") == "job  status  submitted  owner  name\n"


@pytest.mark.slow
def test_many_jobs_are_submitted_cancelled_and_waited_for_in_few_lines(cli: Cli) -> None:
    """Ranges go from one command to the next, and a thousand jobs are no thousand lines."""
    blockers = cli.scheduler.submit(*["sleep 60"] * 8)
    cli.running()
    first, *_, last = cli.scheduler.submit(*["true"] * 1_000)
    assert last - first == 999
    # The worker may hold some that wait for its slots.
    told = re.fullmatch(r"(\d+) cancelled(?:, (\d+) cancelling)?\n", cli.good("cancel", f"{first}-{first + 599}"))
    assert told is not None
    assert int(told[1]) + int(told[2] or 0) == 600
    cli("wait", f"{first}-{first + 599}")
    code, out, err = cli("cancel", f"{first}-{first + 700}")
    assert (code, out, err) == (1, "101 cancelled\n", f"zsched: 600 had already ended: {first}-{first + 599}\n")
    assert cli("cancel", "-q", f"{first}-{first + 700}") == (1, "", "")
    cli.good("cancel", *map(str, blockers), "-q")
    code, out, err = cli("wait", f"{first}-{last}")
    assert (code, out, err) == (1, "299 success, 701 cancelled\n", "")
    assert cli.good("wait", f"{first + 701}-{last}") == "299 success\n"
    assert cli("wait", f"{first}-{last + 99}")[0::2] == (3, f"zsched: unknown job {last + 1}-{last + 99}\n")


def test_wait_for_many_shows_those_that_failed(cli: Cli) -> None:
    first, *_, last = cli.scheduler.submit(*["true"] * 22, "exit 3")
    code, out, err = cli("wait", f"{first}-{last}")
    assert (code, err) == (1, "")
    assert out == f"{last} failed (exit code 3)\n22 success, 1 failed\n"


def test_cancel_of_pending_jobs_leaves_running_ones(tmp_path: Path) -> None:
    # A new worker: one that has run many short jobs takes all of these ahead.
    with Scheduler(tmp_path) as scheduler, WorkerProcess(scheduler.url, tmp_path, slots=1):
        numbers = scheduler.submit(*["sleep 60"] * 40)

        def statuses() -> list[str]:
            return [scheduler.get(f"/jobs/{number}")["status"] for number in numbers]

        until(lambda: "running" in statuses())
        before = statuses()
        Cli(scheduler, tmp_path).good("cancel", f"{numbers[0]}-{numbers[-1]}", "--status", "pending")
        after = statuses()
    assert all(status == "running" for status, was in zip(after, before, strict=True) if was == "running")
    assert set(after) == {"running", "cancelled"}


@pytest.mark.parametrize("argv", [["show", "999999"], ["wait", "999999"], ["logs", "999999"], ["cancel", "999999"]])
def test_a_job_that_is_not_there_is_exit_code_3(cli: Cli, argv: list[str]) -> None:
    assert cli(*argv) == (3, "", "zsched: unknown job 999999\n")


def test_list_is_newest_first(cli: Cli) -> None:
    numbers = cli.scheduler.submit("true", "false")
    for number in numbers:
        cli.scheduler.finished(number)
    lines = cli.good("list", "--limit=2").splitlines()
    assert lines[0].split() == ["job", "status", "submitted", "owner", "name"]
    assert [line.split()[:2] for line in lines[1:]] == [[str(numbers[1]), "failed"], [str(numbers[0]), "success"]]
    assert cli.good("list", "-q", "--limit=2") == f"{numbers[1]}\n{numbers[0]}\n"
    assert [job["id"] for job in json.loads(cli.good("list", "--json", "--limit", "1"))] == numbers[1:]


def test_show_tells_what_became_of_a_job(cli: Cli) -> None:
    number = int(cli.good("submit", "-q", "--backoff=1s", "echo a\nexit 5"))
    cli.scheduler.finished(number)
    shown = cli.good("show", str(number))
    assert re.search(r"^command +echo a\n {14}exit 5\n", shown, re.MULTILINE)
    assert re.search(r"^status +failed \(exit code 5\)$", shown, re.MULTILINE)
    assert re.search(r"^backoff +1s, times 2 each time, at most 1h$", shown, re.MULTILINE)
    assert re.search(r"^worker +w1$", shown, re.MULTILINE)
    assert json.loads(cli.good("show", "last", "--json"))["last_run"]["exit_code"] == 5


def test_workers_and_summary(cli: Cli) -> None:
    assert cli.good("workers").splitlines()[1].split()[:4] == ["w1", "active", "zmq", "8"]
    assert cli.good("workers", "-q") == "w1\n"
    assert json.loads(cli.good("workers", "--json"))[0]["worker_id"] == "w1"
    assert json.loads(cli.good("summary", "--json"))["workers"]["active"] == 1
    shown = cli.good("summary")
    assert re.search(r"^workers: 1 active, 0 inactive$", shown, re.MULTILINE)
    assert re.search(r"^schedulers: http://\S+:\d+ \(active\)$", shown, re.MULTILINE)


# run and logs.


@pytest.mark.slow
def test_run_shows_lines_as_they_come_and_ends_with_the_jobs_code(cli: Cli) -> None:
    with cli.start("run", COUNT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        at = [(time.monotonic(), line) for line in process.stdout]
        assert process.stderr.read() == b"e1\ne2\ne3\n"
    assert process.returncode == 7
    assert [line for _, line in at] == [b"1\n", b"2\n", b"3\n"]
    assert at[2][0] - at[0][0] > 0.5


def test_run_passes_bytes_as_they_are(cli: Cli) -> None:
    with cli.start("run", r"printf 'a\000\377\033[31mb\r\n'; kill -9 $$") as process:
        out, err = process.communicate(timeout=DEADLINE_S)
    assert out == b"a\0\xff\x1b[31mb\r\n"
    assert re.fullmatch(rb"zsched: job \d+: failed \(signal 9, SIGKILL\)\n", err)
    assert process.returncode == 137


def test_run_cleans_what_a_terminal_shows(cli: Cli) -> None:
    shown = cli.terminal("run", r"printf 'a\033[31mb\033]0;title\007\r\n'; printf 'c\033[2Jd\n' >&2")
    assert "\x1b" not in (text := shown.text())
    assert sorted(text.splitlines()) == ["ab", "cd"]
    assert shown.process.wait() == 0


def test_run_json_is_lines_of_json_with_the_job_at_the_end(cli: Cli) -> None:
    records = [json.loads(line) for line in cli.good("run", "--json", "echo hi").splitlines()]
    assert [(record["stream"], record["text"]) for record in records[:-1]] == [("stdout", "hi\n")]
    assert records[-1]["status"] == "success"


def test_run_of_a_job_that_takes_too_long_is_124(cli: Cli) -> None:
    code, _, err = cli("run", "--timeout=300ms", "sleep", "60")
    assert code == 124
    assert err.endswith(": failed (timeout after 300ms)\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_ctrl_c_cancels_what_runs_and_shows_its_last_words(
    cli: Cli, number: signal.Signals, code: int
) -> None:
    process = cli.start("run", "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    job = cli.running()
    ended, out, err = interrupted(process, number)
    assert (ended, out) == (code, "bye\n")
    # Between them the shell tells that it lost its sleep.
    assert err.startswith(f"zsched: cancelling job {job}; Ctrl-C again leaves it to itself\n")
    assert err.endswith(f"zsched: job {job}: cancelled\n")


def test_the_second_ctrl_c_leaves_the_job_to_itself(cli: Cli) -> None:
    process = cli.start("run", "trap '' TERM; echo ready; sleep 2; sleep 60")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"ready\n"
    job = cli.running()
    process.send_signal(signal.SIGINT)
    assert b"cancelling" in process.stderr.readline()
    assert interrupted(process) == (130, "", f"zsched: left: job {job} may go on; see `zsched show {job}`\n")


def test_job_is_cancelled_when_its_reader_has_gone(cli: Cli) -> None:
    process = cli.start("run", "while :; do echo line; sleep 0.05; done")
    assert process.stdout is not None
    assert process.stdout.readline() == b"line\n"
    job = cli.running()
    process.stdout.close()
    assert process.wait(DEADLINE_S) == 141
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert cli.scheduler.finished(job)["status"] == "cancelled"


def test_a_job_is_cancelled_when_what_it_writes_can_not_be_written(cli: Cli) -> None:
    with open("/dev/full", "wb") as full:
        process = cli.start("run", "echo line; sleep 60", stdout=full)
        _, err = process.communicate(timeout=DEADLINE_S)
    number = cli.scheduler.get("/jobs?limit=1")[0]["id"]
    said = f"zsched: cancelling job {number}\nzsched: the output can't be written: No space left on device\n"
    assert (process.returncode, err.decode()) == (125, said)
    assert cli.scheduler.finished(number)["status"] == "cancelled"


def test_logs_of_an_ended_job(cli: Cli) -> None:
    number = cli.submit("echo a; echo b; echo c >&2")
    run = cli.scheduler.finished(number)["run_id"]
    assert cli("logs", str(number)) == (0, "a\nb\n", "c\n")
    assert cli("logs", str(number), "--tail=1", "--run", str(run)) == (0, "b\n", "c\n")
    assert cli("logs", "--stderr", "last") == (0, "c\n", "")
    assert cli("logs", "-f", "last") == (0, "a\nb\n", "c\n")
    assert json.loads(cli.good("logs", "last", "--json")) == {
        "job_id": number,
        "run_id": run,
        "stdout": "a\nb\n",
        "stderr": "c\n",
    }
    assert cli("logs", str(number), f"--run={run - 1}")[0] == 3


def test_logs_of_a_running_job_and_ctrl_c_that_leaves_it(cli: Cli) -> None:
    number = cli.submit("echo a; echo b; sleep 60")
    cli.running()
    until(lambda: cli("logs", str(number)) == (0, "a\nb\n", ""))
    process = cli.start("logs", "-f", "--tail", "1", str(number))
    assert process.stdout is not None
    assert process.stdout.readline() == b"b\n"
    said = f"zsched: no longer following; `zsched cancel {number}` cancels the job\n"
    assert interrupted(process) == (130, "", said)
    cli.good("cancel", str(number))


def test_logs_wait_for_a_run_that_is_not_there_yet(cli: Cli) -> None:
    process = cli.start("logs", "-f", cli.good("submit", "-q", "sleep 0.5; echo done").strip())
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out, err) == (0, b"done\n", b"")


@pytest.mark.slow
def test_follow_and_wait_survive_a_restart_of_a_killed_scheduler(tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler, WorkerProcess(scheduler.url, tmp_path):
        cli = Cli(scheduler, tmp_path)
        until(lambda: scheduler.workers() == {"w1": "active"})
        with cli.start("run", f"echo before; until test -e {tmp_path}/go; do sleep 0.05; done; echo after") as run:
            assert run.stdout is not None
            assert run.stdout.readline() == b"before\n"
            with cli.start("wait", "1", str(cli.submit("true"))) as wait:
                assert wait.stdout is not None
                assert wait.stdout.readline() == b"2 success\n"
                scheduler.kill()
                scheduler.start()
                (tmp_path / "go").touch()
                assert wait.communicate(timeout=DEADLINE_S) == (b"1 success\n", b"")
            assert run.communicate(timeout=DEADLINE_S) == (b"after\n", b"")
    assert (run.returncode, wait.returncode) == (0, 0)


# On a terminal.


def test_a_terminal_has_colours_and_a_bar_that_is_gone_in_the_end(cli: Cli) -> None:
    first = cli.submit("sleep 0.3")
    second = cli.submit("exit 1")
    shown = cli.terminal("wait", f"{first}-{second}")
    text = shown.text()
    assert shown.process.wait() == 1
    assert "━" in text
    assert f"{second} failed (exit code 1)" in text
    assert text.endswith("\x1b[2K")
    listed = cli.terminal("list", "--limit", "2")
    assert "\x1b[31mfailed" in listed.text()
    assert listed.process.wait() == 0


# When something is wrong.


@pytest.mark.parametrize(
    ("argv", "code"),
    [(["list"], 4), (["submit", "true"], 4), (["run", "true"], 125), (["submit", "--wait", "true"], 125)],
)
def test_no_scheduler_is_one_line_with_the_remedy(cli: Cli, argv: list[str], code: int) -> None:
    url = f"http://localhost:{free_ports(1)[0]}"
    said = f"zsched: no scheduler answers at {url}: Connection refused; start one with `zsched up`, or name another"
    ended, out, err = cli(argv[0], "--url", url, *argv[1:])
    assert (ended, out) == (code, "")
    assert err.startswith(said)
    assert err.count("\n") == 1


# `zsched run` with less patience than a person has, and that says when its job has been taken.
IMPATIENT = """
import sys
from zsched.client import http

http.PATIENCE_S = 0.5

from zsched.client import client
from zsched.commands.zsched import main

submit = client.Client.submit

def submit_and_say(*args, **named):
    submitted = submit(*args, **named)
    print("submitted", flush=True)
    return submitted

client.Client.submit = submit_and_say
sys.exit(main(["run", "sleep 60"]))
"""


def test_run_says_when_it_has_lost_sight_of_its_job(tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler:
        cli = Cli(scheduler, tmp_path)
        with cli.start(argv=[sys.executable, "-P", "-c", IMPATIENT]) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"submitted\n"
            scheduler.kill()
            _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 125
    assert err.decode().splitlines()[1] == "zsched: lost sight of job 1, which may go on"


def test_what_an_encoding_has_not_is_escaped(cli: Cli) -> None:
    cli.submit("true")
    cli.scheduler.submit("true", name="…日本")
    process = cli.start("list", "--limit=1", extra={"PYTHONIOENCODING": "latin-1"})
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, err) == (0, b"")
    assert rb"\u2026\u65e5\u672c" in out


@pytest.mark.parametrize("argv", [["list"], ["--help"], ["list", "--help"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_can_not_be_written_is_one_line(cli: Cli, argv: list[str], unbuffered: str) -> None:
    with open("/dev/full", "wb") as full:
        process = cli.start(*argv, stdout=full, extra={"PYTHONUNBUFFERED": unbuffered})
        _, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, err) == (1, b"zsched: the output can't be written: No space left on device\n")


@pytest.mark.parametrize("argv", [["submit", "true"], ["run", "true"], ["list"], ["token", "add", "--scope=read"]])
def test_command_with_a_closed_output_does_nothing(cli: Cli, argv: list[str]) -> None:
    def stored() -> list[int]:
        return [len(cli.scheduler.get("/jobs?limit=1000")), len(cli.scheduler.get("/tokens"))]

    before = stored()
    process = cli.start(*argv, argv=["sh", "-c", 'exec "$@" >&-', "sh", *ZSCHED])
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 2
    assert err == b"zsched: stdout is closed: redirect it to /dev/null if nothing reads it\n"
    assert stored() == before


def test_without_a_stderr_what_belongs_there_is_not_on_stdout(cli: Cli) -> None:
    process = cli.start("show", "999999", argv=["sh", "-c", 'exec "$@" 2>&-', "sh", *ZSCHED])
    assert process.communicate(timeout=DEADLINE_S) == (b"", b"")
    assert process.returncode == 3


def test_a_stdin_that_is_closed_has_no_lines(cli: Cli) -> None:
    process = cli.start("submit", "--each=-", argv=["sh", "-c", 'exec "$@" <&-', "sh", *ZSCHED])
    _, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, err) == (2, b"zsched: stdin is closed, and --each is to read it\n")


def test_a_plain_command_imports_nothing_heavy(cli: Cli) -> None:
    heavy = "rich|msgspec|falcon|zmq|apsw|waitress|msgpack|cronsim|dataclasses|inspect|subprocess|asyncio"
    for argv in (["list"], ["submit", "true"], ["show", "last"], ["version"]):
        script = (
            "import sys; from zsched.commands.zsched import main; code = main(sys.argv[1:]);"
            f"import re; print(*(name for name in sys.modules if re.fullmatch('{heavy}', name)), file=sys.stderr);"
            "sys.exit(code)"
        )
        done = subprocess.run(
            [sys.executable, "-P", "-c", script, *argv],
            env=environment(Path(), ZSCHED_URL=cli.scheduler.url),
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
        assert (done.returncode, done.stderr) == (0, "\n"), argv


# up.


class Up:
    """`zsched up` in a folder of its own."""

    def __init__(self, folder: Path, *argv: str) -> None:
        self.port, zmq_port = free_ports(2)
        self.url = f"http://localhost:{self.port}"
        self.folder = folder
        self.process = subprocess.Popen(
            [*ZSCHED, "up", f"--port={self.port}", f"--zmq-port={zmq_port}", *argv],
            cwd=folder,
            env=environment(folder, ZSCHED_URL=self.url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Up:
        return self

    def __exit__(self, *_: object) -> None:
        """What it has not stopped by now it does now."""
        for _attempt in range(2):
            if self.process.poll() is None:
                self.process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.communicate(timeout=15)

    def ready(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        env = environment(self.folder, ZSCHED_URL=self.url)
        return subprocess.run(
            [*ZSCHED, *argv], cwd=self.folder, env=env, capture_output=True, text=True, timeout=DEADLINE_S
        )


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.ExitStack() as opened:
        yield lambda *argv: opened.enter_context(Up(tmp_path, *argv))
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_up_prints_the_url_when_all_is_ready_and_stops_all(up: Callable[..., Up], number: signal.Signals) -> None:
    started = up("--workers=2")
    assert started.ready() == f"{started.url}\n"
    assert started.run("workers", "-q").stdout == "worker-1\nworker-2\n"
    assert started.run("run", "exit 6").returncode == 6
    started.process.send_signal(number)
    _, err = started.process.communicate(timeout=DEADLINE_S)
    assert started.process.returncode == 0
    assert "zsched: stopping; running jobs may finish, Ctrl-C again stops them\n" in err
    assert "ended cleanly" in err
    assert (started.folder / "scheduler.db").exists()
    assert started.run("list").returncode == 4


@pytest.mark.slow
def test_up_takes_no_identity_from_files_of_an_installed_worker(up: Callable[..., Up], tmp_path: Path) -> None:
    folder = tmp_path / "config" / "zsched"
    folder.mkdir(parents=True)
    worker, scheduler = folder / "worker.ini", folder / "scheduler.ini"
    worker.write_text(
        "[worker]\nid = worker-9\naccess = worker-9.access\ntoken_file = token\nstate_dir = state\nslots = 3\n"
        "scheduler = tcp://elsewhere:5555\n"
    )
    scheduler.write_text("[scheduler]\nhost = 127.0.0.1\nport = 1\n")
    started = up("--workers=2")
    assert started.ready() == f"{started.url}\n"
    workers = json.loads(started.run("workers", "--json").stdout)
    assert [found["worker_id"] for found in workers] == ["worker-1", "worker-2"]
    assert not (folder / "state").exists()
    started.process.send_signal(signal.SIGTERM)
    _, err = started.process.communicate(timeout=DEADLINE_S)
    assert started.process.returncode == 0
    # What a file sets, and what is in effect of it, is in the log of each program.
    assert f"zsched.commands.scheduler: settings in effect from {scheduler}: host\n" in err
    assert f"zsched.commands.scheduler: settings in effect from {worker}: none\n" in err
    assert err.count(f"zsched.commands.worker: settings in effect from {worker}: none\n") == 2


@pytest.mark.slow
def test_a_second_ctrl_c_stops_the_jobs_too(up: Callable[..., Up]) -> None:
    started = up("--json")
    document = started.ready()
    while not document.endswith("}\n"):
        document += started.ready()
    assert json.loads(document) == {"url": started.url, "workers": ["worker-1"]}
    assert started.run("submit", "echo up; sleep 60").returncode == 0
    until(lambda: started.run("logs", "last").stdout == "up\n")
    started.process.send_signal(signal.SIGINT)
    assert started.process.stderr is not None
    while "stopping; running jobs may finish" not in started.process.stderr.readline():
        pass
    # The workers finish their jobs now; the first word they got must have arrived before the next one.
    while "SIGTERM, finishing 1 run" not in started.process.stderr.readline():
        pass
    started.process.send_signal(signal.SIGINT)
    assert started.process.wait(DEADLINE_S) == 0
    started.process.communicate()


def test_up_ends_when_one_of_its_processes_does(up: Callable[..., Up]) -> None:
    started = up("--db=/proc/no/such.db")
    _, err = started.process.communicate(timeout=DEADLINE_S)
    assert started.process.returncode == 1
    assert re.search(r"^zsched: scheduler ended with exit code \d+; what it logged is above$", err, re.MULTILINE)


def test_up_does_not_disturb_the_owner_of_the_port(cli: Cli) -> None:
    port = str(cli.scheduler.port)
    code, out, err = cli("up", "--port", port, "--zmq-port=0")
    said = f"zsched: something answers at http://localhost:{port} already: use that one, or give another --port\n"
    assert (code, out, err) == (1, "", said)
