"""A dispatcher over a real store, workers and callers that are all the test, and the only clock there is.

What is sent is collected. A test takes what it expects with `sent`, and ends by showing that nothing else was sent.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from zsched import protocol
from zsched.model.access import Caller
from zsched.model.edits import JobEdit
from zsched.model.files import File
from zsched.model.types import (
    Job,
    JobId,
    JobSpec,
    Now,
    Policy,
    Run,
    RunId,
    RunStatus,
    Stream,
    Verdict,
    Worker,
    WorkerId,
)
from zsched.protocol import (
    Heartbeat,
    HeartbeatAck,
    Held,
    Ready,
    Register,
    Registered,
    Result,
    ResultAck,
    RunOrder,
    RunResult,
    SchedulerFrame,
    Started,
    WorkerFrame,
)
from zsched.scheduler.dispatcher import Dispatcher, Settings
from zsched.scheduler.dispatcher.commands import (
    Beat,
    Cancel,
    Command,
    EditJob,
    EndSchedule,
    JobState,
    Made,
    Next,
    PauseSchedule,
    RefusedError,
    RegisterWorker,
    Report,
    ResumeSchedule,
    Submit,
)
from zsched.scheduler.dispatcher.settings import refuse_secret
from zsched.store.contract import Claimed
from zsched.store.sqlite.engine import SqliteEngine
from zsched.store.writer import Writer

R = TypeVar("R")

TIMEOUT_MS = 30_000
# 2023-11-14T22:13:20Z: twenty seconds into a minute.
WALL_MS = 1_700_000_000_000


def operator(name: str) -> Caller:
    """A local caller: it may act on all jobs."""
    return Caller(owner=f"user:{name}", actor=name, all_jobs=True, admin=True)


TEST = operator("test")


class World:
    """A scheduler's core. `mono_ms` and `wall_ms` are its clocks; `jump` moves them apart."""

    def __init__(
        self,
        *,
        keyed: bool = False,
        unseal: Callable[[str, str], str] | None = None,
        db: Path | str = ":memory:",
    ) -> None:
        """`keyed`: workers need keys, bound to their names. `unseal` opens secrets. `db`: where the database is."""
        self.keyed = keyed
        self.unseal = unseal
        self.engine = SqliteEngine(db)
        self.engine.migrate(WALL_MS)
        self.store = Writer(self.engine)
        self.mono_ms = 1_000_000
        self.wall_ms = WALL_MS
        self.next_tick_ms = 0
        self._outbox: list[tuple[bytes, SchedulerFrame]] = []
        self._read: list[tuple[bytes, WorkerFrame, str]] = []
        self._epoch = 0
        self._tokens = 0
        self.restart()

    def restart(self) -> None:
        """The scheduler was killed and starts anew on the same database."""
        self._epoch += 1
        self.store = Writer(self.engine)
        self.dispatcher = Dispatcher(
            self.store,
            Settings(
                epoch=self._epoch,
                timeout_ms=TIMEOUT_MS,
                new_token=self._token,
                keyed=self.keyed,
                unseal=self.unseal or refuse_secret,
            ),
            self.now,
        )

    def _token(self) -> str:
        self._tokens += 1
        return f"s{self._tokens}"

    @property
    def now(self) -> Now:
        return Now(self.mono_ms, self.wall_ms)

    # --- turns ---

    def turn(self, work: Callable[[], object] = lambda: None, *, drained: bool = True) -> object:
        """One turn as the loop does it. What `work` raises undoes its own changes and is raised after the commit."""
        raised: Exception | None = None
        reply: object = None
        self.dispatcher.hearing.on_look(self.now, drained=drained)
        self._hear()
        self.store.begin()
        self.dispatcher.on_begin(self.now)
        try:
            with self.store.savepoint():
                reply = work()
        except Exception as error:
            raised = error
        self.next_tick_ms = self.dispatcher.on_tick(self.now, drained=drained)
        reply = self.dispatcher.complete(reply)
        self.store.commit()
        self.dispatcher.on_commit()
        self._outbox += self.dispatcher.outbox.frames
        self.dispatcher.outbox.frames.clear()
        if raised is not None:
            raise raised
        return reply

    def failing_turn(self, work: Callable[[], object] = lambda: None, *, waited_ms: int = 0) -> None:
        """A turn that the store refuses at its end, after it has let the loop wait for so long."""
        self.dispatcher.hearing.on_look(self.now, drained=True)
        heard = list(self._read)
        self._hear()
        self.store.begin()
        self.dispatcher.on_begin(self.now)
        work()
        self.dispatcher.on_tick(self.now, drained=True)
        self.jump(waited_ms)
        self.store.rollback()
        self.dispatcher.on_rollback()
        self.dispatcher.hearing.on_store_wait(waited_ms)
        for peer, frame, key in heard:
            if isinstance(frame, Heartbeat):
                self.dispatcher.ack_unstored(peer, frame, key)
        self._outbox += self.dispatcher.outbox.frames
        self.dispatcher.outbox.frames.clear()

    def read(self, *frames: tuple[bytes, WorkerFrame], key: str = "") -> None:
        """Frames are read by the next turn."""
        self._read += ((peer, frame, key) for peer, frame in frames)

    def _hear(self) -> None:
        for peer, frame, key in self._read:
            self.dispatcher.hearing.on_frame(peer, frame, self.now, key)
        self._read.clear()

    def hear(self, peer: bytes, *frames: WorkerFrame, drained: bool = True, key: str = "") -> None:
        """Frames from a peer, in one turn. `key`: the one that its connection has proved to have."""

        def work() -> None:
            for frame in frames:
                self.dispatcher.on_frame(peer, frame, self.now, key)

        self.read(*((peer, frame) for frame in frames), key=key)
        self.turn(work, drained=drained)

    def hear_in_failing_turn(self, peer: bytes, frame: WorkerFrame) -> None:
        self.read((peer, frame))
        self.failing_turn(lambda: self.dispatcher.on_frame(peer, frame, self.now))

    def ask(self, command: Command[R]) -> R:
        """A caller's command, in a turn of its own. Raises RefusedError."""
        reply = self.turn(lambda: self._do(command))
        if isinstance(reply, RefusedError):
            raise reply
        return cast("R", reply)

    def ask_in_failing_turn(self, command: Command[Any]) -> None:
        self.failing_turn(lambda: self._do(command))

    def _do(self, command: Command[Any]) -> object:
        self.dispatcher.hearing.on_command(command, self.now)
        return self.dispatcher.on_command(command, self.now)

    def jump(self, gap_ms: int) -> None:
        """Let time pass at once, without a turn."""
        self.mono_ms += gap_ms
        self.wall_ms += gap_ms

    def wait(self, gap_ms: int, *alive: Peer | Poller) -> None:
        """Let time pass as the loop would: turn at each deadline. The peers in `alive` send heartbeats meanwhile."""
        end_ms = self.mono_ms + gap_ms
        while self.mono_ms < end_ms:
            self.jump(min(end_ms, max(self.mono_ms + 1, self.next_tick_ms)) - self.mono_ms)
            for peer in alive:
                peer.quiet_beat()
            self.turn()

    # --- what was sent ---

    def sent(self, *expected: type[SchedulerFrame]) -> Any:
        """Take all that was sent, in order: exactly frames of these types. One alone is returned by itself."""
        frames = [frame for _, frame in self._outbox]
        assert [type(frame) for frame in frames] == list(expected), frames
        self._outbox.clear()
        return frames[0] if len(frames) == 1 else frames

    def sent_to(self, peer: bytes) -> list[SchedulerFrame]:
        """Take what was sent to one peer."""
        taken = [frame for receiver, frame in self._outbox if receiver == peer]
        self._outbox = [one for one in self._outbox if one[0] != peer]
        return taken

    def untake(self, peer: bytes, frames: list[SchedulerFrame]) -> None:
        """Leave frames for whoever takes next."""
        self._outbox += [(peer, frame) for frame in frames]

    def end(self) -> None:
        """Nothing was sent that the test did not take."""
        self.turn()
        assert self._outbox == []
        self.store.close()

    # --- callers ---

    def submit(
        self,
        count: int = 1,
        command: str = "true",
        timeout_ms: int | None = None,
        policy: Policy | None = None,
        by: Caller = TEST,
    ) -> list[JobId]:
        policy = policy or Policy(timeout_ms=timeout_ms)
        specs = tuple(JobSpec(name="job", command=command, policy=policy) for _ in range(count))
        reply = self.ask(Submit(specs, by))
        assert isinstance(reply, Made)
        return list(reply.ids)

    def submit_one(self, command: str = "true", timeout_ms: int | None = None, policy: Policy | None = None) -> JobId:
        return self.submit(1, command, timeout_ms, policy)[0]

    def recurring(
        self, schedule: str, *, run_now: bool = False, policy: Policy | None = None, by: Caller = TEST
    ) -> JobId:
        spec = JobSpec(name="cron", command="true", schedule=schedule, run_now=run_now, policy=policy or Policy())
        reply = self.ask(Submit((spec,), by))
        assert isinstance(reply, Made)
        return reply.ids[0]

    def cancel(self, job_id: JobId, by: Caller | None = None) -> None:
        self.ask(Cancel(job_id, by or operator("ann")))

    def pause(self, job_id: JobId, by: Caller | None = None) -> JobState:
        return self.ask(PauseSchedule(job_id, by or operator("ann")))

    def resume(self, job_id: JobId, by: Caller | None = None) -> None:
        self.ask(ResumeSchedule(job_id, by or operator("ann")))

    def end_schedule(self, job_id: JobId, by: Caller | None = None, *, cancel: bool = False) -> None:
        self.ask(EndSchedule(job_id, by or operator("ann"), cancel))

    def edit(self, job_id: JobId, edit: JobEdit, by: Caller | None = None) -> None:
        self.ask(EditJob(job_id, edit, by or operator("ann")))

    # --- looking ---

    def job(self, job_id: JobId) -> Job:
        job = self.store.job(job_id)
        assert job is not None
        return job

    def runs(self, job_id: JobId) -> list[Run]:
        """The job's runs, oldest first."""
        found = self.engine.execute("SELECT run_id FROM runs WHERE job_id = ? ORDER BY run_id", (job_id,))
        return [self.run(run_id) for (run_id,) in found]

    def run(self, run_id: int) -> Run:
        run = self.store.run(RunId(run_id))
        assert run is not None
        return run

    def states(self, job_id: JobId) -> list[str]:
        """Each run of a job as `status` or `status/reason`, oldest first."""
        return [f"{run.status}/{run.reason}" if run.reason else str(run.status) for run in self.runs(job_id)]

    def worker(self, name: str) -> Worker:
        worker = self.store.worker(WorkerId(name))
        assert worker is not None
        return worker

    def events(self, became: str) -> list[tuple[Any, ...]]:
        return self.engine.execute("SELECT job_id, reason, detail FROM events WHERE became = ?", (became,))

    def by_hand(self, statement: str, *parameters: object) -> None:
        """A change that no verb makes."""
        self.engine.execute(statement, parameters)


