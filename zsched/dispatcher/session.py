"""Who is connected: one session for each worker that is believed alive, and when each was last heard.

A session is soft state. What a worker holds is always asked of the store; a session only remembers that answer until
something happens (`load`), so a turn that was rolled back costs nothing but a fresh look.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from zsched.limits import MASS_WORKERS_MIN, STALL_MS, WINDOW_MAX
from zsched.model import RunId, Worker, WorkerId, WorkerKind
from zsched.protocol import Foreign
from zsched.store.contract import Load

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Session:
    """A worker believed alive. `heard_ms` is by the steady clock.

    `peer` is the ROUTER's name of its connection: None for a worker that polls, and for one that has not registered
    since this scheduler started. `key` is the public key that its frames come by, empty where workers need none.
    `sent_ms` is when its register was sent, by the clock of the worker's machine.

    `window` and `ahead` are its last word on how much it takes, at most `window_max`; until `paused_until_ms` it gets
    nothing. `n` counts the run frames sent to it. `suspects` are its runs on probation, each with the moment its start
    was heard of; `watched` those whose output somebody looks at, each with the moment until which it is sent. `handed`
    are, of one that polls, the runs that it has not said to be running, each with the moment when it got it.
    `rival_ms` is when another worker first claimed its name.

    `foreign` is what it last said that it holds for other databases, None if that may not be stored. Runs of the
    databases in `discard` are to be dropped. While foreign runs keep it `withheld`, it gets nothing.
    """

    worker: Worker
    token: str
    peer: bytes | None
    heard_ms: int
    key: str = ""
    sent_ms: int = 0
    window_max: int = WINDOW_MAX
    window: int = 0
    ahead: int = 0
    paused_until_ms: int = 0
    n: int = 0
    load: Load | None = None
    suspects: dict[RunId, int] = field(default_factory=dict)
    watched: dict[RunId, int] = field(default_factory=dict)
    handed: dict[RunId, int] = field(default_factory=dict)
    rival_ms: int | None = None
    foreign: tuple[Foreign, ...] | None = None
    discard: tuple[str, ...] = ()
    withheld: bool = False

    @property
    def name(self) -> WorkerId:
        return self.worker.worker_id

    def ask(self, window: int, ahead: int) -> None:
        """Note how much the worker takes."""
        self.window, self.ahead = min(window, self.window_max), min(ahead, self.window_max)

    @property
    def polls(self) -> bool:
        return self.worker.kind is WorkerKind.REST


class Sessions:
    """The sessions, by worker and by token; and the first moment at which one of them may have been silent too long."""

    def __init__(self, timeout_ms: int) -> None:
        self._timeout_ms = timeout_ms
        self._by_name: dict[WorkerId, Session] = {}
        self._by_token: dict[str, Session] = {}
        # heard_ms only grows, so the earliest deadline once computed is a lower bound until it is reached.
        self._judge_at_ms: int | None = None
        # Most are silent, and that has been logged.
        self._waiting = False

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._by_name.values())

    def of_worker(self, worker_id: WorkerId) -> Session | None:
        return self._by_name.get(worker_id)

    def of_frame(self, token: str, peer: bytes) -> Session | None:
        """The session of a frame; None when the token is unknown, or comes over another connection than it was given
        to.

        Frames to a connection that broke may be lost for good, so a worker that reconnects registers anew.
        """
        session = self._by_token.get(token)
        return session if session is not None and session.peer == peer else None

    def open(self, session: Session) -> None:
        """Add a session in place of any other of the same worker."""
        self.close(session.name)
        self._by_name[session.name] = session
        if session.token:
            self._by_token[session.token] = session
        deadline_ms = session.heard_ms + self._timeout_ms
        self._judge_at_ms = deadline_ms if self._judge_at_ms is None else min(self._judge_at_ms, deadline_ms)

    def close(self, worker_id: WorkerId) -> None:
        session = self._by_name.pop(worker_id, None)
        if session is not None:
            self._by_token.pop(session.token, None)

    def forgive(self, gap_ms: int, now_ms: int) -> None:
        """The scheduler itself stood still for a while: nobody is to blame for a silence of that length."""
        for session in self:
            session.heard_ms = min(now_ms, session.heard_ms + gap_ms)
            if session.rival_ms is not None:
                session.rival_ms = min(now_ms, session.rival_ms + gap_ms)

    def silent(self, now_ms: int, patience_ms: Callable[[Session], int]) -> list[Session]:
        """The sessions not heard for longer than the timeout, and than patience_ms gives them.

        When most workers are silent at once, it is rather the scheduler's own network: then each gets the timeout once
        more, for as long as most of them are.
        """
        if self._judge_at_ms is None or now_ms < self._judge_at_ms:
            return []
        waits = self._most_are_quiet(now_ms)
        silent = []
        self._judge_at_ms = None
        for session in self:
            end_ms = look_ms = session.heard_ms + self._timeout_ms
            if now_ms >= end_ms:
                end_ms = look_ms = session.heard_ms + patience_ms(session) + (self._timeout_ms if waits else 0)
                if waits:
                    look_ms = min(end_ms, now_ms + STALL_MS)
            if now_ms >= end_ms:
                silent.append(session)
            else:
                self._judge_at_ms = look_ms if self._judge_at_ms is None else min(self._judge_at_ms, look_ms)
        return silent

    def _most_are_quiet(self, now_ms: int) -> bool:
        """Whether more than half have missed a heartbeat: those come each third of the timeout at least."""
        quiet = sum(now_ms - session.heard_ms >= self._timeout_ms * 2 // 3 for session in self)
        most = len(self) >= MASS_WORKERS_MIN and 2 * quiet > len(self)
        if most and not self._waiting:
            log.warning("%d of %d workers are silent at once: nobody is given up for now", quiet, len(self))
        self._waiting = most
        return most

    @property
    def judge_at_ms(self) -> int | None:
        """No session can be silent too long before this moment; None: there is none."""
        return self._judge_at_ms

    def forget_loads(self) -> None:
        """The turn was rolled back: what sessions remember of the store may be wrong, and who was found silent was not
        given up.
        """
        for session in self:
            session.load = session.foreign = None
        self._judge_at_ms = min((session.heard_ms + self._timeout_ms for session in self), default=None)
