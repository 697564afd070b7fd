"""Workers that are cut off while they run jobs that `stop` and jobs that `continue`: in each direction, and in both.

ZSCHED_FAULT_PARTITIONS says for how many seconds (20,45,600), and the worker timeout is 30 s then.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.faults import history
from tests.faults.cluster import Cluster, MissingError, boottime_ms
from tests.faults.findings import Watch
from tests.faults.history import Event, History, Job, Life, Process, Run, Submit
from tests.faults.load import WITNESS, Made
from tests.faults.tasks import TERMINAL
from tests.system.session import environment, until

log = logging.getLogger(__name__)

GIVEN: Final = os.environ.get("ZSCHED_FAULT_PARTITIONS")
LENGTHS_S: Final = [float(one) for one in (GIVEN or "1,14").split(",")]
TIMEOUT_S: Final = 30.0 if GIVEN else 5.0

# What is dropped of each worker that is cut off.
CUTS: Final = {"w1": ("in", "out"), "w2": ("in",), "w3": ("out",)}
# As many are not: if most were silent at once, nobody would be given up for a while.
REACHED: Final = ("w4", "w5", "w6")

MODES: Final = ("stop", "continue")
# Of each mode, a worker that is cut off runs a job that outlives the cut, and one that ends in it. It has a free slot.
KINDS: Final = ("long", "brief")
SLOTS: Final = len(MODES) * len(KINDS) + 1
# A brief one ends so much later, before its lease does.
BRIEF_S: Final = 0.4 * TIMEOUT_S
# Jobs of each mode that are submitted when the scheduler does not know yet who is cut off.
SHORT: Final = 8

# TCP tries again at 0.2, 0.6, 1.4 s and so on, each pause twice the last one (RFC 6298), and a worker makes a new
# connection after 5 s. So after a cut that is shorter than that the old one may be silent for as long again. Of what is
# left until 0.7 of the timeout, a tenth of the timeout is the pause between two heartbeats, and the rest is for a busy
# machine.
UNDISTURBED_S_MAX: Final = (0.25 if TIMEOUT_S < 15 else 0.5) * TIMEOUT_S
# A worker whose session is gone makes a new connection each 5 s. The rest is for a busy machine.
BACK_S_MAX: Final = 8.0
# From here on the scheduler has given up whoever was cut off.
GIVEN_UP_S: Final = TIMEOUT_S + max(1.0, TIMEOUT_S / 30) + 1.0


class Scene:
    """A cluster, and jobs that end when they are told: each waits for a file, its gate."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self._folder = folder
        self._witness = folder / "witness"
        self._witness.touch()
        self._submits: list[Submit] = []
        self._made: dict[str, Made] = {}
        self.jobs: dict[str, int] = {}

    def submit(self, name: str, mode: str, gate: str | None = None) -> None:
        """Without a gate it ends at once."""
        waits = f"while [ ! -e {self._folder / gate} ]; do sleep 0.1; w alive; done; " if gate is not None else ""
        command = WITNESS.format(path=self._witness) + f"w start; {waits}w end 0"
        began_ms = boottime_ms()
        made = self.cluster.scheduler.post("/jobs", {"name": name, "command": command, "on_disconnect": mode})
        self.jobs[name] = made["id"]
        self._submits.append(Submit(name, None, began_ms, boottime_ms(), "ok", made["id"]))
        self._made[name] = Made(stops=mode == "stop")

    def open(self, gate: str) -> None:
        (self._folder / gate).touch()

    def lives(self, name: str | None = None) -> list[Life]:
        """In the order in which they started; of one job, or of all."""
        found = history.lives(self._witness.read_text("ascii").splitlines())
        chosen = [life for life in found if name is None or life.job == self.jobs[name]]
        return sorted(chosen, key=lambda life: life.started_ms)

    def settled(self) -> bool:
        """Whether what executes is what should."""
        executing = {(run, name) for name in self.cluster.names for run in self.cluster.job_processes(name).values()}
        stored = self.cluster.ask("SELECT run_id, worker_id FROM runs WHERE status IN ('pending', 'running')")
        return executing == set(stored)

    def active(self, *workers: str) -> bool:
        statuses = self.cluster.scheduler.workers()
        return all(statuses[worker] == "active" for worker in workers)

    def full(self, worker: str) -> bool:
        return sum(life.worker == worker for life in self.lives()) == SLOTS

    def ended(self, name: str) -> bool:
        status: str = self.cluster.scheduler.get(f"/jobs/{self.jobs[name]}")["status"]
        return status in TERMINAL

    def all_ended(self) -> bool:
        return all(self.ended(name) for name in self.jobs)

    def refused(self) -> set[int]:
        """Runs with a late result. One event can stand for several results; its detail then lists their runs."""
        events = self.cluster.ask("SELECT run_first, detail FROM events WHERE reason = 'stale'")
        named = [re.search(r"at once, for runs .*: ([\d, ]+)$", detail) for _, detail in events]
        return {run for run, _ in events} | {int(run) for found in named if found for run in found[1].split(", ")}

    def story(self, watch: Watch, zombies: list[int]) -> History:
        """What there is to know when all has ended."""
        ask = self.cluster.ask
        words = [sys.executable, "-m", "zsched.commands.zsched", "db", "check", "--db", str(self.cluster.db)]
        checked = subprocess.run(words, env=environment(self._folder), capture_output=True, text=True, timeout=60)
        return History(
            submits=self._submits,
            lives=self.lives(),
            jobs=[
                Job(job_id, name, status, **asdict(self._made[name]))
                for job_id, name, status in ask("SELECT job_id, name, status FROM jobs")
            ],
            runs=[Run(*row) for row in ask("SELECT run_id, job_id, task, status, reason, worker_id FROM runs")],
            events=[
                Event(*row)
                for row in ask(
                    "SELECT run_first, run_last, was, became, worker_id, reason FROM events"
                    " WHERE run_first IS NOT NULL ORDER BY event_id"
                )
            ],
            seen=list(watch.seen.values()),
            zombies=[Process(pid, "a child of a worker or the scheduler") for pid in zombies],
            orphans=[Process(pid, what) for pid, what in self.cluster.left()],
            replay=[] if checked.returncode == 0 else (checked.stdout + checked.stderr).splitlines(),
        )


