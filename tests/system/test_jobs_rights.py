"""What a job may and may not do to its worker and its host. Real processes; the worker is root's and another user's."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.process import ROOT, WorkerProcess, alive
from tests.system.session import Scheduler
from tests.system.stub import StubScheduler
from zsched.client.client import Client
from zsched.protocol import Output

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow

NOBODY = 65_534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
# Python that fails in its own way on each of the doors that /proc/PID and ptrace open, and prints which let it in.
BURGLAR = """
import ctypes, os, sys

libc = ctypes.CDLL(None, use_errno=True)
def read(path):
    with open(path, "rb") as file:
        file.read(1)
def trace(pid):
    PTRACE_SEIZE = 0x4206
    if libc.ptrace(PTRACE_SEIZE, pid, None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")
for pid in map(int, sys.argv[1:]):
    doors = {
        "environ": lambda: read(f"/proc/{pid}/environ"),
        "maps": lambda: read(f"/proc/{pid}/maps"),
        "mem": lambda: open(f"/proc/{pid}/mem", "rb"),
        "fd": lambda: os.listdir(f"/proc/{pid}/fd"),
        "cwd": lambda: os.readlink(f"/proc/{pid}/cwd"),
        "ptrace": lambda: trace(pid),
    }
    for name, door in doors.items():
        try:
            door()
        except PermissionError:
            continue
        print("open:", name)
print("tried")
"""


@pytest.fixture
def scheduler() -> Iterator[StubScheduler]:
    with StubScheduler() as stub:
        yield stub


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody, the user, owns and can reach; or this test is skipped."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be another user")
    seen = subprocess.run(
        [*AS_NOBODY, sys.executable, "-c", "import zsched.worker.guard.guard"], cwd=ROOT, capture_output=True, text=True
    )
    if seen.returncode != 0:
        pytest.skip(f"user {NOBODY} can't read this checkout: {seen.stderr.splitlines()[-1]}")
    made = Path(tempfile.mkdtemp(prefix="zsched-nobody-"))
    os.chown(made, NOBODY, NOBODY)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def nobody(scheduler: StubScheduler, folder: Path) -> Iterator[WorkerProcess]:
    """A worker that is not root."""
    with WorkerProcess(scheduler.url, folder, under=AS_NOBODY) as process:
        scheduler.until(lambda: scheduler.registers)
        yield process


def burgle(*pids: int) -> str:
    """A job that tries to look into processes."""
    words = [sys.executable, "-I", "-S", "-c", BURGLAR, *map(str, pids)]
    return "exec " + " ".join(map(shlex.quote, words))


def told(scheduler: StubScheduler, command: str) -> str:
    """What a job prints."""
    result = scheduler.run(command)
    assert (result.status, result.stderr.head) == ("success", b"")
    return result.stdout.head.decode()


# --- what every job inherits -----------------------------------------------------------------------------------------


def test_files_of_a_job_belong_to_its_user_and_no_program_adds_rights(scheduler: StubScheduler, tmp_path: Path) -> None:
    with WorkerProcess(scheduler.url, tmp_path):
        assert told(scheduler, "umask; grep NoNewPrivs /proc/self/status") == "0077\nNoNewPrivs:\t1\n"


def test_umask_and_no_new_privs_are_settings_of_the_worker(scheduler: StubScheduler, tmp_path: Path) -> None:
    with WorkerProcess(scheduler.url, tmp_path, umask="022", no_new_privs="no"):
        assert told(scheduler, "umask; grep NoNewPrivs /proc/self/status") == "0022\nNoNewPrivs:\t0\n"
        # What is the worker's own stays so.
        assert {path.name: path.stat().st_mode & 0o077 for path in (tmp_path / "state").iterdir()} == {
            "lock": 0,
            "spool_id": 0,
            "curve.key": 0,
            "spool": 0,
            "messages": 0,
        }


def test_when_memory_runs_out_a_job_goes_before_its_worker(scheduler: StubScheduler, tmp_path: Path) -> None:
    with WorkerProcess(scheduler.url, tmp_path) as worker:
        job = int(told(scheduler, "cat /proc/self/oom_score_adj"))
        agent = worker.agent()
        assert agent is not None
        ours = [int(Path(f"/proc/{pid}/oom_score_adj").read_text("ascii")) for pid in (worker.pid, agent, os.getpid())]

    assert ours[0] == ours[1] == ours[2]
    assert job == min(ours[0] + 500, 1_000)


def test_what_the_worker_was_started_with_is_not_open_in_a_job(scheduler: StubScheduler, tmp_path: Path) -> None:
    opened = ("sh", "-c", 'exec "$@" 7</etc/passwd', "sh")
    with WorkerProcess(scheduler.url, tmp_path, under=opened) as worker:
        assert told(scheduler, "readlink /proc/self/fd/0; ls /proc/self/fd").split() == ["/dev/null", *"0123"]
        if os.geteuid() == 0:
            # So it was there to be inherited.
            assert os.readlink(f"/proc/{worker.pid}/fd/7") == "/etc/passwd"


# --- a worker that is not root ---------------------------------------------------------------------------------------


def test_a_job_can_look_into_neither_guard_nor_agent(scheduler: StubScheduler, nobody: WorkerProcess) -> None:
    agent = nobody.agent()
    assert agent is not None

    assert told(scheduler, f"id -u; {burgle(nobody.pid, agent)}") == f"{NOBODY}\ntried\n"


def test_a_job_can_be_looked_into_by_its_own_user(scheduler: StubScheduler, nobody: WorkerProcess) -> None:
    run = scheduler.submit("exec sleep 1000")
    scheduler.until(lambda: run in scheduler.started)

    # So a debugger works in jobs, and the test above can fail.
    assert told(scheduler, burgle(scheduler.started[run].pid)).count("open:") == 6


def test_it_knows_and_ends_its_own_processes_all_the_same(
    scheduler: StubScheduler, nobody: WorkerProcess, folder: Path
) -> None:
    pid_file, other = folder / "pid", scheduler.submit("exec sleep 1000")
    scheduler.until(lambda: other in scheduler.started)

    told(scheduler, f"setsid sleep 1000 & echo $! > {pid_file}; while ! grep -q sleep /proc/$!/comm; do :; done")

    assert not alive(int(pid_file.read_text("ascii")))
    assert other not in scheduler.results
    assert int(told(scheduler, "cat /proc/self/oom_score_adj")) > 0


def test_an_agent_without_its_guard_ends_what_that_left(scheduler: StubScheduler, nobody: WorkerProcess) -> None:
    run = scheduler.submit("exec sleep 1000")
    scheduler.until(lambda: run in scheduler.started)
    jobs = nobody.jobs()

    os.kill(nobody.pid, 9)
    scheduler.until(lambda: scheduler.byes)

    assert scheduler.byes == ["guard_lost"]
    assert jobs
    assert not any(map(alive, jobs))


# --- other users -----------------------------------------------------------------------------------------------------


@pytest.fixture
def switching(scheduler: StubScheduler, folder: Path) -> Iterator[WorkerProcess]:
    """A worker of root that runs jobs as nobody and as no other."""
    with WorkerProcess(scheduler.url, folder, under=IN_GROUPS, users="nobody") as process:
        scheduler.until(lambda: scheduler.registers)
        yield process


# Root in some groups, so that a user who had them too would be noticed.
IN_GROUPS = ("setpriv", "--groups=4,27")
WHO = (
    "id -un; id -gn; id -G; echo $HOME $USER $LOGNAME; pwd; umask;"
    " grep -E '^(Cap(Prm|Eff|Bnd|Amb)|NoNew)' /proc/self/status"
)


def test_a_job_becomes_the_user_that_it_names_with_all_that_is_his(
    scheduler: StubScheduler, switching: WorkerProcess
) -> None:
    found = scheduler.run(WHO, user="nobody")

    user = pwd.getpwnam("nobody")
    none = "0" * 16
    assert found.stdout.head.decode().split("\n") == [
        "nobody",
        grp.getgrgid(user.pw_gid).gr_name,
        " ".join(map(str, os.getgrouplist("nobody", user.pw_gid))),
        f"{user.pw_dir} nobody nobody",
        # Debian's nobody has a home that does not exist.
        user.pw_dir if Path(user.pw_dir).is_dir() else "/",
        "0077",
        *(f"{name}:\t{none}" for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")),
        "NoNewPrivs:\t1",
        "",
    ]


@pytest.mark.parametrize("user", [None, "root", "daemon", "no-such-user", "0", "nobody "])
@pytest.mark.usefixtures("switching")
def test_a_job_of_any_other_user_is_a_failed_run(scheduler: StubScheduler, user: str | None) -> None:
    result = scheduler.run("id", user=user)

    assert (result.status, result.reason, result.started_ms) == ("failed", "spawn_error", None)
    said = f"not as {user}" if user else "and this one names no user"
    assert result.detail == f"this worker runs jobs as nobody only, {said}"


@pytest.mark.usefixtures("switching")
def test_a_command_is_one_word_whatever_is_in_it(scheduler: StubScheduler) -> None:
    command = """printf '%s|' "$0" "$#" 'a"b' '$HOME' "`echo x`" --user=root; id -u; exit 7"""
    result = scheduler.run(command, user="nobody")
    assert (result.stdout.head.decode(), result.exit_code) == (f'/bin/sh|0|a"b|$HOME|x|--user=root|{NOBODY}\n', 7)
    assert b"-x: not found" in scheduler.run("-x", user="nobody").stderr.head


@pytest.mark.usefixtures("switching")
def test_root_watches_and_ends_the_processes_of_other_users(scheduler: StubScheduler, folder: Path) -> None:
    pid_file, other = folder / "pid", scheduler.submit("exec sleep 1000", user="nobody")
    scheduler.until(lambda: other in scheduler.started)

    stray = f"setsid sleep 1000 & echo $! > {pid_file}; while ! grep -q sleep /proc/$!/comm; do :; done"
    assert scheduler.run(stray, user="nobody").status == "success"

    assert not alive(int(pid_file.read_text("ascii")))
    scheduler.cancel(other)
    scheduler.until(lambda: other in scheduler.results)
    assert scheduler.results[other].reason == "cancelled"


@pytest.mark.usefixtures("switching")
def test_a_job_of_another_user_reaches_nothing_of_the_worker(scheduler: StubScheduler, folder: Path) -> None:
    result = scheduler.run(f"cat {folder}/state/*; ls {folder}/state; kill -0 $PPID", user="nobody")
    assert result.status == "failed"
    assert result.stdout.total == 0


def test_without_setpriv_a_program_of_ours_does_it(
    scheduler: StubScheduler, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In front of the worker a root that has no setpriv.
    hidden = ("unshare", "--mount", "sh", "-c", 'mount --bind /bin/false "$(command -v setpriv)" && exec "$@"', "sh")
    if subprocess.run([*hidden, "true"], capture_output=True).returncode != 0:
        pytest.skip("can't hide setpriv here")
    with WorkerProcess(scheduler.url, folder, under=(*IN_GROUPS, *hidden), users="nobody"):
        found = scheduler.run("id -u; id -G; pwd; grep NoNew /proc/self/status", user="nobody").stdout.head.decode()
        groups = " ".join(map(str, os.getgrouplist("nobody", pwd.getpwnam("nobody").pw_gid)))
        assert found.split("\n")[:2] == [str(NOBODY), groups]
        assert found.endswith("NoNewPrivs:\t1\n")
        assert scheduler.run("exit 7", user="nobody").exit_code == 7


def test_root_may_be_in_the_list(scheduler: StubScheduler, folder: Path) -> None:
    with WorkerProcess(scheduler.url, folder, users="nobody,root") as worker:
        names = [scheduler.run("id -un", user=user).stdout.head for user in (None, "root", "nobody")]
        assert names == [b"root\n", b"root\n", b"nobody\n"]
        assert "jobs run as root" not in worker.log()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_worker_of_root_without_a_list_says_so_and_runs_jobs_as_root(
    scheduler: StubScheduler, tmp_path: Path
) -> None:
    with WorkerProcess(scheduler.url, tmp_path) as worker:
        assert [scheduler.run("id -un", user=user).stdout.head for user in (None, "root")] == [b"root\n"] * 2
        assert scheduler.run("id", user="nobody").detail == "this worker runs jobs as root only, not as nobody"
        assert worker.log().count("jobs run as root: set `users` to the users they may run as") == 1


def test_a_worker_that_is_not_root_has_no_list(scheduler: StubScheduler, folder: Path) -> None:
    with WorkerProcess(scheduler.url, folder, under=AS_NOBODY, users="nobody") as worker:
        assert worker.exit_code() == 2
        assert "only a worker of root can run jobs as other users" in worker.log()


def test_a_worker_that_is_not_root_runs_jobs_that_name_its_own_user(
    scheduler: StubScheduler, nobody: WorkerProcess
) -> None:
    assert scheduler.run("id -un", user="nobody").stdout.head == b"nobody\n"
    assert scheduler.run("id -un", user="root").detail == "this worker runs jobs as nobody only, not as root"
    assert "jobs run as root" not in nobody.log()


@pytest.mark.parametrize(
    ("users", "bounds", "sentence"),
    [
        ("no-such-user", (), "there is no user no-such-user on this host"),
        ("nobody", ("--bounding-set=-setuid",), "jobs can't be run as nobody: become.py:"),
        # Since Linux 6.15 the two others do as well.
        ("nobody", ("--bounding-set=-sys_ptrace,-perfmon,-sys_admin",), "add the capability SYS_PTRACE"),
    ],
)
def test_users_that_cannot_be_followed_are_reported_at_the_start(
    scheduler: StubScheduler, folder: Path, users: str, bounds: tuple[str, ...], sentence: str
) -> None:
    with WorkerProcess(scheduler.url, folder, under=("setpriv", *bounds) if bounds else (), users=users) as worker:
        assert worker.exit_code() == 2
        assert sentence in worker.log()


# --- limits ----------------------------------------------------------------------------------------------------------

LIMITS = "for hard in '' -H; do ulimit $hard -n; ulimit $hard -c; done; grep processes /proc/self/limits | tr -s ' '"


def test_job_has_the_limits_set_at_its_worker(scheduler: StubScheduler, tmp_path: Path) -> None:
    with WorkerProcess(scheduler.url, tmp_path, job_nofile="100", job_nproc="321", job_core="4KiB"):
        limits = ["100", "8", "100", "8", "Max processes 321 321 processes "]
        assert told(scheduler, LIMITS).splitlines() == limits
        assert scheduler.run("exit 7").exit_code == 7
        assert scheduler.run("printf '%s|' \"$0\" \"$#\" '$HOME'").stdout.head == b"/bin/sh|0|$HOME|"


def test_limits_hold_for_other_users_too(scheduler: StubScheduler, folder: Path) -> None:
    with WorkerProcess(scheduler.url, folder, users="nobody", job_nofile="100", job_core="0"):
        found = scheduler.run("id -u; ulimit -n; ulimit -Hn; ulimit -c; ulimit -n 101", user="nobody")
        assert found.stdout.head.split() == [str(NOBODY).encode(), b"100", b"100", b"0"]
        assert found.exit_code != 0


# A library that notes the hard limit of open files in each program that loads it, before that program's own code runs.
PRELOADED = """
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

__attribute__((constructor)) static void note(void) {
    struct rlimit limit;
    FILE *file = fopen(getenv("NOTED"), "a");
    getrlimit(RLIMIT_NOFILE, &limit);
    fprintf(file, "%s %lu\\n", program_invocation_short_name, (unsigned long) limit.rlim_max);
    fclose(file);
}
"""


@pytest.mark.parametrize("lease_ms", [None, 60_000], ids=["no lease", "lease"])
@pytest.mark.parametrize("user", [None, "nobody"], ids=["own user", "other user"])
def test_library_that_a_job_preloads_runs_within_its_limits(
    scheduler: StubScheduler, folder: Path, user: str | None, lease_ms: int | None
) -> None:
    compiler, library, noted = shutil.which("cc"), folder / "preloaded.so", folder / "noted"
    if compiler is None:
        pytest.skip("needs a C compiler, cc")
    built = [compiler, "-shared", "-fPIC", "-x", "c", "-o", str(library), "-"]
    subprocess.run(built, input=PRELOADED, text=True, check=True)
    os.chown(library, NOBODY, NOBODY)
    with WorkerProcess(scheduler.url, folder, job_nofile="64", users=user or ""):
        env = {"LD_PRELOAD": str(library), "NOTED": str(noted)}
        result = scheduler.run("/bin/echo ran", user=user, env=env, lease_ms=lease_ms)

    assert (result.stdout.head, result.stderr.head) == (b"ran\n", b"")
    found = [line.split() for line in noted.read_text("ascii").splitlines()]
    assert {name for name, _ in found} >= {"sh", "echo"}
    assert {limit for _, limit in found} == {"64"}, found


def test_limit_above_the_own_one_of_the_worker_is_reported_at_its_start(
    scheduler: StubScheduler, tmp_path: Path
) -> None:
    with WorkerProcess(scheduler.url, tmp_path, nofile="128:128", job_nofile="129") as worker:
        assert worker.exit_code() == 2
        assert "invalid job_nofile 129: above the worker's own hard limit, 128" in worker.log()


# --- variables of its own --------------------------------------------------------------------------------------------

SECRET = "correct-horse-battery"
BOTH: dict[str, Any] = {
    "env": {"LEVEL": "3", "HOME": "/tmp", "ODD": "$(id) 'x' \n\"y"},
    "secret_env": {"TOKEN": SECRET},
}


SHOW = 'printf \'%s|\' "$LEVEL" "$HOME" "$ODD" "${#TOKEN}" "$ZSCHED_ATTEMPT"; env | grep -c VARIABLE'


def test_a_job_has_the_variables_that_it_was_given(scheduler: StubScheduler, tmp_path: Path) -> None:
    with WorkerProcess(scheduler.url, tmp_path, job_core="0"):
        shown = scheduler.run(SHOW, **BOTH).stdout.head.decode()
    assert shown == f"3|/tmp|{BOTH['env']['ODD']}|{len(SECRET)}|1|0\n"


@pytest.mark.usefixtures("switching")
def test_a_job_of_another_user_has_them_too(scheduler: StubScheduler) -> None:
    shown = scheduler.run(f"id -u; pwd; {SHOW}", user="nobody", **BOTH).stdout.head.decode()
    assert shown == f"{NOBODY}\n/tmp\n3|/tmp|{BOTH['env']['ODD']}|{len(SECRET)}|1|0\n"


@pytest.mark.usefixtures("switching")
def test_no_program_that_is_root_obeys_a_variable_of_a_job(scheduler: StubScheduler, folder: Path) -> None:
    # The linker writes down whom it was in each process that it comes into.
    env = {"LD_DEBUG": "files", "LD_DEBUG_OUTPUT": str(folder / "loaded"), "PYTHONPROFILEIMPORTTIME": "1"}
    result = scheduler.run("id -u", user="nobody", env=env)
    assert (result.stdout.head, result.stderr.head) == (f"{NOBODY}\n".encode(), b"")
    written = list(folder.glob("loaded.*"))
    assert written
    assert {path.stat().st_uid for path in written} == {NOBODY}


def test_invalid_name_of_a_variable_starts_nothing(scheduler: StubScheduler, tmp_path: Path) -> None:
    with WorkerProcess(scheduler.url, tmp_path):
        for env in ({"A=B": "x"}, {"": "x"}, {"A B": "x"}):
            assert scheduler.run("true", env=env).detail.startswith("invalid variable name in its env: use letters")
        result = scheduler.run("echo $ZSCHED_SPOOL $ZSCHED_JOB_ID", env={"ZSCHED_SPOOL": "mine", "ZSCHED_JOB_ID": "0"})
        mark = (tmp_path / "state" / "spool_id").read_text("ascii").strip()
        assert result.stdout.head.decode() == f"{mark} {result.run}\n"


def test_secrets_are_masked_in_the_output_of_a_job(scheduler: StubScheduler, tmp_path: Path) -> None:
    half = len(SECRET) // 2
    slowly = f"printf %s '{SECRET[:half]}'; sleep 0.3; printf '%s\\n' '{SECRET[half:]}'"
    with WorkerProcess(scheduler.url, tmp_path, log_level="DEBUG") as worker:
        result = scheduler.run(f'echo "<$TOKEN>"; echo $TOKEN >&2; {slowly}; printf corr', **BOTH)
        assert result.stdout == Output(b"<***>\n***\ncorr", b"", 14)
        assert result.stderr == Output(b"***\n", b"", 4)
        # Also where a stream is cut in its middle.
        cut = scheduler.run("for i in 1 2 3 4 5 6 7 8 9; do printf $TOKEN; done", output_bytes_max=8, **BOTH).stdout
        assert cut == Output(b"****", b"****", 27)
        assert SECRET not in worker.log()
    assert not any(SECRET.encode() in path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())


def test_a_secret_is_nowhere_but_in_its_job(tmp_path: Path) -> None:
    with (
        Scheduler(tmp_path) as scheduler,
        WorkerProcess(scheduler.url, tmp_path) as worker,
        Client(scheduler.url) as client,
    ):
        job = client.submit("echo $LEVEL $TOKEN; test ${#TOKEN} = 21", **BOTH)
        job.wait(timeout=20)
        assert (job.exit_code, job.logs()) == (0, "3 ***\n")
        assert job.view["secret_env"] == {"TOKEN": "***"}
        assert scheduler.program is not None
        told = job.refresh().view, client.ask("GET", "/events").json(), worker.log(), scheduler.program.log()
        assert SECRET not in str(told)
        key = tmp_path / "scheduler.db.d" / "secret.key"
        assert key.stat().st_mode & 0o777 == 0o600
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert key in kept
    assert not any(SECRET.encode() in path.read_bytes() for path in kept)
