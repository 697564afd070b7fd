"""The ground truth: what virtual jobs themselves write down when they start and end. zsched never reads it."""

from __future__ import annotations

import signal
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from tests.sim.jobs import WORLD
from tests.sim.story import Story
from tests.sim.timeline import Timeline
from tests.sim.violation import Violation

# How a process that was ended from outside is written down.
KILLED: Final = -9


@dataclass(slots=True)
class Life:
    """One process of a job. `code` is its exit code, negative for a signal; None while it lives."""

    run: int
    job: int
    worker: str
    host: str
    incarnation: str
    started_ms: int
    ended_ms: int | None = None
    code: int | None = None


class Witness:
    """Every process that ever was, by run: there may be one for each."""

    def __init__(self, timeline: Timeline, story: Story) -> None:
        self.lives: dict[int, Life] = {}
        # The runs of each job whose processes live.
        self._living: dict[int, set[int]] = defaultdict(set)
        self._timeline = timeline
        self._story = story

    def start(self, run: int, job: int, worker: str, host: str, incarnation: str, pid: int | None = None) -> None:
        before = self.lives.get(run)
        if before is not None:
            raise Violation(
                f"run {run} of job {job} starts on {host} at {self._timeline.now_ms} ms, but it has started before:"
                f" on {before.host} at {before.started_ms} ms"
            )
        self.lives[run] = Life(run, job, worker, host, incarnation, self._timeline.now_ms)
        self._living[job].add(run)
        process = f": process {pid}" if pid is not None else ""
        self._story.tell(host, "%s starts%s", _name(run, job), process)

    def end(self, run: int, code: int) -> None:
        life = self.lives[run]
        life.ended_ms, life.code = self._timeline.now_ms, code
        self._living[life.job].discard(run)
        end = f"exit {code}" if code >= 0 else signal.Signals(-code).name
        self._story.tell(life.host, "%s ends: %s", _name(run, life.job), end)

    def alive_of(self, job: int) -> list[Life]:
        """The processes of one job that live now."""
        return [self.lives[run] for run in self._living[job]]

    def alive(self) -> list[Life]:
        return [life for life in self.lives.values() if life.code is None]


def _name(run: int, job: int) -> str:
    """As its own database numbers it."""
    world = f" of world {run // WORLD}" if run >= WORLD else ""
    return f"run {run % WORLD} of job {job % WORLD}{world}"