def occupy(scene: Scene) -> None:
    """Let each worker that will be cut off run one job of each mode and kind, and have a free slot."""
    cluster = scene.cluster
    first, *others = cluster.names
    for worker in others:
        cluster.kill_worker(worker, back_after_s=float("inf"))
    for worker in CUTS:
        # Those before it have no free slot, and those after it are not there.
        if worker != first:
            cluster.start(worker)
        until(partial(scene.active, worker))
        for mode in MODES:
            for kind in KINDS:
                scene.submit(f"{mode} {kind} {worker}", mode, kind)
        scene.submit(f"filler {worker}", "continue", "filler")
        until(partial(scene.full, worker))
    for worker in REACHED:
        cluster.start(worker)
    until(lambda: scene.active(*cluster.names))
    scene.open("filler")
    until(lambda: all(scene.ended(f"filler {worker}") for worker in CUTS))


def cut_all(scene: Scene, seconds: float) -> float:
    """Cut them off for so long. Returns when they no longer were, in seconds since 1970."""
    for worker, ways in CUTS.items():
        scene.cluster.cut(worker, ways)
    began_s = time.monotonic()
    for number in range(SHORT):
        for mode in MODES:
            scene.submit(f"{mode} short {number}", mode)
    pause_until(began_s + min(BRIEF_S, seconds / 2))
    scene.open("brief")
    pause_until(began_s + seconds)
    mended_s = time.time()
    log.info("cut off for %.1f s, with a worker timeout of %.0f s", time.monotonic() - began_s, TIMEOUT_S)
    for worker in CUTS:
        scene.cluster.uncut(worker)
    return mended_s


