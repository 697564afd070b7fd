"""A watchdog for the silence of another process. Pure."""

from __future__ import annotations

from typing import Final

# A check this late means that the checking process stalled too.
_STALL_MS: Final = 1_000


class Watchdog:
    """Detects a peer that is silent for longer than it announced."""

    def __init__(self, silent_ms_max: int, mono_ms: int) -> None:
        """`silent_ms_max`: the time until the peer's first message."""
        self._silent_ms_max = silent_ms_max
        self._expires_at_ms = mono_ms + silent_ms_max
        self._heard = False

    def feed(self, silent_ms_max: int | None = None) -> None:
        """The peer sent a message, which may announce its longest silence."""
        self._heard = True
        self._silent_ms_max = self._silent_ms_max if silent_ms_max is None else silent_ms_max

    def expired(self, mono_ms: int) -> bool:
        """Whether the peer has been silent for too long. After a stall of our own it gets the whole time again."""
        if self._heard or mono_ms > self._expires_at_ms + _STALL_MS:
            self._heard = False
            self._expires_at_ms = mono_ms + self._silent_ms_max
        return mono_ms >= self._expires_at_ms

    def deadline_ms(self) -> int:
        """When to call `expired`."""
        return self._expires_at_ms
