"""What a job executes, on real processes: arguments, folder, umask, input, message and the signal before its timeout.

Two workers in mount namespaces of their own have different folders; one of them runs jobs as another user.
"""

# ruff: noqa: T201  (what each run did and said)
from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.system.process import WorkerProcess
from tests.system.session import DEADLINE_S, Scheduler, environment, until
from zsched.client.client import Client
from zsched.model.limits import MIB

pytestmark = pytest.mark.slow

ZSCHED: Final = (sys.executable, "-P", "-m", "zsched.commands.zsched")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has namespaces and other users")
# A mount namespace in which /srv has this folder alone.
WITH_FOLDER: Final = (
    *("unshare", "--mount", "sh", "-c"),
    'mount -t tmpfs -o mode=755 none /srv && mkdir -m "$1" "/srv/$2" && cd / && shift 2 && exec "$@"',
    "sh",
)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scheduler]:
    with Scheduler(tmp_path_factory.mktemp("scheduler")) as started:
        yield started


@pytest.fixture(scope="module")
def worker(scheduler: Scheduler, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    folder = tmp_path_factory.mktemp("w1")
    with WorkerProcess(scheduler.url, folder, cwd=folder) as started:
        until(lambda: scheduler.workers().get("w1") == "active")
        yield started


def end(scheduler: Scheduler, **fields: object) -> dict[str, Any]:
    """The last run of a job with these fields, when it has ended."""
    run = scheduler.finished(scheduler.post("/jobs", {"name": "j", **fields})["id"])
    if "cwd" in fields or "cwd_hint" in fields:
        said = output(scheduler, run).splitlines()
        print(fields, run["worker_id"], run["status"], run["reason"], said, run.get("detail", ""), sep="; ")
    return run


def output(scheduler: Scheduler, run: dict[str, Any]) -> str:
    return bytes(scheduler.ask("GET", f"/runs/{run['run_id']}/log?stream=stdout")[1]).decode()


def zsched(scheduler: Scheduler, *words: str, cwd: Path, stdin: str = "", umask: int = 0o022, **more: str) -> Any:
    return subprocess.run(
        [*ZSCHED, *words[:1], "--url", scheduler.url, *words[1:]],
        cwd=cwd,
        env=environment(cwd, PWD=str(cwd), **more),
        input=stdin,
        umask=umask,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )


# --- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
def test_arguments_reach_the_program_without_a_shell(scheduler: Scheduler) -> None:
    words = ["printf", "%s|", "a b", "$HOME", "", "*", "'", "-x", "--", "\n"]
    run = end(scheduler, argv=words)
    assert output(scheduler, run) == "a b|$HOME||*|'|-x|--|\n|"


@pytest.mark.usefixtures("worker")
def test_program_that_does_not_exist_ends_as_in_a_shell(scheduler: Scheduler) -> None:
    run = end(scheduler, argv=["no-such-program"])
    assert (run["reason"], run["exit_code"]) == ("exit", 127)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("words", [("submit", "--wait"), ("run",)])
def test_command_that_begins_with_a_sign_is_run(scheduler: Scheduler, tmp_path: Path, words: tuple[str, ...]) -> None:
    program = tmp_path / "-x"
    program.write_text('#!/bin/sh\necho ran "$@"\n')
    program.chmod(0o755)
    path = f"PATH={tmp_path}:{os.environ['PATH']}"
    done = zsched(scheduler, *words, "--env", path, "--", "-x", "-y", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    bare = zsched(scheduler, *words, "--no-shell", "--cwd", ".", "--", "./-x", "-y", cwd=tmp_path)
    assert bare.returncode == 0, bare.stderr
    if words == ("run",):
        assert (done.stdout, bare.stdout) == ("ran -y\n", "ran -y\n")


# --- folder ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("program", [{"command": "pwd; pwd -P"}, {"argv": ["sh", "-c", "pwd; pwd -P"]}])
@pytest.mark.parametrize("field", ["cwd", "cwd_hint"])
def test_folder_behind_a_link_keeps_its_name(
    scheduler: Scheduler, tmp_path: Path, program: dict[str, object], field: str
) -> None:
    real, link = tmp_path / "real dir", tmp_path / "-link"
    real.mkdir()
    link.symlink_to(real)
    run = end(scheduler, **program, **{field: str(link)})
    assert output(scheduler, run).splitlines() == [str(link), str(real)]
    assert "detail" not in run


@pytest.mark.usefixtures("worker")
def test_missing_folder_fails_the_job_without_a_retry(scheduler: Scheduler, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    found = {
        tmp_path / "none" / "below": "the folder {} does not exist on the worker's host",
        file / "below": "the folder {} does not exist on the worker's host",
        file: "{} on the worker's host is not a folder",
    }
    for path, sentence in found.items():
        run = end(scheduler, command="true", cwd=str(path), retries=3, backoff={"initial": "0"})
        assert (run["status"], run["reason"], run["attempt"]) == ("failed", "cwd_missing", 1)
        assert run["detail"] == sentence.format(path)
        assert "exit_code" not in run
        # A run that never started counts as no attempt.
        assert len(scheduler.get(f"/jobs/{run['job_id']}/runs")) == 1


def test_hint_of_a_missing_folder_is_ignored_and_said_so(
    scheduler: Scheduler, worker: WorkerProcess, tmp_path: Path
) -> None:
    path = tmp_path / "none"
    run = end(scheduler, command="pwd; env | grep ^part=", cwd_hint=str(path), env={"part": "kept"})
    assert output(scheduler, run).split() == [str(worker.state_dir.parent), "part=kept"]
    assert run["status"] == "success"
    where = worker.state_dir.parent
    assert run["detail"] == f"the folder {path} does not exist on the worker's host: it ran in {where}"


@pytest.mark.usefixtures("worker")
def test_caller_s_folder_and_umask_go_with_the_job(scheduler: Scheduler, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    done = zsched(scheduler, "run", "pwd; umask; touch made", cwd=link, umask=0o037)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{link}\n0037\n", "")
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o640


def test_run_and_wait_say_where_a_job_ran_instead(scheduler: Scheduler, worker: WorkerProcess, tmp_path: Path) -> None:
    """The caller's folder is gone when the job starts."""
    missing = f"the folder {tmp_path}/none does not exist on the worker's host"
    note = f"{missing}: it ran in {worker.state_dir.parent}"
    with Client(scheduler.url) as client:
        job = client.submit("true", cwd_hint=f"{tmp_path}/none").wait(DEADLINE_S)
    waited = zsched(scheduler, "wait", str(job.id), cwd=tmp_path)
    assert (waited.stdout, waited.stderr) == (f"{job.id} success\n", f"zsched: job {job.id}: {note}\n")
    gone = tmp_path / "none"
    gone.mkdir()
    held = end(scheduler, command="pwd", cwd=str(gone))
    assert held["status"] == "success"
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        running = subprocess.Popen(
            [*ZSCHED, "run", "--url", scheduler.url, "pwd"],
            cwd=gone,
            env=environment(tmp_path, PWD=str(gone)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: scheduler.get("/jobs?limit=1")[0].get("cwd_hint") == str(gone))
        gone.rmdir()
    finally:
        os.kill(worker.pid, signal.SIGCONT)
    stdout, stderr = running.communicate(timeout=DEADLINE_S)
    assert running.returncode == 0
    assert stdout == f"{worker.state_dir.parent}\n"
    assert stderr.endswith(f": {note}\n")


@needs_root
def test_workers_with_different_folders(tmp_path: Path) -> None:
    """A job with a folder runs where that is, and fails where it is missing; one with a hint runs on both."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    with Scheduler(tmp_path) as scheduler:
        for name, folder in (("left", "only-left"), ("right", "only-right")):
            own = tmp_path / name
            own.mkdir()
            with WorkerProcess(scheduler.url, own, under=(*WITH_FOLDER, "755", folder), id=name, cwd="/", slots=1):
                for job, fields in {"must": {"cwd": "/srv/only-left"}, "may": {"cwd_hint": "/srv/only-left"}}.items():
                    run = end(scheduler, command="pwd", **fields)
                    found[run["worker_id"], job] = run["status"], output(scheduler, run).strip() or run["detail"]
    missing = "the folder /srv/only-left does not exist on the worker's host"
    assert found == {
        ("left", "must"): ("success", "/srv/only-left"),
        ("left", "may"): ("success", "/srv/only-left"),
        ("right", "must"): ("failed", missing),
        ("right", "may"): ("success", "/"),
    }


@needs_root
def test_folder_is_entered_with_the_rights_of_the_job_s_user(tmp_path: Path) -> None:
    """A worker of root runs jobs as `nobody`: only that user's rights count, also for its message file."""
    with Scheduler(tmp_path) as scheduler:
        own = tmp_path / "worker"
        own.mkdir()
        with WorkerProcess(scheduler.url, own, under=(*WITH_FOLDER, "700", "private"), users="nobody,root", cwd="/"):
            until(lambda: scheduler.workers().get("w1") == "active")
            run = end(scheduler, command="true", user="nobody", cwd="/srv/private", retries=2)
            assert (run["reason"], run["attempt"]) == ("cwd_missing", 1)
            assert run["detail"] == "the job's user may not enter the folder /srv/private"
            # Whether there is a folder below it, that user may not know.
            below = end(scheduler, command="true", user="nobody", cwd="/srv/private/a/b")
            assert below["detail"] == "the job's user may not enter the folder /srv/private/a/b"
            home = {"HOME": "/srv"}
            hinted = end(scheduler, command="pwd; id -un", user="nobody", cwd_hint="/srv/private", env=home)
            assert output(scheduler, hinted).split() == ["/srv", "nobody"]
            assert hinted["detail"] == "the job's user may not enter the folder /srv/private: it ran in /srv"
            argv = end(scheduler, argv=["pwd"], user="nobody", env=home)
            assert output(scheduler, argv).strip() == "/srv"
            entered = end(scheduler, command="pwd; id -un; umask", user="nobody", cwd="/srv", umask="027")
            assert output(scheduler, entered).split() == ["/srv", "nobody", "0027"]
            words = ["sh", "-c", "echo I am $(id -un) > $ZSCHED_MESSAGE_FILE; exit 3"]
            assert end(scheduler, argv=words, user="nobody")["detail"] == "I am nobody"
            # No user can put a link in the place of a message file.
            link = "rm -f $ZSCHED_MESSAGE_FILE; ln -s /etc/shadow $ZSCHED_MESSAGE_FILE"
            assert "detail" not in end(scheduler, command=link, user="nobody")
            assert "detail" not in end(scheduler, command=link, user="root")


def test_hint_needs_no_feature_of_a_worker(tmp_path: Path) -> None:
    """An HTTP worker gets jobs with hints, and sees them; it gets none with a requirement that it can't meet."""
    with Scheduler(tmp_path) as scheduler:
        scheduler.post("/workers/register", {"worker_id": "plain"})
        scheduler.post("/jobs", {"name": "must", "command": "true", "cwd": "/srv"})
        scheduler.post("/jobs", {"name": "may", "command": "true", "cwd_hint": "/srv", "umask_hint": "0022"})
        job = scheduler.get("/workers/plain/next")["job"]
        assert (job["name"], job["cwd_hint"], job["umask_hint"]) == ("may", "/srv", "0022")
        scheduler.post(f"/jobs/{job['id']}/log", {"worker_id": "plain", "status": "success", "exit_code": 0})
        assert scheduler.get("/workers/plain/next")["job"] is None
        can = ["argv", "cwd", "signal", "stdin", "umask"]
        scheduler.post("/workers/register", {"worker_id": "able", "can": can})
        job = scheduler.get("/workers/able/next")["job"]
        assert job["cwd"] == "/srv"
        scheduler.post(f"/jobs/{job['id']}/log", {"worker_id": "able", "status": "success", "exit_code": 0})
        fields = {"argv": ["cat", "-"], "stdin": "in", "umask": "077", "timeout": "2m", "signal": "SIGUSR1@60s"}
        scheduler.post("/jobs", {"name": "all", **fields})
        job = scheduler.get("/workers/able/next")["job"]
        expected = {**fields, "timeout_ms": 120_000, "signal": "USR1@1m"}
        assert expected.items() <= {**job, "timeout": "2m"}.items()


# --- input, message, signal ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("text", ["", "a\nb", "ü" * (MIB // 2)])
def test_input_reaches_the_job_whole(scheduler: Scheduler, text: str) -> None:
    run = end(scheduler, command="wc -c", stdin=text)
    assert int(output(scheduler, run)) == len(text.encode())
    assert scheduler.get(f"/jobs/{run['job_id']}")["stdin_bytes"] == len(text.encode())


@pytest.mark.usefixtures("worker")
def test_many_jobs_with_large_inputs_fit_their_frames(scheduler: Scheduler) -> None:
    text = "x" * MIB
    jobs = [scheduler.post("/jobs", {"name": "j", "command": "wc -c", "stdin": text})["id"] for _ in range(12)]
    assert {int(output(scheduler, scheduler.finished(job))) for job in jobs} == {MIB}


@pytest.mark.usefixtures("worker")
def test_stdin_of_the_command_is_that_of_the_job(scheduler: Scheduler, tmp_path: Path) -> None:
    done = zsched(scheduler, "run", "--stdin", "--", "cat", cwd=tmp_path, stdin="hello\n")
    assert (done.returncode, done.stdout) == (0, "hello\n")
    large = zsched(scheduler, "run", "--stdin", "cat", cwd=tmp_path, stdin="x" * (MIB + 1))
    assert large.returncode == 2
    assert "more than 1048576 bytes" in large.stderr


@pytest.mark.usefixtures("worker")
def test_message_of_a_job_is_the_detail_of_its_run(scheduler: Scheduler, tmp_path: Path) -> None:
    write = "printf 'no space\\non %s\\n' disk > $ZSCHED_MESSAGE_FILE"
    failed = end(scheduler, command=f"{write}; exit 7")
    assert (failed["detail"], failed["exit_code"]) == ("no space on disk", 7)
    assert end(scheduler, command=write)["detail"] == "no space on disk"
    secret = end(scheduler, command="echo $PASS > $ZSCHED_MESSAGE_FILE", secret_env={"PASS": "hunter2hunter2"})
    assert secret["detail"] == "***"
    fifo = end(scheduler, command="mkfifo $ZSCHED_MESSAGE_FILE")
    assert fifo["status"] == "success"
    assert "detail" not in fifo
    long = end(scheduler, command="yes | head -c 100000 > $ZSCHED_MESSAGE_FILE")
    assert len(long["detail"]) <= 1_000
    shown = zsched(scheduler, "run", f"{write}; exit 7", cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (
        7,
        f"zsched: job {int(shown.stderr.split()[2][:-1])}: no space on disk\n",
    )


@pytest.mark.usefixtures("worker")
def test_signal_comes_before_the_timeout_and_to_the_main_process(scheduler: Scheduler) -> None:
    trap = "trap 'echo warned' USR1; sh -c 'trap \"echo child\" USR1; sleep 0.1; sleep 1; sleep 1' & wait; wait; wait"
    run = end(scheduler, command=trap, timeout="3s", signal="USR1@2s", kill_grace="1s")
    assert output(scheduler, run) == "warned\n"
    plain = end(scheduler, command="sleep 0.2", timeout="30s", signal="TERM@29.9s")
    assert (plain["reason"], plain["signal"]) == ("signal", 15)


@pytest.mark.usefixtures("worker")
def test_variables_of_a_run_are_all_there(scheduler: Scheduler) -> None:
    run = end(scheduler, command="env | grep ^ZSCHED_ | cut -d= -f1 | sort")
    names = output(scheduler, run).split()
    expected = {
        "ZSCHED_ATTEMPT",
        "ZSCHED_JOB_ID",
        "ZSCHED_MESSAGE_FILE",
        "ZSCHED_RUN_ID",
        "ZSCHED_TASK",
        "ZSCHED_WORKER",
    }
    assert expected <= set(names)


def test_message_folder_is_empty_after_the_jobs(scheduler: Scheduler, worker: WorkerProcess) -> None:
    end(scheduler, command="echo x > $ZSCHED_MESSAGE_FILE")
    assert [path.name for path in (worker.state_dir / "messages").iterdir() if not path.is_fifo()] == []
