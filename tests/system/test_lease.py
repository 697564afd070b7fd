"""Jobs with a lease: gone in time, whatever stands still, dies or is cut; and jobs without one, which live on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.process import WorkerProcess, alive, children
from tests.system.stub import StubScheduler
from tests.system.test_guard import pid_in, read_pid
from zsched.protocol import Heartbeat
from zsched.worker.process import become
from zsched.worker.process.users import Users

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow

LEASE_MS = 3_000
BEAT_S, TERM_S, KILL_S, GIVEN_AWAY_S = (part * LEASE_MS / 1_000 for part in (0.1, 0.7, 0.9, 1 + 1 / 3))
# The ack of the last heartbeat may not have reached the guard; and the machine may be busy.
EARLY_S = BEAT_S + 0.05
LATE_S = 0.8


def boot_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Stage:
    """A worker with three jobs: `polite` and `deaf` have a lease, `plain` has none."""

    def __init__(self, scheduler: StubScheduler, worker: WorkerProcess, folder: Path) -> None:
        self.scheduler = scheduler
        self.worker = worker
        self._folder = folder
        self._heard_s = 0.0
        polite = f"trap 'cut -d\" \" -f1 /proc/uptime > {folder}/termed; exit 3' TERM"
        self.polite = self._submit("polite", polite, lease_ms=LEASE_MS)
        self.deaf = self._submit("deaf", "trap '' TERM", lease_ms=LEASE_MS)
        self.plain = self._submit("plain", ":")
        scheduler.until(lambda: all(pid_in(folder / name)() for name in ("polite", "deaf", "plain")))

    def _submit(self, name: str, first: str, **fields: object) -> int:
        # A grace that is far longer than the lease has time for.
        return self.scheduler.submit(
            f"{first}; echo $$ > {self._folder}/{name}; while :; do sleep 0.01; done", grace_ms=60_000, **fields
        )

    def pid(self, name: str) -> int:
        return read_pid(self._folder / name)

    def hear(self) -> float:
        """Wait until a heartbeat has come and its ack has reached the guard. Returns when it came."""
        for _ in range(2):
            count = self._beats()
            self.scheduler.until(lambda seen=count: self._beats() > seen)  # type: ignore[misc]
            heard_s = boot_s()
        self.serve(BEAT_S / 3)
        return heard_s

    def _beats(self) -> int:
        return sum(isinstance(frame, Heartbeat) for frame in self.scheduler.seen)

    def serve(self, for_s: float) -> None:
        until_s = boot_s() + for_s
        self.scheduler.until(lambda: boot_s() >= until_s)

    def judge(self, heard_s: float) -> None:
        """Look on without the scheduler until both are gone, and then whether they went in time and the other lives."""
        gone_s: dict[str, float] = {}
        while len(gone_s) < 2 and boot_s() < heard_s + GIVEN_AWAY_S:
            gone_s |= {
                name: boot_s() for name in ("polite", "deaf") if name not in gone_s and not alive(self.pid(name))
            }
            time.sleep(0.005)
        log = self.worker.log()
        assert (self._folder / "termed").exists(), log
        termed_s = float((self._folder / "termed").read_text("ascii"))
        assert TERM_S - EARLY_S < termed_s - heard_s < TERM_S + LATE_S, log
        assert gone_s.keys() == {"polite", "deaf"}, log
        assert gone_s["polite"] - heard_s < TERM_S + LATE_S, log
        assert KILL_S - EARLY_S < gone_s["deaf"] - heard_s < KILL_S + LATE_S, log
        time.sleep(max(0.0, heard_s + GIVEN_AWAY_S - boot_s()))
        assert alive(self.pid("plain")), log

    def reports(self) -> None:
        """The worker tells what became of them, and that the third runs on."""
        self.scheduler.until(lambda: self.scheduler.results.keys() >= {self.polite, self.deaf})
        polite, deaf = self.scheduler.results[self.polite], self.scheduler.results[self.deaf]
        assert (polite.status, polite.reason, polite.exit_code) == ("failed", "lease_stop", 3)
        assert (deaf.status, deaf.reason, deaf.signal) == ("failed", "lease_stop", 9)
        assert deaf.detail == "its worker could not reach the scheduler: ended within its lease of 3 s"
        assert alive(self.pid("plain"))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with StubScheduler(timeout_ms=LEASE_MS) as scheduler, WorkerProcess(scheduler.url, tmp_path, slots=4) as worker:
        scheduler.until(lambda: scheduler.registers)
        yield Stage(scheduler, worker, tmp_path)


def agent_of(worker: WorkerProcess) -> int:
    agent = worker.agent()
    assert agent is not None
    return agent


def test_while_the_scheduler_hears_the_worker_a_lease_ends_nothing(stage: Stage) -> None:
    before = stage._beats()
    stage.serve(2 * LEASE_MS / 1_000)
    assert stage._beats() - before >= 15
    assert all(alive(stage.pid(name)) for name in ("polite", "deaf", "plain"))
    assert stage.scheduler.run("exit 0", lease_ms=LEASE_MS).status == "success"


def test_the_next_agent_goes_on_renewing_them(stage: Stage) -> None:
    os.kill(agent_of(stage.worker), signal.SIGKILL)
    stage.serve(2 * LEASE_MS / 1_000)
    assert len(stage.scheduler.registers) == 2
    assert all(alive(stage.pid(name)) for name in ("polite", "deaf", "plain"))


def test_an_agent_that_is_stopped(stage: Stage) -> None:
    heard_s = stage.hear()
    os.kill(agent_of(stage.worker), signal.SIGSTOP)
    stage.judge(heard_s)
    # Its guard replaces it.
    stage.reports()


def test_an_agent_that_is_killed_whenever_it_comes(stage: Stage) -> None:
    heard_s = stage.hear()
    over = threading.Event()
    killed: set[int] = set()

    def kill() -> None:
        while not over.wait(0.002):
            agent = stage.worker.agent()
            if agent is not None and agent not in killed:
                killed.add(agent)
                os.kill(agent, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        stage.judge(heard_s)
    finally:
        over.set()
        killer.join()
    assert len(killed) > 3
    stage.reports()


@pytest.mark.parametrize("served", [True, False], ids=["one way only", "stopped"])
def test_a_scheduler_that_says_nothing(stage: Stage, served: bool) -> None:
    heard_s = stage.hear()
    stage.scheduler.answering = False
    if served:
        stage.serve(LEASE_MS / 3_000)
    stage.judge(heard_s)
    stage.scheduler.answering = True
    stage.scheduler.restart()
    stage.reports()


def test_a_scheduler_that_is_gone(stage: Stage) -> None:
    heard_s = stage.hear()
    stage.scheduler.hang_up()
    stage.judge(heard_s)
    stage.scheduler.restart()
    stage.reports()


def test_a_scheduler_that_is_back_in_time_keeps_them(stage: Stage) -> None:
    stage.hear()
    stage.scheduler.hang_up()
    time.sleep(TERM_S / 3)
    stage.scheduler.restart()
    stage.serve(LEASE_MS / 1_000)
    assert all(alive(stage.pid(name)) for name in ("polite", "deaf", "plain"))


def test_a_guard_that_stood_still_kills_at_once(stage: Stage) -> None:
    heard_s = stage.hear()
    stage.worker.send(signal.SIGSTOP)
    time.sleep(max(0.0, heard_s + GIVEN_AWAY_S - boot_s()))
    assert alive(stage.pid("polite"))
    assert alive(stage.pid("deaf"))
    stage.worker.send(signal.SIGCONT)
    woken_s = boot_s()
    while alive(stage.pid("polite")) or alive(stage.pid("deaf")):
        assert boot_s() < woken_s + LATE_S, stage.worker.log()
    assert alive(stage.pid("plain"))


def test_leased_runs_die_with_the_guard_without_any_other_process(stage: Stage) -> None:
    agent = agent_of(stage.worker)
    os.kill(agent, signal.SIGSTOP)
    try:
        stage.worker.send(signal.SIGKILL)
        killed_s = boot_s()
        while alive(stage.pid("polite")) or alive(stage.pid("deaf")):
            assert boot_s() < killed_s + LATE_S, stage.worker.log()
        # What has no lease is left to the agent.
        assert alive(stage.pid("plain"))
    finally:
        os.kill(agent, signal.SIGCONT)


def test_order_whose_lease_is_over_on_arrival_goes_back(stage: Stage) -> None:
    run = stage.scheduler.submit(f"touch {stage._folder}/ran", lease_ms=1)
    stage.scheduler.until(lambda: run in stage.scheduler.returned)
    assert not (stage._folder / "ran").exists()


# --- what comes before such a job ------------------------------------------------------------------------------------


def test_such_a_job_finds_what_every_job_finds(stage: Stage) -> None:
    command = "env | sort; umask; grep -E 'Sig(Ign|Blk)|NoNew' /proc/self/status; ls /proc/self/fd; echo $A $B >&2"
    # The loader complains of the last in each program that begins with it: the one before the job must not.
    own: dict[str, object] = {"env": {"A": "a=1", "LD_PRELOAD": "/nowhere"}, "secret_env": {"B": "b b"}}
    plain, leased = (stage.scheduler.run(command, **own, **more) for more in ({}, {"lease_ms": LEASE_MS}))
    ids = ("ZSCHED_RUN_ID", "ZSCHED_JOB_ID", "ZSCHED_MARK", "ZSCHED_MESSAGE_FILE")
    found = [
        [line for line in result.stdout.head.decode().splitlines() if not line.startswith(ids)]
        for result in (plain, leased)
    ]
    assert found[0] == found[1]
    assert leased.stderr == plain.stderr
    assert leased.stderr.head.endswith(b"a=1 ***\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_a_job_of_another_user_dies_with_the_guard_too(tmp_path: Path) -> None:
    with (
        StubScheduler(timeout_ms=LEASE_MS) as scheduler,
        WorkerProcess(scheduler.url, tmp_path, users="nobody") as worker,
    ):
        run = scheduler.submit("id -u; grep SigIgn /proc/self/status; exec sleep 1000", user="nobody", lease_ms=60_000)
        scheduler.until(lambda: run in scheduler.started)
        agent, (job,) = agent_of(worker), worker.jobs()
        assert os.stat(f"/proc/{job}").st_uid == 65_534
        os.kill(agent, signal.SIGSTOP)
        worker.send(signal.SIGKILL)
        killed_s = boot_s()
        while alive(job):
            assert boot_s() < killed_s + LATE_S, worker.log()
        os.kill(agent, signal.SIGCONT)


def test_job_whose_guard_ended_before_it_began_does_not_begin(tmp_path: Path) -> None:
    leash = list(Users().prefix(None).with_lease)
    place = leash.index(str(become.__file__)) + 1
    assert leash[place] == str(os.getpid())
    mark = tmp_path / "ran"

    began = subprocess.run([*leash, "/bin/sh", "-c", f"touch {mark}"], capture_output=True, text=True)
    assert (began.returncode, mark.exists()) == (0, True)
    mark.unlink()
    # As if another had been our parent.
    leash[place] = str(children(1)[0] if os.getpid() == 1 else 1)
    late = subprocess.run([*leash, "/bin/sh", "-c", f"touch {mark}"], capture_output=True, text=True)
    assert (late.returncode, mark.exists()) == (1, False)
    assert "the guard has ended" in late.stderr
    assert sys.executable in leash
