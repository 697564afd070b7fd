"""The rate of bad tokens by address."""

from __future__ import annotations

import threading

from zsched.model.limits import ATTEMPTS_ADDRESSES_MAX, ATTEMPTS_MAX, ATTEMPTS_WINDOW_S


class Attempts:
    """Counts in windows of ATTEMPTS_WINDOW_S that begin with an address's first bad token. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # By address: the begin of the window, and the count. The oldest window is first.
        self._seen: dict[str, tuple[float, int]] = {}

    def too_many(self, address: str, mono_s: float) -> bool:
        """Count a bad token. Returns whether the address is over the limit."""
        with self._lock:
            begun_s, count = self._seen.get(address, (mono_s, 0))
            if mono_s - begun_s >= ATTEMPTS_WINDOW_S:
                self._seen.pop(address)
                begun_s, count = mono_s, 0
            if address not in self._seen and len(self._seen) >= ATTEMPTS_ADDRESSES_MAX:
                self._seen.pop(next(iter(self._seen)))
            self._seen[address] = (begun_s, count + 1)
            return count >= ATTEMPTS_MAX
