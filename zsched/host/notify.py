"""Notifications to the service manager (systemd): ready, alive, stopping.

The protocol is sd_notify(3): a datagram to the socket in $NOTIFY_SOCKET. Without that variable nothing is sent.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import MutableMapping
from typing import Final

# A manager that does not read must not block us for long. `alive` is repeated anyway.
_SEND_S: Final = 1.0

log = logging.getLogger(__name__)


class Notify:
    """Created once in each program, by the process that the service manager started."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Removes the manager's variables from `environ`, so that child processes send no notifications."""
        self._address = environ.pop("NOTIFY_SOCKET", "")
        usec, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        enabled = usec.isdecimal() and pid in ("", str(os.getpid()))
        # Half of the watchdog timeout, so that one notification may be late. 0: there is no watchdog.
        self._every_ms = int(usec) // 2_000 if enabled and self._address else 0
        self._next_ms = 0
        self._heard = True

    def ready(self, status: str) -> None:
        """The program is ready. `status` is a line for people."""
        self._send("READY=1", f"STATUS={status}")

    def alive(self, mono_ms: int) -> None:
        """The program is alive. Call it only after work was done. Sent at most twice in each watchdog timeout."""
        if self._every_ms and mono_ms >= self._next_ms:
            # Repeat a failed notification sooner, but not at once, or we would do nothing else.
            self._next_ms = mono_ms + (self._every_ms if self._send("WATCHDOG=1") else self._every_ms // 4)

    def deadline_ms(self) -> int | None:
        """When the next `alive` is due, by the steady clock. None without a watchdog."""
        return self._next_ms if self._every_ms else None

    def stopping(self, status: str) -> None:
        """The program ends. `status` is a line for people."""
        self._send("STOPPING=1", f"STATUS={status}")

    def _send(self, *lines: str) -> bool:
        """Send a notification. Returns whether it was sent."""
        if not self._address:
            return False
        # An abstract address is written with @ for its NUL byte.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sending:
                sending.settimeout(_SEND_S)
                sending.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            if self._heard:
                log.warning("can't send notifications to the service manager at %s: %s", self._address, error.strerror)
            self._heard = False
            return False
        self._heard = True
        return True
