"""Shared by all handlers: access to the loop and to the store, parameters, and JSON answers."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import falcon
import msgspec
from msgspec.structs import replace

from zsched import __version__
from zsched.api import views
from zsched.api.forwarded import Proxies
from zsched.api.gate import Principal, Trust
from zsched.api.pages import Pages
from zsched.api.problem import Problem, invalid
from zsched.api.refusals import Refusals
from zsched.api.room import Room
from zsched.model.access import Caller, Scope, Token
from zsched.model.limits import (
    BODIES_BYTES_MAX,
    INTEGER_MAX,
    LARGE_PAGES_MAX,
    READER_WAIT_S,
    REASON_CHARS_MAX,
    UPLOADS_MAX,
)
from zsched.model.records import ForeignRuns, Instance, Role
from zsched.model.spec import Seal, keeps_none
from zsched.model.types import JobId, RunId, Worker, WorkerId
from zsched.model.units import parse_duration_ms, parse_since_ms
from zsched.scheduler.inbox import Inbox
from zsched.scheduler.live import Live
from zsched.security import tokens
from zsched.store.contract import Reader, StoreError

# The database, its WAL, and the index of the WAL.
_READER_FILES: Final = 3
_READER_STEP_S: Final = 0.02
# Threads that probe at the same time would take the descriptors from one another.
_probing: Final = threading.Lock()


def _unpublished() -> Instance:
    """An active scheduler that no other one needs to know."""
    return Instance(
        instance="",
        role=Role.ACTIVE,
        host="",
        pid=0,
        version=__version__,
        url="",
        endpoint="",
        public_key="",
        started_ms=0,
        seen_ms=0,
    )


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts about this scheduler in its present role: whether it is ready, its database, and the workers' port.

    `server_key` is the scheduler's public key, empty where workers need none. `advertise` is the host that workers
    connect to; empty: the host that they called. `seen_ms`: when a worker was last heard, if the store
    may not know it yet. `own`: what it publishes of itself. `active`: URL of the active scheduler while this one stands
    by, empty if unknown.
    """

    db: str
    zmq_host: str
    zmq_port: int
    ready: Callable[[], bool]
    server_key: str = ""
    advertise: str = ""
    seen_ms: Callable[[WorkerId], int | None] = lambda _: None
    own: Instance = field(default_factory=_unpublished)
    active: str = ""

    @property
    def standby(self) -> bool:
        return self.own.role is Role.STANDBY


@dataclass(frozen=True, slots=True)
class CallerPolicy:
    """Which callers need no token, which proxies may name a caller's address, and the record of refused calls."""

    trust: Trust = field(default_factory=Trust)
    proxies: Proxies = field(default_factory=Proxies)
    refusals: Refusals = field(default_factory=Refusals)


