"""What is looked at while faults happen, and what is collected for the verdict when they are over."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import apsw

from tests.faults import history
from tests.faults.cluster import Weight, boottime_ms
from tests.faults.history import Event, Fire, History, Job, Range, Run, Seen
from tests.faults.load import Load
from tests.faults.tasks import TERMINAL

log = logging.getLogger(__name__)

SAMPLE_S: Final = 0.5
WEIGH_S: Final = 2.0
MINUTE_MS: Final = 60_000
# What has been due for so short a time need not have fired.
CRON_DUE_MS: Final = 5_000


class Unreadable(Exception):
    """The database could not be read."""


class Watched(Protocol):
    """What a watch looks at."""

    def ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of the database, read past the scheduler. Raises apsw.Error or Unreadable."""

    def weights(self) -> dict[str, Weight]:
        """What each process takes, by name."""


class Watch:
    """Looks at the store and at the processes while things happen, in a thread of its own."""

    def __init__(self, cluster: Watched) -> None:
        self._cluster = cluster
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._look_all)
        self.seen: dict[int, Seen] = {}
        # All runs up to this one have been seen ended.
        self._low = 0
        self.weights: list[tuple[float, dict[str, Weight]]] = []

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ending.set()
        self._thread.join()

    def _look_all(self) -> None:
        weigh_at_s = 0.0
        while not self._ending.wait(SAMPLE_S):
            self._look()
            now_s = time.monotonic()
            if now_s >= weigh_at_s:
                weigh_at_s = now_s + WEIGH_S
                self.weights.append((now_s, self._cluster.weights()))

    def _look(self) -> None:
        try:
            rows = self._cluster.ask("SELECT run_id, status FROM runs WHERE run_id > ? ORDER BY run_id", self._low)
        except (apsw.Error, Unreadable) as error:
            log.debug("the store could not be read: %s", error)
            return
        at_ms, ended = boottime_ms(), True
        for run_id, status in rows:
            if status in TERMINAL:
                self.seen.setdefault(run_id, Seen(run_id, status, at_ms))
            ended = ended and status in TERMINAL
            if ended:
                self._low = run_id


@dataclass(frozen=True, slots=True)
class Findings:
    """Where a history comes from. `since_ms`: since when recurring jobs are there, milliseconds since 1970."""

    load: Load
    watch: Watch
    witness: Path
    since_ms: int

    def history(self, watched: Watched) -> History:
        """What there is to know when all is over."""
        made = {name: asdict(one) for name, one in self.load.made.items()}
        due_ms, fires = self._fires(watched)
        return History(
            submits=self.load.done.submits,
            cancels=self.load.done.cancels,
            lives=history.lives(self.witness.read_text("ascii").splitlines()),
            jobs=[
                Job(job_id, name, status, **made.get(name, {}))
                for job_id, name, status in watched.ask("SELECT job_id, name, status FROM jobs")
            ],
            runs=[
                Run(run, job, task, status, reason, worker, None if left is None else bytes(left))
                for run, job, task, status, reason, worker, left in watched.ask(
                    "SELECT run_id, job_id, task, status, reason, worker_id, data"
                    " FROM runs LEFT JOIN artifacts USING (run_id)"
                )
            ],
            ranges=[
                Range(*row)
                for row in watched.ask("SELECT job_id, first_task, last_task, state, reason FROM task_ranges")
            ],
            left_out={
                job_id for (job_id,) in watched.ask("SELECT job_id FROM events WHERE became = 'artifacts_left_out'")
            },
            events=[
                Event(*row)
                for row in watched.ask(
                    "SELECT run_first, run_last, was, became, worker_id, reason FROM events"
                    " WHERE run_first IS NOT NULL ORDER BY event_id"
                )
            ],
            seen=list(self.watch.seen.values()),
            due_ms=due_ms,
            fires=fires,
        )

    def _fires(self, watched: Watched) -> tuple[dict[int, list[int]], list[Fire]]:
        """When the recurring jobs should have fired, and when they did."""
        end_ms = time.time_ns() // 1_000_000 - CRON_DUE_MS
        first_ms = (self.since_ms // MINUTE_MS + 1) * MINUTE_MS
        fires = [
            Fire(job_id, round(at_ms / MINUTE_MS) * MINUTE_MS, at_ms)
            for job_id, at_ms in watched.ask(
                "SELECT job_id, at_ms FROM events WHERE reason = 'fire' OR became = 'fire_skipped'"
            )
        ]
        recurring = watched.ask("SELECT job_id FROM jobs WHERE schedule IS NOT NULL")
        due_ms = {job_id: list(range(first_ms, end_ms, MINUTE_MS)) for (job_id,) in recurring}
        return due_ms, [fire for fire in fires if fire.due_ms < end_ms]
