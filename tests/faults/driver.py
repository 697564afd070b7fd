"""Load, faults, and the verdict about what happened.

Usage: python -m tests.faults.driver --faults NAME,NAME… [--seconds N] [--seed N] [--rate N] [--workers N] [--timeout N]

The seed decides which jobs there are and which fault comes when, to whom and for how long; the kernel decides the rest.
Ends with 0 if all counts are 0 and no process has grown.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from tests.faults import faults, history
from tests.faults.cluster import Cluster, MissingError, Weight, boottime_ms
from tests.faults.faults import Draw, Trouble
from tests.faults.findings import Findings, Watch
from tests.faults.history import History, Process, Submit, Verdict
from tests.faults.load import WITNESS, Load, Made, Route
from tests.system.hosts import PORT
from tests.system.session import environment

log = logging.getLogger(__name__)

# Before the first fault and after the last one.
CALM_S: Final = 2.0
# How much a process may grow from the second quarter of the time to the last, where that is long enough to tell.
GROWTH_MAX: Final = 0.10
GROWTH_SECONDS: Final = 300
DESCRIPTORS_SLACK: Final = 8
# From here on a job that fires each minute takes part, unless the clock jumps.
CRON_SECONDS: Final = 120


@dataclass(frozen=True, slots=True)
class Plan:
    faults: tuple[str, ...]
    seconds: float
    seed: int
    rate: float = 50
    workers: int = 3
    slots: int = 16
    timeout_s: float = 5.0
    # Between the beginnings of two faults, on average.
    gap_s: float = 2.5


@dataclass(slots=True)
class Result:
    verdict: Verdict
    history: History
    # What grew, in words.
    grown: list[str] = field(default_factory=list)
    # What did not end as it should.
    ends: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return self.verdict.clean and not self.grown and not self.ends

    def words(self) -> str:
        """The table of counts, and the first sentences of each that is not 0."""
        lines = [f"{many:8d}  {count}" for count, many in self.verdict.counts().items()]
        lines += [f"{many:8d}  ({what})" for what, many in self.verdict.info.items()]
        for found in self.verdict.wrong.values():
            lines += found[:20]
        return "\n".join([*lines, *self.grown, *self.ends])


class Trial:
    """One plan, carried out in a folder."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self.folder = plan, folder
        self.witness = folder / "witness"
        self.witness.touch()
        self._chance = random.Random(f"faults {plan.seed}")
        self._troubles: list[tuple[float, Trouble]] = []
        self._counts: Counter[str] = Counter()
        self._recurring_since_ms = 0

    def run(self) -> Result:
        """Raises MissingError when this machine can't do that."""
        plan = self.plan
        disks = any(name.startswith("disk-") for name in plan.faults)
        with Cluster(
            self.folder,
            plan.workers,
            plan.slots,
            plan.timeout_s,
            small_disks=disks,
            own_clocks="clock" in plan.faults,
        ) as cluster:
            route = Route((PORT,), partial(cluster.hosts.inside, "a"))
            load = Load(route, self.witness, plan.seed, plan.rate, plan.timeout_s, poison="poison" in plan.faults)
            watch = Watch(cluster)
            files = cluster.files()
            watch.begin()
            if plan.seconds >= CRON_SECONDS and "clock" not in plan.faults:
                self._submit_recurring(cluster, load)
            load.begin()
            try:
                try:
                    self._hurt(cluster)
                finally:
                    load.end()
                    self._heal_all(cluster)
                ended_s = self._await_end(cluster)
            finally:
                watch.end()
            log.info("all ended %.1f s after the last fault", ended_s)
            zombies = cluster.zombies()
            executing = {run for name in cluster.names for run in cluster.job_processes(name).values()}
            grown = growth(watch, files, cluster.files()) if plan.seconds >= GROWTH_SECONDS else []
            ends = cluster.end()
            words = [sys.executable, "-m", "zsched.commands.zsched", "db", "check", "--db", str(cluster.db)]
            checked = subprocess.run(words, env=environment(self.folder), capture_output=True, text=True, timeout=300)
            found = Findings(load, watch, self.witness, self._recurring_since_ms)
            story = found.history(cluster)
            story.replay = [] if checked.returncode == 0 else (checked.stdout + checked.stderr).splitlines()
            story.executing = executing
            story.zombies = [Process(pid, "a child of a worker or the scheduler") for pid in zombies]
            story.orphans = [Process(pid, what) for pid, what in cluster.left()]
            log.info("faults: %s", dict(self._counts))
            log.info("ended by themselves: %s; not sent: %d", cluster.deaths, load.done.unsent)
            return Result(history.check(story), story, grown, ends)

    def _submit_recurring(self, cluster: Cluster, load: Load) -> None:
        command, began_ms = WITNESS.format(path=self.witness) + "w start; w end 0", boottime_ms()
        self._recurring_since_ms = time.time_ns() // 1_000_000
        made = cluster.scheduler.post("/jobs", {"name": "cron", "command": command, "schedule": "* * * * *"})
        load.done.submits.append(Submit("cron", None, began_ms, boottime_ms(), "ok", made["id"]))
        load.made["cron"] = Made(recurring=True)

    # --- faults ------------------------------------------------------------------------------------------------------

    def _hurt(self, cluster: Cluster) -> None:
        names = [name for name in self.plan.faults if name not in faults.JOBS]
        begin_at_s = time.monotonic() + CALM_S
        end_s = time.monotonic() + self.plan.seconds
        while (now_s := time.monotonic()) < end_s:
            cluster.tend()
            self._heal(now_s)
            if names and now_s >= begin_at_s:
                begin_at_s = now_s + self._chance.uniform(0.2, 1.8) * self.plan.gap_s
                self._begin(cluster, self._chance.choice(names))
            time.sleep(0.02)

    def _begin(self, cluster: Cluster, name: str) -> None:
        busy = {target for _, trouble in self._troubles for target in trouble.targets}
        for trouble in faults.begin(name, Draw(cluster, self._chance, busy)):
            self._counts[name] += 1
            self._tell(trouble.what)
            self._troubles.append((time.monotonic() + trouble.seconds, trouble))

    def _heal(self, now_s: float) -> None:
        for until_s, trouble in self._troubles[:]:
            if now_s >= until_s:
                trouble.heal()
                self._troubles.remove((until_s, trouble))
                self._tell(f"over: {trouble.what}")

    def _heal_all(self, cluster: Cluster) -> None:
        self._heal(float("inf"))
        cluster.tend()
        self._tell("all is healed")

    def _tell(self, what: str) -> None:
        with (self.folder / "story").open("a", encoding="utf-8") as story:
            story.write(f"{time.strftime('%H:%M:%S')} {boottime_ms()} {what}\n")

    # --- the end -----------------------------------------------------------------------------------------------------

    def _await_end(self, cluster: Cluster) -> float:
        """Until all jobs have ended, or that takes far too long: then they are stuck."""
        began = time.monotonic()
        while (passed_s := time.monotonic() - began) < 60 + self.plan.timeout_s * 4 + self.plan.seconds:
            cluster.tend()
            try:
                tasks = cluster.scheduler.get("/stats")["tasks"]
            except OSError:
                tasks = {"pending": 1, "running": 0}
            if tasks["pending"] + tasks["running"] == 0 and cluster.whole:
                break
            time.sleep(0.2)
        return passed_s


