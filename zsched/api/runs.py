"""/runs: a run, and its output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import falcon

from zsched.api import views
from zsched.api.context import Context, answer, duration_ms, number, parameters, run_id
from zsched.api.problem import Problem, invalid
from zsched.model.lifecycle import TERMINAL
from zsched.model.limits import INTEGER_MAX, OUTPUT_BYTES_MAX, WAIT_MS_MAX
from zsched.model.types import Run, RunId, RunStatus, Stream, StreamName
from zsched.scheduler.dispatcher.commands import Look
from zsched.scheduler.live import RENEW_S, of_run

# The parameters of a call for output.
LOG: Final = ("stream", "offset", "wait")


class RunItem:
    """/runs/{id}"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response, run: str) -> None:
        parameters(req)
        found = found_run(self._context.reader.run(run_id(run)))
        answer(resp, views.run(found, self._context.reader.output(found.run_id)))

    on_head = on_get


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a stream: its offset, its bytes, and whether the stream ends with it."""

    offset: int
    data: bytes
    end: bool

    @property
    def next(self) -> int:
        return self.offset + len(self.data)


class RunLog:
    """/runs/{id}/log: a run's output on one stream. The whole, with a marker where bytes were not kept; or part by part
    from an offset on, also while it runs.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response, run: str) -> None:
        given = parameters(req, *LOG)
        self.answer(resp, given, found_run(self._context.reader.run(run_id(run))))

    on_head = on_get

    def answer(self, resp: falcon.Response, given: dict[str, str], found: Run) -> None:
        """Answer with the output of a run. `given`: parameters."""
        name = _stream_name(given.get("stream", "stdout"))
        wait_s = duration_ms(given, "wait", WAIT_MS_MAX) / 1000
        offset = number(given, "offset", 0, 0, INTEGER_MAX)
        resp.content_type = falcon.MEDIA_TEXT
        resp.cache_control = ["no-store"]
        if "offset" not in given and found.status in TERMINAL:
            resp.data = views.kept(self._kept(found.run_id, name), OUTPUT_BYTES_MAX, "they were not kept")
            return
        part = self._context.live.hold(
            lambda: self._look(found.run_id, name, offset),
            lambda part: bool(part.data) or part.end,
            wait_s,
            of_run(found.run_id),
            RENEW_S,
        )
        resp.data = part.data
        resp.set_header("Zsched-Offset", str(part.offset))
        resp.set_header("Zsched-Next", str(part.next))
        resp.set_header("Zsched-End", "true" if part.end else "false")

    def _look(self, run: RunId, name: StreamName, offset: int) -> Part:
        found = found_run(self._context.reader.run(run))
        if found.status in TERMINAL:
            return _piece(self._kept(run, name), offset)
        if found.status is RunStatus.RUNNING:
            seen = self._context.live.look(run)
            if seen is not None:
                self._context.inbox.call(Look(run, *seen))
            return Part(*self._context.live.read(run, name, offset), end=False)
        return Part(offset, b"", end=False)

    def _kept(self, run: RunId, name: StreamName) -> Stream:
        output = self._context.reader.output(run)
        if output is None:
            return Stream()
        return output.stdout if name == "stdout" else output.stderr


def _piece(stream: Stream, offset: int) -> Part:
    """The kept output of an ended run from an offset on, up to the next gap."""
    gap, tail = len(stream.head), stream.total - len(stream.tail)
    if offset < gap and stream.cut:
        return Part(offset, stream.head[offset:], end=False)
    if offset < gap:
        return Part(offset, stream.head[offset:] + stream.tail, end=True)
    begin = min(max(offset, tail), stream.total)
    return Part(begin, stream.tail[begin - tail :] if begin >= tail else b"", end=True)


def _stream_name(word: str) -> StreamName:
    if word == "stdout":
        return "stdout"
    if word == "stderr":
        return "stderr"
    raise invalid("stream", "stdout or stderr")


def found_run(run: Run | None) -> Run:
    """A run that exists. Raises a 404 Problem."""
    if run is None:
        raise Problem(404, "unknown_run", "Run not found")
    return run
