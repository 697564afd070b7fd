"""Peers that have no right to what they say: garbage, frames of another's session, results of another's runs."""

from __future__ import annotations

from random import Random
from typing import Literal

from tests.sim.network import Connection, Path
from tests.sim.scheduler import Scheduler
from tests.sim.story import Story
from tests.sim.timeline import Timeline
from zsched.model.types import JobId, RunId, RunStatus, Stream, WorkerId
from zsched.protocol import (
    Dispatch,
    Heartbeat,
    Ready,
    Register,
    Registered,
    Result,
    Return,
    RunResult,
    Started,
    WorkerFrame,
    pack,
    unpack_from_scheduler,
)
from zsched.scheduler.dispatcher.commands import Report


class Stranger:
    """Connects, and says one thing; or registers under its own name and goes on: with lies about the runs of others, or
    if it `works`, with words that can't be true about its own.
    """

    def __init__(
        self, timeline: Timeline, chance: Random, story: Story, scheduler: Scheduler, path: Path, number: int
    ) -> None:
        self.worker = f"x{number}"
        self._timeline = timeline
        self._chance = chance
        self._story = story
        self._scheduler = scheduler
        self._path = path
        self._works = False
        self._session = ""
        self._connection = Connection(timeline, chance, path, f"x/{number}".encode(), self, scheduler.router)

    def on_body(self, connection: Connection, body: bytes) -> None:
        frame = unpack_from_scheduler(body)
        if isinstance(frame, Registered):
            self._session = frame.s
            if self._works:
                self._send(Ready(s=frame.s, window=1, ahead=0))
            else:
                self.lie(frame.s)
        elif isinstance(frame, Dispatch):
            self._bungle(frame)

    def _bungle(self, frame: Dispatch) -> None:
        """Say that runs have started, and then that they are not held, or were never started. Then fall silent."""
        now_ms = self._scheduler.clock.now().wall_ms
        runs = tuple(order.run for order in frame.runs)
        for run in runs:
            self._send(Started(s=self._session, run=run, pid=1, at_ms=now_ms))
        words: list[WorkerFrame] = [
            Return(s=self._session, runs=runs),
            Heartbeat(s=self._session, seq=1, n=frame.n, window=0, ahead=0),
        ]
        self._send(self._chance.choice(words))

    def on_cut(self, connection: Connection) -> None: ...

    def babble(self) -> None:
        """What is no frame."""
        self._send_body(self._chance.randbytes(self._chance.randint(0, 40)))

    def register(self, *, works: bool) -> None:
        """Be a worker."""
        self._works = works
        self._send(
            Register(
                versions=(1,),
                worker=self.worker,
                incarnation=f"{self.worker}.1",
                boot_id=self.worker,
                lock=(0, 0),
                slots=1,
                heartbeat_ms=1_000,
            )
        )

    def lie(self, session: str) -> None:
        """Say something in the session of somebody else: of all runs, for some are its."""
        found = self._scheduler.engine.look("SELECT run_id FROM runs WHERE status = 'running'")
        run = self._chance.choice(found)[0] if found else 1
        now_ms = self._scheduler.clock.now().wall_ms
        code = self._chance.randint(0, 1)
        runs = tuple(one for (one,) in found) or (run,)
        status: Literal["success", "failed"] = "failed" if code else "success"
        results = tuple(RunResult(one, status, "exit", now_ms, now_ms, exit_code=code) for one in runs)
        lies: list[WorkerFrame] = [
            Result(s=session, results=results),
            Return(s=session, runs=runs),
            Started(s=session, run=run, pid=1, at_ms=now_ms),
            Heartbeat(s=session, seq=1, n=1_000_000, window=0, ahead=0),
        ]
        for one in lies:
            self._send(one)

    def report(self, worker: str) -> None:
        """The same over REST: the word of a worker about another's run."""
        found = self._scheduler.engine.look(
            "SELECT run_id, job_id FROM runs WHERE status = 'running' AND worker_id <> ?", worker
        )
        if found:
            run, job = self._chance.choice(found)
            status = self._chance.choice((RunStatus.SUCCESS, RunStatus.FAILED, RunStatus.RUNNING))
            command = Report(JobId(job), WorkerId(worker), status, RunId(run), Stream(), None)
            self._story.tell("stranger", "reports %s", command)
            self._scheduler.call(self._path, command, lambda answer: None)

    def _send(self, frame: WorkerFrame) -> None:
        self._story.send(self._connection.peer.decode(), "scheduler", frame)
        self._send_body(pack(frame))

    def _send_body(self, body: bytes) -> None:
        self._connection.up.send(body)
