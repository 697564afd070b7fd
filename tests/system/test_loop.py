"""The loop on a real ROUTER socket: what a peer or a disk does to it, and what others are told and when."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import msgpack
import pytest
import zmq

from tests.contract.disk import Disk, failing_disk
from tests.unit.world import TEST
from zsched import protocol
from zsched.model.limits import COMMAND_WAIT_S, FRAME_FROM_WORKER_BYTES_MAX
from zsched.model.spans import parse
from zsched.model.types import JobId, JobSpec, RunStatus
from zsched.protocol import (
    Error,
    Heartbeat,
    HeartbeatAck,
    Ready,
    Register,
    Registered,
    Result,
    ResultAck,
    RunResult,
    SchedulerBye,
    SchedulerFrame,
    WorkerFrame,
)
from zsched.scheduler import loop
from zsched.scheduler.dispatcher import Dispatcher, Settings
from zsched.scheduler.dispatcher.acts import Delete, Release
from zsched.scheduler.dispatcher.bulk import Action, Bulk, Selection
from zsched.scheduler.dispatcher.commands import (
    Cancel,
    Command,
    EndSchedule,
    JobState,
    Made,
    NotFoundError,
    Submit,
)
from zsched.scheduler.inbox import ClosedError, Inbox, StandbyError
from zsched.scheduler.loop import Loop, clock
from zsched.scheduler.port import Port
from zsched.store.contract import (
    Store,
    StoreConstraint,
    StoreCorrupt,
    StoreDeposed,
    StoreError,
    StoreFull,
    StoreUnsure,
)
from zsched.store.sqlite.engine import open_reader, open_writer

DEADLINE_S = 10.0
# How long nothing must be heard to be believed silent.
SILENCE_MS = 150
# How long a sender must be stuck to be believed held up.
PAUSE_MS = 2_000


class Watched:
    """A real store that lets the test see its commits, hold one, and make calls fail."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self.commits = 0
        self.gate = threading.Event()
        self.gate.set()
        self.at_gate = threading.Event()
        # Called before the method of that name.
        self.before: dict[str, Callable[[], None]] = {}

    def hold_next_submit(self, error: StoreError | None = None) -> None:
        """Keep the turn of the next submit from its commit until the gate is opened; then let it fail, if asked."""

        def close() -> None:
            del self.before["submit"]
            self.gate.clear()
            if error is not None:
                self.before["commit"] = fail(error)

        self.before["submit"] = close

    def commit(self) -> None:
        if not self.gate.is_set():
            self.at_gate.set()
            assert self.gate.wait(DEADLINE_S)
        self.before.get("commit", lambda: None)()
        self._inner.commit()
        self.commits += 1

    def __getattr__(self, name: str) -> Any:
        self.before.get(name, lambda: None)()
        return getattr(self._inner, name)


class Scheduler:
    """The loop in its thread, over a store in a folder. A context: leaving it stops the loop."""

    def __init__(self, folder: Path, *, callers_max: int = 8) -> None:
        self.path = folder / "scheduler.db"
        self.inbox = Inbox(callers_max)
        self.zmq: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.failure: BaseException | None = None
        self.sockets: list[zmq.Socket[bytes]] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loop")

    def __enter__(self) -> Scheduler:
        self._thread.start()
        assert self._ready.wait(DEADLINE_S)
        self.reader = open_reader(self.path)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(apsw.IOError):  # the failing disk fails here too
            self.reader.close()
        self.stop()
        for socket in self.sockets:
            socket.close(linger=0)
        self.zmq.term()

    def _run(self) -> None:
        writer = open_writer(self.path, clock().wall_ms)
        self.store = Watched(writer)
        port = Port(self.zmq, "127.0.0.1", 0)
        self.endpoint = f"tcp://127.0.0.1:{port.number}"
        tokens = iter(range(1, 1_000_000))
        # The wrapper is a Store by all that the dispatcher can see.
        store: Any = self.store
        dispatcher = Dispatcher(
            store, Settings(epoch=1, timeout_ms=30_000, new_token=lambda: f"s{next(tokens)}"), clock()
        )
        self.loop = Loop(store, dispatcher, port, self.inbox)
        self._ready.set()
        try:
            self.loop.run()
        except BaseException as failure:
            self.failure = failure
        finally:
            port.close()
            with suppress(apsw.IOError):
                writer.close()

    def limit(self, **bounds: Any) -> None:
        """Bounds of a turn, by the names of Turns."""
        self.loop.turns = replace(self.loop.turns, **bounds)

    def stop(self) -> None:
        self.loop.stop()
        self.wait()

    def wait(self) -> None:
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()

    def submit(self, count: int = 1) -> list[JobId]:
        reply = self.inbox.call(Submit(tuple(JobSpec(name="a", command="true") for _ in range(count)), TEST))
        assert isinstance(reply, Made)
        return list(reply.ids)

    def submit_again(self) -> list[JobId]:
        """Submit after a failed turn: who came while it was given up has been refused with it."""
        while True:
            with suppress(StoreError):
                return self.submit()

    def turn(self) -> None:
        """Have a command refused: it is answered by a later turn than any answer before."""
        with pytest.raises(NotFoundError):
            self.inbox.call(Cancel(JobId(99_999), TEST))

    def states(self, job_id: JobId) -> list[str]:
        return [f"{run.status}/{run.reason}" if run.reason else str(run.status) for run in self.reader.runs(job_id, 99)]

    def until(self, true: Callable[[], bool]) -> None:
        """Wait for what another thread will do."""
        deadline = time.monotonic() + DEADLINE_S
        while not true():
            assert time.monotonic() < deadline
            threading.Event().wait(0.002)


