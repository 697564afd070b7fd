"""The scheduler's loop: one thread owns the ROUTER socket, the write connection and the dispatcher.

One turn is one transaction. It takes in what has arrived, lets the dispatcher decide, commits, and only then sends
frames and answers callers: so no answer can be undone by a crash, and a hundred callers share one sync to disk.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import zmq

from zsched import protocol
from zsched.host.logs import Outage
from zsched.model.limits import (
    STORE_PAUSE_S,
    TURN_BYTES_MAX,
    TURN_COMMANDS_MAX,
    TURN_ENTRIES_MAX,
    TURN_FRAMES_MAX,
    TURN_HELD_MAX,
    TURN_ROWS_MAX,
    UNCONFIRMED_MS,
)
from zsched.model.types import Now
from zsched.scheduler.dispatcher import Dispatcher
from zsched.scheduler.dispatcher.commands import BusyError, Command, KeyBound, RefusedError
from zsched.scheduler.frames import FrameQueue, read
from zsched.scheduler.inbox import ClosedError, Inbox, StandbyError
from zsched.scheduler.live import Live
from zsched.store.contract import Store, StoreConstraint, StoreCorrupt, StoreDeposed, StoreError, StoreUnsure

log = logging.getLogger(__name__)

# A command, where its caller waits, and the reply or the error. Replies have the types that commands name.
Answer = tuple[Command[Any], "Future[Any]", object]


def clock() -> Now:
    """The time of a turn."""
    return Now(mono_ms=time.monotonic_ns() // 1_000_000, wall_ms=time.time_ns() // 1_000_000)


@dataclass(frozen=True, slots=True)
class Turns:
    """How a loop takes its turns: its clock, what it calls after each turn, and the bounds of one turn.

    `after` is called also after a turn that could not be stored: a full disk does not count as standing still, and no
    restart cures it.
    """

    clock: Callable[[], Now] = clock
    after: Callable[[Now], None] = lambda _: None
    frames_max: int = TURN_FRAMES_MAX
    bytes_max: int = TURN_BYTES_MAX
    entries_max: int = TURN_ENTRIES_MAX
    commands_max: int = TURN_COMMANDS_MAX
    rows_max: int = TURN_ROWS_MAX
    held_max: int = TURN_HELD_MAX


class WorkerPort(Protocol):
    """Receives and sends frames; port.py implements it."""

    @property
    def sockets(self) -> Sequence[zmq.Socket[bytes]]:
        """What to poll."""

    def receive(self) -> tuple[bytes, list[bytes], str] | None:
        """The next message, or None: its sender's name, its parts, and the key of its connection."""

    def send(self, peer: bytes, body: bytes) -> None:
        """Raises zmq.ZMQError when the frame was certainly not sent."""

    def answer_strangers(self) -> None:
        """Answer which keys may connect."""

    def open_outward(self) -> None:
        """Listen on the addresses that other hosts reach, unless that is done. Raises OSError, zmq.ZMQError."""


