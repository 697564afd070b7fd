"""The agent's session with the scheduler: when to register, when to send a heartbeat, whether a session lives. Pure.

It sends nothing: the agent asks, sends, and reports what it has sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

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


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a live session, from `registered`. `timeout_ms` counts from the last answered frame's send time."""

    token: str
    timeout_ms: int
    heartbeat_ms: int


class SessionState:
    """`terms` is None without a session. `timeout_ms` is that of the last session, None before the first."""

    def __init__(self, hello: Hello, renewal: Renewal, now: Now) -> None:
        self.terms: Terms | None = None
        self.timeout_ms: int | None = None
        # `n` of the last dispatch of this session, 0 before the first.
        self.dispatch_n = 0
        # The guard has not answered the Withdraw that followed the last session.
        self.withdrawing = False
        self._renewal = renewal
        self._heartbeat_ms = hello.heartbeat_ms
        # None while a session lives, or the guard has not answered Withdraw.
        self._register_at_ms: int | None = now.mono_ms
        # `sent_ms` of the last register.
        self._sent_ms = 0
        self._register_delay = GrowingDelay(hello.incarnation)
        self._duplicate = False
        self._heartbeat_at_ms = 0
        self._probation_ends_ms: list[int] = []

    # --- registering -------------------------------------------------------------------------------------------------

    def on_connected(self, now: Now) -> None:
        """A scheduler is reached: register without waiting."""
        self._register_delay.reset()
        if self.terms is None and self._register_at_ms is not None:
            self._register_at_ms = now.mono_ms

    @property
    def register_at_ms(self) -> int | None:
        """When to send the next register, or None."""
        return self._register_at_ms

    def on_register(self, now: Now) -> int:
        """A register is sent now. Returns its `sent_ms`: greater than each before, so that the scheduler can tell which
        of two registers is the later one.
        """
        self._sent_ms = max(now.mono_ms, self._sent_ms + 1)
        self._renewal.on_register(now.mono_ms)
        gap_ms = _DUPLICATE_RETRY_MS if self._duplicate else self._register_delay.next_ms()
        self._register_at_ms = now.mono_ms + self._renewal.register_gap_ms(gap_ms)
        return self._sent_ms

    def on_registered(self, frame: Registered, now: Now, *, new_database: bool) -> Terms:
        """A session begins."""
        beat_ms = min(self._heartbeat_ms, frame.timeout_ms // 3)
        self.terms = Terms(frame.s, frame.timeout_ms, max(1, beat_ms))
        self.timeout_ms = frame.timeout_ms
        self.dispatch_n = 0
        self._register_at_ms = None
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
        if self._register_at_ms is not None:
            gap_ms = self._renewal.register_gap_ms(_DUPLICATE_RETRY_MS)
            self._register_at_ms = max(now.mono_ms, self._sent_ms + gap_ms)
        return news

    # --- the end of a session ----------------------------------------------------------------------------------------

    def lose(self) -> None:
        """The session is over. The next register has to wait for the guard's answer to Withdraw."""
        self.terms = None
        self._probation_ends_ms.clear()
        self._register_at_ms = None
        self.withdrawing = True

    def on_withdrawn(self, now: Now) -> None:
        """The guard has answered Withdraw: register now."""
        self.withdrawing = False
        self._register_at_ms = now.mono_ms

    def timeout_at_ms(self, terms: Terms) -> int:
        """When the session ends unless an answer arrives."""
        return self._renewal.acked_ms + terms.timeout_ms

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