class Dealer:
    """A worker's socket and nothing else."""

    def __init__(self, scheduler: Scheduler, name: str = "w1") -> None:
        self.name = name
        self.socket = scheduler.zmq.socket(zmq.DEALER)
        self.socket.connect(scheduler.endpoint)
        scheduler.sockets.append(self.socket)
        self.session = ""

    def say(self, *frames: WorkerFrame) -> None:
        for frame in frames:
            self.socket.send(protocol.pack(frame))

    def hears_nothing(self) -> bool:
        return not self.socket.poll(SILENCE_MS)

    def hear(self) -> SchedulerFrame:
        assert self.socket.poll(int(DEADLINE_S * 1000)), "nothing came"
        return protocol.unpack_from_scheduler(self.socket.recv())

    def introduce(self, slots: int = 4, incarnation: str = "i") -> None:
        self.say(
            Register(
                versions=protocol.VERSIONS,
                worker=self.name,
                incarnation=incarnation,
                boot_id="b",
                lock=(1, 2),
                slots=slots,
                heartbeat_ms=10_000,
            )
        )

    def enter(self, slots: int = 4) -> Dealer:
        """Register and be ready."""
        self.introduce(slots)
        answer = self.hear()
        assert isinstance(answer, Registered)
        self.session = answer.s
        self.say(Ready(s=self.session, window=10 * slots, ahead=0))
        return self

    def join(self, slots: int = 4) -> Dealer:
        """Register, and return when the scheduler knows that it is ready."""
        self.enter(slots)
        self.beat()
        return self

    def beat(self, seq: int = 0) -> None:
        self.say(Heartbeat(s=self.session, seq=seq, n=0, window=40, ahead=0))
        assert isinstance(self.hear(), HeartbeatAck)

    def take(self) -> list[int]:
        frame = self.hear()
        assert isinstance(frame, protocol.Dispatch)
        return [order.run for order in frame.runs]

    def result(self, run_id: int) -> Result:
        result = RunResult(run=run_id, status="success", reason="exit", exit_code=0, finished_ms=1)
        return Result(s=self.session, results=(result,))

    def close(self) -> None:
        self.socket.close(linger=0)


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Scheduler]:
    with Scheduler(tmp_path) as running:
        yield running
    assert running.failure is None


@pytest.fixture
def disk() -> Iterator[Disk]:
    with failing_disk() as disk:
        yield disk


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as pool:
        yield pool


def fail(error: Exception, *, times: int = 1) -> Callable[[], None]:
    """Something that raises a few times and then no more."""
    left = [error] * times

    def raise_one() -> None:
        if left:
            raise left.pop()

    return raise_one


# --- the plain way ---


def test_a_job_goes_to_a_worker_and_its_result_comes_back(scheduler: Scheduler) -> None:
    w1 = Dealer(scheduler).join()
    (job_id,) = scheduler.submit()
    (run_id,) = w1.take()
    w1.say(w1.result(run_id))
    assert w1.hear() == ResultAck(s=w1.session, ep=1, verdicts=((run_id, "stored"),))
    assert scheduler.states(job_id) == ["success/exit"]


def test_a_refused_command_is_raised_to_its_caller(scheduler: Scheduler) -> None:
    with pytest.raises(NotFoundError):
        scheduler.inbox.call(Cancel(JobId(99), TEST))


