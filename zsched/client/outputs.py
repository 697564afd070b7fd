"""The calls of the Python client about runs and their output."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

from zsched.client.arguments import check
from zsched.client.http import HOLD_S, LOOK_FACTOR, LOOK_S_MAX, LOOK_S_MIN, PATIENCE_S, Answer, Stream, View


class Chunk(NamedTuple):
    """A part of a run's output: the bytes from `offset` on, the offset after it, and whether the stream ends."""

    offset: int
    data: bytes
    next: int
    end: bool


class Outputs(ABC):
    """Part of Client."""

    @abstractmethod
    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        patience_s: float = 0.0,
        hold_s: float = 0.0,
        key: str | None = None,
    ) -> Answer:
        """One request; see Client."""

    def run(self, run_id: int) -> View:
        """A run as REST shows it. Raises NotFound."""
        check("run_id", run_id, int)
        return dict(self.ask("GET", f"/runs/{run_id}").json())

    def log(self, run_id: int, stream: Stream = "stdout") -> bytes:
        """The known output of a run on a stream. A line marks bytes that were not kept."""
        check("run_id", run_id, int)
        check("stream", stream, Stream)
        return self.ask("GET", f"/runs/{run_id}/log?stream={stream}").body

    def read(self, run_id: int, stream: Stream, offset: int = 0, hold_s: float = 0.0, patience_s: float = 0.0) -> Chunk:
        """The known output from an offset on. While there is none, the scheduler holds its answer for up to hold_s.

        The chunk begins later than `offset` if bytes were not kept.
        """
        check("run_id", run_id, int)
        check("stream", stream, Stream)
        check("offset", offset, int)
        wait = f"&wait={hold_s:g}s" if hold_s else ""
        path = f"/runs/{run_id}/log?stream={stream}&offset={offset}{wait}"
        headers, body = self.ask("GET", path, patience_s=patience_s, hold_s=hold_s)
        begin = int(headers.get("Zsched-Offset", offset))
        following = int(headers.get("Zsched-Next", begin + len(body)))
        return Chunk(begin, body, following, headers.get("Zsched-End", "true") == "true")

    def follow(self, run_id: int, stream: Stream, offset: int = 0) -> Iterator[Chunk]:
        """The chunks of a stream as they come, until its end. Outlives a scheduler that starts again."""
        pause_s = 0.0
        while True:
            begin = time.monotonic()
            chunk = self.read(run_id, stream, offset, HOLD_S, PATIENCE_S)
            yield chunk
            if chunk.end:
                return
            offset = chunk.next
            # A scheduler that can't hold more answers returns an empty one: ask it less often.
            early = not chunk.data and time.monotonic() - begin < LOOK_S_MAX
            pause_s = min(max(LOOK_S_MIN, pause_s * LOOK_FACTOR), LOOK_S_MAX) if early else 0.0
            time.sleep(pause_s)