class Peer:
    """A connected worker. `session` is its token once it has registered; `held` is what it says that it holds."""

    def __init__(
        self, world: World, name: str = "w1", *, connection: str = "", slots: int = 2, incarnation: str = "i1"
    ) -> None:
        self.world = world
        self.name = name
        self.peer = (connection or name).encode()
        self.key = ""
        self.slots = slots
        self.incarnation = incarnation
        self.boot_id = f"boot of {name}"
        self.lock = (1, 2)
        self.can: tuple[str, ...] = ()
        self.queues: tuple[str, ...] = ()
        self.host = ""
        self.labels: dict[str, str] = {}
        self.db = ""
        self.foreign: tuple[protocol.Foreign, ...] = ()
        self.heartbeat_ms = 10_000
        self.versions = protocol.VERSIONS
        self.session = "none"
        self.n = 0
        self.seq = 0
        self.window = 10 * slots
        self.ahead = 0
        self.held: dict[int, protocol.Phase] = {}
        self.orders: dict[int, RunOrder] = {}

    def say(self, *frames: WorkerFrame) -> None:
        self.world.hear(self.peer, *frames, key=self.key)

    def introduction(self) -> Register:
        return Register(
            versions=self.versions,
            worker=self.name,
            incarnation=self.incarnation,
            boot_id=self.boot_id,
            lock=self.lock,
            slots=self.slots,
            heartbeat_ms=self.heartbeat_ms,
            db=self.db,
            sent_ms=self.world.mono_ms,
            can=self.can,
            host=self.host,
            labels=self.labels,
            queues=self.queues,
            runs=self.listed(),
            foreign=self.foreign,
        )

    def register(self) -> Registered:
        """Introduce itself and take the answer, which must be a session."""
        self.say(self.introduction())
        answer, *rest = self.world.sent_to(self.peer)
        assert isinstance(answer, Registered), answer
        assert rest == []
        self.session, self.db, self.n = answer.s, answer.db, 0
        for run_id in answer.kill:
            self.held.pop(run_id, None)
        return answer

    def join(self) -> Peer:
        """Register and be ready; takes what runs it is given."""
        self.register()
        self.ready()
        return self

    def ready(self, window: int | None = None, ahead: int | None = None) -> None:
        self.window = self.window if window is None else window
        self.ahead = self.ahead if ahead is None else ahead
        self.say(Ready(s=self.session, window=self.window, ahead=self.ahead))

    def heartbeat(self, **other: Any) -> Heartbeat:
        """The next heartbeat, with all it holds."""
        self.seq += 1
        facts: dict[str, Any] = {
            "s": self.session,
            "seq": self.seq,
            "n": self.n,
            "window": self.window,
            "ahead": self.ahead,
            "runs": self.listed(),
            "foreign": self.foreign,
        }
        return Heartbeat(**(facts | other))

    def beat(self, **other: Any) -> HeartbeatAck:
        """Send a heartbeat with all it holds and take the ack."""
        self.say(self.heartbeat(**other))
        ack: HeartbeatAck = self._answer(HeartbeatAck)
        assert ack.seq == self.seq
        return ack

    def quiet_beat(self) -> None:
        """A sign of life that tells nothing new."""
        ack = self.beat()
        assert ack.kill == ()

    def take(self) -> list[int]:
        """Take the run frames it was sent, and nothing else; it holds the runs from now on, waiting."""
        taken = []
        for frame in self.world.sent_to(self.peer):
            assert isinstance(frame, protocol.Dispatch), frame
            assert frame.s == self.session
            assert frame.n > self.n
            self.n = frame.n
            for order in frame.runs:
                self.held[order.run] = "waiting"
                self.orders[order.run] = order
                taken.append(order.run)
        return taken

    def take_one(self) -> int:
        (run_id,) = self.take()
        return run_id

    def start(self, *run_ids: int) -> None:
        for run_id in run_ids:
            self.held[run_id] = "running"
            self.say(Started(s=self.session, run=run_id, pid=1, at_ms=self.world.wall_ms))

    def finish(self, run_id: int, exit_code: int = 0) -> Verdict:
        """Tell a run's end and take the verdict."""
        self.say(Result(s=self.session, results=(self.result(run_id, exit_code),)))
        ack: ResultAck = self._answer(ResultAck)
        self.held.pop(run_id, None)
        ((acked, verdict),) = ack.verdicts
        assert acked == run_id
        return verdict

    def result(self, run_id: int, exit_code: int = 0) -> RunResult:
        return RunResult(
            run=run_id,
            status="failed" if exit_code else "success",
            reason="exit",
            exit_code=exit_code,
            started_ms=self.world.wall_ms,
            finished_ms=self.world.wall_ms,
        )

    def _answer(self, kind: type[SchedulerFrame]) -> Any:
        """Take the one frame of a kind that it was sent, and leave the others."""
        frames = self.world.sent_to(self.peer)
        (answer,) = [frame for frame in frames if isinstance(frame, kind)]
        self.world.untake(self.peer, [frame for frame in frames if frame is not answer])
        return answer

    def refused(self) -> protocol.Error:
        """Take the one error frame it was sent."""
        (error,) = self.world.sent_to(self.peer)
        assert isinstance(error, protocol.Error), error
        return error

    def again(self, connection: str = "again", *, incarnation: str = "i2") -> Peer:
        """The same worker after a new start on the same machine, with nothing in hand."""
        again = Peer(self.world, self.name, connection=connection, slots=self.slots, incarnation=incarnation)
        again.boot_id, again.lock, again.db, again.key = self.boot_id, self.lock, self.db, self.key
        return again

    def listed(self) -> tuple[Held, ...]:
        return tuple(Held(run=run_id, phase=phase) for run_id, phase in self.held.items())