class Loop:
    """Takes turns until `stop`. Everything here runs in one thread, except `stop`."""

    def __init__(
        self,
        store: Store,
        dispatcher: Dispatcher,
        port: WorkerPort,
        inbox: Inbox,
        live: Live | None = None,
        turns: Turns | None = None,
    ) -> None:
        """`live`: callers that wait, and watched output; None without REST."""
        self._store = store
        self._dispatcher = dispatcher
        self._port = port
        self._inbox = inbox
        self._live = live
        self.turns = turns or Turns()
        self._poller = zmq.Poller()
        for source in port.sockets:
            self._poller.register(source, zmq.POLLIN)
        self._poller.register(inbox.descriptor, zmq.POLLIN)
        self._stopping = False
        self._next_tick_ms = 0
        self._frames = FrameQueue()
        # Heartbeats that this turn has handled.
        self._beats: list[tuple[bytes, str, protocol.Heartbeat]] = []
        self._unsent: list[tuple[bytes, protocol.SchedulerFrame]] = []
        self._outage = Outage(log, "a turn could not be stored", "turns are stored again")
        # When the last turn was stored, on the steady clock; and when the epoch was last read as ours.
        self.turned_ms = self._confirmed_ms = self.turns.clock().mono_ms

    def stop(self) -> None:
        """End the loop after the turn under way. For signal handlers and other threads."""
        self._stopping = True
        self._inbox.wake()

    def run(self, close_door: Callable[[], None] = lambda: None) -> None:
        """Turn until `stop`; then close the door to new callers, answer the others, and say goodbye to the workers.

        Raises StoreUnsure when a sync failed or a commit was not confirmed, StoreCorrupt when the file is damaged: end
        then. The callers of that turn got TimeoutError, those that waited for the next one ClosedError. Raises
        StoreDeposed when another scheduler has taken over: nothing of the last turn was stored or sent, and its callers
        got StandbyError.
        """
        while not self._stopping:
            self._wait()
            self._turn()
            self.turns.after(self.turns.clock())
        close_door()
        self._inbox.close()
        self._turn(last=True)
        for _, future in self._inbox.take(self.turns.commands_max):
            _resolve(future, ClosedError())

    def _wait(self) -> None:
        """Sleep until a frame or a command arrives or the tick is due."""
        self._poller.poll(max(0, self._next_tick_ms - self.turns.clock().mono_ms))

    def _turn(self, *, last: bool = False) -> None:
        if self._inbox:
            self._inbox.gather()
        self._port.answer_strangers()
        waiting = len(self._frames)
        drained = self._receive()
        now = self.turns.clock()
        self._hear(waiting, now, drained=drained)
        self._beats.clear()
        answers: list[Answer] = []
        try:
            self._store.begin()
            self._dispatcher.on_begin(now)
            self._report_unsent(now)
            self._handle_frames(now)
            for command, future in self._inbox.take(self.turns.commands_max):
                # Listed before it is done: its caller gets an answer even when the store fails in the middle of it.
                answers.append((command, future, None))
                answers[-1] = (command, future, self._do(command, now))
                if self._full():
                    # What is left may be a sign of life.
                    drained = drained and not self._inbox
                    break
            self._next_tick_ms = self._dispatcher.on_tick(now, drained=drained and not self._frames)
            answers = [self._complete(*answer) for answer in answers]
            if last:
                self._dispatcher.on_stop()
            self._store.commit()
        except (StoreUnsure, StoreCorrupt):
            # It may be stored: a caller that believes otherwise would ask for it again.
            for _, future, _ in answers:
                future.set_exception(TimeoutError())
            self._inbox.refuse()
            raise
        except StoreDeposed:
            # Found at the beginning of the turn, so no command was done.
            self._depose()
            raise
        except StoreError as error:
            self._give_up(answers, error, now)
            return
        self._dispatcher.on_commit()
        # A turn that changes nothing can be stored on a full disk too.
        if self._store.rows_changed:
            self._outage.worked(now.mono_ms)
        # Only now: a turn that was given up reports them again.
        self._unsent.clear()
        self._inbox.full = self._dispatcher.full
        if self._frames or self._inbox:
            self._next_tick_ms = now.mono_ms
        self._send()
        for _, future, answer in answers:
            _resolve(future, self._opened(answer))
        self._show()
        self.turned_ms = self._confirmed_ms = self.turns.clock().mono_ms

    def _opened(self, answer: object) -> object:
        """The answer. One that gives a worker of another host its key opens the port to other hosts first."""
        if not isinstance(answer, KeyBound) or not answer.outward:
            return answer
        try:
            self._port.open_outward()
        except (OSError, zmq.ZMQError) as error:
            log.error("the workers' port can't be opened to other hosts: %s", error)
            return BusyError(
                "port_taken",
                f"The key is stored, but the workers' port can't be opened to other hosts: {error}. Free that port, or"
                " set zmq_port and start the scheduler again",
            )
        return answer

    def _show(self) -> None:
        """Pass on watched output, and wake the callers whose topics the turn has changed."""
        output = self._dispatcher.outbox.output
        if self._live is not None:
            self._live.feed(output)
            if self._live.is_awaited:
                self._live.wake(self._store.changes)
        output.clear()

    def _full(self) -> bool:
        """Whether the turn has changed or read as many rows as it may. The rest waits for the next turn."""
        return self._store.rows_changed >= self.turns.rows_max or self._store.held_read >= self.turns.held_max

    def _receive(self) -> bool:
        """Read what has arrived, until the waiting frames reach a bound. Returns whether it has read all."""
        frames, most = self._frames, self.turns
        while len(frames) < most.frames_max and frames.bytes < most.bytes_max and frames.entries < most.entries_max:
            arrived = self._port.receive()
            if arrived is None:
                return True
            frames.add(read(*arrived))
        return False

    def _hear(self, known: int, now: Now, *, drained: bool) -> None:
        """Note which workers have spoken: all waiting frames but the first `known` are new."""
        hearing = self._dispatcher.hearing
        hearing.on_look(now, drained=drained)
        for peer, key, frame, *_ in self._frames.after(known):
            if not isinstance(frame, protocol.ProtocolError):
                hearing.on_frame(peer, frame, now, key)

    def _report_unsent(self, now: Now) -> None:
        for peer, frame in self._unsent:
            self._dispatcher.on_unreachable(peer, frame, now)

    def _handle_frames(self, now: Now) -> None:
        self._store.look_ahead(self._frames.runs())
        while self._frames and not self._full():
            peer, key, frame, *_ = self._frames.take()
            if isinstance(frame, protocol.ProtocolError):
                self._dispatcher.on_garbage(peer, str(frame), now)
                continue
            if isinstance(frame, protocol.Heartbeat):
                self._beats.append((peer, key, frame))
            outbox = self._dispatcher.outbox
            mark = outbox.mark()
            try:
                with self._store.savepoint():
                    self._dispatcher.on_frame(peer, frame, now, key)
            except Exception as error:
                if _ends_turn(error):
                    raise
                outbox.cut(mark)
                # Our own bug: this frame has no effect, and the turn goes on.
                log.exception("a %s frame could not be handled", type(frame).__name__)

    def _do(self, command: Command[Any], now: Now) -> object:
        self._dispatcher.hearing.on_command(command, now)
        outbox = self._dispatcher.outbox
        mark = outbox.mark()
        try:
            with self._store.savepoint():
                return self._dispatcher.on_command(command, now)
        except RefusedError as refused:
            return refused
        except Exception as error:
            if _ends_turn(error):
                raise
            outbox.cut(mark)
            log.exception("a %s command could not be handled", type(command).__name__)
            return error

    def _complete(self, command: Command[Any], future: Future[Any], answer: object) -> Answer:
        """The answer as its caller gets it. Raises StoreError: what can't be answered is not done."""
        if isinstance(answer, Exception):
            return command, future, answer
        try:
            return command, future, self._dispatcher.complete(answer)
        except RefusedError as refused:
            return command, future, refused
        except StoreError:
            raise
        except Exception as error:
            log.exception("a %s command could not be answered", type(command).__name__)
            return command, future, error

    def _give_up(self, answers: list[Answer], error: StoreError, begun: Now) -> None:
        """The turn could not be stored: nothing of it has happened. Workers send again what is not acked."""
        now = self.turns.clock()
        self._outage.failed(error, now.mono_ms)
        self._store.rollback()
        self._dispatcher.on_rollback()
        self._dispatcher.hearing.on_store_wait(now.mono_ms - begun.mono_ms)
        # Taken before any caller is answered: one that tries again at once gets a turn of its own.
        waiting = list(self._inbox.take(self.turns.commands_max))
        for command, _ in waiting:
            self._dispatcher.hearing.on_command(command, now)
        for future in (*(future for _, future, _ in answers), *(future for _, future in waiting)):
            _resolve(future, error)
        self._ack_unstored()
        self._next_tick_ms = now.mono_ms + int(STORE_PAUSE_S * 1000)

    def _depose(self) -> None:
        """Another scheduler leads: nothing of the turn has happened, and nothing is sent."""
        self._store.rollback()
        self._dispatcher.on_rollback()
        self._inbox.refuse(StandbyError)

    def _ack_unstored(self) -> None:
        """Answer the heartbeats of a turn that failed, and those that wait for the next: reading may still work.

        Only if we still lead: an ack lets runs go on that the next scheduler may consider lost. Raises StoreDeposed,
        also when that could not be read for UNCONFIRMED_MS.
        """
        for _ in range(len(self._frames)):
            waiting = self._frames.take()
            if isinstance(waiting.frame, protocol.Heartbeat):
                self._beats.append((waiting.peer, waiting.key, waiting.frame))
            else:
                self._frames.add(waiting)
        try:
            self._confirm()
            for peer, key, beat in self._beats:
                self._dispatcher.ack_unstored(peer, beat, key)
        except StoreDeposed:
            self._depose()
            raise
        except StoreError as error:
            log.debug("heartbeats are not answered: %s", error)
        self._send()

    def _confirm(self) -> None:
        """Read whether we still lead. Raises StoreError, StoreDeposed."""
        try:
            self._store.confirm_epoch()
        except StoreDeposed:
            raise
        except StoreError as error:
            if self.turns.clock().mono_ms - self._confirmed_ms > UNCONFIRMED_MS:
                raise StoreDeposed(f"another scheduler may have taken over: {error}") from None
            raise
        self._confirmed_ms = self.turns.clock().mono_ms

    def _send(self) -> None:
        """Send the outbox. A frame that did not leave is reported to the dispatcher in the next turn, which comes at
        once.
        """
        for peer, frame in self._dispatcher.outbox.frames:
            try:
                self._port.send(peer, protocol.pack(frame))
            except zmq.ZMQError as error:
                if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                    raise
                self._unsent.append((peer, frame))
                self._next_tick_ms = 0
        self._dispatcher.outbox.frames.clear()


def _ends_turn(error: Exception) -> bool:
    """Whether nothing of the turn can be stored. A broken constraint concerns one frame or command alone."""
    return isinstance(error, StoreError) and not isinstance(error, StoreConstraint)


def _resolve(future: Future[Any], answer: object) -> None:
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
