"""Files and artifacts on real processes: what jobs do to their scratch folders, as the worker's user and as another.

tests/unit/test_collect.py has the attacks on the helper that reads artifacts.
"""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

from tests.system.process import WorkerProcess
from tests.system.session import DEADLINE_S, Scheduler, environment, until
from zsched.client.client import Client
from zsched.model.limits import FILES_BYTES_MAX

pytestmark = pytest.mark.slow

ZSCHED: Final = (sys.executable, "-P", "-m", "zsched.commands.zsched")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs jobs as other users")
SECRET: Final = "only root may read this\n"


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


def end(scheduler: Scheduler, command: str, **fields: object) -> dict[str, Any]:
    """The last run of a job with these fields, when it has ended."""
    return scheduler.finished(scheduler.post("/jobs", {"name": "j", "command": command, **fields})["id"])


def output(scheduler: Scheduler, run: dict[str, Any]) -> str:
    return bytes(scheduler.ask("GET", f"/runs/{run['run_id']}/log?stream=stdout")[1]).decode()


def artifacts(scheduler: Scheduler, run: dict[str, Any]) -> dict[str, bytes]:
    listed = scheduler.get(f"/runs/{run['run_id']}/artifacts")
    return {
        file["path"]: bytes(scheduler.ask("GET", f"/runs/{run['run_id']}/artifacts/{quote(file['path'])}")[1])
        for file in listed
    }


def left(worker: WorkerProcess) -> list[Path]:
    """The scratch folders of the worker's own user."""
    folder = worker.state_dir / "scratch"
    return sorted(folder.iterdir()) if folder.exists() else []


def zsched(scheduler: Scheduler, *words: str, cwd: Path) -> Any:
    return subprocess.run(
        [*ZSCHED, *words[:1], "--url", scheduler.url, *words[1:]],
        cwd=cwd,
        env=environment(cwd, PWD=str(cwd)),
        capture_output=True,
        timeout=DEADLINE_S,
    )


# --- the scratch folder ----------------------------------------------------------------------------------------------


def test_files_are_in_the_folder_where_the_job_runs(scheduler: Scheduler, worker: WorkerProcess) -> None:
    run = end(
        scheduler,
        'pwd; echo "$ZSCHED_SCRATCH"; ls; cat a/b; ./tool; stat -c "%a %U" . a a/b tool',
        files={"a/b": "text\n", "tool": {"text": "#!/bin/sh\necho ran\n", "mode": "750"}},
        cwd_hint="/usr",
    )
    user = pwd.getpwuid(os.geteuid()).pw_name
    pwd_shown, scratch, *rest = output(scheduler, run).splitlines()
    assert pwd_shown == scratch
    assert scratch.startswith(str(worker.state_dir))
    assert rest == ["a", "tool", "text", "ran", *(f"{mode} {user}" for mode in ("700", "755", "644", "750"))]
    assert "detail" not in run
    until(lambda: not left(worker))


@pytest.mark.usefixtures("worker")
def test_job_with_a_folder_finds_its_files_by_the_variable(scheduler: Scheduler, tmp_path: Path) -> None:
    run = end(
        scheduler,
        'pwd; cat "$ZSCHED_SCRATCH/a"; echo kept >"$ZSCHED_SCRATCH/out"',
        files={"a": "text\n"},
        artifacts=["out"],
        cwd=str(tmp_path),
    )
    assert output(scheduler, run) == f"{tmp_path}\ntext\n"
    assert artifacts(scheduler, run) == {"out": b"kept\n"}


def test_plain_job_has_no_scratch_folder(scheduler: Scheduler, worker: WorkerProcess) -> None:
    run = end(scheduler, 'echo "${ZSCHED_SCRATCH-none}"; pwd')
    assert output(scheduler, run) == f"none\n{worker.state_dir.parent}\n"


@pytest.mark.usefixtures("worker")
def test_each_attempt_has_a_new_folder(scheduler: Scheduler) -> None:
    run = end(
        scheduler,
        'ls; echo "$ZSCHED_ATTEMPT" >out; touch "left-$ZSCHED_ATTEMPT"; test "$ZSCHED_ATTEMPT" = 2',
        artifacts=["out"],
        retries=1,
        backoff={"initial": "0"},
    )
    assert (run["attempt"], output(scheduler, run)) == (2, "")
    runs = scheduler.get(f"/jobs/{run['job_id']}/runs")
    assert [artifacts(scheduler, each)["out"] for each in runs] == [b"2\n", b"1\n"]


