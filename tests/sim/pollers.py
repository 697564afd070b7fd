"""A worker that speaks over REST, as the documented session has it: registers, sends heartbeats, asks for its next run,
says that it runs, executes it, says how it ended. One run at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.sim.callers import QUEUES
from tests.sim.jobs import script
from tests.sim.network import Path
from tests.sim.scheduler import Answer, Done, OnAnswer, Refused, Scheduler
from tests.sim.story import Story
from tests.sim.timeline import Timeline
from tests.sim.witness import KILLED, Witness
from zsched.model.types import JobId, RunId, RunStatus, Stream, WorkerId
from zsched.scheduler.dispatcher.commands import Beat, Command, Next, RegisterWorker, Report
from zsched.store.contract import Claimed


@dataclass(slots=True)
class Job:
    """What it executes. `code` None while it lives."""

    run: int
    job: int
    code: int | None = None


class SimPoller:
    """`alive` from its start until it is killed. An answer for an earlier start of it is for nobody."""

    def __init__(
        self,
        timeline: Timeline,
        chance: Random,
        story: Story,
        witness: Witness,
        scheduler: Scheduler,
        path: Path,
        name: str,
        heartbeat_ms: int,
        slots: int,
    ) -> None:
        self.name = name
        self.path = path
        self.slots = slots
        self.queues: tuple[str, ...] = (("default",), ("default", QUEUES[0]), ("*",))[sum(map(ord, name)) % 3]
        self.alive = False
        self.job: Job | None = None
        self._timeline = timeline
        self._chance = chance
        self._story = story
        self._witness = witness
        self._scheduler = scheduler
        self.heartbeat_ms = heartbeat_ms
        self.on_kill: Callable[[int], None] = lambda job: None
        self._starts = 0
        # It stands still until then.
        self.still_ms = 0
        # The starts whose calls for a run have no answer yet.
        self._asking: list[int] = []

    @property
    def incarnation(self) -> str:
        return f"{self.name}.{self._starts}"

    @property
    def is_asked_for(self) -> bool:
        """Whether a call for a run may still be on its way that an earlier start has made."""
        return any(start != self._starts for start in self._asking)

    def start(self) -> None:
        if self.alive:
            return
        self.alive = True
        self._starts += 1
        self._story.tell(self.name, "starts as %s", self.incarnation)
        self._register()
        start = self._starts
        self._timeline.after(self.heartbeat_ms, lambda: self._beat(start))

    def kill(self) -> None:
        """Its job dies with it."""
        if not self.alive:
            return
        self._story.tell(self.name, "is killed")
        self.alive = False
        if self.job is not None and self.job.code is None:
            self._witness.end(self.job.run, KILLED)
        self.job = None

    # --- talking ---

    def _ask(self, command: Command[Any], on_answer: OnAnswer) -> None:
        start = self._starts

        def here(answer: Answer) -> None:
            if isinstance(command, Next) and start in self._asking:
                self._asking.remove(start)
            if self.alive and self._starts == start:
                gap_ms = max(0, self.still_ms - self._timeline.now_ms)
                if gap_ms:
                    self._timeline.after(gap_ms, lambda: here(answer))
                else:
                    on_answer(answer)

        match command:
            case RegisterWorker():
                self._story.tell(self.name, "registers over REST")
            case Report():
                code = f", exit {command.exit_code}" if command.exit_code is not None else ""
                self._story.tell(self.name, "reports run %s %s%s", command.run_id, command.status, code)
            case _:
                self._story.note(self.name, "asks %s", command)
        if isinstance(command, Next):
            self._asking.append(start)
        self._scheduler.call(self.path, command, here)

    def _again(self, action: OnAnswer, answer: Answer) -> None:
        """Do something once more after a while."""
        start = self._starts
        gap_ms = self._chance.choice((100, 1_000))
        self._timeline.after(gap_ms, lambda: action(answer) if self.alive and self._starts == start else None)

    def _register(self) -> None:
        def on_answer(answer: Answer) -> None:
            if isinstance(answer, Done):
                self._next()
            else:
                self._again(lambda _: self._register(), answer)

        self._ask(RegisterWorker(WorkerId(self.name), self.slots, (), {}, self.queues), on_answer)

    def _beat(self, start: int) -> None:
        if not self.alive or self._starts != start:
            return
        if self._timeline.now_ms >= self.still_ms:
            self._ask(Beat(WorkerId(self.name)), lambda answer: None)
        self._timeline.after(self.heartbeat_ms, lambda: self._beat(start))

    def _next(self) -> None:
        def on_answer(answer: Answer) -> None:
            if isinstance(answer, Done) and isinstance(answer.reply, Claimed):
                self._on_claimed(answer.reply)
            elif isinstance(answer, Refused):
                # Nobody knows it: the worker was never registered in this database.
                self._again(lambda _: self._register(), answer)
            else:
                self._again(lambda _: self._next(), answer)

        self._ask(Next(WorkerId(self.name)), on_answer)

    def _on_claimed(self, claimed: Claimed) -> None:
        """The start is told first, and only a run that is still its own is started."""

        def on_answer(answer: Answer) -> None:
            if isinstance(answer, Refused):
                self._next()
            elif isinstance(answer, Done):
                self._execute(claimed)
            else:
                self._again(lambda _: self._on_claimed(claimed), answer)

        self._ask(self._report(claimed.run_id, claimed.job_id, RunStatus.RUNNING, None), on_answer)

    def _execute(self, claimed: Claimed) -> None:
        job = self.job = Job(claimed.run_id, claimed.job_id)
        self._witness.start(job.run, job.job, self.name, self.name, self.incarnation)
        what = script(claimed.command)

        def on_end() -> None:
            if self.job is job:
                if what.kills is not None:
                    self._story.tell(self.name, "run %d of job %d kills it", job.run, job.job)
                    self.on_kill(job.job)
                    self.kill()
                    self._timeline.after(self._chance.choice((50, 500, 3_000)), self.start)
                    return
                job.code = what.code_of(claimed.task, claimed.attempt)
                self._witness.end(job.run, job.code)
                self._tell_end(job)

        self._timeline.after(what.lasts_ms, on_end)

    def _tell_end(self, job: Job) -> None:
        def on_answer(answer: Answer) -> None:
            # Some give up telling it, and ask for the next. That says how it ended only if it is all that they take.
            gives_up = self.slots == 1 and self._chance.random() < 0.3
            if isinstance(answer, Done | Refused) or gives_up:
                self.job = None
                self._next()
            else:
                self._again(lambda _: self._tell_end(job), answer)

        status = RunStatus.FAILED if job.code else RunStatus.SUCCESS
        self._ask(self._report(job.run, job.job, status, job.code), on_answer)

    def _report(self, run: int, job: int, status: RunStatus, code: int | None) -> Report:
        return Report(JobId(job), WorkerId(self.name), status, RunId(run), Stream(), code)