def test_command_on_a_job_that_the_turn_removes_gets_not_found(scheduler: Scheduler) -> None:
    (job_id,) = scheduler.submit()
    scheduler.inbox.call(Cancel(job_id, TEST))
    replies: list[object] = []

    def call(command: Command[JobState]) -> None:
        try:
            replies.append(scheduler.inbox.call(command))
        except NotFoundError as error:
            replies.append(error.code)

    def remove() -> None:
        del scheduler.store.before["release"]
        threads[1].start()
        scheduler.until(lambda: bool(scheduler.inbox))

    # The release waits in its turn until the removal is posted, which the same turn takes next.
    scheduler.store.before["release"] = remove
    threads = [threading.Thread(target=call, args=(act(job_id, TEST),)) for act in (Release, Delete)]
    threads[0].start()
    scheduler.until(lambda: len(replies) == 2)
    for thread in threads:
        thread.join()
    (removed,) = [reply.job.job_id for reply in replies if isinstance(reply, JobState)]
    assert (removed, "unknown_job" in replies) == (job_id, True)


def test_what_does_not_fit_into_one_turn_is_done_in_the_next(scheduler: Scheduler, pool: ThreadPoolExecutor) -> None:
    w1 = Dealer(scheduler).join()
    scheduler.limit(frames_max=1, commands_max=1, rows_max=1)
    w1.say(*(Heartbeat(s=w1.session, seq=seq, n=0, window=0, ahead=0) for seq in range(5)))
    answers = [pool.submit(scheduler.submit) for _ in range(5)]
    assert sorted(answer.result(DEADLINE_S)[0] for answer in answers) == [1, 2, 3, 4, 5]
    acked: list[int] = []
    while len(acked) < 5:
        frame = w1.hear()
        if isinstance(frame, HeartbeatAck):
            acked.append(frame.seq)
    assert acked == list(range(5))


def test_a_turn_that_has_changed_enough_leaves_what_has_come_to_later_ones(
    scheduler: Scheduler, pool: ThreadPoolExecutor
) -> None:
    scheduler.limit(rows_max=1)
    w1 = Dealer(scheduler).join()
    scheduler.store.hold_next_submit()
    answers = [pool.submit(scheduler.submit)]
    assert scheduler.store.at_gate.wait(DEADLINE_S)
    before, count, done = scheduler.store.commits, 60, list[str]()
    for verb in ("held_by", "submit"):
        scheduler.store.before[verb] = partial(done.append, verb)
    w1.say(Heartbeat(s=w1.session, seq=1, n=0, window=0, ahead=0))
    answers += [pool.submit(scheduler.submit) for _ in range(count)]
    deadline = time.monotonic() + DEADLINE_S
    while len(scheduler.inbox._posted) < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    scheduler.store.gate.set()
    assert sorted(answer.result(DEADLINE_S)[0] for answer in answers) == list(range(1, count + 2))
    assert scheduler.store.commits - before > count
    # Signs of life come first, so that no crowd of callers keeps them waiting.
    assert "held_by" in done[: count // 2]


# --- peers that talk nonsense ---


@pytest.mark.parametrize(
    "parts",
    [
        [b""],
        [b"hello"],
        [b"\xc1" * 100],
        [msgpack.packb({"t": "register"})],
        [msgpack.packb({"t": "no such thing", "s": ""})],
    ],
    ids=["empty", "text", "bytes", "half a frame", "unknown type"],
)
def test_garbage_is_answered_and_changes_nothing(scheduler: Scheduler, parts: list[bytes]) -> None:
    w1 = Dealer(scheduler).join()
    before = scheduler.reader.workers()
    stranger = Dealer(scheduler)
    stranger.socket.send_multipart(parts)
    error = stranger.hear()
    assert isinstance(error, Error)
    assert (error.code, error.fatal) == ("E_BAD", False)
    # Once a second is enough.
    stranger.socket.send_multipart(parts)
    assert stranger.hears_nothing()
    assert [worker.worker_id for worker in scheduler.reader.workers()] == [worker.worker_id for worker in before]
    w1.beat()


@pytest.mark.parametrize(
    "parts",
    [
        [b"a", b"b"],
        [msgpack.packb({"t": "ready", "v": 1, "s": "s1", "window": 1, "ahead": 0}), b""],
        [b""] * 100,
    ],
    ids=["two parts", "a frame and a part", "many parts"],
)
def test_message_of_several_parts_costs_only_its_sender_the_connection(
    scheduler: Scheduler, parts: list[bytes]
) -> None:
    w1 = Dealer(scheduler).join()
    stranger = Dealer(scheduler)
    with closing(stranger.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)) as cut:
        stranger.socket.send_multipart(parts)
        assert cut.poll(int(DEADLINE_S * 1000))
        stranger.socket.disable_monitor()
    w1.beat()
    assert [worker.worker_id for worker in scheduler.reader.workers()] == ["w1"]