class Context:
    """Given to every handler. Thread-safe: each thread opens its own reader at its first read."""

    def __init__(
        self,
        inbox: Inbox,
        open_reader: Callable[[], Reader],
        facts: Facts,
        live: Live | None = None,
        policy: CallerPolicy | None = None,
        seal: Seal = keeps_none,
    ) -> None:
        """`live`: the output of running runs; None where callers can't wait for it. `seal` encrypts stored secrets.

        `facts` are replaced when the scheduler's role changes.
        """
        self.inbox = inbox
        self.live = live or Live(waiters_max=0)
        self.facts = facts
        self.policy = policy or CallerPolicy()
        self.seal = seal
        waiters_max = inbox.callers_max // 4
        self.pages = Pages(
            Room(LARGE_PAGES_MAX, waiters_max, "Too many large pages are being made: try again later, or ask for less")
        )
        self.bodies = Room(
            BODIES_BYTES_MAX,
            waiters_max,
            "Too many large request bodies are in work: try again later, or send smaller ones",
        )
        self.uploads = Room(UPLOADS_MAX, waiters_max, "Too many bodies of lines are in work: try again later")
        # Where those wait for the store; None: the folder for temporary files.
        self.folder: Path | None = None
        # One step of a bulk call in each turn, and one large look at many jobs.
        self.steps = Room(1, waiters_max, "Too many calls on many jobs are in work: try again later")
        self.looks = Room(1, waiters_max, "Too many calls that wait for many jobs are in work: try again later")
        self._open_reader = open_reader
        self._local = threading.local()

    @property
    def reader(self) -> Reader:
        reader: Reader | None = getattr(self._local, "reader", None)
        if reader is None:
            reader = self._local.reader = self._opened_reader()
        return reader

    def _opened_reader(self) -> Reader:
        """Waits up to READER_WAIT_S for free descriptors: a crowd of connections may hold all until it is cut."""
        until_s, scarce = time.monotonic() + READER_WAIT_S, True
        while True:
            try:
                return self._open_reader()
            except StoreError:
                if not scarce or time.monotonic() > until_s:
                    raise
            with _probing:
                # Some may have become free since: then the next try is the last.
                scarce = _files_are_scarce()
            time.sleep(_READER_STEP_S)

    def active(self) -> str | None:
        """URL of the active scheduler, empty if unknown; None while this scheduler is the active one."""
        facts = self.facts
        return facts.active if facts.standby else None

    def schedulers(self) -> list[Instance]:
        """This scheduler, and the others of its database as they last published themselves. Raises StoreError."""
        own = msgspec.structs.replace(self.facts.own, seen_ms=time.time_ns() // 1_000_000)
        others = [other for other in self.reader.instances() if other.instance != own.instance]
        return sorted([own, *others], key=lambda instance: (instance.role, instance.url))

    def view_worker(self, worker: Worker, held: Sequence[ForeignRuns] = ()) -> views.View:
        """A worker as stored, with the time when it was really heard last. `held`: its runs for other databases."""
        seen_ms = self.facts.seen_ms(worker.worker_id)
        return views.worker(worker if seen_ms is None else replace(worker, last_seen_ms=seen_ms), held)


def _files_are_scarce() -> bool:
    """Whether this process has fewer free descriptors than a reader needs."""
    with ExitStack() as opened:
        try:
            for _ in range(_READER_FILES):
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            return True
    return False


def answer(resp: falcon.Response, value: object, status: int = 200) -> None:
    """Answer with a value as JSON."""
    resp.status = status
    resp.data = msgspec.json.encode(value)
    resp.content_type = falcon.MEDIA_JSON


def actor(req: falcon.Request) -> str:
    """The caller, for the events: `user:alice at 127.0.0.1`."""
    return f"{req.context.principal.owner} at {req.context.address}"


def caller(req: falcon.Request) -> Caller:
    """The caller, for a command on jobs."""
    principal: Principal = req.context.principal
    token_id = None if principal.token is None else principal.token.token_id
    return Caller(
        owner=principal.owner,
        actor=actor(req),
        all_jobs=principal.may(Scope.OPERATE),
        admin=principal.may(Scope.ADMIN),
        reads=principal.may(Scope.READ),
        token_id=token_id,
    )


def worker_name(req: falcon.Request, name: str) -> WorkerId:
    """The name of the worker that a caller acts as. Raises a 403 Problem if its token is bound to other names."""
    token: Token | None = req.context.principal.token
    if token is not None and not tokens.speaks_for(token, name):
        detail = f"This token speaks for the workers {', '.join(token.workers)}, not for {name}"
        raise Problem(403, "not_bound", detail)
    return WorkerId(name)


def bound_slots(req: falcon.Request) -> int | None:
    """The limit of slots of each worker of the caller's token; None: no limit."""
    token: Token | None = req.context.principal.token
    return None if token is None else token.slots_max


def job_id(text: str) -> JobId:
    return JobId(_number(text, "job", "Job not found"))


def flow_id(text: str) -> JobId:
    return JobId(_number(text, "flow", "Flow not found"))


def run_id(text: str) -> RunId:
    return RunId(_number(text, "run", "Run not found"))


def _number(text: str, what: str, unknown: str) -> int:
    if re.fullmatch(r"[0-9]+", text, re.ASCII) is None:
        raise Problem(400, "invalid_id", f"Invalid {what} ID")
    # Larger than any id. Python refuses to parse very many digits.
    if len(text) > 16 or int(text) > INTEGER_MAX:
        raise Problem(404, f"unknown_{what}", unknown)
    return int(text)


def parameters(req: falcon.Request, *known: str) -> dict[str, str]:
    """The query parameters. Raises a 400 Problem for an unknown one, which is mostly a typo."""
    values = {}
    for name, value in req.params.items():
        if name not in known:
            valid = f"unknown parameter; there are {', '.join(known)}" if known else "no parameter is taken here"
            raise invalid(name, valid)
        values[name] = value if isinstance(value, str) else value[-1]
    return values


def reason(given: dict[str, str]) -> str:
    """The parameter `reason` on one line; empty if it is not given. Raises a 400 Problem."""
    text = " ".join(given.get("reason", "").split())
    if len(text) > REASON_CHARS_MAX:
        raise invalid("reason", f"at most {REASON_CHARS_MAX} characters, not {len(text)}")
    if not text.isprintable():
        raise invalid("reason", "printable characters only")
    return text


def number(given: dict[str, str], name: str, default: int, least: int, most: int) -> int:
    """A parameter as a whole number, at most `most`. Raises a 400 Problem."""
    text = given.get(name)
    if text is None:
        return default
    # Python refuses to parse very many digits. No number here has 17.
    value = int(text.lstrip("0")[:17] or "0") if re.fullmatch(r"[0-9]+", text, re.ASCII) else -1
    if value < least:
        raise invalid(name, f"a whole number, {least} or more")
    return min(value, most)


def text(given: dict[str, str], name: str, chars_max: int) -> str | None:
    """A parameter as a text, None if it is not given. Raises a 400 Problem."""
    value = given.get(name)
    if value is not None and (not value or len(value) > chars_max or "\0" in value):
        raise invalid(name, f"1 to {chars_max} characters, without NUL")
    return value


def since_ms(given: dict[str, str]) -> int | None:
    """The parameter `since` as milliseconds since 1970, None if it is not given. Raises a 400 Problem."""
    if "since" not in given:
        return None
    try:
        return parse_since_ms(given["since"], time.time_ns() // 1_000_000)
    except ValueError as error:
        raise invalid("since", error) from None


def flag(given: dict[str, str], name: str) -> bool:
    """A boolean parameter, false by default. Raises a 400 Problem."""
    text = given.get(name, "0")
    if text not in ("1", "true", "0", "false"):
        raise invalid(name, "1 or 0")
    return text in ("1", "true")


def duration_ms(given: dict[str, str], name: str, most_ms: int) -> int:
    """A duration parameter, at most `most_ms`, by default 0. Raises a 400 Problem."""
    text = given.get(name, "0")
    try:
        return min(parse_duration_ms(text), most_ms)
    except ValueError as error:
        raise invalid(name, error) from None
