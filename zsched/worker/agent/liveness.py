"""Signs of life between agent and guard, on the agent's side. Pure.

The agent asks the guard with Alive, and says in it how long it may be silent itself.
"""

from __future__ import annotations

from typing import Final

from zsched.model.limits import AGENT_SEEKING_MS_MAX, AGENT_SILENT_MS_MAX
from zsched.model.types import Now
from zsched.worker.agent.session import Terms
from zsched.worker.messages import Alive

# How often the guard is asked, unless heartbeats are more frequent.
_ASK_MS: Final = 2_000
# The agent's longest silence: a third of the scheduler's timeout, within these bounds. Looking for the scheduler may
# take longer, because of a name look-up for example.
_SILENT_MS_MIN: Final = 5_000


class GuardLiveness:
    """When the guard last sent a message, and when to ask it again. `terms`: those of the session, None without one."""

    def __init__(self, now: Now) -> None:
        self._heard_ms = now.mono_ms
        # None while an answer is outstanding.
        self._ask_at_ms: int | None = now.mono_ms

    def on_message(self, now: Now) -> None:
        self._heard_ms = now.mono_ms

    def on_answer(self, terms: Terms | None, now: Now) -> None:
        """The guard has answered Alive."""
        self._ask_at_ms = now.mono_ms + (_ASK_MS if terms is None else min(_ASK_MS, terms.heartbeat_ms))

    def on_registered(self, now: Now) -> None:
        """The new session may ask for shorter silences: say so at once."""
        if self._ask_at_ms is not None:
            self._ask_at_ms = now.mono_ms

    def take_question(self, terms: Terms | None, now: Now) -> Alive | None:
        """The message to send to the guard now, or None."""
        if self._ask_at_ms is None or now.mono_ms < self._ask_at_ms:
            return None
        self._ask_at_ms = None
        third_ms = AGENT_SILENT_MS_MAX if terms is None else terms.timeout_ms // 3
        return Alive(max(_SILENT_MS_MIN, min(AGENT_SILENT_MS_MAX, third_ms)))

    @staticmethod
    def seeking() -> Alive:
        """The message for the guard before the agent looks for the scheduler."""
        return Alive(AGENT_SEEKING_MS_MAX)

    @property
    def ask_at_ms(self) -> int | None:
        return self._ask_at_ms

    def silent(self, terms: Terms | None, now: Now) -> bool:
        """Whether the guard has stalled during a session. What the agent would send is then soon untrue, so it sends
        nothing, as if dead.
        """
        return terms is not None and now.mono_ms > self._heard_ms + terms.timeout_ms // 2