class Poller:
    """A worker that speaks over REST."""

    def __init__(self, world: World, name: str = "r1", *, slots: int = 1, can: tuple[str, ...] = ()) -> None:
        self.world = world
        self.worker_id = WorkerId(name)
        self.slots = slots
        self.can = can
        self.queues: tuple[str, ...] = ("default",)
        # What its next report has.
        self.artifacts: tuple[File, ...] = ()

    def register(self) -> Poller:
        self.world.ask(RegisterWorker(self.worker_id, self.slots, self.can, {}, self.queues))
        return self

    def beat_command(self) -> Beat:
        return Beat(self.worker_id)

    def beat(self) -> None:
        self.world.ask(self.beat_command())

    quiet_beat = beat

    def next(self) -> Claimed | None:
        return self.world.ask(Next(self.worker_id))

    def next_run(self) -> Claimed:
        claimed = self.next()
        assert claimed is not None
        return claimed

    def report(
        self,
        job_id: JobId,
        status: RunStatus,
        exit_code: int | None = None,
        run_id: int | None = None,
        logs: bytes = b"",
    ) -> RunId:
        state = self.world.ask(
            Report(
                job_id,
                self.worker_id,
                status,
                None if run_id is None else RunId(run_id),
                Stream(head=logs, total=len(logs)),
                exit_code,
                self.artifacts,
            )
        )
        return state.run.run_id
