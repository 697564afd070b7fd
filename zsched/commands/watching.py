"""Show the output of a job while it runs. Used by `zsched run` and `zsched logs`.

One thread per stream reads from the scheduler, which holds its answer until there is output. The main thread writes
the chunks, so that a signal always finds it waiting in one place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from threading import Semaphore, Thread
from typing import Final, NamedTuple, Protocol, TextIO, TypeVar

from zsched.client.client import LOOK_FACTOR, LOOK_S_MAX, LOOK_S_MIN, PATIENCE_S, Chunk, Client, Job, Stream
from zsched.client.task import Task
from zsched.commands import table
from zsched.commands.exits import say
from zsched.commands.text import Cleaner
from zsched.model.limits import WATCHED_PIECES_MAX

# How long the first output of a run that nobody has viewed yet may take.
ASK_S: Final = 0.5


Followed = TypeVar("Followed", bound=Job | Task)


class Sink(Protocol):
    """Receives chunks. `missing` bytes before a chunk were not kept."""

    def write(self, run_id: int, stream: Stream, chunk: Chunk, missing: int) -> None: ...


class Plain:
    """Writes each stream to its file: raw bytes, but sanitized for a terminal."""

    def __init__(self, targets: Mapping[Stream, TextIO]) -> None:
        self._targets = targets
        self._cleaners = {stream: Cleaner() for stream, target in targets.items() if target.isatty()}

    def write(self, run_id: int, stream: Stream, chunk: Chunk, missing: int) -> None:
        if missing:
            from zsched.model.units import counted

            say(f"{counted(missing, 'byte')} of {stream} left out here: not kept")
        target = self._targets[stream]
        cleaner = self._cleaners.get(stream)
        if cleaner is None:
            target.buffer.write(chunk.data)
        else:
            target.write(cleaner.feed(chunk.data, chunk.end))
        target.flush()


class Records:
    """Writes both streams to stdout as lines of JSON."""

    def write(self, run_id: int, stream: Stream, chunk: Chunk, missing: int) -> None:
        if chunk.data:
            text = chunk.data.decode(errors="replace")
            table.record({"run_id": run_id, "stream": stream, "offset": chunk.offset, "text": text})


class _Piece(NamedTuple):
    stream: Stream
    chunk: Chunk
    missing: int


class Watch:
    """Follows a job, or one run of it, and passes its output to a sink."""

    def __init__(
        self,
        client: Client,
        sink: Sink,
        streams: tuple[Stream, ...] = ("stdout", "stderr"),
        tail: int | None = None,
        on_interrupt: Callable[[], None] | None = None,
    ) -> None:
        """`tail`: of the earlier output, only this number of lines is written."""
        self._client = client
        self._sink = sink
        self._streams = streams
        self._tail = tail
        self._on_interrupt = on_interrupt
        # In order: a chunk, a failed read, or None for Ctrl-C.
        self._events: SimpleQueue[_Piece | Exception | None] = SimpleQueue()
        self._room = Semaphore(WATCHED_PIECES_MAX)

    def interrupt(self) -> None:
        """Call on_interrupt between two chunks. For signal handlers."""
        self._events.put(None)

    def job(self, job: Followed) -> Followed:
        """Follow a job or a task from its current run on until it has ended; returns it."""
        followed = 0
        pause_s = LOOK_S_MIN
        while True:
            job.refresh(PATIENCE_S)
            run_id = job.run.get("run_id", 0)
            if run_id > followed:
                self.run(run_id)
                followed, pause_s, self._tail = run_id, LOOK_S_MIN, None
            elif job.done:
                return job
            else:
                self._pause(pause_s)
                pause_s = min(pause_s * LOOK_FACTOR, LOOK_S_MAX)

    def run(self, run_id: int) -> None:
        """Follow one run to its end. Raises ClientError."""
        for stream in self._streams:
            Thread(target=self._read, args=(run_id, stream, self._tail), daemon=True).start()
        live = len(self._streams)
        while live:
            match self._events.get():
                case None:
                    self._interrupted()
                case Exception() as error:
                    raise error
                case piece:
                    self._sink.write(run_id, *piece)
                    self._room.release()
                    live -= piece.chunk.end

    def _pause(self, pause_s: float) -> None:
        try:
            event = self._events.get(timeout=pause_s)
        except Empty:
            return
        assert event is None
        self._interrupted()

    def _interrupted(self) -> None:
        if self._on_interrupt is not None:
            self._on_interrupt()

    def _read(self, run_id: int, stream: Stream, tail: int | None) -> None:
        """A thread: queue the chunks of a stream, or the error."""
        try:
            offset = 0
            if tail is not None:
                now = read_known(self._client, run_id, stream)
                offset = now.next
                self._bring(_Piece(stream, now._replace(data=last_lines(now.data, tail)), 0))
                if now.end:
                    return
            for chunk in self._client.follow(run_id, stream, offset):
                self._bring(_Piece(stream, chunk, chunk.offset - offset))
                offset = chunk.next
        except Exception as error:
            self._events.put(error)

    def _bring(self, piece: _Piece) -> None:
        self._room.acquire()
        self._events.put(piece)


def read_known(client: Client, run_id: int, stream: Stream) -> Chunk:
    """The output of a live run on a stream up to now, as one chunk. Raises ClientError."""
    # A worker sends output only while it is viewed, so the first answer may take a moment.
    chunk = client.read(run_id, stream, hold_s=ASK_S)
    parts = [chunk.data]
    while chunk.data and not chunk.end:
        chunk = client.read(run_id, stream, chunk.next)
        parts.append(chunk.data)
    return chunk._replace(data=b"".join(parts))


def targets(only: Stream | None) -> dict[Stream, TextIO]:
    """The file of each stream: stdout and stderr, or stdout for a single stream."""
    return {only: sys.stdout} if only else {"stdout": sys.stdout, "stderr": sys.stderr}


def last_lines(data: bytes, count: int) -> bytes:
    """The last `count` lines of a text. What follows the last newline is a line too."""
    end = len(data) - data.endswith(b"\n")
    for _ in range(count):
        end = data.rfind(b"\n", 0, end)
        if end < 0:
            return data
    return data[end + 1 :] if count else b""
