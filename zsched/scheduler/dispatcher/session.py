"""Sessions: one for each worker believed alive, with the time when it was last heard.

A session is soft state; the store knows what a worker holds. A turn that is rolled back undoes which sessions exist
(`Sessions.restore`), but never what was heard.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from zsched.model.limits import MASS_WORKERS_MIN, STALL_MS, VERDICT_PAUSE_MS, WINDOW_MAX
from zsched.model.types import Now, RunId, Worker, WorkerId, WorkerKind
from zsched.protocol import Foreign

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Session:
    """A worker believed alive.

    `heard_ms` is when its last frame was read, by the steady clock; `seen_ms`, by the wall clock. Its silence
    counts from there, or from `excused_ms` where that is later: the scheduler itself could not hear until then.

    `peer` is the ROUTER's name of its connection: None for a worker that polls, and for one that has not registered
    since this scheduler started. `key` is the public key of its connection, empty where workers need none. `sent_ms` is
    when its register was sent, by the clock of the worker's machine.

    `window` and `ahead` say how much it takes, as it last reported, at most `window_max`. Until `paused_until_ms` it
    gets nothing. `n` grows with each claim for it. `suspects` are its runs on probation, each with the time when its
    start was reported. `watched` are runs whose output a caller looks at, each with the end of the watch. `handed` are
    the runs that a polling worker has got and not reported as running, each with the time when it got them. `finished`
    are its runs that may start only once and that it has listed as ended: their results are on their way. `rivals` are
    other starts of workers that claim its name, by incarnation, each with the time when it first asked.

    `foreign` is what it holds for other databases, as it last reported; None if that may not be stored. Runs of the
    databases in `discard` are to be dropped. While foreign runs keep it `withheld`, it gets nothing.
    """

    worker: Worker
    token: str
    peer: bytes | None
    heard_ms: int
    seen_ms: int
    excused_ms: int = 0
    key: str = ""
    sent_ms: int = 0
    window_max: int = WINDOW_MAX
    window: int = 0
    ahead: int = 0
    paused_until_ms: int = 0
    n: int = 0
    suspects: dict[RunId, int] = field(default_factory=dict)
    watched: dict[RunId, int] = field(default_factory=dict)
    handed: dict[RunId, int] = field(default_factory=dict)
    finished: frozenset[RunId] = frozenset()
    rivals: dict[str, int] = field(default_factory=dict)
    foreign: tuple[Foreign, ...] | None = None
    discard: tuple[str, ...] = ()
    withheld: bool = False

    @property
    def name(self) -> WorkerId:
        return self.worker.worker_id

    @property
    def silent_since_ms(self) -> int:
        return max(self.heard_ms, self.excused_ms)

    @property
    def leaving(self) -> bool:
        """Whether the worker announced its end: then no run is blamed for its loss."""
        return self.worker.leaving_ms is not None

    def hear(self, now: Now) -> None:
        """A frame or call of the worker was read."""
        self.heard_ms, self.seen_ms = now.mono_ms, now.wall_ms

    def ask(self, window: int, ahead: int) -> None:
        """Set how much the worker takes."""
        self.window, self.ahead = min(window, self.window_max), min(ahead, self.window_max)

    @property
    def polls(self) -> bool:
        return self.worker.kind is WorkerKind.REST


class Sessions:
    """The sessions, by worker and by token, and the earliest time at which one of them can time out."""

    def __init__(self, timeout_ms: int) -> None:
        self._timeout_ms = timeout_ms
        self._by_name: dict[WorkerId, Session] = {}
        self._by_token: dict[str, Session] = {}
        # The sessions at the end of the last turn that was stored, once this turn has opened or closed some.
        self._stored: list[Session] | None = None
        # Sessions of workers that announced their end in this turn.
        self._announced: list[Session] = []
        # silent_since_ms only grows, so the earliest deadline once computed is a lower bound until it is reached.
        self._judge_at_ms: int | None = None
        # When a worker was last found silent, in this turn if `_verdict`; how many such turns failed running; and until
        # when no worker is judged because of that.
        self._judged_ms = 0
        self._verdict = False
        self._failed_verdicts = 0
        self._pause_until_ms = 0
        # Most are silent, and that has been logged.
        self._waiting = False

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._by_name.values())

    def of_worker(self, worker_id: WorkerId) -> Session | None:
        return self._by_name.get(worker_id)

    def of_frame(self, token: str, peer: bytes, key: str = "") -> Session | None:
        """The session of a frame; None when the token is unknown, or belongs to another connection or another key.

        Frames to a connection that broke may be lost for good, so a worker that reconnects has to register again.
        """
        session = self._by_token.get(token)
        return session if session is not None and session.peer == peer and session.key == key else None

    def open(self, session: Session) -> None:
        """Add a session in place of any other of the same worker."""
        self.close(session.name)
        self._add(session)
        deadline_ms = session.silent_since_ms + self._timeout_ms
        self._judge_at_ms = deadline_ms if self._judge_at_ms is None else min(self._judge_at_ms, deadline_ms)

    def close(self, worker_id: WorkerId) -> None:
        if self._stored is None:
            self._stored = list(self)
        session = self._by_name.pop(worker_id, None)
        if session is not None:
            self._by_token.pop(session.token, None)

    def announce_end(self, session: Session, wall_ms: int) -> None:
        """A worker announced its end in this turn."""
        session.worker = replace(session.worker, leaving_ms=wall_ms)
        self._announced.append(session)

    def keep(self) -> None:
        """The turn is stored."""
        self._stored = None
        self._announced.clear()
        if self._verdict:
            self._verdict, self._failed_verdicts = False, 0

    def restore(self) -> None:
        """The turn was rolled back: the sessions are those from before it, and what they remember of the store may be
        wrong. A worker that was judged silent was not given up.

        The next turn judges it again. When that fails too, verdicts pause: one that is too large for a disk that is
        nearly full must not make all smaller turns fail.
        """
        if self._verdict:
            self._verdict = False
            self._failed_verdicts += 1
            if self._failed_verdicts % 2 == 0:
                self._pause_until_ms = self._judged_ms + VERDICT_PAUSE_MS
        if self._stored is not None:
            self._by_name.clear()
            self._by_token.clear()
            for session in self._stored:
                self._add(session)
            self._stored = None
        for session in self._announced:
            # The worker repeats it.
            session.worker = replace(session.worker, leaving_ms=None)
        self._announced.clear()
        for session in self:
            # Decisions on its foreign runs may not be stored. Its next heartbeat makes this up to date.
            session.withheld |= bool(session.foreign)
            session.discard = ()
            session.foreign = None
        self._judge_at_ms = min((session.silent_since_ms + self._timeout_ms for session in self), default=None)

    def _add(self, session: Session) -> None:
        self._by_name[session.name] = session
        if session.token:
            self._by_token[session.token] = session

    def forgive(self, gap_ms: int, now_ms: int) -> None:
        """The scheduler itself stood still for a while, and no silence of that length counts."""
        for session in self:
            session.excused_ms = min(now_ms, session.silent_since_ms + gap_ms)

    def postpone_rivals(self, now_ms: int) -> None:
        """Frames that are read now may have waited since before the rivals asked."""
        for session in self:
            session.rivals = dict.fromkeys(session.rivals, now_ms)

    def silent(self, now_ms: int, patience_ms: Callable[[Session], int]) -> list[Session]:
        """The sessions not heard for longer than the timeout, and than patience_ms gives them.

        When most workers are silent at once, the scheduler's own network is the likely cause. Then each gets one more
        timeout, for as long as most of them are silent.
        """
        if self._judge_at_ms is None or now_ms < max(self._judge_at_ms, self._pause_until_ms):
            return []
        waits = self._most_are_quiet(now_ms)
        silent = []
        self._judge_at_ms = None
        for session in self:
            end_ms = look_ms = session.silent_since_ms + self._timeout_ms
            if now_ms >= end_ms:
                end_ms = look_ms = session.silent_since_ms + patience_ms(session) + (self._timeout_ms if waits else 0)
                if waits:
                    look_ms = min(end_ms, now_ms + STALL_MS)
            if now_ms >= end_ms:
                silent.append(session)
            else:
                self._judge_at_ms = look_ms if self._judge_at_ms is None else min(self._judge_at_ms, look_ms)
        if silent:
            self._judged_ms, self._verdict = now_ms, True
        return silent

    def _most_are_quiet(self, now_ms: int) -> bool:
        """Whether more than half have missed a heartbeat. Heartbeats come at least once in a third of the timeout."""
        quiet = sum(now_ms - session.silent_since_ms >= self._timeout_ms * 2 // 3 for session in self)
        majority = len(self) >= MASS_WORKERS_MIN and 2 * quiet > len(self)
        if majority and not self._waiting:
            log.warning("%d of %d workers are silent at once: none is given up for now", quiet, len(self))
        self._waiting = majority
        return majority

    @property
    def judge_at_ms(self) -> int | None:
        """No session is judged before this time; None: there is no session."""
        return None if self._judge_at_ms is None else max(self._judge_at_ms, self._pause_until_ms)
