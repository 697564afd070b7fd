"""Jumps of the wall clock against the steady one. What waits for a span of time must not be shortened or extended."""

from __future__ import annotations

import logging

from zsched.model.limits import JUMP_MS
from zsched.model.types import Now
from zsched.store.contract import Store

log = logging.getLogger(__name__)


class WallClock:
    """Compares both clocks in each turn with the last turn that was stored, so a failed turn loses no jump."""

    def __init__(self, now: Now) -> None:
        # By how much the wall clock is ahead of the steady one, in this turn and in the last that was stored.
        self._ahead_ms = self._stored_ahead_ms = now.wall_ms - now.mono_ms
        # The jump of this turn; 0: none.
        self._jump_ms = 0

    def on_begin(self, store: Store, now: Now) -> None:
        """Shift what is stored by a jump. Called first in the turn, before anything is timed by the new clock."""
        self._ahead_ms = now.wall_ms - now.mono_ms
        jump_ms = self._ahead_ms - self._stored_ahead_ms
        self._jump_ms = jump_ms if abs(jump_ms) > JUMP_MS else 0
        if self._jump_ms:
            store.shift(jump_ms, now.wall_ms)

    def on_commit(self) -> None:
        """The turn is stored, and with it the shift."""
        self._stored_ahead_ms = self._ahead_ms
        if self._jump_ms:
            log.warning("the wall clock jumped by %d ms", self._jump_ms)