@pytest.mark.usefixtures("worker")
def test_one_mib_goes_each_way_and_not_a_byte_more(scheduler: Scheduler) -> None:
    run = end(scheduler, "cp a out; seq 100000; seq 100000 >&2", files={"a": "x" * FILES_BYTES_MAX}, artifacts=["out"])
    assert artifacts(scheduler, run) == {"out": b"x" * FILES_BYTES_MAX}
    run = end(scheduler, f"head -c {FILES_BYTES_MAX + 1} /dev/zero >out; echo small >b", artifacts=["out", "b"])
    assert (run["status"], artifacts(scheduler, run)) == ("success", {"b": b"small\n"})
    assert "shared storage" in run["detail"]
    events = scheduler.get(f"/events?job={run['job_id']}&kind=artifacts_left_out")
    assert [event["job_id"] for event in events] == [run["job_id"]]


# --- what a run leaves -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
def test_failed_and_stopped_runs_leave_artifacts_too(scheduler: Scheduler) -> None:
    failed = end(scheduler, "echo x >out; exit 3", artifacts=["out"])
    assert (failed["exit_code"], artifacts(scheduler, failed)) == (3, {"out": b"x\n"})
    stopped = end(scheduler, "echo x >out; sleep 60", artifacts=["out"], timeout="0.5s")
    assert (stopped["reason"], artifacts(scheduler, stopped)) == ("timeout", {"out": b"x\n"})


@pytest.mark.usefixtures("worker")
def test_nothing_of_the_run_writes_any_more_when_it_is_read(scheduler: Scheduler) -> None:
    """A child in a session of its own goes on, and appends all the time."""
    loop = "while :; do printf x >>out; done"
    run = end(
        scheduler, f"setsid sh -c '{loop}' & until [ -s out ]; do sleep 0.01; done; wc -c <out", artifacts=["out"]
    )
    kept = artifacts(scheduler, run)["out"]
    assert len(kept) >= int(output(scheduler, run))
    assert set(kept) == {ord("x")}


