"""The agent's session with the scheduler: its states, when to register, when to send a heartbeat. Pure.

It sends nothing: the agent asks, sends, and reports what it has sent. The table is the mechanism: the state changes
only in `SessionState.move`, which raises IllegalMoveError for an event that the table does not have in that state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from zsched.model.limits import SILENT_PARTS
from zsched.model.types import Now
from zsched.protocol import Registered
from zsched.worker.agent.pace import GrowingDelay
from zsched.worker.agent.renewal import Renewal
from zsched.worker.messages import Hello

# A run on probation that lives this long has not killed its worker. The scheduler hears of it at once; one heartbeat
# serves all such runs of a step.
_PROBATION_MS: Final = 1_000
_PROBATION_STEP_MS: Final = 50
# Another worker holds our name. That may be a dead worker whose session has not timed out yet.
_DUPLICATE_RETRY_MS: Final = 1_000


class Status(Enum):
    """The state of the agent's session. The last two are final: the process ends."""

    UNREGISTERED = "unregistered"  # a register is due
    REGISTERING = "registering"  # a register was sent, and is repeated until it is answered
    REGISTERED = "registered"  # a session lives
    WITHDRAWING = "withdrawing"  # the session is lost; the guard has not said yet which runs had not started
    REFUSED = "refused"  # the scheduler refuses this worker for good
    LEAVING = "leaving"  # the goodbye is said


class SessionEvent(Enum):
    """What happens to the session."""

    REGISTER = "register"  # a register is sent
    ACCEPT = "accept"  # the scheduler has answered a register by a new session
    LOSE = "lose"  # the connection is cut, no answer came in time, or the scheduler ends the session
    WITHDRAW = "withdraw"  # the guard has returned the runs that had not started
    REFUSE = "refuse"
    LEAVE = "leave"


# (status, event): the next status. An event that comes from the scheduler is ignored where it is not in the table:
# without a register since the last session, `registered` answers an earlier one, and what we hold has changed since.
MOVES: Final[Mapping[tuple[Status, SessionEvent], Status]] = MappingProxyType(
    {
        (Status.UNREGISTERED, SessionEvent.REGISTER): Status.REGISTERING,
        (Status.REGISTERING, SessionEvent.REGISTER): Status.REGISTERING,
        (Status.REGISTERING, SessionEvent.ACCEPT): Status.REGISTERED,
        (Status.REGISTERED, SessionEvent.ACCEPT): Status.REGISTERED,
        (Status.REGISTERED, SessionEvent.LOSE): Status.WITHDRAWING,
        (Status.WITHDRAWING, SessionEvent.WITHDRAW): Status.UNREGISTERED,
        (Status.UNREGISTERED, SessionEvent.REFUSE): Status.REFUSED,
        (Status.REGISTERING, SessionEvent.REFUSE): Status.REFUSED,
        (Status.REGISTERED, SessionEvent.REFUSE): Status.REFUSED,
        (Status.WITHDRAWING, SessionEvent.REFUSE): Status.REFUSED,
        (Status.UNREGISTERED, SessionEvent.LEAVE): Status.LEAVING,
        (Status.REGISTERING, SessionEvent.LEAVE): Status.LEAVING,
        (Status.REGISTERED, SessionEvent.LEAVE): Status.LEAVING,
        (Status.WITHDRAWING, SessionEvent.LEAVE): Status.LEAVING,
    }
)


class IllegalMoveError(Exception):
    """An event that is impossible in the session's state: a bug of the agent."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a live session, from `registered`. `timeout_ms` counts from the last answered frame's send time."""

    token: str
    timeout_ms: int
    heartbeat_ms: int


