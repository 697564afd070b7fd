"""The scheduler's process: the real loop's turn over the real dispatcher and SQLite, a ROUTER and callers that are
simulated. It can be killed at any point of a turn, stand still, and have a store that refuses.

The database lies in memory and outlives the process. A crash rolls back what was not committed and throws the loop, the
dispatcher and the writer away: what SQLite keeps then is what it keeps on a disk, and power cuts are tested elsewhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Literal, cast

import apsw

from tests.sim.network import Path, Router
from tests.sim.standbys import Former, Session
from tests.sim.story import Story
from tests.sim.timeline import Alarm, Clock, Timeline
from tests.sim.violation import Violation
from zsched.model.limits import JUDGE_MAX, LEASE_MARGIN_MS
from zsched.protocol import Dispatch
from zsched.scheduler.dispatcher import Dispatcher, Settings
from zsched.scheduler.dispatcher.commands import Command, RefusedError
from zsched.scheduler.dispatcher.retention import KEEP_ALL, Keep
from zsched.scheduler.epoch import begin_epoch
from zsched.scheduler.inbox import ClosedError, Inbox, StandbyError
from zsched.scheduler.loop import Loop, Turns
from zsched.store.contract import Claimed, Restoration, StoreDeposed, StoreError, StoreFull, StoreUnsure
from zsched.store.sqlite.engine import SqliteEngine
from zsched.store.writer import Writer

# How long runs of a database may go on beside its successor, by the longest timeout that a seed may have.
_PATIENCE_MS = 15_000 + LEASE_MARGIN_MS

# After so long a caller takes no answer for one.
CALL_TIMEOUT_MS = 6_000

# How long a commit may take while the store is slow.
SLOW_COMMIT_MS = 1_900

Trouble = Literal["refuse", "refuse a statement", "unsure", "kill", "kill after commit", "kill while sending"]
# What the store waits for, to refuse the turn that hears of it: runs that come back, or some that could not be sent.
Ambush = Literal["return", "unsent"]


class Killed(BaseException):
    """kill -9 in the middle of a turn."""


class FaultyEngine(SqliteEngine):
    """SQLite in memory with faults. `trouble` is what the next turn meets; `refusing` makes turns fail as a full disk
    does: half of them whatever they do, and the others when they change something; `flapping` every other one.
    """

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self.trouble: Trouble | None = None
        self.refusing = False
        self.flapping = False
        self._turns = 0
        self.in_turn = False
        # Turns that were given up.
        self.failed_turns = 0
        self._changes_before = 0
        self._countdown: int | None = None
        # Some schedulers read ahead, as on a database elsewhere. Not more: then they look at runs before a statement's
        # guard does, and notice fewer of those that are missing.
        self._distant = chance.random() < 0.25
        # The runs that were written since the last look, and more: rollbacks take some of them back.
        self._written: set[int] = set()
        # What was read since the last change.
        self._seen: dict[tuple[str, tuple[object, ...]], list[tuple[Any, ...]]] = {}
        self._seen_changes = -1
        super().__init__(":memory:")
        self._connection.set_update_hook(self._note_write)

    def _note_write(self, _kind: int, _database: str, table: str, row: int) -> None:
        if table == "runs":
            self._written.add(row)

    def take_written(self) -> set[int]:
        """The runs that may have changed since the last call."""
        written = self._written
        # What a turn under way has written may be rolled back.
        self._written = set(written) if self.in_turn else set()
        return written

    def forget(self) -> None:
        """Other content was put in the place of all."""
        self._seen.clear()

    @property
    def distant(self) -> bool:
        return self._distant

    def begin(self) -> None:
        super().begin()
        self.in_turn = True
        self._changes_before = self.changes()
        self._turns += 1
        if self.flapping and self._turns % 2 and self.trouble is None:
            self.trouble = "refuse"
        if self.refusing and self._chance.random() < 0.5:
            self.trouble = "refuse a statement"
        if self.trouble in ("refuse a statement", "kill"):
            self._countdown = self._chance.randint(0, 15)

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        self._count_down()
        return super().execute(statement, parameters)

    def executemany(self, statement: str, parameters: Iterable[Sequence[object]]) -> list[tuple[Any, ...]]:
        self._count_down()
        return super().executemany(statement, parameters)

    def commit(self) -> None:
        trouble, self.trouble, self._countdown = self.trouble, None, None
        full = self.refusing and self.changes() != self._changes_before
        if trouble in ("refuse", "refuse a statement") or full:
            self.failed_turns += 1
            self.rollback()
            raise StoreFull("no space is left")
        if trouble == "kill" or (trouble == "unsure" and self._chance.random() < 0.5):
            self.rollback()
        else:
            super().commit()
            self.in_turn = False
        if trouble == "unsure":
            raise StoreUnsure("the sync failed")
        if trouble in ("kill", "kill after commit"):
            raise Killed

    def rollback(self) -> None:
        super().rollback()
        self.in_turn = False

    def _count_down(self) -> None:
        if self._countdown is None:
            return
        self._countdown -= 1
        if self._countdown >= 0:
            return
        trouble, self._countdown = self.trouble, None
        if trouble == "kill":
            raise Killed
        self.failed_turns += 1
        # SQLite gives some statements up alone, and with others the whole transaction.
        if self._chance.random() < 0.5:
            super().rollback()
        # The loop gives this turn up; the next one may be well.
        self.trouble = None
        raise StoreFull("no space is left")

    def look(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Read without a fault. What a turn under way has written may be rolled back, so it is not kept."""
        if self.in_turn:
            return self._connection.execute(statement, cast("Any", parameters)).fetchall()
        if (changes := self.changes()) != self._seen_changes:
            self._seen.clear()
            self._seen_changes = changes
        if (found := self._seen.get((statement, parameters))) is None:
            found = self._connection.execute(statement, cast("Any", parameters)).fetchall()
            self._seen[statement, parameters] = found
        return found.copy()


