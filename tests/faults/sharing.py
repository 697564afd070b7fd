"""Two schedulers that share a PostgreSQL server, workers and callers that know both, and the verdict at the end.

All of it is in a network namespace of its own, as root.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final, Self

import psycopg
import pytest

from tests import postgres
from tests.faults import history
from tests.faults.cluster import Weight, boottime_ms
from tests.faults.findings import Findings, Unreadable, Watch
from tests.faults.history import Process, Submit, Verdict
from tests.faults.load import WITNESS, Load, Made, Route
from tests.faults.servers import NEAR
from tests.faults.stage import marked
from tests.system.hosts import Hosts
from tests.system.process import WorkerProcess
from tests.system.schedulers import SharingScheduler, Team
from tests.system.session import environment, until

log = logging.getLogger(__name__)

RATE: Final = 50
WORKERS: Final = 3
SLOTS: Final = 16
# How long jobs live is measured by this.
JOBS_S: Final = 5.0
# What a client may be without service.
OUTAGE_MS_MAX: Final = 15_000
OUTAGE_MS_P50: Final = 5_000
END_S: Final = 120.0


@contextmanager
def own_network() -> Iterator[None]:
    """Sockets that this thread, its threads and programs make meanwhile are in a namespace of their own."""
    reason = postgres.missing()
    if reason is not None:
        pytest.skip(reason)
    if os.geteuid() != 0 or any(shutil.which(name) is None for name in ("ip", "nft")):
        pytest.skip("network namespaces need root, ip(8) and nft(8)")
    with closing(Hosts({})) as hosts, hosts.inside("a"):
        yield


class Sharing:
    """Schedulers, workers and callers. Leaving it kills what is left."""

    def __init__(self, folder: Path, urls: Sequence[str], look: str, *, timeout_s: float = 15, seed: int = 1) -> None:
        """`urls`: of the database, as each scheduler has it. `look`: the same for the test. `timeout_s`: how long a
        worker may be silent.
        """
        self.folder, self._look = folder, look
        self.witness = folder / "witness"
        self.witness.touch()
        self.team = Team(look, folder, len(urls), worker_timeout=f"{timeout_s:g}s")
        # Each by its own address.
        for number, (url, name) in enumerate(zip(urls, "abc", strict=False)):
            self.team.all[number] = SharingScheduler(url, folder, name, worker_timeout=f"{timeout_s:g}s")
        self._timeout_s = timeout_s
        self._held = ExitStack()
        self.workers: dict[str, WorkerProcess] = {}
        route = Route(tuple(scheduler.port for scheduler in self.team.all))
        self.load = Load(route, self.witness, seed, RATE, JOBS_S)
        self._watch = Watch(self)
        self._since_ms = time.time_ns() // 1_000_000

    def __enter__(self) -> Self:
        try:
            self._held.enter_context(self.team)
            for number in range(1, WORKERS + 1):
                self._start_worker(f"w{number}")
            until(lambda: len(self.present()) == WORKERS)
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for scheduler in self.team.all:
            if scheduler.runs:
                scheduler.send(signal.SIGCONT)
        self._held.close()

    def _start_worker(self, name: str) -> None:
        folder = self.folder / name
        folder.mkdir()
        beat = f"{self._timeout_s / 5:g}s"
        worker = WorkerProcess(self.team.urls, folder, SLOTS, id=name, heartbeat_interval=beat)
        self.workers[name] = self._held.enter_context(worker)

    # --- who leads ---

    def active(self) -> SharingScheduler | None:
        return next((scheduler for scheduler in self.team.all if scheduler.role() == "ready"), None)

    def await_both(self) -> tuple[SharingScheduler, SharingScheduler]:
        """Wait until one leads and the other stands by; returns them."""
        found: list[SharingScheduler] = []

        def settled() -> bool:
            roles = {scheduler.role(): scheduler for scheduler in self.team.all}
            found[:] = [roles[role] for role in ("ready", "standby") if role in roles]
            return len(found) == 2

        until(settled, within_s=60)
        return found[0], found[1]

    def present(self) -> list[str]:
        """The workers that the active scheduler has."""
        active = self.active()
        listed = None if active is None else active.call("GET", "/workers").body
        return [one["worker_id"] for one in listed or () if one["status"] == "active"]

    # --- load ---

    @contextmanager
    def loaded(self) -> Iterator[None]:
        """Callers submit meanwhile."""
        self._watch.begin()
        self.load.begin()
        try:
            yield
        except BaseException:
            self._watch.end()
            raise
        finally:
            self.load.end()

    def add_recurring(self, count: int) -> None:
        """Jobs that fire each minute."""
        active, _ = self.await_both()
        command = WITNESS.format(path=self.witness) + "w start; w end 0"
        names = [f"cron-{number}" for number in range(count)]
        began_ms, self._since_ms = boottime_ms(), time.time_ns() // 1_000_000
        body = [{"name": name, "command": command, "schedule": "* * * * *"} for name in names]
        answer = active.call("POST", "/jobs", body, timeout_s=30)
        assert answer.status == 201, answer
        for name, made in zip(names, answer.body, strict=True):
            self.load.done.submits.append(Submit(name, None, began_ms, boottime_ms(), "ok", made["id"]))
            self.load.made[name] = Made(recurring=True)

    def acked_since(self, at_ms: int) -> int | None:
        """How long after this time, in ms of CLOCK_BOOTTIME, a submit that began since then was acked; None so far."""
        done = (one for one in list(self.load.done.submits) if one.outcome == "ok" and one.invoked_ms >= at_ms)
        return min((one.completed_ms - at_ms for one in done), default=None)

    def await_service(self, since_ms: int, within_s: float = OUTAGE_MS_MAX / 1_000) -> int:
        """Wait until a submit is acked that began since then. Returns the ms without service."""
        until(lambda: self.acked_since(since_ms) is not None, within_s)
        return self.acked_since(since_ms) or 0

    # --- Watched ---

    def ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            with psycopg.connect(self._look, connect_timeout=5) as connection:
                return connection.execute(statement.replace("?", "%s").encode(), values).fetchall()
        except psycopg.Error as error:
            raise Unreadable(str(error)) from None

    def weights(self) -> dict[str, Weight]:
        return {}

    # --- the end ---

    def verdict(self) -> Verdict:
        """Wait until all jobs have ended, end everything, and judge what happened."""
        self.await_both()
        began_s = time.monotonic()
        self._await_end()
        log.info("all ended %.1f s after the load", time.monotonic() - began_s)
        self._watch.end()
        story = Findings(self.load, self._watch, self.witness, self._since_ms).history(self)
        story.replay = [f"{name} ended with {code}" for name, code in self._end() if code != 0]
        story.orphans = [Process(0, one) for one in marked(self.folder)]
        verdict = history.check(story)
        lines = [f"{many:8d}  {count}" for count, many in verdict.counts().items()]
        lines += [f"{many:8d}  ({what})" for what, many in verdict.info.items()]
        lines += [sentence for found in verdict.wrong.values() for sentence in found[:20]]
        log.info("\n%s", "\n".join(lines))
        return verdict

    def _await_end(self) -> None:
        """Until all jobs have ended, or that takes far too long: then they are stuck."""
        end_s = time.monotonic() + END_S
        while time.monotonic() < end_s:
            active = self.active()
            stats = None if active is None else active.call("GET", "/stats").body
            if stats and stats["tasks"]["pending"] + stats["tasks"]["running"] == 0:
                return
            time.sleep(0.2)

    def _end(self) -> list[tuple[str, int]]:
        """What each program ends with when it is asked to. The database is checked when all have ended."""
        ended = []
        for worker in self.workers.values():
            worker.send(signal.SIGTERM)
        for name, worker in self.workers.items():
            ended.append((f"worker {name}", worker.exit_code()))
        for scheduler in self.team.all:
            scheduler.send(signal.SIGTERM)
            ended.append((f"scheduler {scheduler.name}", scheduler.exit_code()))
        words = [sys.executable, "-m", "zsched.commands.zsched", "db", "check", "--db", self._look]
        variables = environment(self.folder, ZSCHED_SCHEDULER_DATA_DIR=str(self.team.all[0].data_dir))
        checked = subprocess.run(words, env=variables, capture_output=True, text=True, timeout=300, check=False)
        return [*ended, (f"`zsched db check` ({checked.stdout}{checked.stderr})", checked.returncode)]


# --- the link ---------------------------------------------------------------------------------------------------------

# What is done to packets of the near address: to the server, from it, or both.
LINKS: Final = {
    "both": ("ip daddr {0} drop", "ip saddr {0} drop"),
    "to the server": ("ip daddr {0} drop",),
    "from the server": ("ip saddr {0} drop",),
    "reset": ("ip protocol tcp ip daddr {0} reject with tcp reset",),
}


@contextmanager
def cut(how: str, address: str = NEAR) -> Iterator[None]:
    """Cut the link to an address of this network."""
    rules = "\n".join(rule.format(address) for rule in LINKS[how])
    table = f"table inet cut {{\nchain in {{ type filter hook input priority 0\n{rules}\n}}\n}}\n"
    subprocess.run(["nft", "-f", "-"], input=table, text=True, check=True, timeout=20)
    try:
        yield
    finally:
        subprocess.run(["nft", "flush", "ruleset"], check=True, timeout=20)


def spread(outages_ms: Sequence[int]) -> str:
    listed = sorted(outages_ms)
    return f"{len(listed)} outages, p50 {listed[len(listed) // 2]} ms, max {listed[-1]} ms: {listed}"
