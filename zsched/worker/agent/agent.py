"""The agent's decisions: when to register, what to ask for, what to start, report and give back.

Deterministic: no clock, sockets, threads or random source. The agent's process (or a simulator) calls on_… with the
time, and carries away what is in the two outboxes. The rule it keeps: nothing starts without a live session, and a run
that a session handed out and that did not start in time is never started later.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from zsched import __version__
from zsched.model.launch import FEATURES
from zsched.model.limits import INTEGER_MAX
from zsched.model.types import Now
from zsched.protocol import (
    VERSIONS,
    Cancel,
    Dispatch,
    Error,
    Heartbeat,
    HeartbeatAck,
    Log,
    Register,
    Registered,
    ResultAck,
    Return,
    RunResult,
    SchedulerBye,
    SchedulerFrame,
    Started,
    Watch,
    WorkerBye,
    WorkerFrame,
)
from zsched.worker import messages
from zsched.worker.agent import parts
from zsched.worker.agent.flow import FlowControl
from zsched.worker.agent.holdings import Holdings
from zsched.worker.agent.liveness import GuardLiveness
from zsched.worker.agent.renewal import Renewal
from zsched.worker.agent.session import SessionEvent, SessionState, Status, Terms
from zsched.worker.messages import FromAgent, FromGuard, Hello

# What this worker supports beyond a plain command line.
CAN: Final = tuple(sorted((*FEATURES, "entry", "files", "foreign", "signal", "stdin", "stop", "task")))
EXIT_REFUSED: Final = 77  # sysexits.h EX_NOPERM: the scheduler refuses this worker for good
_EXIT_CODES: Final = {Status.REFUSED: EXIT_REFUSED, Status.LEAVING: 0}

log = logging.getLogger(__name__)


class Agent:
    """One worker's side of the dialogue. `to_scheduler` and `to_guard` are outboxes that the caller empties.

    `exit_code` is set when the process must end: 0 after the goodbye, else EXIT_REFUSED. No event has an effect then.
    """

    def __init__(self, hello: Hello, now: Now, host: str = "") -> None:
        self.to_scheduler: list[WorkerFrame] = []
        self.to_guard: list[FromAgent] = []
        self._hello = hello
        self._host = host
        self._renewal = Renewal()
        self._session = SessionState(hello, self._renewal, now)
        self._holdings = Holdings(hello.snapshot, self._renewal)
        self._flow = FlowControl(hello, self._holdings, self._renewal)
        # When on_tick has something to do.
        self._due_ms: int | None = None
        self._guard = GuardLiveness(now)

    @property
    def registered(self) -> bool:
        """Whether a session lives."""
        return self._session.terms is not None

    @property
    def exit_code(self) -> int | None:
        """See the class."""
        return _EXIT_CODES.get(self._session.status)

    @property
    def timeout_ms(self) -> int | None:
        """The scheduler's timeout for this worker in the last session; None before the first."""
        return self._session.timeout_ms

    @property
    def silent_at_ms(self) -> int | None:
        """When the scheduler of this session counts as silent unless it answers; None without an unanswered frame."""
        return self._session.silent_at_ms

    # --- events ------------------------------------------------------------------------------------------------------

    def on_connected(self, now: Now) -> None:
        """A connection to a scheduler exists: register without waiting."""
        self._session.on_connected(now)

    def on_seek(self) -> None:
        """The process is about to look for the scheduler, and does nothing else meanwhile."""
        self.to_guard.append(self._guard.seeking())

    def on_refused(self, why: str) -> None:
        """The scheduler refuses this worker for good: it ends."""
        if not self._session.may(SessionEvent.REFUSE):
            return
        log.error("worker %s: refused by the scheduler: %s", self._hello.worker, why)
        self.to_guard.append(messages.Refused(EXIT_REFUSED))
        self._session.move(SessionEvent.REFUSE)

    def on_disconnected(self, now: Now, why: str = "the connection is cut") -> None:
        """The connection is cut, so frames may be lost: only a new session counts."""
        self._lose_session(why)

    def on_frame(self, frame: SchedulerFrame, now: Now) -> None:
        """A frame arrived. One of another session is dropped."""
        if self.exit_code is not None:
            return
        # After a stall the session may be over, and this frame may have arrived before its end.
        if self._due_ms is not None and now.mono_ms >= self._due_ms:
            self.on_tick(now)
        terms = self._session.terms
        if isinstance(frame, Error):
            self._on_error(frame, now)
        elif isinstance(frame, Registered):
            self._on_registered(frame, now)
        elif terms is not None and frame.s == terms.token:
            self._on_session_frame(frame, now)

    def on_guard(self, message: FromGuard, now: Now) -> None:
        """The guard sent a message."""
        if self.exit_code is not None:
            return
        self._guard.on_message(now)
        if self._holdings.unanswered and isinstance(message, messages.OF_RUNS):
            # Sent before the guard read of the change: the numbers are those of another database's runs.
            return
        match message:
            case messages.Alive():
                self._guard.on_answer(self._session.terms, now)
            case messages.Ended():
                self._holdings.on_gone(message.gone)
                results = self._holdings.finish(message)
                if not message.found:
                    self._flow.on_results(results)
                self._send_unsent_results(now)
            case messages.Snapshot(state):
                self._flow.on_state(state)
                # Work for this database may wait for this.
                if self._holdings.on_snapshot(message):
                    self._send_heartbeat(now)
                self._send_unsent_results(now)
            case messages.State():
                self._on_state(message, now)
            case messages.Began():
                self._on_began(message, now)
            case messages.Logged(run, stream, offset, data):
                if (terms := self._session.terms) is not None:
                    self.to_scheduler.append(Log(s=terms.token, run=run, stream=stream, offset=offset, data=data))
                return
            case messages.Unstarted():
                self._on_unstarted(message, now)
        self._send_ready(now)

    def _on_state(self, state: messages.State, now: Now) -> None:
        self._flow.on_state(state)
        if self._holdings.on_state(state):
            # At once: it may be the last frame of this worker.
            self._send_heartbeat(now)
        if state.leave:
            self._on_leave()

    def on_guard_lost(self) -> None:
        """The guard has died, and all its runs with it."""
        if not self._session.may(SessionEvent.LEAVE):
            return
        if (terms := self._session.terms) is not None:
            self.to_scheduler.append(WorkerBye(s=terms.token, reason="guard_lost"))
        self._session.move(SessionEvent.LEAVE)

    def on_tick(self, now: Now) -> int | None:
        """Do what is due. Returns the monotonic time in ms at which to call again at the latest, or None."""
        session = self._session
        if session.terms is not None and now.mono_ms >= session.timeout_at_ms(session.terms):
            self._lose_session(f"no answer for {now.mono_ms - self._renewal.acked_ms} ms")
        if (alive := self._guard.take_question(session.terms, now)) is not None:
            self.to_guard.append(alive)
        if session.terms is None:
            if session.register_at_ms is not None and now.mono_ms >= session.register_at_ms:
                self._register(now)
        elif not self._guard.silent(session.terms, now):
            if now.mono_ms >= session.heartbeat_at_ms:
                self._heartbeat(session.terms, now)
            self._send_ready(now)
            self._send_results(session.terms, self._holdings.reports.due(now.mono_ms))
        self._due_ms = self._deadline_ms(now)
        return self._due_ms

    def _deadline_ms(self, now: Now) -> int | None:
        terms = self._session.terms
        deadlines = [at_ms for at_ms in (self._guard.ask_at_ms, self._session.register_at_ms) if at_ms is not None]
        if terms is None:
            return min(deadlines, default=None)
        deadlines.append(self._session.timeout_at_ms(terms))
        if self._guard.silent(terms, now):
            return min(deadlines)
        deadlines += [self._session.heartbeat_at_ms, *self._flow.deadlines_ms()]
        if (resend_ms := self._holdings.reports.deadline_ms()) is not None:
            deadlines.append(resend_ms)
        return min(deadlines)

    # --- the session -------------------------------------------------------------------------------------------------

    def _register(self, now: Now) -> None:
        hello = self._hello
        self.to_scheduler.append(
            Register(
                versions=VERSIONS,
                worker=hello.worker,
                incarnation=hello.incarnation,
                boot_id=hello.boot_id,
                lock=(hello.lock[0] & INTEGER_MAX - 1, hello.lock[1] & INTEGER_MAX - 1),
                slots=hello.slots,
                heartbeat_ms=hello.heartbeat_ms,
                db=self._holdings.db,
                sent_ms=self._session.on_register(now),
                host=self._host,
                agent=__version__,
                can=CAN,
                labels=hello.labels,
                queues=hello.queues,
                runs=self._holdings.listed(),
                foreign=self._holdings.foreign_listed(),
                leaving=self._flow.stopping,
            )
        )

    def _on_registered(self, frame: Registered, now: Now) -> None:
        if not self._session.may(SessionEvent.ACCEPT):
            return
        if self._session.terms is not None and frame.db != self._holdings.db:
            # An answer to a register before this session, which has changed what we hold for that database.
            self._lose_session(f"another scheduler has database {frame.db}")
            return
        log.info("worker %s: registered, database %s, session %s", self._hello.worker, frame.db, frame.s)
        new_database = frame.db != self._holdings.db
        terms = self._session.on_registered(frame, now, new_database=new_database)
        self._flow.on_registered()
        self._guard.on_registered(now)
        if new_database:
            self._holdings.change_database(frame.db, self._hello.worker)
            self._session.clear_probation()
            self._send_session()
        self._discard(frame.discard)
        unwanted = set(frame.kill)
        # A running run that is not named at all was handed out by a session that this one replaced.
        unwanted |= self._holdings.unnamed(frame.keep)
        self._drop(unwanted)
        if self._renewal.pressing or self._holdings.stuck:
            self._send_heartbeat(now)
        self._report_lease()
        self._send_results(terms, self._holdings.reports.all(now.mono_ms))
        self._send_ready(now)

    def _discard(self, dbs: tuple[str, ...]) -> None:
        """The scheduler names databases to discard until their runs have ended."""
        if known := tuple(held.db for held in self._holdings.foreign if held.db in dbs):
            self._send_session(discard=known)

    def _lose_session(self, why: str) -> None:
        """No waiting run may start now. The next register is sent when the guard says which runs had not started."""
        terms = self._session.terms
        if terms is None:
            return
        log.warning("worker %s: session %s lost: %s", self._hello.worker, terms.token, why)
        self._session.lose()
        self._send_session(lost=True)

    def _on_error(self, frame: Error, now: Now) -> None:
        if frame.fatal:
            self.on_refused(frame.detail)
        elif frame.code == "E_SESSION":
            self._lose_session(frame.detail)
        elif frame.code == "E_DUP":
            if self._session.on_duplicate(now):
                log.warning("worker %s: trying again each second: %s", self._hello.worker, frame.detail)
        else:
            log.warning("worker %s: error %s from the scheduler: %s", self._hello.worker, frame.code, frame.detail)

    def _on_session_frame(self, frame: SchedulerFrame, now: Now) -> None:
        match frame:
            case Dispatch():
                self._on_dispatch(frame, now)
            case ResultAck():
                # No proof of life: it may have waited here, and does not say which frame it answers.
                self._on_result_ack(frame)
            case HeartbeatAck():
                self._renewal.on_ack(frame.seq)
                self._report_lease()
                self._discard(frame.discard)
                self._drop(frame.kill)
                self._stop(frame.cancel)
            case Cancel():
                self._discard(frame.discard)
                self._stop(frame.runs)
            case Watch():
                self.to_guard.append(messages.Look(frame.run, frame.stdout, frame.stderr, frame.for_ms))
            case SchedulerBye():
                self._lose_session(f"the scheduler says goodbye: {frame.reason}")
        self._send_ready(now)

    def _report_lease(self) -> None:
        """Keep the guard's lease time current, as long as it has runs with a lease or gets one now."""
        if (heard_ms := self._renewal.take_unreported()) is not None:
            self._send_session(heard_ms=heard_ms)

    def _send_session(self, discard: tuple[str, ...] = (), heard_ms: int | None = None, *, lost: bool = False) -> None:
        self.to_guard.append(messages.Session(self._holdings.db, discard, heard_ms, lost))

    def _on_leave(self) -> None:
        """Say goodbye. A run that still waits crossed with the guard's end: it never starts, and is not listed."""
        if (terms := self._session.terms) is not None:
            left = tuple(held for held in self._holdings.listed() if held.phase != "waiting")
            self.to_scheduler.append(WorkerBye(s=terms.token, reason="shutdown", runs=left))
        self._session.move(SessionEvent.LEAVE)

    # --- frames for the scheduler ------------------------------------------------------------------------------------

    def _send_ready(self, now: Now) -> None:
        terms = self._session.terms
        if terms is None or self._guard.silent(terms, now):
            return
        if (ready := self._flow.take_ready(terms.token, now)) is not None:
            self.to_scheduler.append(ready)

    def _send_heartbeat(self, now: Now) -> None:
        """Send a heartbeat at once, unless there is no session or the guard has stalled."""
        if (terms := self._session.terms) is not None and not self._guard.silent(terms, now):
            self._heartbeat(terms, now)

    def _heartbeat(self, terms: Terms, now: Now) -> None:
        seq = self._session.on_heartbeat(terms, now)
        window, ahead = self._flow.take_amount(now)
        runs = self._holdings.listed()
        self.to_scheduler.append(
            Heartbeat(
                s=terms.token,
                seq=seq,
                n=self._session.dispatch_n,
                window=window,
                ahead=ahead,
                runs=runs,
                stuck=self._holdings.listed_stuck(runs),
                foreign=self._holdings.foreign_summary(),
                leaving=self._flow.stopping,
            )
        )

    def _send_results(self, terms: Terms, batches: Iterable[tuple[RunResult, ...]]) -> None:
        for batch in batches:
            self.to_scheduler += parts.frames(terms.token, batch)

    def _send_unsent_results(self, now: Now) -> None:
        if (terms := self._session.terms) is not None:
            self._send_results(terms, self._holdings.reports.unsent(now.mono_ms))

    # --- runs --------------------------------------------------------------------------------------------------------

    def _on_dispatch(self, frame: Dispatch, now: Now) -> None:
        self._session.dispatch_n = frame.n
        if clashing := self._holdings.clashes(frame.runs):
            # `ready` before `return`, or the scheduler dispatches the same runs again at once.
            self._send_ready(now)
            self.to_scheduler.append(Return(s=frame.s, runs=clashing))
        orders = self._holdings.accept(frame.runs)
        for order in orders:
            if order.lease_ms is not None:
                self._session.add_lease(order.run, order.lease_ms, now)
        self._report_lease()
        if orders:
            self.to_guard.append(messages.Start(orders, now.mono_ms))

    def _on_began(self, began: messages.Began, now: Now) -> None:
        run = self._holdings.begin(began.run)
        if run is None or (terms := self._session.terms) is None:
            return
        self.to_scheduler.append(Started(s=terms.token, run=began.run, pid=began.pid, at_ms=began.at_ms))
        if run.probation:
            self._session.add_probation(now)

    def _on_unstarted(self, message: messages.Unstarted, now: Now) -> None:
        known = tuple(run for run in message.runs if run in self._holdings)
        lease_over = self._renewal.any_over(known, now.mono_ms)
        for run in known:
            self._holdings.forget(run)
        if message.no_room:
            self._flow.on_no_room(now)
        if message.withdrawn:
            self._session.on_withdrawn(now)
            self._holdings.assume_started()
        elif known:
            self._flow.on_returned()
            if lease_over:
                self._renewal.lapse()
            # `ready` before `return`, or the scheduler dispatches the same runs again at once.
            self._send_ready(now)
            if (terms := self._session.terms) is not None:
                self.to_scheduler.append(Return(s=terms.token, runs=known))
                if lease_over:
                    self._heartbeat(terms, now)

    def _on_result_ack(self, frame: ResultAck) -> None:
        for run, verdict in frame.verdicts:
            if verdict in ("stale", "unknown"):
                log.info("run %d: the scheduler refused its result: %s", run, verdict)
        if runs := self._holdings.on_answered(run for run, _ in frame.verdicts):
            self.to_guard.append(messages.Forget(runs))

    def _stop(self, runs: Iterable[int]) -> None:
        if live := self._holdings.unfinished(runs):
            self.to_guard.append(messages.Stop(live))

    def _drop(self, runs: Iterable[int]) -> None:
        if known := self._holdings.drop(runs):
            self.to_guard.append(messages.Stop(known, drop=True))