@dataclass(frozen=True, slots=True)
class Done:
    reply: object


@dataclass(frozen=True, slots=True)
class Refused:
    error: RefusedError


@dataclass(frozen=True, slots=True)
class Undone:
    """Surely nothing has happened: nobody was there, or the store refused the turn."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """No answer came: it may have happened, and it may still happen."""


Answer = Done | Refused | Undone | Unknown
OnAnswer = Callable[[Answer], None]


class Mailbox:
    """The loop's inbox as the loop uses it: part of inbox.Inbox."""

    descriptor = -1

    def __init__(self) -> None:
        self._posted: deque[tuple[Command[Any], Future[Any]]] = deque()

    def post(self, command: Command[Any], future: Future[Any]) -> None:
        self._posted.append((command, future))

    def gather(self) -> None:
        """Nobody else is on the way: all that has arrived has posted."""

    def take(self, most: int) -> Iterator[tuple[Command[Any], Future[Any]]]:
        for _ in range(most):
            if not self._posted:
                return
            yield self._posted.popleft()

    def refuse(self, error: type[Exception] = ClosedError) -> None:
        for _, future in self.take(len(self._posted)):
            future.set_exception(error())

    def __bool__(self) -> bool:
        return bool(self._posted)


@dataclass(slots=True)
class Habits:
    """How this seed's scheduler is set up. `commit_ms` bounds how long a turn takes. `places`: the addresses in the
    lists of workers. One of them is active at a time, and another one at the next start. `keep`: how long ended jobs
    are kept. `turn_tasks_max`, `judge_max`: as of Settings.
    """

    timeout_ms: int
    turn_frames_max: int
    turn_rows_max: int
    frames_queued_max: int
    commit_ms: int = 2
    places: int = 1
    keep: Keep = KEEP_ALL
    judge_max: int = JUDGE_MAX
    turn_tasks_max: int = 1_000