def growth(watch: Watch, files_before: int, files_after: int) -> list[str]:
    """What takes more in the last quarter of the time than it did in the second, told in words; all of it is logged."""
    begin_s, end_s = watch.weights[0][0], watch.weights[-1][0]

    def peaks(first: float, last: float) -> dict[str, Weight]:
        found: dict[str, Weight] = {}
        for at_s, weights in watch.weights:
            if first <= (at_s - begin_s) / (end_s - begin_s) <= last:
                for name, weight in weights.items():
                    most = found.get(name, Weight(0, 0))
                    found[name] = Weight(
                        max(weight.rss_bytes, most.rss_bytes), max(weight.descriptors, most.descriptors)
                    )
        return found

    before, after = peaks(0.25, 0.5), peaks(0.75, 1)
    wrong = []
    for name in sorted(before.keys() & after.keys()):
        one, other = before[name], after[name]
        told = (
            f"{name}: {one.rss_bytes / 2**20:.1f} MiB, then {other.rss_bytes / 2**20:.1f};"
            f" {one.descriptors} descriptors, then {other.descriptors}"
        )
        log.info("%s", told)
        more = other.descriptors > one.descriptors * (1 + GROWTH_MAX) + DESCRIPTORS_SLACK
        if other.rss_bytes > one.rss_bytes * (1 + GROWTH_MAX) or more:
            wrong.append(f"grown: {told}")
    log.info("files: %d before, %d after", files_before, files_after)
    if files_after > files_before * (1 + GROWTH_MAX) + len(before):
        wrong.append(f"grown: {files_before} files before, {files_after} after")
    return wrong


def carry_out(plan: Plan, folder: Path) -> Result:
    """Carry out a plan; raises MissingError when this machine can't."""
    log.info("%s", plan)
    result = Trial(plan, folder).run()
    log.info("\n%s", result.words())
    return result


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.driver")
    parser.add_argument("--faults", required=True, help=f"of {', '.join(faults.NAMES)}; or `all`")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--timeout", type=lambda text: float(text.removesuffix("s")), default=5.0)
    parser.add_argument("--gap", type=float, default=2.5, help="seconds from one fault to the next, on average")
    given = parser.parse_args(words)
    names = faults.NAMES if given.faults == "all" else tuple(given.faults.split(","))
    if unknown := set(names) - set(faults.NAMES):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    seed = random.SystemRandom().randrange(1_000_000) if given.seed is None else given.seed
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    folder = Path(tempfile.mkdtemp(prefix="zsched-faults-"))
    plan = Plan(
        names, given.seconds, seed, given.rate, given.workers, given.slots, timeout_s=given.timeout, gap_s=given.gap
    )
    try:
        result = carry_out(plan, folder)
    except MissingError as error:
        log.error("%s", error)
        shutil.rmtree(folder)
        return 2
    if result.clean:
        shutil.rmtree(folder)
        return 0
    (folder / "wrong.json").write_text(json.dumps(result.verdict.wrong, indent=1), "utf-8")
    log.info("seed %d; the story, the logs, the witness and the database are in %s", seed, folder)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