class SessionState:
    """`timeout_ms` is that of the last session, None before the first."""

    def __init__(self, hello: Hello, renewal: Renewal, now: Now) -> None:
        self.status = Status.UNREGISTERED
        # None without a session.
        self.terms: Terms | None = None
        self.timeout_ms: int | None = None
        # `n` of the last dispatch of this session, 0 before the first.
        self.dispatch_n = 0
        self._renewal = renewal
        self._heartbeat_ms = hello.heartbeat_ms
        # When to send the next register, while unregistered or registering.
        self._register_at_ms = now.mono_ms
        # `sent_ms` of the last register.
        self._sent_ms = 0
        self._register_delay = GrowingDelay(hello.incarnation)
        self._duplicate = False
        self._heartbeat_at_ms = 0
        self._probation_ends_ms: list[int] = []

    def may(self, event: SessionEvent) -> bool:
        """Whether the table has the event in the present state."""
        return (self.status, event) in MOVES

    def move(self, event: SessionEvent) -> None:
        """Go to the next state. Raises IllegalMoveError."""
        status = MOVES.get((self.status, event))
        if status is None:
            raise IllegalMoveError(f"the session is {self.status.value}: no {event.value}")
        self.status = status
        if status is not Status.REGISTERED:
            self.terms = None

    # --- registering -------------------------------------------------------------------------------------------------

    def on_connected(self, now: Now) -> None:
        """A scheduler is reached: register without waiting."""
        self._register_delay.reset()
        self._register_at_ms = now.mono_ms

    @property
    def register_at_ms(self) -> int | None:
        """When to send the next register, or None."""
        return self._register_at_ms if self.may(SessionEvent.REGISTER) else None

    def on_register(self, now: Now) -> int:
        """A register is sent now. Returns its `sent_ms`: greater than each before, so that the scheduler can tell which
        of two registers is the later one.
        """
        self.move(SessionEvent.REGISTER)
        self._sent_ms = max(now.mono_ms, self._sent_ms + 1)
        self._renewal.on_register(now.mono_ms)
        gap_ms = _DUPLICATE_RETRY_MS if self._duplicate else self._register_delay.next_ms()
        self._register_at_ms = now.mono_ms + self._renewal.register_gap_ms(gap_ms)
        return self._sent_ms

    def on_registered(self, frame: Registered, now: Now, *, new_database: bool) -> Terms:
        """A session begins."""
        self.move(SessionEvent.ACCEPT)
        beat_ms = min(self._heartbeat_ms, frame.timeout_ms // 3)
        self.terms = Terms(frame.s, frame.timeout_ms, max(1, beat_ms))
        self.timeout_ms = frame.timeout_ms
        self.dispatch_n = 0
        self._duplicate = False
        self._register_delay.reset()
        self._register_delay.fit(frame.timeout_ms)
        if new_database:
            self._renewal.on_database()
        self._renewal.on_registered(now.mono_ms)
        self._heartbeat_at_ms = now.mono_ms + self._renewal.beat_ms(self.terms.heartbeat_ms)
        return self.terms

    def on_duplicate(self, now: Now) -> bool:
        """Another worker holds the name: try again each second. Returns whether this is news."""
        news = not self._duplicate
        self._duplicate = True
        gap_ms = self._renewal.register_gap_ms(_DUPLICATE_RETRY_MS)
        self._register_at_ms = max(now.mono_ms, self._sent_ms + gap_ms)
        return news

    # --- the end of a session ----------------------------------------------------------------------------------------

    def lose(self) -> None:
        """The session is over. The next register has to wait until the guard has returned what waits."""
        self.move(SessionEvent.LOSE)
        self._probation_ends_ms.clear()

    def on_withdrawn(self, now: Now) -> None:
        """The guard has returned what waited: register now."""
        self.move(SessionEvent.WITHDRAW)
        self._register_at_ms = now.mono_ms

    def timeout_at_ms(self, terms: Terms) -> int:
        """When the session ends unless an answer arrives."""
        return self._renewal.acked_ms + terms.timeout_ms

    @property
    def silent_at_ms(self) -> int | None:
        """When the scheduler counts as silent: its answer to a heartbeat is late, long before the session's end. None
        without a session or an unanswered heartbeat.
        """
        unanswered_ms = self._renewal.unanswered_ms
        if self.terms is None or unanswered_ms is None:
            return None
        return unanswered_ms + self.terms.timeout_ms // SILENT_PARTS

    # --- heartbeats --------------------------------------------------------------------------------------------------

    @property
    def heartbeat_at_ms(self) -> int:
        """When to send the next heartbeat."""
        return min([self._heartbeat_at_ms, *self._probation_ends_ms])

    def on_heartbeat(self, terms: Terms, now: Now) -> int:
        """A heartbeat is sent now. Returns its number."""
        self._heartbeat_at_ms = now.mono_ms + self._renewal.beat_ms(terms.heartbeat_ms)
        self._probation_ends_ms = [at_ms for at_ms in self._probation_ends_ms if at_ms > now.mono_ms]
        return self._renewal.on_heartbeat(now.mono_ms)

    def add_lease(self, run: int, lease_ms: int, now: Now) -> None:
        """A run with a lease arrived, so the next heartbeat may have to be sent earlier."""
        gap_ms = self._renewal.add(run, lease_ms)
        self._heartbeat_at_ms = min(self._heartbeat_at_ms, now.mono_ms + gap_ms)

    def add_probation(self, now: Now) -> None:
        """A run on probation has started: send a heartbeat when its probation ends."""
        end_ms = -(-(now.mono_ms + _PROBATION_MS) // _PROBATION_STEP_MS) * _PROBATION_STEP_MS
        self._probation_ends_ms.append(end_ms)

    def clear_probation(self) -> None:
        """None of the held runs is on probation any more."""
        self._probation_ends_ms.clear()