def pause_until(at_s: float) -> None:
    time.sleep(max(0.0, at_s - time.monotonic()))


def await_back(scene: Scene, mended_s: float, within_s: float) -> None:
    """Until each has been heard again, and nothing executes any more that is not wanted."""
    away = dict(CUTS)

    def all_back() -> bool:
        for worker in scene.cluster.scheduler.get("/workers"):
            name, seen_s = worker["worker_id"], datetime.fromisoformat(worker["last_seen"]).timestamp()
            if name in away and worker["status"] == "active" and seen_s > mended_s:
                ways = " and ".join(away.pop(name))
                log.info("%s (cut %s) was heard %.1f s after the cut", name, ways, seen_s - mended_s)
        return not away

    until(all_back, within_s)
    until(scene.settled, within_s)
    log.info("only what is wanted executes %.1f s after the cut", time.time() - mended_s)


def tell(scene: Scene) -> None:
    """What the jobs that outlived the cut saw of it."""
    for worker, ways in CUTS.items():
        for mode in MODES:
            executed = scene.lives(f"{mode} long {worker}")
            log.info("%s (cut %s), %s: %s", worker, " and ".join(ways), mode, told(executed))


def told(executed: list[Life]) -> str:
    """From the last sign of a run to the first of the next."""
    if len(executed) == 1:
        return "undisturbed"
    gap_s = (executed[1].started_ms - executed[0].seen_ms) / 1000
    return f"a gap of {gap_s:.2f} s" if gap_s > 0 else f"an overlap of {-gap_s:.2f} s"


def judge(executed: dict[str, list[Life]], refused: set[int], mode: str, seconds: float) -> None:
    """The jobs of one mode and worker, by kind, and the runs whose results were refused."""
    long, brief = executed["long"], executed["brief"]
    if seconds >= GIVEN_UP_S:
        assert (len(long), len(brief)) == (2, 2)
        # It ended well, and its successor did too: only one of them counts.
        assert brief[0].code == 0
        assert brief[0].run in refused
    elif seconds <= UNDISTURBED_S_MAX or (mode == "continue" and seconds < TIMEOUT_S):
        assert (len(long), len(brief)) == (1, 1)
    if mode == "stop" and len(long) == 2:
        assert long[0].seen_ms < long[1].started_ms


# All other tests here may come first.
@pytest.mark.timeout(900 + max(LENGTHS_S))
@pytest.mark.parametrize("seconds", LENGTHS_S)
def test_leased_tasks_of_cut_off_workers_succeed_once_and_never_overlap(seconds: float, tmp_path: Path) -> None:
    try:
        cluster = Cluster(tmp_path, workers=len(CUTS) + len(REACHED), slots=SLOTS, timeout_s=TIMEOUT_S)
    except MissingError as error:
        pytest.skip(str(error))
    with cluster:
        scene, watch = Scene(cluster, tmp_path), Watch(cluster)
        occupy(scene)
        watch.begin()
        try:
            mended_s = cut_all(scene, seconds)
            await_back(scene, mended_s, BACK_S_MAX + (seconds if seconds < GIVEN_UP_S else 0.0))
            scene.open("long")
            until(scene.all_ended, 60)
        finally:
            watch.end()
        zombies = cluster.zombies()
        assert cluster.end() == []
        story, refused = scene.story(watch, zombies), scene.refused()
    tell(scene)
    for worker in CUTS:
        for mode in MODES:
            judge({kind: scene.lives(f"{mode} {kind} {worker}") for kind in KINDS}, refused, mode, seconds)
    verdict = history.check(story)
    log.info("%s", verdict.info)
    assert verdict.clean, verdict.wrong
    assert {job.status for job in story.jobs} == {"success"}
