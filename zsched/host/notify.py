"""What a service manager is told: that we are ready, that we live, that we end. Only systemd listens so far.

The protocol is sd_notify(3): a datagram to the socket that $NOTIFY_SOCKET names. Where nobody listens nothing happens.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import MutableMapping
from typing import Final

# A manager that does not read must not hold us for long; what it missed of our life it is told again.
_SEND_S: Final = 1.0

log = logging.getLogger(__name__)


class Notify:
    """Made once in each program, by the process that the service manager started."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Takes the manager's variables out of `environ`: what we start is not to speak for us."""
        self._address = environ.pop("NOTIFY_SOCKET", "")
        usec, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        wanted = usec.isdecimal() and pid in ("", str(os.getpid()))
        # Half of the time after which we are taken for hung, so that one word may come late. 0: nobody waits for words.
        self._every_ms = int(usec) // 2_000 if wanted and self._address else 0
        self._next_ms = 0
        self._heard = True

    def ready(self, status: str) -> None:
        """All is open. `status` is a line for people."""
        self._tell("READY=1", f"STATUS={status}")

    def alive(self, mono_ms: int) -> None:
        """Call it as often as work is done, and only then. The manager is told at most twice in each of its times."""
        if self._every_ms and mono_ms >= self._next_ms:
            # What was not taken is said again sooner, though not at once: then we would do nothing else.
            self._next_ms = mono_ms + (self._every_ms if self._tell("WATCHDOG=1") else self._every_ms // 4)

    def deadline_ms(self) -> int | None:
        """When `alive` is due; None when nobody waits for it."""
        return self._next_ms if self._every_ms else None

    def stopping(self, status: str) -> None:
        """We were told to end, and do."""
        self._tell("STOPPING=1", f"STATUS={status}")

    def _tell(self, *lines: str) -> bool:
        """Whether it was sent."""
        if not self._address:
            return False
        # A name in the kernel's own space is written with @ for its NUL.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sending:
                sending.settimeout(_SEND_S)
                sending.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            if self._heard:
                log.warning("the service manager at %s can't be told anything: %s", self._address, error.strerror)
            self._heard = False
            return False
        self._heard = True
        return True