def test_hostile_folder_is_read_and_removed(scheduler: Scheduler, worker: WorkerProcess, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    script = f"""
        ln -s {tmp_path}/secret link; ln {tmp_path}/secret hard; ln -s {tmp_path} dir; mkfifo pipe
        truncate -s 1T sparse
        printf x >"$(printf 'a\\nb')"; printf x >"$(printf '\\377')"; mkdir closed; touch closed/x; chmod 0 closed
        i=0; while [ $i -lt 300 ]; do mkdir d && cd d; i=$((i+1)); done; echo good"""
    run = end(scheduler, script, artifacts=["*", "dir/secret", "**/secret"])
    assert run["status"] == "success"
    assert list(scheduler.get(f"/runs/{run['run_id']}/artifacts")) == [
        {"run_id": run["run_id"], "path": "a\nb", "bytes": 1, "mode": "0600"}
    ]
    assert run["detail"].isprintable()
    assert (tmp_path / "secret").read_text() == SECRET
    until(lambda: not left(worker))


@pytest.mark.usefixtures("worker")
def test_million_files_do_not_hold_up_other_jobs(scheduler: Scheduler) -> None:
    """As many as the helper looks at; it takes what it has found. Meanwhile the guard runs others."""
    script = "import os\nfor n in range(110_000): os.close(os.open(str(n), os.O_CREAT))\nopen('wanted', 'w').write('x')"
    job = scheduler.post(
        "/jobs",
        {"name": "j", "argv": [sys.executable, "-c", script], "artifacts": ["wanted", "*"], "timeout": "50s"},
    )
    assert output(scheduler, end(scheduler, "echo quick")) == "quick\n"
    run = scheduler.finished(job["id"])
    assert "wanted" in artifacts(scheduler, run)
    assert "files were looked at" in run["detail"]


# --- other users -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rooted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scheduler, WorkerProcess]]:
    if os.geteuid() != 0:
        pytest.skip("only root runs jobs as other users")
    with Scheduler(tmp_path_factory.mktemp("rooted")) as scheduler:
        folder = tmp_path_factory.mktemp("w2")
        with WorkerProcess(scheduler.url, folder, cwd=folder, users="nobody,root") as worker:
            until(lambda: scheduler.workers().get("w1") == "active")
            yield scheduler, worker


@needs_root
def test_job_of_another_user_owns_its_folder(rooted: tuple[Scheduler, WorkerProcess]) -> None:
    scheduler, worker = rooted
    run = end(
        scheduler,
        'pwd; stat -c "%a %U" . a a/b; stat -c "%a %U" ..; touch ../x; id -un >out; chmod 640 out',
        user="nobody",
        files={"a/b": "x"},
        artifacts=["out"],
    )
    folder, *owners = output(scheduler, run).splitlines()
    assert not folder.startswith(str(worker.state_dir))
    assert owners == ["700 nobody", "755 nobody", "644 nobody", "711 root"]
    assert scheduler.get(f"/runs/{run['run_id']}/artifacts")[0]["mode"] == "0640"
    assert artifacts(scheduler, run) == {"out": b"nobody\n"}
    until(lambda: not os.path.exists(folder))


@needs_root
def test_job_can_t_get_another_user_s_file(rooted: tuple[Scheduler, WorkerProcess], tmp_path: Path) -> None:
    """By no kind of link, and not by a file that somebody else has put into the folder."""
    scheduler, _ = rooted
    for part in (tmp_path, *tmp_path.parents):
        if part.stat().st_uid == 0 and len(part.parts) > 2:
            part.chmod(0o755)
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    job = scheduler.post(
        "/jobs",
        {
            "name": "j",
            "command": f"ln -s {secret} link; ln {secret} hard; ln -s {tmp_path} dir; pwd >where; touch ready;"
            " until [ -e go ]; do sleep 0.02; done",
            "user": "nobody",
            "artifacts": ["link", "hard", "dir/secret", "planted", "where"],
        },
    )["id"]
    folder = Path(scratch_of(scheduler, job))
    until((folder / "ready").exists)
    # Root puts a file there; and a hard link, which the kernel may have refused to the job.
    (folder / "planted").write_text(SECRET)
    (folder / "planted").chmod(0o644)
    (folder / "hard").unlink(missing_ok=True)
    os.link(secret, folder / "hard")
    (folder / "go").touch()
    run = scheduler.finished(job)
    assert set(artifacts(scheduler, run)) == {"where"}
    assert secret.read_text() == SECRET


def scratch_of(scheduler: Scheduler, job: int) -> str:
    """The scratch folder of a job's run, once it runs."""
    until(lambda: scheduler.last_run(job)["status"] == "running")
    run = int(scheduler.last_run(job)["run_id"])
    until(lambda: "ZSCHED_SCRATCH" in marked(run))
    return marked(run)["ZSCHED_SCRATCH"]


def marked(run: int) -> dict[str, str]:
    """The environment of a run's process."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            pairs = (process / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        environ = dict(pair.partition("=")[::2] for pair in pairs)
        if environ.get("ZSCHED_RUN_ID") == str(run) and "ZSCHED_SCRATCH" in environ:
            return environ
    return {}


@needs_root
def test_leftovers_of_a_killed_worker_are_removed_at_the_next_start(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    with Scheduler(tmp_path / "s") as scheduler:
        with WorkerProcess(scheduler.url, tmp_path, cwd=tmp_path, users="nobody,root") as first:
            until(lambda: scheduler.workers().get("w1") == "active")
            folders = []
            for user in ("nobody", "root"):
                fields = {"user": user, "files": {"a/b": "x"}, "on_lost": "fail"}
                job = scheduler.post("/jobs", {"name": "j", "command": "mkdir -p c/d; sleep 60", **fields})["id"]
                folders.append(scratch_of(scheduler, job))
            assert all(map(os.path.isdir, folders))
            first.send(signal.SIGKILL)
        with WorkerProcess(scheduler.url, tmp_path, cwd=tmp_path, users="nobody,root"):
            until(lambda: not any(map(os.path.exists, folders)))
            run = end(scheduler, "echo again >out", user="nobody", artifacts=["out"])
            assert artifacts(scheduler, run) == {"out": b"again\n"}


# --- restarts --------------------------------------------------------------------------------------------------------


def test_artifacts_outlive_agent_and_scheduler(tmp_path: Path) -> None:
    """The result waits on the worker's disk while no scheduler is there, and its agent is killed."""
    folder = tmp_path / "s"
    folder.mkdir()
    with Scheduler(folder) as scheduler, WorkerProcess(scheduler.url, tmp_path, cwd=tmp_path) as worker:
        until(lambda: scheduler.workers().get("w1") == "active")
        begun, done = tmp_path / "begun", tmp_path / "done"
        job = scheduler.post(
            "/jobs",
            {
                "name": "j",
                "command": f"touch {begun}; until [ -e {tmp_path}/go ]; do sleep 0.02; done;"
                f" head -c {FILES_BYTES_MAX} /dev/zero >out; touch {done}",
                "artifacts": ["out"],
            },
        )["id"]
        until(begun.exists)
        scheduler.kill()
        (tmp_path / "go").touch()
        until(done.exists)
        until(
            lambda: any(path.stat().st_size > FILES_BYTES_MAX for path in (worker.state_dir / "spool").glob("*.spool"))
        )
        agent = worker.agent()
        assert agent is not None
        os.kill(agent, signal.SIGKILL)
        scheduler.start()
        run = scheduler.finished(job)
        assert artifacts(scheduler, run) == {"out": bytes(FILES_BYTES_MAX)}


# --- the command and the client --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
def test_command_copies_files_there_and_back(scheduler: Scheduler, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "in.bin").write_bytes(b"\0\xff")
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\nmkdir out; cp data/in.bin 'out/a b.bin'; cp renamed out/.profile; echo ran\n")
    tool.chmod(0o755)
    (tmp_path / "x").write_text("x")
    words = ("--put", "tool", "--put", "data", "--put", "x:renamed", "--get", "out", "--get", "out/.*")
    done = zsched(scheduler, "run", *words, "./tool", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"ran\n"), done.stderr
    assert b"2 artifacts: `zsched artifacts" in done.stderr
    shown = zsched(scheduler, "artifacts", "last", "out/a b.bin", cwd=tmp_path)
    assert shown.stdout == b"\0\xff"
    saved = zsched(scheduler, "artifacts", "last", "--dir", "got", cwd=tmp_path)
    assert saved.returncode == 0, saved.stderr
    found = {
        str(path.relative_to(tmp_path)): path.read_bytes() for path in (tmp_path / "got").rglob("*") if path.is_file()
    }
    assert found == {"got/out/a_b.bin": b"\0\xff", "got/out/_profile": b"x"}
    again = zsched(scheduler, "artifacts", "last", "--dir", "got", cwd=tmp_path)
    assert again.returncode == 1
    assert b"exists" in again.stderr
    listed = zsched(scheduler, "artifacts", "last", cwd=tmp_path)
    assert listed.stdout.split()[:3] == [b"PATH", b"BYTES", b"MODE"]
    as_json = zsched(scheduler, "artifacts", "last", "--json", cwd=tmp_path)
    job = json.loads(zsched(scheduler, "show", "last", "--json", cwd=tmp_path).stdout)
    assert json.loads(as_json.stdout) == scheduler.get(f"/jobs/{job['id']}/artifacts")
    missing = zsched(scheduler, "artifacts", "last", "none", cwd=tmp_path)
    assert missing.returncode == 3


@pytest.mark.usefixtures("worker")
def test_command_refuses_too_much_before_the_submit(scheduler: Scheduler, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(FILES_BYTES_MAX + 1))
    before = len(scheduler.get("/jobs"))
    for words in (("--put", "large"), ("--put", "none")):
        done = zsched(scheduler, "submit", *words, "true", cwd=tmp_path)
        assert done.returncode in (1, 2)
    assert len(scheduler.get("/jobs")) == before


@pytest.mark.usefixtures("worker")
def test_saved_artifacts_follow_no_link(scheduler: Scheduler, tmp_path: Path) -> None:
    job = zsched(scheduler, "submit", "-q", "--wait", "--get", "out", "mkdir out; echo x >out/a", cwd=tmp_path)
    assert job.returncode == 0, job.stderr
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "got").mkdir()
    (tmp_path / "got" / "out").symlink_to(tmp_path / "elsewhere")
    saved = zsched(scheduler, "artifacts", "last", "--dir", "got", cwd=tmp_path)
    assert saved.returncode == 1
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.usefixtures("worker")
def test_client_sends_files_and_reads_artifacts(scheduler: Scheduler) -> None:
    with Client(scheduler.url) as client:
        job = client.submit(
            "cat text bytes >'a b'", files={"text": "ü", "bytes": b"\0", "long": {"text": "x"}}, artifacts=["a b"]
        )
        job.wait(DEADLINE_S)
        ((run_id, path, size, mode),) = job.artifacts()
        assert (run_id, path, size, mode & 0o777) == (job.run["run_id"], "a b", 3, mode)
        assert job.artifact("a b") == job.artifact("a b", run_id) == "ü\0".encode()
