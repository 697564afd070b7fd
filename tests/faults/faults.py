"""The faults by name. Each begins something, says how long it lasts, and how it is healed.

A fault is on targets, so that two that are on at once do not undo each other.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from tests.faults.cluster import Cluster

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Trouble:
    """A fault that has begun."""

    what: str
    targets: frozenset[str]
    seconds: float
    heal: Callable[[], None]


@dataclass(slots=True)
class Draw:
    """Where a fault gets its chances from: one seed gives one story. `busy` are the targets of other faults."""

    cluster: Cluster
    chance: random.Random
    busy: set[str]

    def worker(self, prefix: str = "") -> str | None:
        """One of the workers that nothing else is done to."""
        free = [name for name in self.cluster.names if prefix + name not in self.busy]
        return self.chance.choice(free) if free else None

    def absence_s(self) -> float:
        """How long who was killed is away: mostly shorter than what a worker may be silent."""
        return self._span((6, 2, 2))

    def silence_s(self) -> float:
        """How long nothing is heard: more often than not for longer than that."""
        return self._span((3, 2, 6))

    def _span(self, weights: tuple[int, int, int]) -> float:
        low, high = self.chance.choices(((0.02, 0.4), (0.4, 1.0), (1.0, 3.5)), weights)[0]
        return self.chance.uniform(low, high) * self.cluster.timeout_s


Begin = Callable[[Draw], Trouble | None]


def _nothing() -> None:
    """What is restarted by others, or by itself, needs no healing."""


def kill_scheduler(draw: Draw) -> Trouble | None:
    if "scheduler" in draw.busy:
        return None
    # Mostly it is back at once: while it is away nothing is submitted.
    seconds = draw.absence_s() * draw.chance.choice((0.1, 0.1, 1))
    draw.cluster.kill("scheduler", seconds)
    return Trouble(f"kill -9 scheduler for {seconds:.2f} s", frozenset({"scheduler"}), seconds, _nothing)


def kill_agent(draw: Draw) -> Trouble | None:
    """Its guard starts the next one."""
    name = draw.worker()
    if name is None or (agent := draw.cluster.workers[name].agent()) is None:
        return None
    draw.cluster.signal(agent, signal.SIGKILL)
    return Trouble(f"kill -9 agent of {name}", frozenset({name}), 0.1, _nothing)


def kill_guard(draw: Draw) -> Trouble | None:
    """Its agent ends the jobs."""
    name = draw.worker()
    if name is None:
        return None
    seconds = draw.absence_s()
    draw.cluster.kill(name, seconds)
    return Trouble(f"kill -9 guard of {name} for {seconds:.2f} s", frozenset({name}), seconds, _nothing)


def kill_worker(draw: Draw) -> Trouble | None:
    """Both at once; the jobs are ended by the service manager."""
    name = draw.worker()
    if name is None:
        return None
    seconds = draw.absence_s()
    draw.cluster.kill_worker(name, seconds)
    return Trouble(f"kill -9 guard and agent of {name} for {seconds:.2f} s", frozenset({name}), seconds, _nothing)


def _stop(draw: Draw, target: str, what: str, pid: int) -> Trouble:
    seconds = draw.silence_s()
    draw.cluster.signal(pid, signal.SIGSTOP)
    heal = partial(draw.cluster.signal, pid, signal.SIGCONT)
    return Trouble(f"SIGSTOP {what} for {seconds:.2f} s", frozenset({target}), seconds, heal)


def stop_scheduler(draw: Draw) -> Trouble | None:
    pid = draw.cluster.pids().get("scheduler")
    if "scheduler" in draw.busy or pid is None:
        return None
    return _stop(draw, "scheduler", "scheduler", pid)


def stop_agent(draw: Draw) -> Trouble | None:
    name = draw.worker()
    if name is None or (agent := draw.cluster.workers[name].agent()) is None:
        return None
    return _stop(draw, name, f"agent of {name}", agent)


def stop_guard(draw: Draw) -> Trouble | None:
    name = draw.worker()
    if name is None or draw.cluster.workers[name].ended():
        return None
    return _stop(draw, name, f"guard of {name}", draw.cluster.workers[name].pid)


def _cut(draw: Draw, *ways: str) -> Trouble | None:
    name = draw.worker("net ")
    if name is None:
        return None
    seconds = draw.silence_s()
    draw.cluster.cut(name, ways)
    what = f"cut {' and '.join(ways)} of {name} for {seconds:.2f} s"
    return Trouble(what, frozenset({f"net {name}"}), seconds, partial(draw.cluster.uncut, name))


def cut(draw: Draw) -> Trouble | None:
    return _cut(draw, "in", "out")


def cut_in(draw: Draw) -> Trouble | None:
    return _cut(draw, "in")


def cut_out(draw: Draw) -> Trouble | None:
    return _cut(draw, "out")


def cut_scheduler(draw: Draw) -> Trouble | None:
    """From all workers, in one direction or both."""
    if "net scheduler" in draw.busy:
        return None
    seconds = draw.silence_s()
    ways = draw.chance.choice((("in",), ("out",), ("in", "out")))
    draw.cluster.cut("a", ways)
    what = f"cut {' and '.join(ways)} of the scheduler for {seconds:.2f} s"
    return Trouble(what, frozenset({"net scheduler"}), seconds, partial(draw.cluster.uncut, "a"))


def swizzle(draw: Draw) -> Iterator[Trouble]:
    """Cut several, one after the other, and heal them in another order."""
    names = [name for name in draw.cluster.names if f"net {name}" not in draw.busy]
    draw.chance.shuffle(names)
    for name in names:
        draw.cluster.cut(name)
        seconds = draw.silence_s()
        what = f"swizzle: cut {name} for {seconds:.2f} s"
        yield Trouble(what, frozenset({f"net {name}"}), seconds, partial(draw.cluster.uncut, name))


def disk_scheduler(draw: Draw) -> Trouble | None:
    return _fill(draw, "scheduler") if "disk scheduler" not in draw.busy else None


def disk_worker(draw: Draw) -> Trouble | None:
    name = draw.worker("disk ")
    return None if name is None else _fill(draw, name)


def _fill(draw: Draw, name: str) -> Trouble:
    seconds = draw.silence_s()
    draw.cluster.fill(name)
    heal = partial(draw.cluster.empty, name)
    return Trouble(f"full disk of {name} for {seconds:.2f} s", frozenset({f"disk {name}"}), seconds, heal)


def clock(draw: Draw) -> Trouble | None:
    """A wall clock jumps by a second, an hour or a day, forward or back."""
    name = draw.chance.choice(["scheduler", *draw.cluster.names])
    if f"clock {name}" in draw.busy:
        return None
    ahead_s = draw.chance.choice((1, 3_600, DAY_S)) * draw.chance.choice((1, -1))
    seconds = draw.silence_s()
    draw.cluster.set_clock(name, ahead_s)
    heal = partial(draw.cluster.set_clock, name, 0)
    what = f"clock of {name} jumps by {ahead_s} s for {seconds:.2f} s"
    return Trouble(what, frozenset({f"clock {name}"}), seconds, heal)


ONE: dict[str, Begin] = {
    "kill-scheduler": kill_scheduler,
    "kill-agent": kill_agent,
    "kill-guard": kill_guard,
    "kill-worker": kill_worker,
    "stop-scheduler": stop_scheduler,
    "stop-agent": stop_agent,
    "stop-guard": stop_guard,
    "cut": cut,
    "cut-in": cut_in,
    "cut-out": cut_out,
    "cut-scheduler": cut_scheduler,
    "disk-scheduler": disk_scheduler,
    "disk-worker": disk_worker,
    "clock": clock,
}
# Jobs that are faults: they are part of what is submitted.
JOBS = ("poison",)
NAMES = (*ONE, "swizzle", *JOBS)


def begin(name: str, draw: Draw) -> list[Trouble]:
    """Begin a fault: none where nothing is left to do it to, several where it has steps."""
    if name == "swizzle":
        return list(swizzle(draw))
    trouble = ONE[name](draw)
    return [] if trouble is None else [trouble]