def test_frame_too_large_costs_only_its_sender_the_connection(scheduler: Scheduler) -> None:
    w1 = Dealer(scheduler).join()
    stranger = Dealer(scheduler)
    with closing(stranger.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)) as cut:
        stranger.socket.send(b"x" * (FRAME_FROM_WORKER_BYTES_MAX + 1))
        assert cut.poll(int(DEADLINE_S * 1000))
        stranger.socket.disable_monitor()
    assert stranger.hears_nothing()
    w1.beat()
    scheduler.submit()
    assert len(w1.take()) == 1


@pytest.mark.parametrize(
    "parts",
    [
        [msgpack.packb({"t": "result", "s": "s1", "results": [{"run": run} for run in range(1_000)]})],
        [msgpack.packb({"t": "ready", "s": "s1", "x": msgpack.ExtType(5, b"x" * 1_000)})],
    ],
    ids=["half a frame", "extension"],
)
def test_invalid_frame_leaves_only_its_error_waiting_for_the_turn(scheduler: Scheduler, parts: list[bytes]) -> None:
    waiting: list[object] = []
    scheduler.store.before["begin"] = lambda: waiting.extend(waits.frame for waits in scheduler.loop._frames)
    stranger = Dealer(scheduler)
    stranger.socket.send_multipart(parts)
    answer = stranger.hear()
    (error,) = waiting
    assert isinstance(answer, Error)
    assert isinstance(error, protocol.ProtocolError)
    assert error.args == (answer.detail,)
    # By each of these it would hold what had been read of the frame.
    assert (error.__traceback__, error.__context__, error.__cause__) == (None, None, None)


def test_frames_that_wait_for_their_turn_are_bounded_by_what_they_cost(scheduler: Scheduler) -> None:
    """A turn that can't handle all that has come reads no more than the next can."""
    scheduler.limit(entries_max=100)
    w1 = Dealer(scheduler).join()
    waiting: list[int] = []
    scheduler.store.before["begin"] = lambda: waiting.append(scheduler.loop._frames.entries)
    results = tuple(one for run in range(1, 61) for one in w1.result(run).results)
    # While a turn is under way, more comes than the next may take.
    scheduler.store.hold_next_submit()
    caller = threading.Thread(target=scheduler.submit)
    caller.start()
    assert scheduler.store.at_gate.wait(DEADLINE_S)
    w1.say(*[Result(s=w1.session, results=results)] * 50)
    scheduler.store.gate.set()
    caller.join(DEADLINE_S)
    acks = 0
    while acks < 50:
        acks += isinstance(w1.hear(), ResultAck)
    assert 60 <= max(waiting) <= 160
    frames = scheduler.loop._frames
    assert frames.entries == frames.bytes == len(frames) == 0


def test_runs_that_frames_make_a_turn_read_are_bounded(scheduler: Scheduler, pool: ThreadPoolExecutor) -> None:
    """A heartbeat of 50 bytes makes the store read all that its worker holds."""
    scheduler.limit(held_max=10)
    w1 = Dealer(scheduler).join()
    scheduler.submit(4)
    assert len(w1.take()) == 4
    read: list[int] = []
    scheduler.store.hold_next_submit()
    answer = pool.submit(scheduler.submit)
    assert scheduler.store.at_gate.wait(DEADLINE_S)
    for seq in range(1, 31):
        w1.say(Heartbeat(s=w1.session, seq=seq, n=0, window=4, ahead=0))
    scheduler.store.before["commit"] = lambda: read.append(scheduler.store.held_read)
    scheduler.store.gate.set()
    answer.result(DEADLINE_S)
    for seq in range(1, 31):
        ack = w1.hear()
        assert isinstance(ack, HeartbeatAck)
        assert ack.seq == seq
    assert sum(read) == 30 * 4
    assert max(read) < 10 + 4


