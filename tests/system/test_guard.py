"""The worker as people run it: real processes, a real socket, a scheduler in the test's hands. Named after promises."""

from __future__ import annotations

import hashlib
import os
import resource
import shlex
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.process import ROOT, WorkerProcess, alive, command_line, gone, open_fds, peak_bytes
from tests.system.stub import StubScheduler
from zsched.model.limits import SLOTS_MAX
from zsched.protocol import Error, Heartbeat, Output, Register, Result

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow

MIB = 1024 * 1024


@pytest.fixture
def scheduler() -> Iterator[StubScheduler]:
    with StubScheduler() as stub:
        yield stub


@pytest.fixture
def worker(scheduler: StubScheduler, tmp_path: Path) -> Iterator[WorkerProcess]:
    with WorkerProcess(scheduler.url, tmp_path) as process:
        scheduler.until(lambda: scheduler.registers)
        yield process


def pid_in(path: Path) -> Callable[[], bool]:
    """Whether a job has written its pid there."""
    return lambda: path.exists() and path.read_text("ascii").endswith("\n")


def read_pid(path: Path) -> int:
    return int(path.read_text("ascii"))


def python(code: str) -> str:
    """A job that runs Python."""
    return f"exec {shlex.quote(sys.executable)} -c {shlex.quote(code)}"


# --- how a run ends --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
def test_exit_codes_and_signals_are_reported_unchanged(scheduler: StubScheduler) -> None:
    good, bad, killed = scheduler.run("exit 0"), scheduler.run("exit 3"), scheduler.run("kill -9 $$")

    assert (good.status, good.reason, good.exit_code, good.signal) == ("success", "exit", 0, None)
    assert (bad.status, bad.reason, bad.exit_code, bad.signal) == ("failed", "exit", 3, None)
    assert (killed.status, killed.reason, killed.exit_code, killed.signal) == ("failed", "signal", None, 9)
    assert good.started_ms is not None
    assert 0 <= good.finished_ms - good.started_ms < 5_000


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("command", ["true\0false", f": {'x' * 200_000}"], ids=["a NUL", "too long for exec"])
def test_a_command_that_cannot_start_is_a_failed_run(scheduler: StubScheduler, command: str) -> None:
    result = scheduler.run(command)

    assert (result.status, result.reason, result.exit_code, result.started_ms) == ("failed", "spawn_error", None, None)
    assert result.detail
    assert scheduler.run("true").status == "success"


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("fields", [{}, {"env": {"A": "b"}}, {"lease_ms": 60_000}], ids=["plain", "env", "lease"])
@pytest.mark.parametrize("sign", ["-", "+"])
def test_command_that_begins_with_a_sign_is_not_an_option_of_sh(
    scheduler: StubScheduler, fields: dict[str, object], sign: str
) -> None:
    result = scheduler.run(f"{sign}x 1; echo $0", **fields)

    assert result.stdout.head.endswith(b"sh\n")
    assert f"{sign}x: not found" in result.stderr.head.decode()


@pytest.mark.usefixtures("worker")
def test_output_keeps_its_bytes(scheduler: StubScheduler) -> None:
    result = scheduler.run(r"printf 'a\000\377\376b'; printf 'e\200' >&2")

    assert result.stdout == Output(b"a\0\xff\xfeb", b"", 5)
    assert result.stderr == Output(b"e\x80", b"", 2)


