"""A scheduler for tests of the worker: a real ROUTER and a real enrol endpoint, all else in the test's own hands.

The ROUTER belongs to the test's thread and is served only inside `until`. Nothing here decides as the real scheduler
does beyond what a worker has to see: a window that is kept, results that are acked, registers that are answered.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

import msgspec
import zmq

from zsched.protocol import (
    Cancel,
    Dispatch,
    Error,
    Heartbeat,
    HeartbeatAck,
    Ready,
    Register,
    Registered,
    Result,
    ResultAck,
    Return,
    RunOrder,
    RunResult,
    SchedulerFrame,
    Started,
    WorkerBye,
    WorkerFrame,
    pack,
    unpack_from_worker,
)

DEADLINE_S = 20.0
# What the worker may have sent at once before the others get their turn.
_FRAMES_MAX = 1_000


class StubScheduler:
    """One scheduler for one worker.

    Public attributes are what the test looks at, or sets before it lets things go on.
    """

    def __init__(self, timeout_ms: int = 3_000, db: str = "db-1", port: int = 0, zmq_port: int = 0) -> None:
        """`port` is the one for HTTP; 0 takes any, also for the worker port."""
        self.timeout_ms = timeout_ms
        self.db = db
        self.acking = True
        self.answering = True
        self.refusal: Error | None = None
        # How enrolling is refused, with 503: the body of the answer. And how often it was asked for.
        self.standby: dict[str, str] | None = None
        self.enrolments = 0
        self.seen: list[WorkerFrame] = []
        self.registers: list[Register] = []
        self.started: dict[int, Started] = {}
        self.results: dict[int, RunResult] = {}
        self.returned: list[int] = []
        self.byes: list[str] = []
        self.kill: set[int] = set()
        self.running: dict[int, RunOrder] = {}
        self._pending: deque[RunOrder] = deque()
        self._peer = b""
        self._session = ""
        self._n = 0
        self.window = self._ahead = self._slots = 0
        self._next_run = 1
        self._port = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._router = self._bind(zmq_port)
        self._http = _serve_enrol(self, port)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        # Not term(): that waits for sockets which a failed test may still refer to.
        self._context.destroy(linger=0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def endpoint(self) -> str:
        return self._router.getsockopt_string(zmq.LAST_ENDPOINT)

    def restart(self) -> None:
        """As after a kill -9:

        the same port, and every session unknown. What is running stays known, as in a database.
        """
        if not self._router.closed:
            self.hang_up()
        self._session = ""
        self._router = self._bind(self._port)

    def hang_up(self) -> None:
        """Be gone. Serve nothing until `restart`."""
        self._port = int(self.endpoint.rpartition(":")[2])
        self._router.close(0)

    def submit(self, command: str, **fields: object) -> int:
        """A run to be handed out as soon as the window allows; returns its id."""
        run = self._next_run
        self._next_run += 1
        plain = RunOrder(run=run, job=run, task=0, attempt=1, command=command, grace_ms=500, output_bytes_max=64 * 1024)
        self._pending.append(msgspec.structs.replace(plain, **fields))
        return run

    def cancel(self, *runs: int) -> None:
        self._send(Cancel(s=self._session, ep=1, runs=runs))

    def send_again(self, *runs: int) -> None:
        """Orders that the worker has already: it must not start them twice."""
        self._n += 1
        self._send(Dispatch(s=self._session, ep=1, n=self._n, runs=tuple(self.running[run] for run in runs)))

    def push(self) -> None:
        """Hand out everything, whatever the worker asked for."""
        self._hand_out(len(self._pending))

    def run(self, command: str, **fields: object) -> RunResult:
        """Submit, and wait for the result."""
        run = self.submit(command, **fields)
        self.until(lambda: run in self.results)
        return self.results[run]

    def until(self, done: Callable[[], object], timeout_s: float = DEADLINE_S) -> None:
        """Serve the worker until `done` is true. Fails the test when it isn't by then."""
        end = time.monotonic() + timeout_s
        while not done():
            left_s = end - time.monotonic()
            assert left_s > 0, f"not within {timeout_s} s; seen: {[type(frame).__name__ for frame in self.seen[-20:]]}"
            self._serve(min(left_s, 0.05))

    def _bind(self, port: int) -> zmq.Socket[bytes]:
        router = self._context.socket(zmq.ROUTER)
        router.setsockopt(zmq.LINGER, 0)
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        end = time.monotonic() + DEADLINE_S
        while True:
            try:
                router.bind(f"tcp://127.0.0.1:{port or '*'}")
                return router
            # ZeroMQ closes in a thread of its own, so the port of a closed socket gets free a moment later.
            except zmq.ZMQError as error:
                if error.errno != zmq.EADDRINUSE or time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def _serve(self, wait_s: float) -> None:
        self._dispatch()
        if not self._router.poll(int(wait_s * 1000) + 1):
            return
        for _ in range(_FRAMES_MAX):
            try:
                peer, body = self._router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            frame = unpack_from_worker(body)
            self.seen.append(frame)
            if self.answering:
                self._on_frame(peer, frame)
        self._dispatch()

    def _on_frame(self, peer: bytes, frame: WorkerFrame) -> None:
        if isinstance(frame, Register):
            self._on_register(peer, frame)
            return
        if frame.s != self._session:
            return
        match frame:
            case Ready(window=window, ahead=ahead):
                self.window, self._ahead = window, ahead
            case Heartbeat(window=window, ahead=ahead, seq=seq):
                self.window, self._ahead = window, ahead
                self._send(HeartbeatAck(s=self._session, ep=1, seq=seq))
            case Started(run=run):
                self.started[run] = frame
            case Return(runs=runs):
                self.returned += runs
                for run in runs:
                    self.running.pop(run, None)
            case Result(results=results):
                self._on_results(results)
            case WorkerBye(reason=reason):
                self.byes.append(reason)

    def _on_register(self, peer: bytes, frame: Register) -> None:
        self.registers.append(frame)
        if self.refusal is not None:
            self._peer = peer
            self._send(self.refusal)
            return
        self._peer, self._slots = peer, frame.slots
        self._session = f"session-{len(self.registers)}"
        self._n = self.window = self._ahead = 0
        listed = {held.run for held in frame.runs}
        # Unlisted ones were dropped unstarted, or lost with the worker's last start: to be handed out anew.
        for run in sorted(self.running.keys() - listed):
            self._pending.appendleft(self.running.pop(run))
        kill = listed & self.kill | listed - self.running.keys()
        self._send(
            Registered(
                s=self._session,
                ep=1,
                db=self.db,
                heartbeat_ms=1_000,
                timeout_ms=self.timeout_ms,
                keep=tuple(listed - kill),
                kill=tuple(kill),
            )
        )

    def _on_results(self, results: tuple[RunResult, ...]) -> None:
        if not self.acking:
            return
        for result in results:
            self.results[result.run] = result
            self.running.pop(result.run, None)
        self._send(ResultAck(s=self._session, ep=1, verdicts=tuple((result.run, "stored") for result in results)))

    def _dispatch(self) -> None:
        room = min(self.window, self._slots + self._ahead) - len(self.running)
        if self._pending and room > 0 and self.answering:
            self._hand_out(min(room, len(self._pending)))

    def _hand_out(self, count: int) -> None:
        orders = tuple(self._pending.popleft() for _ in range(count))
        self.running.update({order.run: order for order in orders})
        self._n += 1
        self._send(Dispatch(s=self._session, ep=1, n=self._n, runs=orders))

    def _send(self, frame: SchedulerFrame) -> None:
        # A worker that is gone is the test's business, not the stub's.
        try:
            self._router.send_multipart([self._peer, pack(frame)], zmq.NOBLOCK)
        except zmq.ZMQError:
            return


def _serve_enrol(stub: StubScheduler, port: int) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            stub.enrolments += 1
            enrolled = {"endpoint": endpoint, "db": stub.db}
            body = json.dumps(enrolled if stub.standby is None else stub.standby).encode()
            self.send_response(200 if stub.standby is None else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            pass

    # Asked for here: a ZeroMQ socket is used by its own thread only.
    endpoint = stub.endpoint
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server
