"""The inbox: other threads post commands to the loop, and get each reply when its turn is committed.

Posting appends to a deque and writes one byte to a pipe that the loop polls together with its socket, because a thread
can't otherwise wake a poll. The byte is only written when the loop has not been woken yet: it clears the mark first
and empties the deque after, a poster appends first and looks at the mark after, so no command is missed.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

from zsched.model.limits import COMMAND_WAIT_S, GATHER_S
from zsched.scheduler.dispatcher.commands import Command

R = TypeVar("R")
# Of any reply: the future has that of its command.
Posted = tuple[Command[Any], "Future[Any]"]

# How often gather looks again.
_GATHER_STEP_S: Final = 0.000_2


class ClosedError(Exception):
    """The loop takes no more commands: the scheduler stops."""


class StandbyError(Exception):
    """There is no loop: another scheduler is the active one."""


class Inbox:
    """Commands on their way to the loop. `call`, `post`, `expect` and `serving` are for any thread, the others for the
    loop's own thread.
    """

    def __init__(self, callers_max: int) -> None:
        """`callers_max`: how many threads can be in `call` at the same time."""
        self.callers_max = callers_max
        self._posted: deque[Posted] = deque()
        # As many runs are pending as may be, as of the last turn: a submit can be refused without a turn.
        self.full = False
        self._woken = False
        # The error that a command gets at once; None while the loop takes commands.
        self._closed: type[Exception] | None = None
        # Requests that have come in and have not posted yet, and the one that each thread serves.
        self._coming: set[object] = set()
        self._local = threading.local()
        self.descriptor, self._writable = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._writable, False)

    def call(self, command: Command[R]) -> R:
        """Post a command and wait for its reply.

        Raises RefusedError as the dispatcher did, StoreError when the turn could not be stored, ClosedError,
        StandbyError, and TimeoutError after COMMAND_WAIT_S: then the command may still be done.
        """
        if self._closed is not None:
            raise self._closed
        future: Future[R] = Future()
        self._posted.append((command, future))
        self.postpone()
        self.wake()
        return future.result(COMMAND_WAIT_S)

    def post(self, command: Command[Any]) -> None:
        """Have a command done in the next turn, which comes within a second. There is no reply."""
        if self._closed is None:
            self._posted.append((command, Future()))

    def expect(self, mark: object) -> None:
        """A request that may post a command has come in; `mark` is its own, until it has been served."""
        self._coming.add(mark)

    @contextmanager
    def serving(self, mark: object) -> Iterator[None]:
        """Around the serving of a request, in the thread that serves it: with its first command it is not expected any
        more.
        """
        self._local.mark = mark
        try:
            yield
        finally:
            self._coming.discard(mark)

    def postpone(self) -> None:
        """The request that this thread serves will not post soon: no turn waits for it."""
        self._coming.discard(getattr(self._local, "mark", None))

    def wake(self) -> None:
        """Make the loop turn. Also safe in a signal handler."""
        if not self._woken:
            self._woken = True
            os.write(self._writable, b"!")

    def gather(self) -> None:
        """Wait for requests that have come in and are about to post, at most GATHER_S: one sync then serves them all.

        A single caller never waits, because its own request has posted already. When every serving thread has posted,
        no other can.
        """
        until = time.monotonic() + GATHER_S
        while self._coming and len(self._posted) < self.callers_max and time.monotonic() < until:
            time.sleep(_GATHER_STEP_S)

    def take(self, count: int) -> Iterator[Posted]:
        """Up to count commands, in the order of posting. Those that the caller leaves stay, without another wake."""
        # A poster sets the mark before it writes, so the byte may come later, even after the mark is cleared: always
        # try to read it, and expect that it is absent.
        with suppress(BlockingIOError):
            os.read(self.descriptor, 4096)
        self._woken = False
        for _ in range(count):
            if not self._posted:
                return
            yield self._posted.popleft()

    def __bool__(self) -> bool:
        return bool(self._posted)

    def open(self) -> None:
        """Accept commands again."""
        self._closed = None

    def close(self, error: type[Exception] = ClosedError) -> None:
        """Refuse further commands; those already posted can still be taken."""
        self._closed = error

    def refuse(self, error: type[Exception] = ClosedError) -> None:
        """Refuse further commands, and those already posted."""
        self.close(error)
        for _, future in self.take(len(self._posted)):
            future.set_exception(error())