def test_of_long_output_the_ends_are_kept_and_the_rest_is_counted(
    scheduler: StubScheduler, worker: WorkerProcess
) -> None:
    scheduler.run("true")
    before = peak_bytes(worker.pid)
    size, kept = 200 * MIB, 64 * 1024
    code = f"import os; n = 0\nwhile n < {size}: n += os.write(1, b'%015d\\n' % (n // 16) * 4096)"

    result = scheduler.run(python(code), output_bytes_max=kept)

    whole = hashlib.sha256(b"".join(b"%015d\n" % (n // 65_536 * 4_096) for n in range(0, kept // 2, 16)))
    assert result.status == "success"
    assert result.stdout.total == size
    assert len(result.stdout.head) == len(result.stdout.tail) == kept // 2
    assert hashlib.sha256(result.stdout.head).digest() == whole.digest()
    assert result.stdout.tail == b"%015d\n" % (size // 16 - 4_096) * (kept // 32)
    assert peak_bytes(worker.pid) - before < 4 * MIB


@pytest.mark.usefixtures("worker")
def test_a_job_sees_an_environment_made_from_nothing(scheduler: StubScheduler) -> None:
    result = scheduler.run(
        "env | cut -d= -f1 | sort; umask; grep -E 'Sig(Ign|Blk)' /proc/self/status; ls /proc/self/fd"
    )

    words = result.stdout.head.decode().split()
    names, rest = words[:12], words[12:]
    own = ("ATTEMPT", "JOB_ID", "MARK", "MESSAGE_FILE", "RUN_ID", "SPOOL", "TASK", "WORKER")
    assert names == ["HOME", "LANG", "PATH", "PWD", *(f"ZSCHED_{name}" for name in own)]
    # Nothing ignored, nothing blocked, nothing open but the standard three and the one that ls reads.
    assert rest == ["0077", "SigBlk:", "0" * 16, "SigIgn:", "0" * 16, "0", "1", "2", "3"]


def test_slots_may_exceed_the_soft_limit_of_descriptors_and_jobs_keep_it(
    scheduler: StubScheduler, tmp_path: Path
) -> None:
    with WorkerProcess(scheduler.url, tmp_path, slots=60, nofile="64:1024"):
        go = tmp_path / "go"
        runs = [scheduler.submit(f"ulimit -n; while [ ! -e {go} ]; do sleep 0.1; done") for _ in range(60)]
        scheduler.until(lambda: scheduler.started.keys() >= set(runs))
        go.touch()
        scheduler.until(lambda: scheduler.results.keys() >= set(runs))
    assert {scheduler.results[run].stdout.head for run in runs} == {b"64\n"}


def test_slots_without_descriptors_are_not_offered(scheduler: StubScheduler, tmp_path: Path) -> None:
    with WorkerProcess(scheduler.url, tmp_path, slots=SLOTS_MAX, nofile="128:128") as worker:
        scheduler.until(lambda: scheduler.registers)
        assert scheduler.registers[0].slots == 21
        assert f"21 slots instead of {SLOTS_MAX}" in worker.log()


def test_run_that_finds_no_room_on_the_host_goes_back_and_asking_pauses(
    scheduler: StubScheduler, worker: WorkerProcess
) -> None:
    scheduler.run("true")
    limits = resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)
    # The pipes of one run, and of the next one's start not all.
    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (open_fds(worker.pid) + 5, limits[1]))
    first = scheduler.submit("sleep 1000")
    scheduler.until(lambda: first in scheduler.started)

    for _ in range(2):
        second = scheduler.submit("true")
        scheduler.until(lambda run=second: run in scheduler.returned)  # type: ignore[misc]
        assert scheduler.window == 0
        scheduler.until(lambda: scheduler.window > 0)

    resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, limits)
    assert scheduler.run("true").status == "success"
    assert worker.log().count("no process can be started: Too many open files") == 1
    assert first not in scheduler.results


# --- what a run leaves behind ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    "start",
    [
        "sh -c 'echo $$ > {0}; exec sleep 1000'",
        "setsid sh -c 'echo $$ > {0}; exec sleep 1000'",
        # Its parent is another one, whose own has ended.
        "setsid setsid sh -c 'sleep 1000 & echo $! > {0}; wait'",
    ],
    ids=["in the group", "in a session of its own", "in a tree of its own"],
)
def test_nothing_is_left_of_a_run_and_nothing_delays_its_end(
    scheduler: StubScheduler, tmp_path: Path, start: str
) -> None:
    pid_file = tmp_path / "pid"
    began = time.monotonic()

    result = scheduler.run(f"{start.format(pid_file)} & while ! grep -q . {pid_file}; do :; done")

    assert result.status == "success"
    assert time.monotonic() - began < 5
    assert not alive(read_pid(pid_file))