class Scheduler:
    """The process, when `up`. `after_turn` is called after each turn, committed or not."""

    def __init__(self, timeline: Timeline, chance: Random, story: Story, habits: Habits) -> None:
        self.engine = FaultyEngine(chance)
        self.clock = Clock(timeline, chance.randint(0, 10**9))
        self.engine.migrate(self.clock.now().wall_ms)
        self.habits = habits
        self.up = False
        self.session: Session | None = None
        # Whether its last turn was.
        self.stored = False
        self._failed_before = 0
        # Another database is in the place of the first, and no caller finds it.
        self.away = False
        # Somebody is about to restore a backup, and starts no scheduler.
        self.restoring = False
        self.after_turn: Callable[[], None] = lambda: None
        self.before_send: Callable[[Any, bytes], None] = lambda connection, body: None
        self.on_arrival: Callable[[bytes, bytes], None] = lambda peer, body: None
        self.on_call: Callable[[Command[Any]], None] = lambda command: None
        # Moments on the timeline: the last start, and each time it stood still, from and to.
        self.started_ms = 0
        self.still: list[tuple[int, int]] = []
        # When its commits were last slow, when a turn last failed, and when an ambush last made one fail.
        self.slow_ms = self.failed_ms = self.ambushed_ms = -(10**9)
        self.kill_at_send: int | None = None
        self.ambushes: set[Ambush] = set()
        # The address at which it is active.
        self.place = 0
        # The share of REST's answers that are lost on the way.
        self.answers_lost = 0.0
        # How many answers that hand out a run will be lost.
        self.claims_lost = 0
        # Whether standbys share the store; the processes that were replaced and do not know it.
        self.shared = False
        self.formers: list[Former] = []
        self.on_replaced: Callable[[Former], None] = lambda former: None
        self.on_former_send: Callable[[Former, Any, bytes], None] = lambda former, connection, body: None
        self.on_former_arrival: Callable[[Former, bytes, bytes], None] = lambda former, peer, body: None
        # Decides where the next scheduler is, and which of all a caller asks: apart, so that a seed's other decisions
        # don't hang on it.
        self._whim = Random(repr(chance.getstate()) + "callers")
        # What a future's callback found: it can't raise.
        self.broken: str | None = None
        self._timeline = timeline
        self._chance = chance
        self._story = story
        self._alarm = Alarm(timeline, self.turn)
        self._awake_ms = 0
        self._tokens = 0
        self._waiting: dict[Future[Any], OnAnswer] = {}

    # --- its life ---

    def start(self) -> None:
        """Start it, unless it is there; again and again until the store lets it."""
        if self.up or self.restoring:
            return
        if not self._begin(self.clock):
            self._timeline.after(500, self.start)

    def _begin(self, clock: Clock) -> bool:
        """A process takes the store, and is up. False: the store does not let it."""
        now = clock.now()
        session = Session(self.engine) if self.shared else None
        store = Writer(session or self.engine)
        try:
            epoch = begin_epoch(store, now.wall_ms)
        except (StoreError, Killed):
            self._story.tell("scheduler", "can't start")
            self.engine.rollback()
            return False
        self._replace(clock)
        self.session = session
        self.up = True
        self.started_ms = self._awake_ms = self._timeline.now_ms
        self._mailbox = Mailbox()
        self.router = Router(self.habits.frames_queued_max, self._on_arrival)
        self.router.before_send = self._before_send
        self.dispatcher = Dispatcher(
            store,
            Settings(
                epoch=epoch,
                timeout_ms=self.habits.timeout_ms,
                new_token=self._new_token,
                keep=KEEP_ALL if self.away else self.habits.keep,
                judge_max=self.habits.judge_max,
                turn_tasks_max=self.habits.turn_tasks_max,
            ),
            now,
        )
        habits = self.habits
        turns = Turns(self.clock.now, frames_max=habits.turn_frames_max, rows_max=habits.turn_rows_max)
        self._loop = Loop(store, self.dispatcher, self.router, cast("Inbox", self._mailbox), turns=turns)
        self._story.tell("scheduler", "starts, epoch %d", epoch)
        self._alarm.set(self._timeline.now_ms)
        return True

    def back_up(self) -> apsw.Connection:
        """A copy of what is committed."""
        assert not self.engine.in_turn
        copy = apsw.Connection(":memory:")
        with copy.backup("main", self.engine._connection, "main") as steps:
            steps.step()
        return copy

    def restore(self, copy: apsw.Connection, identity: str) -> None:
        """What `zsched db restore` makes of a backup. Nobody runs."""
        assert not self.up
        now_ms = self.clock.now().wall_ms
        with self.engine._connection.backup("main", copy, "main") as steps:
            steps.step()
        faults = self.engine.refusing, self.engine.flapping
        self.engine.refusing = self.engine.flapping = False
        self.engine.trouble = None
        store = Writer(self.engine)
        store.begin()
        lost = store.succeed(identity, Restoration(now_ms=now_ms, lease_ms=_PATIENCE_MS))
        store.flush_counters(now_ms)
        store.commit()
        self.engine.refusing, self.engine.flapping = faults
        self.engine.forget()
        self._story.tell("scheduler", "is restored from a backup, %d runs are lost", lost)

    def kill(self, why: str = "killed") -> None:
        if not self.up:
            return
        self._story.tell("scheduler", "is gone: %s", why)
        self.up = False
        self.engine.rollback()
        self.engine.trouble = None
        self.kill_at_send = None
        self.go_on()
        self.router.close()
        for on_answer in self._waiting.values():
            self._timeline.after(self._chance.randint(0, 5), lambda tell=on_answer: tell(Unknown()))  # type: ignore[misc]
        self._waiting.clear()

    def take_over(self, clock: Clock) -> None:
        """A standby on another host leads from now on, or as soon as the store lets it. The process that led, if it
        lives, does not know it yet.
        """
        if not self._begin(clock):
            self._timeline.after(500, lambda: self.take_over(clock))

    def _replace(self, clock: Clock) -> None:
        """Another process leads from now on, on the host of this clock; at another place if the one before lives."""
        places = self.habits.places
        self.place += self._whim.randrange(1 if self.up and places > 1 else 0, places)
        self.place %= places
        if self.up:
            now_ms = self._timeline.now_ms
            awake_ms, self._awake_ms = self._awake_ms, now_ms
            if self.still:
                self.still[-1] = self.still[-1][0], min(self.still[-1][1], now_ms)
            former = Former(self, self._timeline, awake_ms)
            self.formers.append(former)
            self.on_replaced(former)
            self._waiting = {}
            self._alarm = Alarm(self._timeline, self.turn)
        self.clock = clock

    def stop(self) -> None:
        """A clean end, as by SIGTERM."""
        if not self.up:
            return
        self._take_turn(last=True)
        self.after_turn()
        if self.up:
            self.kill("ended cleanly")

    def stand_still(self, gap_ms: int) -> None:
        """SIGSTOP, or a host that is suspended."""
        if not self.up:
            return
        self._story.tell("scheduler", "stands still for %d ms", gap_ms)
        now_ms = self._timeline.now_ms
        self._awake_ms = max(self._awake_ms, now_ms + gap_ms)
        if self.still and now_ms < self.still[-1][1]:
            now_ms = self.still.pop()[0]
        self.still.append((now_ms, self._awake_ms))

    @property
    def stands_still(self) -> bool:
        return bool(self.still) and self._timeline.now_ms < self.still[-1][1]

    def go_on(self) -> None:
        """SIGCONT."""
        now_ms = self._timeline.now_ms
        self._awake_ms = min(self._awake_ms, now_ms)
        if self.still:
            self.still[-1] = self.still[-1][0], min(self.still[-1][1], now_ms)
        self._alarm.set(now_ms)

    def _new_token(self) -> str:
        self._tokens += 1
        return f"s{self._tokens}"

    # --- turns ---

    @property
    def drained(self) -> bool:
        """Nothing that workers said waits for a turn, or to be sent."""
        return not (
            self.router.holds or self.router.incoming or self._mailbox or self._loop._frames or self._loop._unsent
        )

    def reaches(self, peer: bytes) -> bool:
        """Whether this connection is there and has taken all frames."""
        return peer in self.router.peers and peer not in self.router.full

    def knows(self, token: str, peer: bytes) -> bool:
        """Whether a session is that of its worker now."""
        return self.dispatcher._sessions.of_frame(token, peer) is not None

    def _on_arrival(self, peer: bytes, body: bytes) -> None:
        self.on_arrival(peer, body)
        self._spring("return", b"return" in body)
        self.wake()

    def wake(self) -> None:
        self._alarm.set(self._timeline.now_ms + self._chance.randint(0, 1))

    def turn(self) -> None:
        """If it can take one now."""
        if not self.up:
            return
        if self._timeline.now_ms < self._awake_ms:
            self._alarm.set(self._awake_ms)
            return
        self.router.go_on()
        self._take_turn(last=False)
        if self.habits.commit_ms > 2:
            self.slow_ms = self._timeline.now_ms
        if self.up:
            # The next turn can't come before this one's commit has ended.
            self._awake_ms = max(self._awake_ms, self._timeline.now_ms + self._chance.randint(0, self.habits.commit_ms))
            self._alarm.set(self.clock.moment(self._loop._next_tick_ms))
        self.after_turn()

    @property
    def failing(self) -> bool:
        """Whether the turn under way, or the last one, was rolled back."""
        return self.engine.failed_turns != self._failed_before

    def _take_turn(self, *, last: bool) -> None:
        if self.engine.trouble == "kill while sending":
            self.engine.trouble = None
            self.kill_at_send = self._chance.randint(0, 3)
        self._failed_before = self.engine.failed_turns
        try:
            self._loop._turn(last=last)
        except Killed:
            self.kill("killed in the middle of a turn")
        except StoreUnsure:
            self.kill("a sync failed")
        except StoreDeposed:
            self.kill("can't read whether it still leads")
        self.stored = self.up and not self.failing
        if self.failing:
            self.failed_ms = self._timeline.now_ms
        if self.kill_at_send is not None:
            self.kill("killed after it has sent")
        stuck = (isinstance(frame, Dispatch) and peer in self.router.peers for peer, frame in self._loop._unsent)
        self._spring("unsent", any(stuck))

    def _spring(self, ambush: Ambush, met: bool) -> None:
        """The store refuses the next turn, if it waits for this."""
        if self.up and met and ambush in self.ambushes:
            self._story.tell("store", "will refuse a turn: %s", ambush)
            self.ambushed_ms = self._timeline.now_ms
            self.engine.trouble = "refuse"

    def _before_send(self, connection: Any, body: bytes) -> None:
        if self.engine.in_turn:
            raise Violation("a frame is sent before the commit")
        if self.kill_at_send is not None:
            self.kill_at_send -= 1
            if self.kill_at_send < 0:
                raise Killed
        self.before_send(connection, body)
        self._story.send_body("scheduler", connection.dealer.worker, body, "down")

    # --- callers ---

    def call(self, path: Path, command: Command[Any], on_answer: OnAnswer) -> None:
        """Ask over REST. Exactly one answer comes, in the end."""
        answered = False

        def answer(one: Answer) -> None:
            nonlocal answered
            if not answered:
                answered = True
                on_answer(one)

        def back(one: Answer) -> None:
            """The answer's way back. A cut swallows it, and the caller's patience ends by itself."""
            if self.claims_lost and isinstance(one, Done) and isinstance(one.reply, Claimed):
                self.claims_lost -= 1
                self._story.tell("network", "an answer to %s is lost: run %d", path.name, one.reply.run_id)
            elif path.passes("down") and self._chance.random() >= self.answers_lost:
                self._timeline.after(path.delay_ms(), lambda: answer(one))

        if not path.passes("up"):
            self._timeline.after(CALL_TIMEOUT_MS, lambda: answer(Undone()))
            return
        self._timeline.after(CALL_TIMEOUT_MS, lambda: answer(Unknown()))
        self._timeline.after(path.delay_ms(), lambda: self._post(command, back))

    def _post(self, command: Command[Any], back: OnAnswer) -> None:
        if self.formers and self._whim.random() < 0.5:
            self._whim.choice(self.formers).post(command, back)
            return
        if not self.up or self.away:
            back(Undone())
            return
        self._mailbox.post(command, self.expect(self._waiting, back))
        self.on_call(command)
        self.wake()

    def expect(self, waiting: dict[Future[Any], OnAnswer], back: OnAnswer) -> Future[Any]:
        """A reply that some process owes."""
        future: Future[Any] = Future()
        waiting[future] = back
        future.add_done_callback(partial(self._on_done, waiting))
        return future

    def _on_done(self, waiting: dict[Future[Any], OnAnswer], future: Future[Any]) -> None:
        back = waiting.pop(future)
        error = future.exception()
        if error is None:
            if self.engine.in_turn:
                self.broken = "a caller is answered before the commit"
            back(Done(future.result()))
        elif isinstance(error, RefusedError):
            back(Refused(error))
        elif isinstance(error, StoreError | StandbyError | ClosedError):
            back(Undone())
        elif isinstance(error, TimeoutError):
            back(Unknown())
        else:
            self.broken = f"a command raised {error!r}"
