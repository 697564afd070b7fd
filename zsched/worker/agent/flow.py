"""Flow control: how many runs the worker asks the scheduler for. Pure.

The scheduler may have `window` unfinished runs at the worker, `ahead` of them beyond its slots; (0, 0) stops it.
"""

from __future__ import annotations

from collections.abc import Iterable

from zsched.model.limits import FRAME_LIST_MAX
from zsched.model.types import Now
from zsched.protocol import Ready, RunResult
from zsched.worker.agent.holdings import Holdings
from zsched.worker.agent.pace import GrowingDelay, Pace, window
from zsched.worker.agent.renewal import Renewal
from zsched.worker.messages import Hello, State


class FlowControl:
    """The amount to ask for now, and what the scheduler was last asked for."""

    def __init__(self, hello: Hello, holdings: Holdings, renewal: Renewal) -> None:
        # The worker was asked to end.
        self.stopping = hello.snapshot.state.stopping
        # The guard can't keep results on disk.
        self._disk_fails = hello.snapshot.state.disk_fails
        self._slots = hello.slots
        self._poll_ms = hello.poll_ms
        self._window = window(hello.slots)
        self._pace = Pace(hello.slots, self._window)
        self._holdings = holdings
        self._renewal = renewal
        # Window, ahead and `leaving`, as last sent.
        self._sent = (0, 0, False)
        self._ready_at_ms = 0
        # The host could start no process: ask for nothing until then. The delay grows with each failure in a row.
        self._no_room_until_ms = 0
        self._no_room_delay = GrowingDelay(hello.incarnation)

    # --- events ------------------------------------------------------------------------------------------------------

    def on_registered(self) -> None:
        """A new session knows only whether the worker leaves."""
        self._sent = (0, 0, self.stopping)

    def on_state(self, state: State) -> None:
        """The worker's state has changed."""
        self.stopping = state.stopping
        self._disk_fails = state.disk_fails

    def on_results(self, results: Iterable[RunResult]) -> None:
        """Runs have ended."""
        for result in results:
            if result.started_ms is not None:
                self._no_room_delay.reset()
                self._pace.on_ended(result.finished_ms - result.started_ms)

    def on_no_room(self, now: Now) -> None:
        """The host could start no process."""
        self._no_room_until_ms = now.mono_ms + self._no_room_delay.next_ms()

    def on_returned(self) -> None:
        """Runs came back unstarted."""
        self._pace.on_returned()

    # --- asking ------------------------------------------------------------------------------------------------------

    def _amount(self, now: Now) -> tuple[int, int]:
        held = self._holdings
        if now.mono_ms >= self._no_room_until_ms:
            self._no_room_until_ms = 0
        if held.clash or self._disk_fails or held.any_stuck or self._renewal.lapsed or self._no_room_until_ms:
            return 0, 0
        if held.changing or self.stopping:
            return 0, 0
        # A frame lists all held runs, those with unacknowledged results too, and its lists are bounded.
        window, ahead = min(self._window, max(0, FRAME_LIST_MAX - len(held.reports))), self._pace.ahead()
        if uncounted := held.uncounted_slots:
            return max(0, self._slots - uncounted), 0
        return window, ahead

    def take_amount(self, now: Now) -> tuple[int, int]:
        """(window, ahead) for a frame that is sent now."""
        window, ahead = self._amount(now)
        self._sent = window, ahead, self.stopping
        return window, ahead

    def take_ready(self, token: str, now: Now) -> Ready | None:
        """The `ready` frame to send now: when its content has changed, and at each poll interval while idle."""
        window, ahead = self._amount(now)
        if (window, ahead, self.stopping) == self._sent and (len(self._holdings) or now.mono_ms < self._ready_at_ms):
            return None
        self._sent = window, ahead, self.stopping
        self._ready_at_ms = now.mono_ms + self._poll_ms
        return Ready(s=token, window=window, ahead=ahead, leaving=self.stopping)

    def deadlines_ms(self) -> list[int]:
        """When there may be a `ready` to send without another event."""
        deadlines = [] if len(self._holdings) else [self._ready_at_ms]
        return [*deadlines, self._no_room_until_ms] if self._no_room_until_ms else deadlines