def test_a_daemon_of_a_run_goes_and_that_of_another_stays(
    scheduler: StubScheduler, worker: WorkerProcess, tmp_path: Path
) -> None:
    gone, stays = tmp_path / "gone", tmp_path / "stays"
    daemon = "setsid sh -c 'echo $$ > {0}; exec sleep 1000' & while ! grep -q . {0}; do sleep 0.01; done"
    other = scheduler.submit(f"({daemon.format(stays)}); exec sleep 1000")
    scheduler.until(pid_in(stays))
    # While a process executes another program, its environment can't be read, and nobody knows its run.
    scheduler.until(lambda: command_line(read_pid(stays)).startswith("sleep"))

    scheduler.run(f"({daemon.format(gone)})")

    assert not alive(read_pid(gone))
    assert alive(read_pid(stays))
    scheduler.cancel(other)
    scheduler.until(lambda: other in scheduler.results)
    assert not alive(read_pid(stays))
    # A result may be there before the last process is reaped.
    scheduler.until(lambda: worker.jobs() == [])


@pytest.mark.usefixtures("worker")
def test_of_the_processes_without_a_mark_those_of_the_group_go(scheduler: StubScheduler, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    other = scheduler.submit("sleep 1000")
    scheduler.until(lambda: other in scheduler.started)

    scheduler.run(f"env -i sleep 1000 & echo $! > {pid_file}; while ! grep -q sleep /proc/$!/comm; do :; done")

    scheduler.until(lambda: not alive(read_pid(pid_file)))
    assert other not in scheduler.results


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("name", ["ZSCHED_RUN_ID", "ZSCHED_MARK"])
@pytest.mark.parametrize("value", ["{other}", "9" * 5_000, "²", ""])
def test_process_that_forges_its_mark_does_not_outlive_its_run(
    scheduler: StubScheduler, tmp_path: Path, name: str, value: str
) -> None:
    pid_file = tmp_path / "pid"
    other = scheduler.submit("exec sleep 1000")
    scheduler.until(lambda: other in scheduler.started)
    stray = f"{name}={shlex.quote(value.format(other=other))} setsid sleep 1000"

    ended = f"{stray} & echo $! > {pid_file}; while ! grep -q sleep /proc/$!/comm; do :; done"
    assert scheduler.run(ended).status == "success"

    # Neither is it waited for until the other run has ended.
    scheduler.until(lambda: not alive(read_pid(pid_file)))
    assert other not in scheduler.results


def test_process_in_the_session_of_a_live_run_belongs_to_it(scheduler: StubScheduler, tmp_path: Path) -> None:
    """Whatever its environment says: nobody else can join a session."""
    pid_file = tmp_path / "pid"
    with WorkerProcess(scheduler.url, tmp_path, slots=3):
        # Its parent ends, so it becomes a child of the guard.
        orphan = f"(ZSCHED_MARK=x sleep 1000 & echo $! > {pid_file})"
        run = scheduler.submit(f"{orphan}; exec sleep 1000")
        scheduler.until(pid_in(pid_file))
        scheduler.run("true")
        scheduler.run("setsid true &")
        assert alive(read_pid(pid_file))
        scheduler.cancel(run)
        scheduler.until(lambda: run in scheduler.results)
        assert not alive(read_pid(pid_file))


def test_after_many_runs_no_descriptor_and_no_zombie_is_left(scheduler: StubScheduler, worker: WorkerProcess) -> None:
    scheduler.run("true")
    before = open_fds(worker.pid)

    runs = [scheduler.submit("echo out; echo err >&2; setsid true &") for _ in range(500)]
    scheduler.until(lambda: len(scheduler.results) == 501)

    assert {scheduler.results[run].stdout.head for run in runs} == {b"out\n"}
    assert scheduler.running == {}
    # A result may be there before the last process is reaped.
    scheduler.until(lambda: open_fds(worker.pid) <= before and worker.jobs() == [])


# --- ended before its time -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
def test_a_timeout_ends_everything_also_what_ignores_it(scheduler: StubScheduler, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    command = f"trap '' TERM; setsid sleep 1000 & echo $! > {pid_file}; sleep 1000 & wait; sleep 1000"

    result = scheduler.run(command, timeout_ms=600, grace_ms=300)

    assert (result.status, result.reason, result.signal) == ("failed", "timeout", 9)
    assert result.started_ms is not None
    # Two clocks, each read at its own moment, and a machine that may be busy with other tests.
    assert 850 <= result.finished_ms - result.started_ms < 5_000
    assert not alive(read_pid(pid_file))


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("days", [25, 10_000_000])
def test_a_timeout_may_be_longer_than_epoll_can_wait(scheduler: StubScheduler, days: int) -> None:
    result = scheduler.run("sleep 0.2", timeout_ms=days * 86_400_000)

    assert (result.status, result.reason) == ("success", "exit")


def test_a_grace_may_be_longer_than_epoll_can_wait(scheduler: StubScheduler, tmp_path: Path) -> None:
    with WorkerProcess(scheduler.url, tmp_path, shutdown_grace="1000d") as worker:
        run = scheduler.submit("sleep 0.5")
        scheduler.until(lambda: run in scheduler.started)

        worker.send(signal.SIGTERM)
        scheduler.until(lambda: run in scheduler.results)
        scheduler.until(worker.ended)

        assert (worker.exit_code(), scheduler.results[run].status) == (0, "success")


@pytest.mark.usefixtures("worker")
def test_a_cancelled_run_gets_term_and_may_clean_up(scheduler: StubScheduler, tmp_path: Path) -> None:
    ready, cleaned = tmp_path / "ready", tmp_path / "cleaned"
    run = scheduler.submit(
        f"trap 'echo > {cleaned}; exit 5' TERM; echo > {ready}; while :; do sleep 0.01; done", grace_ms=15_000
    )
    scheduler.until(ready.exists)

    scheduler.cancel(run)
    scheduler.until(lambda: run in scheduler.results)

    result = scheduler.results[run]
    assert (result.status, result.reason, result.exit_code) == ("failed", "cancelled", 5)
    assert cleaned.exists()


@pytest.mark.usefixtures("worker")
def test_a_cancelled_run_that_ignores_term_is_killed_after_its_grace(scheduler: StubScheduler, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    run = scheduler.submit(f"trap '' TERM; echo > {ready}; while :; do sleep 0.01; done", grace_ms=300)
    scheduler.until(ready.exists)

    scheduler.cancel(run)
    scheduler.until(lambda: run in scheduler.results)

    assert (scheduler.results[run].reason, scheduler.results[run].signal) == ("cancelled", 9)


@pytest.mark.usefixtures("worker")
def test_an_order_that_comes_twice_is_started_once(scheduler: StubScheduler, tmp_path: Path) -> None:
    witness, go = tmp_path / "witness", tmp_path / "go"
    run = scheduler.submit(f"echo >> {witness}; while [ ! -e {go} ]; do sleep 0.01; done")
    scheduler.until(witness.exists)

    scheduler.send_again(run)
    assert scheduler.run("true").status == "success"
    go.touch()
    scheduler.until(lambda: run in scheduler.results)

    assert witness.read_text("ascii") == "\n"


# --- one of the two processes dies -----------------------------------------------------------------------------------


def test_the_death_of_the_agent_keeps_jobs_and_results(
    scheduler: StubScheduler, worker: WorkerProcess, tmp_path: Path
) -> None:
    witness, go = tmp_path / "witness", tmp_path / "go"
    run = scheduler.submit(f"echo $$ >> {witness}; while [ ! -e {go} ]; do sleep 0.01; done; echo done")
    scheduler.until(lambda: run in scheduler.started)
    scheduler.acking = False
    ended = scheduler.submit("echo early")
    scheduler.until(lambda: any(ended in [r.run for r in getattr(f, "results", ())] for f in scheduler.seen))
    first = worker.agent()
    assert first is not None

    os.kill(first, signal.SIGKILL)
    scheduler.acking = True
    scheduler.until(lambda: ended in scheduler.results)
    go.touch()
    scheduler.until(lambda: run in scheduler.results)

    assert worker.agent() != first
    assert scheduler.results[ended].stdout.head == b"early\n"
    assert scheduler.results[run].stdout.head == b"done\n"
    assert len(witness.read_text("ascii").split()) == 1
    earlier, later = scheduler.registers
    assert later.incarnation == earlier.incarnation
    assert {(held.run, held.phase) for held in later.runs} == {(run, "running"), (ended, "finished")}


def test_the_death_of_the_guard_ends_all_its_processes(
    scheduler: StubScheduler, worker: WorkerProcess, tmp_path: Path
) -> None:
    plain, stray = tmp_path / "plain", tmp_path / "stray"
    scheduler.submit(f"echo $$ > {plain}; exec sleep 1000")
    scheduler.submit(f"setsid sh -c 'echo $$ > {stray}; exec sleep 1000' & sleep 1000")
    scheduler.until(lambda: pid_in(plain)() and pid_in(stray)())

    worker.send(signal.SIGKILL)
    scheduler.until(lambda: scheduler.byes)

    assert scheduler.byes == ["guard_lost"]
    assert not alive(read_pid(plain))
    assert not alive(read_pid(stray))


def test_what_an_earlier_start_left_is_swept_before_registering(scheduler: StubScheduler, tmp_path: Path) -> None:
    with WorkerProcess(scheduler.url, tmp_path) as first:
        scheduler.until(lambda: scheduler.registers)
        first.send(signal.SIGTERM)
        scheduler.until(first.ended)
    mark = (first.state_dir / "spool_id").read_text("ascii").strip()
    left = subprocess.Popen(["sleep", "1000"], env={"ZSCHED_SPOOL": mark, "ZSCHED_RUN_ID": "1"})
    other = subprocess.Popen(["sleep", "1000"], env={"ZSCHED_SPOOL": "another", "ZSCHED_RUN_ID": "1"})
    try:
        with WorkerProcess(scheduler.url, tmp_path):
            scheduler.until(lambda: len(scheduler.registers) >= 2)
            assert left.wait(timeout=0) == -signal.SIGKILL
            assert other.poll() is None
    finally:
        for process in (left, other):
            process.kill()
            process.wait()


@pytest.mark.slow
def test_an_agent_that_is_stopped_is_replaced_and_the_jobs_are_kept(
    scheduler: StubScheduler, worker: WorkerProcess
) -> None:
    run = scheduler.submit("sleep 1000")
    scheduler.until(lambda: run in scheduler.started)
    jobs, agent = worker.jobs(), worker.agent()
    assert agent is not None

    os.kill(agent, signal.SIGSTOP)
    scheduler.until(lambda: len(scheduler.registers) >= 2)

    assert worker.jobs() == jobs
    assert not alive(agent)
    assert [held.run for held in scheduler.registers[1].runs] == [run]


def test_a_guard_that_is_stopped_makes_the_worker_silent_until_it_goes_on(tmp_path: Path) -> None:
    with StubScheduler(timeout_ms=1_000) as scheduler, WorkerProcess(scheduler.url, tmp_path) as worker:
        scheduler.until(lambda: scheduler.window)
        agent = worker.agent()
        worker.send(signal.SIGSTOP)
        silence = Silence(scheduler)
        # As long as it takes to be taken for dead.
        scheduler.until(lambda: silence.lasts_s() > 1.5)

        worker.send(signal.SIGCONT)
        scheduler.until(lambda: len(scheduler.registers) >= 2)
        assert scheduler.run("true").status == "success"
        assert worker.agent() == agent


class Silence:
    """How long nothing has come."""

    def __init__(self, scheduler: StubScheduler) -> None:
        self._scheduler = scheduler
        self._count = -1
        self._since = 0.0

    def lasts_s(self) -> float:
        now = time.monotonic()
        if len(self._scheduler.seen) != self._count:
            self._count, self._since = len(self._scheduler.seen), now
        return now - self._since


def test_a_signal_meant_for_all_does_not_end_the_agent(scheduler: StubScheduler, worker: WorkerProcess) -> None:
    agent = worker.agent()
    assert agent is not None

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(agent, number)

    assert scheduler.run("true").status == "success"
    assert worker.agent() == agent


# What pip makes of an entry point.
SCRIPT = "import sys\nfrom zsched.commands.worker import main\nsys.exit(main())\n"


@pytest.mark.parametrize("module", ["zsched/__init__.py", "logging.py", "usercustomize.py"])
@pytest.mark.parametrize("python_path", [str(ROOT), f":{ROOT}:"], ids=["path", "path with empty entries"])
def test_agent_imports_nothing_that_a_job_planted(
    scheduler: StubScheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, python_path: str
) -> None:
    script, cwd, planted = tmp_path / "zsched-worker", tmp_path / "cwd", tmp_path / "planted"
    script.write_text(SCRIPT, "ascii")
    cwd.mkdir()
    # The interpreter under the virtual environment looks into the folder of its user's own packages too.
    packages = f"{python_path}:{sysconfig.get_path('purelib')}"
    monkeypatch.setenv("PYTHONPATH", packages)
    monkeypatch.setenv("HOME", str(tmp_path))
    base = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = tmp_path / ".local" / "lib" / version / "site-packages"
    place = (own if module == "usercustomize.py" else cwd) / module
    code = f"open({str(planted)!r}, 'w').close()"

    with WorkerProcess(scheduler.url, tmp_path, program=(base, str(script)), cwd=cwd) as worker:
        result = scheduler.run(f"mkdir -p {place.parent} && echo {shlex.quote(code)} > {place} && pwd")
        assert result.stdout.head.decode() == f"{cwd}\n"
        worker.send(signal.SIGHUP)
        scheduler.until(lambda: len(scheduler.registers) >= 2 or planted.exists())

    assert place.exists()
    assert not planted.exists()


def test_sighup_replaces_the_agent_and_keeps_the_jobs(scheduler: StubScheduler, worker: WorkerProcess) -> None:
    run = scheduler.submit("sleep 1000")
    scheduler.until(lambda: run in scheduler.started)
    jobs, agent = worker.jobs(), worker.agent()

    worker.send(signal.SIGHUP)
    scheduler.until(lambda: len(scheduler.registers) >= 2)

    assert worker.jobs() == jobs
    assert worker.agent() not in (agent, None)
    assert [held.run for held in scheduler.registers[1].runs] == [run]


# --- the scheduler goes and comes ------------------------------------------------------------------------------------


def test_a_restart_of_the_scheduler_keeps_what_runs(
    scheduler: StubScheduler, worker: WorkerProcess, tmp_path: Path
) -> None:
    witness, go = tmp_path / "witness", tmp_path / "go"
    run = scheduler.submit(f"echo >> {witness}; while [ ! -e {go} ]; do sleep 0.01; done")
    scheduler.until(lambda: run in scheduler.started)
    jobs = worker.jobs()

    scheduler.restart()
    scheduler.until(lambda: len(scheduler.registers) >= 2)
    assert worker.jobs() == jobs
    go.touch()
    scheduler.until(lambda: run in scheduler.results)

    assert witness.read_text("ascii") == "\n"
    assert scheduler.registers[0].incarnation == scheduler.registers[1].incarnation


def test_run_that_was_given_to_another_worker_is_killed_and_not_reported(
    scheduler: StubScheduler, worker: WorkerProcess
) -> None:
    run = scheduler.submit("sleep 1000")
    scheduler.until(lambda: run in scheduler.started)
    scheduler.kill.add(run)

    scheduler.restart()
    scheduler.until(lambda: len(scheduler.registers) >= 2)
    scheduler.until(lambda: worker.jobs() == [])

    assert scheduler.run("true").status == "success"
    assert run not in scheduler.results


def test_a_worker_waits_for_a_scheduler_that_is_not_up_yet(tmp_path: Path) -> None:
    with StubScheduler() as gone:
        url = gone.url
    with WorkerProcess(url, tmp_path) as worker, StubScheduler(port=int(url.rpartition(":")[2])) as scheduler:
        scheduler.until(lambda: scheduler.registers)
        assert isinstance(scheduler.seen[0], Register)
        assert worker.log().count("; retrying") <= 1


# --- runs that wait --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
def test_a_run_that_waits_for_a_second_is_handed_back(scheduler: StubScheduler, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    long = [scheduler.submit("sleep 1000") for _ in range(2)]
    scheduler.until(lambda: scheduler.started.keys() >= set(long))

    waiting = scheduler.submit(f"echo > {witness}")
    scheduler.push()
    scheduler.until(lambda: scheduler.returned)

    assert scheduler.returned == [waiting]
    assert not witness.exists()
    scheduler.cancel(*long)
    scheduler.until(lambda: scheduler.results.keys() >= set(long))


@pytest.mark.usefixtures("worker")
def test_one_on_probation_waits_for_a_slot_too_and_gets_the_first(scheduler: StubScheduler, tmp_path: Path) -> None:
    order, go = tmp_path / "order", tmp_path / "go"
    long = [scheduler.submit("sleep 1000"), scheduler.submit(f"until [ -e {go} ]; do sleep 0.01; done")]
    scheduler.until(lambda: scheduler.started.keys() >= set(long))

    plain = scheduler.submit(f"echo plain >> {order}")
    suspect = scheduler.submit(f"echo suspect >> {order}", probation=True)
    scheduler.push()
    go.touch()
    scheduler.until(lambda: scheduler.results.keys() >= {plain, suspect})
    assert order.read_text("ascii") == "suspect\nplain\n"

    again = scheduler.submit("sleep 1000")
    scheduler.until(lambda: again in scheduler.started)
    late = scheduler.submit(f"echo late >> {order}", probation=True)
    scheduler.push()
    scheduler.until(lambda: scheduler.returned == [late])


def test_waiting_runs_of_a_dead_agent_do_not_start_for_the_next_one(
    scheduler: StubScheduler, worker: WorkerProcess, tmp_path: Path
) -> None:
    witness, go = tmp_path / "witness", tmp_path / "go"
    long = [scheduler.submit("sleep 1000"), scheduler.submit(f"until [ -e {go} ]; do sleep 0.01; done")]
    scheduler.until(lambda: scheduler.started.keys() >= set(long))
    agent = worker.agent()
    assert agent is not None
    scheduler.submit(f"echo > {witness}")
    scheduler.push()
    scheduler.until(lambda: any(isinstance(frame, Heartbeat) and frame.n > 1 for frame in scheduler.seen))
    # From here on the scheduler says nothing, so no agent can be told of it again; and a slot gets free.
    os.kill(agent, signal.SIGKILL)
    assert gone(agent, within_s=10)
    go.touch()
    time.sleep(0.3)
    assert len(worker.jobs()) == 1
    assert not witness.exists()


def test_a_dying_run_has_its_slot_until_it_is_gone(scheduler: StubScheduler, tmp_path: Path) -> None:
    with WorkerProcess(scheduler.url, tmp_path, slots=1) as worker:
        pid_file = tmp_path / "pid"
        deaf = f"trap '' TERM; echo $$ > {pid_file}; while :; do sleep 0.01; done"
        old = scheduler.submit(deaf, grace_ms=1_500)
        scheduler.until(lambda: old in scheduler.started)

        # As after a timeout: the old one is lost, and its successor is on probation.
        del scheduler.running[old]
        new = scheduler.submit(f"kill -0 $(cat {pid_file})", probation=True)
        scheduler.restart()
        scheduler.until(lambda: new in scheduler.results)

        assert scheduler.results[new].exit_code == 1, worker.log()
        assert scheduler.returned == []


@pytest.mark.usefixtures("worker")
def test_a_cancelled_run_that_waits_is_handed_back_at_once(scheduler: StubScheduler) -> None:
    long = [scheduler.submit("sleep 1000") for _ in range(2)]
    scheduler.until(lambda: scheduler.started.keys() >= set(long))
    waiting = scheduler.submit("true")
    scheduler.push()

    began = time.monotonic()
    scheduler.cancel(waiting)
    scheduler.until(lambda: scheduler.returned)

    assert scheduler.returned == [waiting]
    assert time.monotonic() - began < 0.9


def test_a_guard_that_stood_still_starts_nothing_that_came_meanwhile(tmp_path: Path) -> None:
    with (
        StubScheduler(timeout_ms=30_000) as scheduler,
        WorkerProcess(scheduler.url, tmp_path, heartbeat_interval="100ms") as worker,
    ):
        witness = tmp_path / "witness"
        scheduler.until(lambda: scheduler.window)
        agent = worker.agent()
        assert agent is not None

        worker.send(signal.SIGSTOP)
        run = scheduler.submit(f"echo >> {witness}")
        scheduler.until(lambda: any(isinstance(frame, Heartbeat) and frame.n for frame in scheduler.seen))
        # The agent has passed it on. Now it can't take it back.
        os.kill(agent, signal.SIGSTOP)
        began = time.monotonic()
        scheduler.until(lambda: time.monotonic() > began + 1.1)
        worker.send(signal.SIGCONT)
        os.kill(agent, signal.SIGCONT)
        scheduler.until(lambda: run in scheduler.returned or run in scheduler.results)

        assert scheduler.returned == [run]
        assert not witness.exists()


# --- the end of a worker ---------------------------------------------------------------------------------------------


def test_sigterm_lets_running_jobs_finish(scheduler: StubScheduler, worker: WorkerProcess, tmp_path: Path) -> None:
    ready, go = tmp_path / "ready", tmp_path / "go"
    run = scheduler.submit(f"echo > {ready}; while [ ! -e {go} ]; do sleep 0.01; done; echo done")
    scheduler.until(ready.exists)

    worker.send(signal.SIGTERM)
    scheduler.until(lambda: scheduler.window == 0)
    go.touch()
    scheduler.until(worker.ended)
    scheduler.until(lambda: scheduler.byes)

    assert worker.exit_code() == 0
    assert scheduler.results[run].stdout.head == b"done\n"
    assert scheduler.byes == ["shutdown"]


def test_a_second_sigterm_stops_them(scheduler: StubScheduler, worker: WorkerProcess) -> None:
    run = scheduler.submit("sleep 1000")
    scheduler.until(lambda: run in scheduler.started)
    jobs = worker.jobs()

    worker.send(signal.SIGTERM)
    scheduler.until(lambda: scheduler.window == 0)
    worker.send(signal.SIGTERM)
    scheduler.until(worker.ended)
    scheduler.until(lambda: scheduler.byes)

    assert worker.exit_code() == 0
    assert not any(map(alive, jobs))
    assert run not in scheduler.results


def test_jobs_that_do_not_finish_within_the_grace_are_stopped(scheduler: StubScheduler, tmp_path: Path) -> None:
    with WorkerProcess(scheduler.url, tmp_path, shutdown_grace="300ms") as worker:
        run = scheduler.submit("sleep 1000")
        scheduler.until(lambda: run in scheduler.started)

        worker.send(signal.SIGTERM)
        scheduler.until(worker.ended)

        assert worker.exit_code() == 0


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [True, False])
def test_worker_ends_within_seconds_though_its_results_are_not_acked(
    scheduler: StubScheduler, worker: WorkerProcess, tmp_path: Path, stopped: bool
) -> None:
    scheduler.acking = False
    run = scheduler.submit("true")
    scheduler.until(lambda: any(isinstance(frame, Result) for frame in scheduler.seen))
    agent = worker.agent()
    assert agent is not None
    if stopped:
        os.kill(agent, signal.SIGSTOP)

    began = time.monotonic()
    worker.send(signal.SIGTERM)
    scheduler.until(worker.ended)

    # Five for the results, two for the goodbye, and a machine that may be busy.
    assert time.monotonic() - began < 12
    assert worker.exit_code() == 0
    assert "did not deliver 1 result: kept on disk for the next start" in worker.log()

    scheduler.acking = True
    with WorkerProcess(scheduler.url, tmp_path):
        scheduler.until(lambda: run in scheduler.results)
    assert [held.phase for held in scheduler.registers[-1].runs] == ["finished"]


def test_a_worker_ends_also_without_a_scheduler(tmp_path: Path) -> None:
    with StubScheduler() as gone:
        url = gone.url
    with WorkerProcess(url, tmp_path) as worker:
        worker.wait_for_log("can't reach")
        worker.send(signal.SIGTERM)
        assert worker.exit_code() == 0


@pytest.mark.usefixtures("worker")
def test_a_second_worker_of_one_state_directory_is_refused(scheduler: StubScheduler, tmp_path: Path) -> None:
    with WorkerProcess(scheduler.url, tmp_path) as second:
        scheduler.until(second.ended)
        assert second.exit_code() == 75
    assert "another worker uses the state directory" in second.log()
    assert scheduler.run("true").status == "success"


def test_a_worker_that_is_refused_for_good_ends(scheduler: StubScheduler, tmp_path: Path) -> None:
    scheduler.refusal = Error(code="E_VERSION", fatal=True, detail="speak version 9")
    with WorkerProcess(scheduler.url, tmp_path) as worker:
        scheduler.until(worker.ended)
        assert worker.exit_code() == 77
    assert "speak version 9" in worker.log()


def test_the_guard_loads_neither_zeromq_nor_a_database() -> None:
    none = {"zmq", "cryptography", "apsw", "falcon", "waitress"}
    code = f"import sys, zsched.commands.worker; print({none} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
