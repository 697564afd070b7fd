"""REST for tests: the real app, the real loop in a thread of its own, and a real SQLite store in a folder.

REST's socket alone is left out: callers come by Falcon's test client, workers of ZeroMQ by a real port.
"""

from __future__ import annotations

import os
import pwd
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import falcon
import zmq
from falcon import testing

from tests.unit.document import hold_against
from zsched import protocol
from zsched.api.app import make_app
from zsched.api.context import CallerPolicy, Context, Facts
from zsched.api.gate import LOCAL_ADDRESS, PEER_UID, Trust
from zsched.scheduler.dispatcher import Dispatcher, Settings
from zsched.scheduler.inbox import Inbox
from zsched.scheduler.live import Live
from zsched.scheduler.loop import Loop, clock
from zsched.scheduler.port import Port
from zsched.store.sqlite.engine import SqliteEngine, open_reader
from zsched.store.writer import Writer

DEADLINE_S = 20.0
# The owner of what a local caller submits here.
ME = f"user:{pwd.getpwuid(os.geteuid()).pw_name}"


class Rest:
    """A scheduler without processes and ports. A context: leaving it stops the loop."""

    def __init__(
        self,
        folder: Path,
        *,
        timeout_ms: int = 30_000,
        pending_max: int = 1_000_000,
        pages_free: int | None = None,
        trust: Trust | None = None,
        server_key: str = "",
        zmq_host: str = "127.0.0.1",
        threads: int = 1,
        waiters_max: int | None = None,
    ) -> None:
        """`pages_free`: how many pages (4 KiB) the database may still grow by, as on a disk that is nearly full;
        `server_key`: with one, whoever enrols has to bring a key of its own. `threads`: how many callers there can be
        at the same time, half of which may wait unless `waiters_max` says otherwise.
        """
        self.path = folder / "scheduler.db"
        self._timeout_ms = timeout_ms
        self._pending_max = pending_max
        self._pages_free = pages_free
        self._trust = trust
        self._server_key = server_key
        self._zmq_host = zmq_host
        self.zmq: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.inbox = Inbox(callers_max=threads)
        self.live = Live(threads // 2 if waiters_max is None else waiters_max)
        self._running = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loop")
        self._loop: Loop | None = None
        self.ready = True
        self.zmq_port = 0
        # Closed at the end, for tests that don't close theirs.
        self._dealers: list[zmq.Socket[bytes]] = []
        self.db = ""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._running.wait(DEADLINE_S)
        facts = Facts(
            db=self.db,
            zmq_host=self._zmq_host,
            zmq_port=5555,
            ready=lambda: self.ready,
            server_key=self._server_key,
            seen_ms=self._seen_ms,
        )
        policy = CallerPolicy(self._trust or Trust())
        self.context = Context(self.inbox, partial(open_reader, self.path), facts, self.live, policy)
        self.app = make_app(self.context)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.zmq.destroy(linger=0)

    def stop(self) -> None:
        """End the loop, as a signal does; the app goes on answering what it can."""
        if self._loop is not None:
            self._loop.stop()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        engine = SqliteEngine(self.path)
        engine.check()
        engine.migrate(clock().wall_ms)
        if self._pages_free is not None:
            pages = engine.execute("PRAGMA page_count")[0][0]
            engine.execute(f"PRAGMA max_page_count = {pages + self._pages_free}")
        with closing(Writer(engine)) as store, closing(Port(self.zmq, "127.0.0.1", 0)) as port:
            self.zmq_port = port.number
            store.begin()
            epoch = store.begin_epoch("test", 1, "0", clock().wall_ms)
            store.commit()
            dispatcher = Dispatcher(
                store,
                Settings(
                    epoch=epoch,
                    timeout_ms=self._timeout_ms,
                    new_token=lambda: "session",
                    pending_max=self._pending_max,
                ),
                clock(),
            )
            self.db = store.identity
            self._loop = Loop(store, dispatcher, port, self.inbox, self.live)
            self._seen_ms = dispatcher.seen_ms
            self._running.set()
            self._loop.run()

    def call(self, method: str, path: str, **more: Any) -> testing.Result:
        """One request as a local caller sends it; headers, body and environment on top. The answer has to be a
        documented one.
        """
        answer = self.ask(self.app, method, path, **more)
        hold_against(answer, method, path)
        return answer

    @staticmethod
    def ask(app: falcon.App[falcon.Request, falcon.Response], method: str, path: str, **more: Any) -> testing.Result:
        """The same to an app without a scheduler behind it."""
        more = {"host": "localhost", "remote_addr": "127.0.0.1", **more}
        more["extras"] = {LOCAL_ADDRESS: "127.0.0.1", PEER_UID: os.geteuid, **more.get("extras", {})}
        return testing.simulate_request(app, method, path, **more)

    def get(self, path: str, **more: Any) -> testing.Result:
        return self.call("GET", path, **more)

    def post(self, path: str, value: object = None, **more: Any) -> testing.Result:
        """POST a value as JSON; with `body` instead, exactly those bytes."""
        if "body" not in more and value is not None:
            more["json"] = value
        return self.call("POST", path, **more)

    def submit(self, command: str = "true", **fields: object) -> int:
        """A job that must be taken; returns its id."""
        answer = self.post("/jobs", {"name": "j", "command": command, **fields})
        assert answer.status_code == 201, answer.text
        return int(answer.json["id"])

    def register(self, name: str, **fields: object) -> testing.Result:
        answer = self.post("/workers/register", {"worker_id": name, **fields})
        assert answer.status_code == 200, answer.text
        return answer

    def take(self, name: str) -> dict[str, Any]:
        """What a worker gets that asks; there must be something."""
        answer = self.get(f"/workers/{name}/next")
        assert answer.status_code == 200, answer.text
        job: dict[str, Any] = answer.json["job"]
        assert job is not None
        return job

    def report(self, job: int, worker: str, status: str, **fields: object) -> testing.Result:
        return self.post(f"/jobs/{job}/log", {"worker_id": worker, "status": status, **fields})

    def connect(self, worker: str, foreign: tuple[protocol.Foreign, ...] = ()) -> zmq.Socket[bytes]:
        """A worker's ZeroMQ session: registered, and with no room for runs until it says so. `foreign`: what it holds
        for other databases.
        """
        dealer = self.zmq.socket(zmq.DEALER)
        self._dealers.append(dealer)
        dealer.connect(f"tcp://127.0.0.1:{self.zmq_port}")
        register = protocol.Register(
            versions=(protocol.VERSION,),
            worker=worker,
            incarnation="i",
            boot_id="b",
            lock=(1, 1),
            slots=1,
            heartbeat_ms=1_000,
            can=("foreign",),
            foreign=foreign,
        )
        dealer.send(protocol.pack(register))
        assert isinstance(receive(dealer), protocol.Registered)
        return dealer


def receive(dealer: zmq.Socket[bytes]) -> protocol.SchedulerFrame:
    """The next frame for a connected worker."""
    assert dealer.poll(int(DEADLINE_S * 1000)), "no frame came"
    return protocol.unpack_from_scheduler(dealer.recv())


def until(condition: Callable[[], bool]) -> None:
    """Wait for the scheduler to have done something by itself."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def problem(answer: testing.Result, status: int, code: str, detail: str, *errors: tuple[str, str]) -> None:
    """The answer is exactly this error, in the one body of errors."""
    assert answer.status_code == status, answer.text
    body = answer.json
    titles = {
        400: "Invalid request",
        403: "Not allowed",
        404: "Not found",
        405: "Method not allowed",
        409: "Conflict",
        503: "Service Unavailable",
    }
    request_id = body.pop("request_id")
    assert isinstance(request_id, str)
    assert len(request_id) == 16
    expected = {
        "error": detail,
        "type": "about:blank",
        "status": status,
        "detail": detail,
        "code": code,
        "errors": [{"pointer": pointer, "detail": told} for pointer, told in errors],
    }
    title, instance = body.pop("title"), body.pop("instance")
    assert body == expected
    assert isinstance(instance, str)
    assert instance.startswith("/")
    assert title == titles.get(status, title)
