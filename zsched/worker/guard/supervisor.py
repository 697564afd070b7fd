"""The guard's decisions about its agent: when to start one, when to kill one, when jobs stop too many. Pure.

The shell calls it in each turn: `silent`, and `on_silent` if that is true; then `start_due`, and `on_started` or
`on_start_failed` if that is true.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from zsched.model.limits import AGENT_STOPS_MAX, AGENT_WELL_MS
from zsched.worker.messages import Alive, FromAgent
from zsched.worker.watchdog import Watchdog

# The delay of the first, second … restart. The first is at once; agents that die in a row must not use up the host.
_RESTART_MS: Final = (0, 100, 200, 500, 1_000, 2_000, 5_000)
# The time until a new agent's first message: Python starts, and Hello may be long.
_FIRST_MESSAGE_MS: Final = 30_000
# How often a new agent is checked until then.
_CHECK_MS: Final = 5_000
# After this long an agent's death is not counted with those before it.
_WELL_MS: Final = 10_000

log = logging.getLogger(__name__)


class Supervisor:
    """One agent at a time. `pid` is that of the running agent, also while it is being killed; else None."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self._deaths = 0
        self._started_ms = 0
        self._start_at_ms: int | None = 0
        # Of the running agent; None while none runs, or it has been killed.
        self._watchdog: Watchdog | None = None
        self._heard = False
        # Agents in a row that were stopped by a signal.
        self._stops = 0

    @property
    def stopped_too_often(self) -> bool:
        """Whether agents in a row were stopped by a signal."""
        return self._stops >= AGENT_STOPS_MAX

    def deadline_ms(self) -> int | None:
        """When `silent` or `start_due` may be true; None when no agent is to be started."""
        return self._start_at_ms if self._watchdog is None else self._watchdog.deadline_ms()

    def start_due(self, now_ms: int) -> bool:
        """Whether an agent is to be started now."""
        return self._start_at_ms is not None and now_ms >= self._start_at_ms

    def on_started(self, pid: int, now_ms: int) -> None:
        self.pid = pid
        self._start_at_ms = None
        self._started_ms = now_ms
        self._watchdog = Watchdog(_CHECK_MS, now_ms)
        self._heard = False

    def on_start_failed(self, why: str, now_ms: int) -> None:
        """The host is out of memory, descriptors or processes. That passes, and the jobs continue meanwhile."""
        log.error("the agent can't be started: %s", why)
        self._start_at_ms = now_ms + _RESTART_MS[-1]

    def on_received(self, received: Iterable[FromAgent]) -> None:
        """Messages of the agent were received."""
        if self._watchdog is not None:
            for message in received:
                self._heard = True
                self._watchdog.feed(message.within_ms if isinstance(message, Alive) else None)

    def silent(self, now_ms: int) -> bool:
        """Whether the agent has been silent for too long. The shell reports with on_silent whether it is stopped."""
        return self._watchdog is not None and self._watchdog.expired(now_ms)

    def on_silent(self, now_ms: int, *, stopped: bool) -> bool:
        """Returns whether to kill the agent: it hangs or is stopped by a signal, and the next one takes over."""
        if not (stopped or self._heard) and now_ms - self._started_ms < _FIRST_MESSAGE_MS:
            self._watchdog = Watchdog(_CHECK_MS, now_ms)
            return False
        why = "was stopped by a signal" if stopped else "was silent for too long"
        log.error("agent process %s %s: killed", self.pid, why)
        if not stopped or now_ms - self._started_ms >= AGENT_WELL_MS:
            self._stops = 0
        self._stops += stopped
        self._watchdog = None
        return True

    def on_exit(self, now_ms: int, *, again: bool) -> None:
        """The agent has been reaped. The next one starts soon if `again`."""
        pid, self.pid = self.pid, None
        self._watchdog = None
        if not again:
            self._start_at_ms = None
            return
        self._deaths = 0 if now_ms - self._started_ms >= _WELL_MS else self._deaths + 1
        delay_ms = _RESTART_MS[min(self._deaths, len(_RESTART_MS) - 1)]
        self._start_at_ms = now_ms + delay_ms
        log.warning("agent process %s ended: the next one starts in %d ms", pid, delay_ms)
