"""News for the agent: results, runs that are gone or go back, and the worker's state. Pure."""

from __future__ import annotations

from typing import Final

from zsched.protocol import RunResult
from zsched.worker.guard.effects import Effects
from zsched.worker.guard.life import Event, Run
from zsched.worker.messages import Ended, State, Unstarted

# While more runs wait for a slot, results are reported in batches: each message wakes both processes.
_BATCH_MS: Final = 20


class Reports:
    """What the agent does not know yet. `state`: the worker's state as it is now; assign a new one to change it."""

    def __init__(self, effects: Effects, db: str) -> None:
        self.state = self._sent = State(db)
        self._effects = effects
        # Runs with a result, and when to report them.
        self._ended: dict[int, Run] = {}
        self._due_ms: int | None = None
        self._gone: list[int] = []
        self._no_room: list[int] = []

    def deadline_ms(self) -> int | None:
        """When `send_ended` has something to do; None when nothing waits."""
        return self._due_ms

    def add_ended(self, run: Run) -> None:
        """A run of the current database has a result."""
        self._ended[run.number] = run

    def add_gone(self, run: Run) -> None:
        """A run ended without a result."""
        self._gone.append(run.number)

    def add_no_room(self, run: Run) -> None:
        """A run goes back, because its process could not be started."""
        self._no_room.append(run.number)

    def discard(self, run: Run) -> None:
        """The result of a run is forgotten, reported or not."""
        self._ended.pop(run.number, None)

    def send_ended(self, now_ms: int, *, at_once: bool) -> None:
        """Write and send results: `at_once`, or when their batch is due. Send what goes back, and what is gone."""
        if self._no_room:
            # In one message, so that the agent pauses once.
            self._effects.send.append(Unstarted(tuple(self._no_room), no_room=True))
            self._no_room.clear()
        results: tuple[RunResult, ...] = ()
        if not self._ended:
            self._due_ms = None
        else:
            if self._due_ms is None:
                self._due_ms = now_ms + _BATCH_MS
            if at_once or now_ms >= self._due_ms:
                results = self.take_ended()
        if results or self._gone:
            self._effects.send.append(Ended(results, gone=tuple(self._gone)))
            self._gone.clear()

    def take_ended(self) -> tuple[RunResult, ...]:
        """Write the results that are not reported, and return them. The caller reports them now, if it does."""
        results = []
        for run in self._ended.values():
            assert run.result is not None
            run.move(Event.REPORT)
            results.append(run.result)
        self._ended.clear()
        self._due_ms = None
        self._effects.write += results
        return tuple(results)

    def send_state(self) -> None:
        """Send the state if it has changed."""
        if self.state is not self._sent:
            self._effects.send.append(self.take_state())

    def take_state(self) -> State:
        """The state, for a snapshot."""
        self._sent = self.state
        return self.state

    def clear(self) -> None:
        """A snapshot says what is held."""
        self._gone.clear()
        self._no_room.clear()
