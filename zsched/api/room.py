"""Bounds of concurrent large work: request bodies, by their bytes, and pages of lists.

Until its request is served, a body takes several times its size, and parsing it keeps other Python threads from
running; so does building a large page. Further work waits, first come, first served. Only a few calls may wait, because
each holds a thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

import falcon

from zsched.api.problem import Problem
from zsched.model.limits import SMALL_BODY_BYTES_MAX, WAITING_BODIES_BYTES_MAX

# How long a body waits for its turn.
_WAIT_S: Final = 10.0


class Room:
    """Thread-safe."""

    def __init__(self, size_max: int, waiters_max: int, busy: str) -> None:
        """`size_max` is in the unit of `take`. `busy` is the detail of the 503 Problem."""
        self._changed = threading.Condition()
        self._size_max = size_max
        self._free = size_max
        self._busy = busy
        self._waiters_max = waiters_max
        self._waiting: deque[object] = deque()
        self._waiting_bytes = 0

    def take(self, size: int) -> int:
        """Take room for `size`, or all room if it is larger. Returns the amount for `give_back`. Raises a 503 Problem
        if too many callers or bytes wait already, or the wait takes too long.
        """
        taken = min(size, self._size_max)
        with self._changed:
            if self._waiting or self._free < taken:
                self._wait(taken, size)
            self._free -= taken
        return taken

    def give_back(self, taken: int) -> None:
        with self._changed:
            self._free += taken
            self._changed.notify_all()

    def _wait(self, taken: int, size: int) -> None:
        place = object()
        if len(self._waiting) >= self._waiters_max or self._waiting_bytes + size > WAITING_BODIES_BYTES_MAX:
            raise self._refusal()
        self._waiting.append(place)
        self._waiting_bytes += size
        try:
            if not self._changed.wait_for(lambda: self._waiting[0] is place and self._free >= taken, _WAIT_S):
                raise self._refusal()
        finally:
            self._waiting.remove(place)
            self._waiting_bytes -= size
            # The next in the queue may fit now.
            self._changed.notify_all()

    def _refusal(self) -> Problem:
        return Problem(503, "unavailable", self._busy, headers={"Retry-After": "1"})


class Admission:
    """Falcon middleware, as `req.context.admission`. The room that a request took is given back when it has been
    answered.
    """

    def __init__(self, bodies: Room, uploads: Room, postpone: Callable[[], None]) -> None:
        """`bodies` has room for bytes, `uploads` for bodies that are read while they come. `postpone` is called in the
        thread of a request with a large body, which will not post a command soon.
        """
        self._bodies = bodies
        self._uploads = uploads
        self._postpone = postpone

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        req.context.admission = self
        req.context.taken = []

    def process_response(
        self, req: falcon.Request, _resp: falcon.Response, _resource: object, _succeeded: bool
    ) -> None:
        for room, taken in getattr(req.context, "taken", ()):
            room.give_back(taken)

    def admit(self, req: falcon.Request, size: int) -> None:
        """Admit a body of this size. A large one waits for room. Raises a 503 Problem."""
        if size > SMALL_BODY_BYTES_MAX:
            self._take(req, self._bodies, size)

    def admit_upload(self, req: falcon.Request) -> None:
        """Admit a body that is read while it comes. It waits for its turn. Raises a 503 Problem."""
        self._take(req, self._uploads, 1)

    def _take(self, req: falcon.Request, room: Room, size: int) -> None:
        self._postpone()
        req.context.taken.append((room, room.take(size)))
