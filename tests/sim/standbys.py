"""Schedulers that share a store, as on PostgreSQL: the session of each with its fence, and a process that was replaced
and does not know it.

The fence is the same as that of the PostgreSQL engine, over SQLite in memory. Which scheduler has the lock is not
simulated: whoever takes over has it, at any moment that the nemesis chooses. So nothing here relies on the lock.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal

from tests.sim.timeline import Alarm, Timeline
from tests.sim.violation import Violation
from zsched.scheduler.dispatcher.commands import Command
from zsched.scheduler.inbox import StandbyError
from zsched.store.contract import StoreDeposed, StoreError, StoreUnsure
from zsched.store.sqlite.statements import Statements

if TYPE_CHECKING:
    from tests.sim.scheduler import FaultyEngine, OnAnswer, Scheduler

Row = tuple[Any, ...]


class Session(Statements):
    """A scheduler's connection to the store. Implements engine.Engine.

    `cut`: the server can't be reached. `late`: the next turn has begun and then stood still, until the server ended its
    transaction; it finds that out by its next statement, or by its commit, whose end is looked up then.
    """

    def __init__(self, engine: FaultyEngine) -> None:
        super().__init__(engine._connection)
        self.cut = False
        self.late: Literal["no", "statement", "commit"] = "no"
        self._engine = engine
        self._epoch: int | None = None
        # The same of the turn under way.
        self._late: Literal["no", "statement", "commit"] = "no"
        self.verify, self.overwrite_deleted, self.find_damage = (
            engine.verify,
            engine.overwrite_deleted,
            engine.find_damage,
        )

    def fence(self, epoch: int) -> None:
        self._epoch = epoch

    def confirm_epoch(self) -> None:
        self._demand_server()
        self._demand_epoch()

    def begin(self) -> None:
        self._ids.clear()
        late = self._late = self.late
        self.late = "no"
        if late == "statement":
            return
        self._demand_server()
        self._engine.begin()
        if late == "commit":
            return
        try:
            self._demand_epoch()
        except StoreDeposed:
            self._engine.rollback()
            raise

    def _demand_epoch(self) -> None:
        if self.is_old:
            raise StoreDeposed("another scheduler has taken over")

    @property
    def is_old(self) -> bool:
        """Whether another scheduler has taken over."""
        return self._epoch is not None and self._engine.look("SELECT epoch FROM epoch") != [(self._epoch,)]

    def _demand_server(self) -> None:
        if self.cut or self._late == "statement":
            self._engine.failed_turns += 1
            raise StoreError("the server can't be reached" if self.cut else "the session was ended by the server")

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        self._demand_server()
        return self._engine.execute(statement, parameters)

    def iterate(self, statement: str, parameters: Sequence[object] = ()) -> Generator[Row]:
        self._demand_server()
        return self._engine.iterate(statement, parameters)

    def executemany(self, statement: str, parameters: Iterable[Sequence[object]]) -> list[Row]:
        self._demand_server()
        return self._engine.executemany(statement, parameters)

    def shrink(self) -> bool:
        return False

    def commit(self) -> None:
        self._demand_server()
        if self._late == "commit":
            self.rollback()
            raise StoreUnsure("it is unknown whether the turn is stored: another scheduler has taken over")
        if self.is_old:
            raise Violation("a scheduler stores a turn after another one has taken over")
        self._engine.commit()

    def rollback(self) -> None:
        late, self._late = self._late, "no"
        if late != "statement":
            self._engine.rollback()

    def close(self) -> None:
        """The store outlives the process."""


class Former:
    """The process of a scheduler that another one has replaced: its connections, its callers, and its loop.

    It ends when it finds out.
    """

    def __init__(self, scheduler: Scheduler, timeline: Timeline, awake_ms: int) -> None:
        """`awake_ms`: it stands still until then."""
        assert scheduler.session is not None
        self.session = scheduler.session
        self.router = scheduler.router
        self.waiting = scheduler._waiting
        self._scheduler = scheduler
        self._timeline = timeline
        self._awake_ms = awake_ms
        self._loop = scheduler._loop
        self._mailbox = scheduler._mailbox
        self._clock = scheduler.clock
        self._alarm = Alarm(timeline, self.turn)
        # Heartbeats that have arrived since another scheduler leads, by session and number.
        self.late_beats: set[tuple[str, int]] = set()
        self.router._on_arrival = self._on_arrival
        self.router.before_send = self._before_send
        self._alarm.set(awake_ms)

    def go_on(self) -> None:
        """SIGCONT, and the server can be reached."""
        self.session.cut = False
        self._awake_ms = min(self._awake_ms, self._timeline.now_ms)
        self._alarm.set(self._timeline.now_ms)

    def post(self, command: Command[Any], back: OnAnswer) -> None:
        """A caller asks it."""
        future: Future[Any] = self._scheduler.expect(self.waiting, back)
        self._mailbox.post(command, future)
        self._alarm.set(self._timeline.now_ms)

    def turn(self) -> None:
        if self not in self._scheduler.formers:
            return
        if self._timeline.now_ms < self._awake_ms:
            self._alarm.set(self._awake_ms)
            return
        self.router.go_on()
        try:
            self._loop._turn(last=False)
        except StoreUnsure:
            # As serve/process.py does.
            self._mailbox.refuse(StandbyError)
            self.end("does not know what is stored")
            return
        except StoreDeposed:
            self.end("finds out that another scheduler leads")
            return
        self._alarm.set(max(self._timeline.now_ms + 1, self._clock.moment(self._loop._next_tick_ms)))

    def end(self, why: str) -> None:
        self._scheduler._story.tell("old scheduler", why)
        self._scheduler.formers.remove(self)
        self.router.close()
        if self.waiting:
            raise Violation("a scheduler that finds out that another one leads leaves callers without an answer")

    def _on_arrival(self, peer: bytes, body: bytes) -> None:
        self._scheduler.on_former_arrival(self, peer, body)
        self._alarm.set(self._timeline.now_ms)

    def _before_send(self, connection: Any, body: bytes) -> None:
        self._scheduler.on_former_send(self, connection, body)
        self._scheduler._story.send_body("old scheduler", connection.dealer.worker, body, "down")