@pytest.mark.slow
def test_a_peer_that_talks_faster_than_it_is_listened_to_has_to_wait() -> None:
    frame, sent, most = bytes(FRAME_FROM_WORKER_BYTES_MAX // 2), 0, 50
    with zmq.Context() as context, closing(Port(context, "127.0.0.1", 0)) as port, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.SNDHWM, 1)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(f"tcp://127.0.0.1:{port.number}")
        # TCP itself pauses for some 100 ms now and then.
        while sent < most and dealer.poll(PAUSE_MS, zmq.POLLOUT):
            dealer.send(frame)
            sent += 1
        # Those that the router holds unread, and what the kernel takes on the way.
        assert 0 < sent < most
        for _ in range(sent):
            assert port.sockets[0].poll(int(DEADLINE_S * 1000))
            arrived = port.receive()
            assert arrived is not None
            assert arrived.parts == [frame]


# --- first the commit, then the word ---


def test_frames_and_answers_are_sent_after_the_commit_only(scheduler: Scheduler, pool: ThreadPoolExecutor) -> None:
    w1 = Dealer(scheduler).join()
    scheduler.store.hold_next_submit()
    answer = pool.submit(scheduler.submit)
    assert scheduler.store.at_gate.wait(DEADLINE_S)
    assert w1.hears_nothing()
    assert not answer.done()
    assert list(scheduler.reader.jobs(None, 10, 0)) == []
    scheduler.store.gate.set()
    (job_id,) = answer.result(DEADLINE_S)
    assert len(w1.take()) == 1
    assert scheduler.states(job_id) == ["running"]


