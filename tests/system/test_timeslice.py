"""Whose time slice is short: the guard's and no job's. As the kernel shows it in /proc/PID/sched."""

from __future__ import annotations

import errno
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.system.process import WorkerProcess
from tests.system.stub import StubScheduler
from zsched.worker.guard import timeslice
from zsched.worker.guard.timeslice import SHORT_NS

# Asks, and shows itself and a child of it.
ASKING = """
import pathlib, subprocess
from zsched.worker.guard import timeslice
print(timeslice.shorten(), flush=True)
print(pathlib.Path("/proc/self/sched").read_text(), flush=True)
subprocess.run(["cat", "/proc/self/sched"], check=True)
"""


class Shown(NamedTuple):
    """Of one process: its class, its priority (120 is nice 0), its slice in ns."""

    policy: int
    priority: int
    slice_ns: int


def shown(text: str) -> list[Shown]:
    """Of each process in the text."""
    policies, priorities, slices = (
        [int(value) for value in re.findall(rf"^{name} *: *(\d+)$", text, re.MULTILINE)]
        for name in ("policy", "prio", r"se\.slice")
    )
    return list(map(Shown, policies, priorities, slices))


def asked(*prefix: str) -> tuple[bool, Shown, Shown]:
    """What `shorten` says, who asked and a child of it."""
    ended = subprocess.run(
        [*prefix, sys.executable, "-P", "-c", ASKING], check=True, capture_output=True, text=True, timeout=20
    )
    own, child = shown(ended.stdout)
    return ended.stdout.startswith("True"), own, child


@pytest.fixture
def ours() -> Shown:
    """This process, whose class and nice value the others inherit."""
    try:
        text = Path("/proc/self/sched").read_text()
    except OSError:
        pytest.skip("this kernel shows no /proc/PID/sched")
    if re.search(r"^se\.slice", text, re.MULTILINE) is None:
        pytest.skip("this kernel (before 6.12) has no slices to ask for")
    if platform.machine() not in timeslice._SETATTR:
        pytest.skip(f"no slice is asked for on {platform.machine()}")
    [found] = shown(text)
    if found.policy != os.SCHED_OTHER or found.priority < 120:
        pytest.skip("the tests run with a class of their own or a negative nice value")
    return found


@pytest.mark.parametrize("nice", [0, 5])
def test_thread_that_asks_has_a_short_slice_and_its_children_the_usual_one(ours: Shown, nice: int) -> None:
    could, own, child = asked("nice", "-n", str(nice))
    assert (could, own) == (True, Shown(os.SCHED_OTHER, min(ours.priority + nice, 139), SHORT_NS))
    assert child[:2] == own[:2]
    assert child.slice_ns > SHORT_NS


def test_a_worker_that_was_given_more_weight_keeps_it_and_so_do_its_jobs(ours: Shown) -> None:
    given = f"-{ours.priority - 120 + 5}"
    # Who has no right to that is told so by `nice`, and goes on without.
    could, own, child = asked("nice", "-n", given)
    if own.priority == ours.priority:
        pytest.skip("only who has CAP_SYS_NICE may give a negative nice value")
    assert (could, own) == (False, child)
    assert own[:2] == (os.SCHED_OTHER, 115)


def test_a_worker_that_was_given_a_class_keeps_it_and_so_do_its_jobs(ours: Shown) -> None:
    could, own, child = asked("chrt", "--batch", "0")
    assert (could, own) == (False, child)
    assert own[:2] == (os.SCHED_BATCH, ours.priority)


@pytest.mark.parametrize("call", ["sched_getscheduler", "getpriority"])
def test_missing_permission_changes_nothing(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def refuse(*_: int) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, call, refuse)
    assert timeslice.shorten() is False


@pytest.mark.usefixtures("ours")
def test_the_guard_has_a_short_one_and_neither_agent_nor_job(tmp_path: Path) -> None:
    with StubScheduler() as stub, WorkerProcess(stub.url, tmp_path) as worker:
        stub.until(lambda: stub.registers)
        job = stub.run("cat /proc/self/sched")
        agents = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
        [guard, agent] = [shown(Path(f"/proc/{pid}/sched").read_text())[0] for pid in (worker.pid, *agents)]
    assert guard.slice_ns == SHORT_NS
    assert agent.slice_ns > SHORT_NS
    assert shown(job.stdout.head.decode())[0].slice_ns > SHORT_NS
