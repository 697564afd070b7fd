"""The schedulers that a client may call: which one a call goes to, and when it goes to the next.

Between client.py, which repeats calls, and http.py, which calls one scheduler. All addresses of a list belong to
schedulers of one database. A call goes to the one that answered last, then to the others. A token is sent to addresses
of the list alone: a scheduler that names the active one only changes the order.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Final

from zsched.client.http import (
    UNKNOWN,
    Answer,
    ClientError,
    Refused,
    Unreachable,
    Untrusted,
    Wire,
    check_token,
    own_token,
)
from zsched.model.limits import HUNG_S
from zsched.security import endpoint
from zsched.security.endpoint import EndpointError

# The code of a scheduler that is not the active one.
STANDBY: Final = "standby"

# What a proxy answers while the scheduler behind it does not.
_GATEWAY_STATUS: Final = frozenset({502, 503, 504})


class Schedulers:
    """Connections to a list of schedulers. Threads may share them."""

    def __init__(self, url: str | Sequence[str] | None, token: str | None) -> None:
        """Defaults come from the environment, as documented at zsched.Client. Raises ClientError."""
        try:
            places = endpoint.parse_all(os.environ.get("ZSCHED_URL") if url is None or url == "" else url)
        except EndpointError as error:
            raise ClientError(str(error)) from None
        token = own_token() if token is None else check_token(token, "the argument token")
        self._wires = tuple(Wire(place, token, alone=len(places) == 1) for place in places)
        # The one that answered last.
        self._last = self._wires[0]
        # Until when to leave out those that hung, by the steady clock.
        self._hung_until_s: dict[Wire, float] = {}

    @property
    def url(self) -> str:
        """The URL of the scheduler that answered last; the first one before any answer."""
        return self._last.url

    @property
    def met(self) -> bool:
        """Whether a trusted server has ever listened at one of the addresses."""
        return any(wire.met for wire in self._wires)

    def close(self) -> None:
        """Close the connections that are not in use."""
        for wire in self._wires:
            wire.close()

    def send(self, method: str, path: str, body: object, timeout_s: float, key: str | None, *, again: bool) -> Answer:
        """Send a request to one scheduler after the other until an answer is final. `again`: it may be sent again
        though it may have been done. Otherwise it goes on only if the scheduler has certainly not done it.

        Raises as Wire.send does; Unreachable names all addresses that were tried, and why each failed.
        """
        left = self._order()
        failures: dict[Wire, Unreachable | Refused] = {}
        while left:
            wire = left.pop(0)
            if self._hangs(wire) and any(isinstance(error, Refused) for error in failures.values()):
                failures[wire] = Unreachable(f"{wire.url} hangs", unsent=True, why="it did not answer a moment ago")
                continue
            try:
                answer = wire.send(method, path, body, timeout_s, key)
            except (Unreachable, Refused) as error:
                if isinstance(error, Refused):
                    self._on_answer(wire)
                elif isinstance(error.__cause__, TimeoutError):
                    self._hung_until_s[wire] = time.monotonic() + HUNG_S
                if len(self._wires) == 1 or not _passes_on(error, again=again):
                    raise
                failures[wire] = error
                if isinstance(error, Refused):
                    named = [other for other in left if other.url == error.active.rstrip("/")]
                    left = named + [other for other in left if other not in named]
            else:
                self._on_answer(wire)
                return answer
        raise _nobody(failures)

    def _on_answer(self, wire: Wire) -> None:
        self._last = wire
        self._hung_until_s.pop(wire, None)

    def _order(self) -> list[Wire]:
        """All, beginning with the one that answered last, and ending with those that hang."""
        begin = self._wires.index(self._last)
        return sorted(self._wires[begin:] + self._wires[:begin], key=self._hangs)

    def _hangs(self, wire: Wire) -> bool:
        return time.monotonic() < self._hung_until_s.get(wire, 0.0)


def _passes_on(error: Unreachable | Refused, *, again: bool) -> bool:
    """Whether the next scheduler may do what this one did not."""
    if isinstance(error, Unreachable):
        return error.unsent or again
    if error.code == UNKNOWN and error.status in _GATEWAY_STATUS:
        return again
    return error.code == STANDBY


def _nobody(failures: Mapping[Wire, Unreachable | Refused]) -> Unreachable:
    """The error of a call that no scheduler of the list has answered."""
    whys = {
        wire.url: error.why if isinstance(error, Unreachable) else f"it answers {error.status}, {error}"
        for wire, error in failures.items()
    }
    errors = failures.values()
    kind = Untrusted if all(isinstance(error, Untrusted) for error in errors) else Unreachable
    who = "no active scheduler" if any(isinstance(error, Refused) for error in errors) else "no scheduler"
    return kind(
        f"{who} answers: {'; '.join(f'{url}: {why}' for url, why in whys.items())}",
        absent=all(isinstance(error, Unreachable) and error.absent for error in errors),
        unsent=all(isinstance(error, Refused) or error.unsent for error in errors),
    )