def test_callers_that_come_together_share_few_commits(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    count = 48
    with Scheduler(tmp_path, callers_max=count) as scheduler:
        together = threading.Barrier(count)
        for mark in range(count):
            scheduler.inbox.expect(mark)

        def caller(mark: int) -> list[JobId]:
            together.wait(DEADLINE_S)
            with scheduler.inbox.serving(mark):
                return scheduler.submit()

        before = scheduler.store.commits
        answers = [pool.submit(caller, mark) for mark in range(count)]
        job_ids = [answer.result(DEADLINE_S)[0] for answer in answers]
        assert sorted(job_ids) == list(range(1, count + 1))
        assert scheduler.store.commits - before < count // 4


def test_turn_waits_for_a_caller_on_its_way(
    scheduler: Scheduler, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zsched.scheduler.inbox.GATHER_S", DEADLINE_S)
    w1 = Dealer(scheduler).join()

    def caller(mark: str) -> list[JobId]:
        with scheduler.inbox.serving(mark):
            return scheduler.submit()

    for mark in ("first", "second"):
        scheduler.inbox.expect(mark)
    first = pool.submit(caller, "first")
    assert w1.hears_nothing()
    assert not first.done()
    second = pool.submit(caller, "second")
    jobs = [scheduler.reader.job(answer.result(DEADLINE_S)[0]) for answer in (first, second)]
    # One turn has one time.
    assert len({job.created_ms for job in jobs if job is not None}) == 1


def test_single_caller_does_not_wait(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zsched.scheduler.inbox.GATHER_S", DEADLINE_S)
    scheduler.inbox.expect("mine")
    began = time.monotonic()
    with scheduler.inbox.serving("mine"):
        scheduler.submit()
    assert time.monotonic() - began < DEADLINE_S / 2


# --- a store that fails ---


def test_turn_that_cannot_be_stored_has_no_effect_and_the_loop_goes_on(disk: Disk, tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler:
        w1 = Dealer(scheduler).join()
        disk.fails = {("write", "-wal"): apsw.SQLITE_FULL}
        for _ in range(3):
            with pytest.raises(StoreError):
                scheduler.submit()
        # It asks for nothing to be stored.
        w1.beat(seq=1)
        assert list(scheduler.reader.jobs(None, 10, 0)) == []
        disk.fails = {}
        w1.beat(seq=2)
        (job_id,) = scheduler.submit_again()
        assert len(w1.take()) == 1
        assert scheduler.states(job_id) == ["running"]
    assert scheduler.failure is None


def test_a_heartbeat_is_acked_though_its_turn_fails(disk: Disk, tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler:
        w1 = Dealer(scheduler).join()
        scheduler.submit()
        (run_id,) = w1.take()
        disk.fails = {("write", "-wal"): apsw.SQLITE_FULL}
        # Each result makes its turn fail, and most turns take in several frames.
        for seq in range(50):
            beat = Heartbeat(s=w1.session, seq=seq, n=0, window=40, ahead=0)
            w1.say(w1.result(run_id), beat)
        acked = set[int]()
        while len(acked) < 50:
            ack = w1.hear()
            assert isinstance(ack, HeartbeatAck)
            acked.add(ack.seq)
        disk.fails = {}
        w1.say(w1.result(run_id))
        assert isinstance(w1.hear(), ResultAck)
    assert scheduler.failure is None


@pytest.mark.slow
def test_heartbeats_are_acked_while_another_program_locks_the_database(tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler:
        w1 = Dealer(scheduler).join()
        with closing(apsw.Connection(str(scheduler.path))) as other:
            other.execute("BEGIN IMMEDIATE")
            w1.beat(seq=1)
            other.execute("ROLLBACK")
        (job_id,) = scheduler.submit_again()
        assert len(w1.take()) == 1
        assert scheduler.states(job_id) == ["running"]
    assert scheduler.failure is None


def test_full_disk_is_logged_in_two_lines_though_a_turn_changes_nothing(
    disk: Disk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="zsched.scheduler.loop")
    with Scheduler(tmp_path) as scheduler:
        scheduler.submit()
        disk.fails = {("write", "-wal"): apsw.SQLITE_FULL}
        for _ in range(5):
            with pytest.raises(StoreError):
                scheduler.submit()
            scheduler.turn()
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        disk.fails = {}
        scheduler.submit_again()
    first, last = (record.getMessage() for record in caplog.records)
    assert first.startswith("a turn could not be stored: ")
    assert last.startswith("turns are stored again, after ")


def test_result_that_could_not_be_stored_is_not_acked_and_counts_later(disk: Disk, tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler:
        w1 = Dealer(scheduler).join()
        (job_id,) = scheduler.submit()
        (run_id,) = w1.take()
        disk.fails = {("write", "-wal"): apsw.SQLITE_IOERR_WRITE}
        w1.say(w1.result(run_id))
        assert w1.hears_nothing()
        disk.fails = {}
        w1.say(w1.result(run_id))
        assert w1.hear() == ResultAck(s=w1.session, ep=1, verdicts=((run_id, "stored"),))
        assert scheduler.states(job_id) == ["success/exit"]


def test_turn_that_fails_answers_each_of_its_callers(scheduler: Scheduler, pool: ThreadPoolExecutor) -> None:
    scheduler.store.hold_next_submit(StoreError("no space"))
    answers: list[Future[list[JobId]]] = [pool.submit(scheduler.submit) for _ in range(5)]
    assert scheduler.store.at_gate.wait(DEADLINE_S)
    scheduler.store.gate.set()
    told = [answer.exception(DEADLINE_S) for answer in answers]
    # The loop may have taken only some of them into the failing turn.
    assert any(isinstance(error, StoreError) for error in told)
    stored = [answer.result()[0] for answer, error in zip(answers, told, strict=True) if error is None]
    assert [job.job_id for job in scheduler.reader.jobs(None, 10, 0)] == sorted(stored, reverse=True)


def test_a_store_that_fails_in_the_middle_of_a_command_tells_its_caller(scheduler: Scheduler) -> None:
    scheduler.store.before["submit"] = fail(StoreError("no space"))
    with pytest.raises(StoreError, match="no space"):
        scheduler.submit()
    assert scheduler.submit_again() == [1]


def test_a_failed_sync_ends_the_loop(disk: Disk, tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler:
        w1 = Dealer(scheduler).join()
        scheduler.submit()
        (run_id,) = w1.take()
        disk.fails = {("sync", "-wal"): apsw.SQLITE_IOERR_FSYNC}
        w1.say(w1.result(run_id))
        scheduler.wait()
        disk.fails = {}
        assert w1.hears_nothing()
    assert isinstance(scheduler.failure, StoreUnsure)


def test_callers_of_a_turn_that_may_be_stored_learn_that_it_is_unknown(tmp_path: Path) -> None:
    """At once, and not that another scheduler may do it again."""
    with Scheduler(tmp_path) as scheduler:
        store = scheduler.store
        # Not before: a turn may come at any moment.
        store.before["submit"] = lambda: store.before.update(commit=fail(StoreUnsure("the commit has no answer")))
        begin = time.monotonic()
        with pytest.raises(TimeoutError):
            scheduler.submit()
        assert time.monotonic() - begin < COMMAND_WAIT_S / 2
        scheduler.wait()
        with pytest.raises(ClosedError):
            scheduler.submit()


@pytest.mark.slow
def test_loop_ends_when_it_can_not_read_for_long_whether_it_still_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "UNCONFIRMED_MS", PAUSE_MS)
    with Scheduler(tmp_path) as scheduler:
        # It can be read, as on a full disk.
        scheduler.store.before["begin"] = fail(StoreFull("no space"), times=1_000_000)
        end = time.monotonic() + 2 * PAUSE_MS / 1000
        while time.monotonic() < end:
            with pytest.raises(StoreFull):
                scheduler.submit()
        scheduler.store.before["confirm_epoch"] = fail(StoreError("no connection"), times=1_000_000)
        scheduler.wait()
        with pytest.raises(StandbyError):
            scheduler.submit()
    assert isinstance(scheduler.failure, StoreDeposed)


def test_a_damaged_file_ends_the_loop(tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler:
        w1 = Dealer(scheduler).join()
        scheduler.store.before["held_by"] = fail(StoreCorrupt("malformed"))
        w1.say(Heartbeat(s=w1.session, seq=1, n=0, window=40, ahead=0))
        scheduler.wait()
    assert isinstance(scheduler.failure, StoreCorrupt)


def test_a_bug_in_one_frame_undoes_that_frame_alone(scheduler: Scheduler) -> None:
    w1 = Dealer(scheduler).join()
    (job_id,) = scheduler.submit()
    (run_id,) = w1.take()
    scheduler.store.before["finish_many"] = fail(ValueError("a bug of ours"))
    w1.say(w1.result(run_id))
    w1.beat()
    assert scheduler.states(job_id) == ["running"]
    w1.say(w1.result(run_id))
    assert isinstance(w1.hear(), ResultAck)


def test_bug_in_a_command_is_reported_to_its_caller_alone(scheduler: Scheduler) -> None:
    scheduler.store.before["submit"] = fail(ValueError("a bug of ours"))
    with pytest.raises(ValueError, match="a bug of ours"):
        scheduler.submit()
    assert scheduler.submit() == [1]


def constrain(scheduler: Scheduler, table: str, change: str, condition: str) -> None:
    """Add a constraint to the schema that our own rows break."""
    with closing(apsw.Connection(str(scheduler.path))) as connection:
        connection.set_busy_timeout(int(DEADLINE_S * 1000))
        connection.execute(
            f"CREATE TRIGGER broken BEFORE {change} ON {table} WHEN {condition}"
            " BEGIN SELECT RAISE(ABORT, 'a constraint'); END"
        )


def test_frame_that_breaks_a_constraint_undoes_that_frame_alone(scheduler: Scheduler, pool: ThreadPoolExecutor) -> None:
    w1 = Dealer(scheduler).join()
    bad, good = scheduler.submit(2)
    bad_run, good_run = w1.take()
    constrain(scheduler, "runs", "UPDATE", f"NEW.run_id = {bad_run} AND NEW.status = 'success'")
    # Both come into the turn after this one.
    scheduler.store.hold_next_submit()
    held = pool.submit(scheduler.submit)
    assert scheduler.store.at_gate.wait(DEADLINE_S)
    w1.say(w1.result(good_run), w1.result(bad_run))
    scheduler.store.gate.set()
    assert held.result(DEADLINE_S)
    acked = w1.hear()
    while not isinstance(acked, ResultAck):
        acked = w1.hear()
    assert (scheduler.states(good), scheduler.states(bad)) == (["success/exit"], ["running"])


def test_command_that_breaks_a_constraint_fails_for_its_caller_alone(
    scheduler: Scheduler, pool: ThreadPoolExecutor
) -> None:
    constrain(scheduler, "jobs", "INSERT", "NEW.name = 'bad'")
    scheduler.store.hold_next_submit()
    held = pool.submit(scheduler.submit)
    assert scheduler.store.at_gate.wait(DEADLINE_S)
    bad = pool.submit(scheduler.inbox.call, Submit((JobSpec(name="bad", command="true"),), TEST))
    others = [pool.submit(scheduler.submit) for _ in range(5)]
    calls: list[Future[Any]] = [bad, *others]
    scheduler.until(lambda: bool(scheduler.inbox) and all(call.running() for call in calls))
    scheduler.store.gate.set()
    with pytest.raises(StoreConstraint, match="a constraint"):
        bad.result(DEADLINE_S)
    assert sorted(job for caller in (held, *others) for job in caller.result(DEADLINE_S)) == [1, 2, 3, 4, 5, 6]


def test_frames_of_a_command_that_is_undone_are_not_sent(scheduler: Scheduler) -> None:
    w1 = Dealer(scheduler).join()
    first, last = scheduler.submit(2)
    assert len(w1.take()) == 2
    constrain(scheduler, "jobs", "UPDATE", f"NEW.job_id = {last} AND NEW.cancel_ms IS NOT NULL")
    both = Selection(parse([f"{first}-{last}"], 2), None)
    with pytest.raises(StoreConstraint, match="a constraint"):
        scheduler.inbox.call(Bulk(Action.CANCEL, both, TEST, JobId(0)))
    assert w1.hears_nothing()
    assert (scheduler.states(first), scheduler.states(last)) == (["running"], ["running"])


def test_register_that_is_undone_leaves_the_session_before(scheduler: Scheduler) -> None:
    """Else the next register would not show that the earlier start has died."""
    w1 = Dealer(scheduler).join()
    scheduler.store.before["adopt"] = fail(StoreConstraint("a constraint"))
    again = Dealer(scheduler)
    again.introduce(incarnation="later")
    assert again.hears_nothing()
    w1.beat()


def test_a_bug_in_the_middle_of_a_command_undoes_all_of_it(scheduler: Scheduler) -> None:
    cron = JobSpec(name="a", command="true", schedule="0 0 1 1 *", run_now=True)
    reply = scheduler.inbox.call(Submit((cron,), TEST))
    assert isinstance(reply, Made)
    scheduler.store.before["cancel"] = fail(ValueError("a bug of ours"))
    with pytest.raises(ValueError, match="a bug of ours"):
        scheduler.inbox.call(EndSchedule(reply.ids[0], TEST, cancel=True))
    job = scheduler.reader.job(reply.ids[0])
    assert job is not None
    assert job.ended_ms is None


# --- workers that are gone ---


def submit_until_undelivered(scheduler: Scheduler) -> JobId:
    """Submit until a run could not be sent: the ROUTER may take a moment to see that the connection is gone."""
    for _ in range(500):
        (job_id,) = scheduler.submit()
        scheduler.turn()  # which tells of what could not be sent
        if scheduler.states(job_id) == ["pending/undelivered"]:
            return job_id
    raise AssertionError("every frame was taken")


def test_a_run_that_can_not_be_sent_is_pending_again_and_goes_to_another(scheduler: Scheduler) -> None:
    w1 = Dealer(scheduler).join(slots=1_000)
    w1.close()
    job_id = submit_until_undelivered(scheduler)
    w2 = Dealer(scheduler, "w2").enter()
    (run_id, *_) = w2.take()
    run = scheduler.reader.run(run_id)  # type: ignore[arg-type]
    assert run is not None
    assert (run.job_id, run.attempt, run.status) == (job_id, 1, RunStatus.RUNNING)


def test_run_that_cannot_be_sent_is_not_forgotten_when_the_next_turn_fails(scheduler: Scheduler) -> None:
    w1 = Dealer(scheduler).join(slots=1_000)
    w1.close()

    def spoil() -> None:
        """The turn that puts the run back can't be stored."""
        del scheduler.store.before["requeue_unstarted"]
        scheduler.store.before["commit"] = fail(StoreError("no space"))

    scheduler.store.before["requeue_unstarted"] = spoil
    while "requeue_unstarted" in scheduler.store.before:
        try:
            (job_id,) = scheduler.submit()
        except StoreError:
            break
    scheduler.until(lambda: scheduler.states(job_id) == ["pending/undelivered"])


# --- the end ---


def test_a_stopping_scheduler_says_goodbye_and_takes_no_more_commands(scheduler: Scheduler) -> None:
    w1 = Dealer(scheduler).join()
    w2 = Dealer(scheduler, "w2").join()
    (job_id,) = scheduler.submit()
    scheduler.stop()
    goodbyes = [frame for worker in (w1, w2) for frame in _rest(worker) if isinstance(frame, SchedulerBye)]
    assert {bye.s for bye in goodbyes} == {w1.session, w2.session}
    with pytest.raises(ClosedError):
        scheduler.submit()
    assert scheduler.states(job_id) == ["running"]


def _rest(worker: Dealer) -> Iterator[SchedulerFrame]:
    """All that comes until goodbye."""
    while not isinstance(frame := worker.hear(), SchedulerBye):
        yield frame
    yield frame


def test_commands_posted_before_the_stop_are_still_done(scheduler: Scheduler, pool: ThreadPoolExecutor) -> None:
    scheduler.store.hold_next_submit()
    first = pool.submit(scheduler.submit)
    assert scheduler.store.at_gate.wait(DEADLINE_S)
    later = [pool.submit(scheduler.submit) for _ in range(3)]
    scheduler.until(lambda: len(scheduler.inbox._posted) == 3)
    scheduler.loop.stop()
    scheduler.store.gate.set()
    answers: list[Future[list[JobId]]] = [first, *later]
    assert sorted(answer.result(DEADLINE_S)[0] for answer in answers) == [1, 2, 3, 4]
    scheduler.wait()
