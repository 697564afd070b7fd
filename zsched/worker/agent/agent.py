"""What a worker decides: when to register, what to ask for, what to start, report and give back.

Deterministic: no clock, sockets, threads or random source; the link (or a simulator) calls on_… with the time and
carries away what lies in the two outboxes. The rule it keeps: nothing starts without a live session, and what a
session handed out and did not start in time is never started later.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from zsched import __version__
from zsched.model.limits import AGENT_SEEKING_MS_MAX, AGENT_SILENT_MS_MAX, FRAME_LIST_MAX
from zsched.model.types import Now
from zsched.model.units import counted
from zsched.protocol import (
    INTEGER_MAX,
    VERSIONS,
    Cancel,
    Error,
    Foreign,
    Heartbeat,
    HeartbeatAck,
    Held,
    Log,
    Phase,
    Ready,
    Register,
    Registered,
    Result,
    ResultAck,
    Return,
    Run,
    RunResult,
    SchedulerBye,
    SchedulerFrame,
    Started,
    Watch,
    WorkerBye,
    WorkerFrame,
)
from zsched.worker import messages
from zsched.worker.agent.pace import Backoff, Pace, window
from zsched.worker.agent.renewal import Renewal
from zsched.worker.agent.reports import Reports
from zsched.worker.messages import ForeignRuns, FromAgent, FromGuard, Hello

# What this worker knows of beyond a plain command line.
CAN: Final = ("env", "foreign", "secret_env", "stop", "user")
# A run on probation that lives this long has not killed its worker: a heartbeat reports it at once, together with all
# others within a step.
_PROBATION_MS: Final = 1_000
_PROBATION_STEP_MS: Final = 50
# How often to register while another worker has our name: it may be dead, and not have timed out yet.
_DUPLICATE_RETRY_MS: Final = 1_000
# Guard and agent exchange signs of life this often, or with each heartbeat if that comes more often.
_ALIVE_MS: Final = 2_000
# The longest silence towards the guard is at least this, however short the scheduler's timeout is.
_SILENT_MS_MIN: Final = 5_000
# sysexits.h EX_NOPERM: the scheduler refuses this worker for good.
EXIT_REFUSED: Final = 77

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Session:
    """What the scheduler gave us in `registered`. It ends timeout_ms after sending the last frame that was answered."""

    name: str
    timeout_ms: int
    heartbeat_ms: int


class Agent:
    """One worker's side of the dialogue. `to_scheduler` and `to_guard` are outboxes that the caller empties."""

    def __init__(self, hello: Hello, now: Now, host: str = "") -> None:
        self.to_scheduler: list[WorkerFrame] = []
        self.to_guard: list[FromAgent] = []
        # Set when this process shall end; `left` is for the guard's Leave, after which 0 is right.
        self.exit_code: int | None = None
        self._hello = hello
        self._host = host
        self._db = hello.db
        self._stopping = hello.stopping
        self._disk_fails = hello.disk_fails
        self._window = window(hello.slots)
        self._pace = Pace(hello.slots, self._window)
        self._held: dict[int, Phase] = {held.run: held.phase for held in hello.held}
        self._reports = Reports(hello.results)
        # Of the held: they were dropped, and their processes are not gone yet. Each still takes a slot.
        self._dropped: set[int] = set(hello.dying)
        # Of the held: discarded for another database, and not gone yet. They are listed until they are.
        self._doomed: set[int] = set(hello.doomed)
        # A run came that has the id of one of those.
        self._clash = False
        # Of the held: their processes were killed and do not end. Nothing more is taken meanwhile.
        self._stuck: set[int] = set(hello.stuck)
        self._foreign = hello.foreign
        # The guard has not answered a change of the database. Of the runs that are then held, these do not live: their
        # results come next.
        self._changing = False
        self._expected: set[int] = set()
        self._renewal = Renewal(hello.leases)
        self._session: Session | None = None
        # When on_tick has something to do.
        self._due_ms: int | None = None
        self._backoff = Backoff(hello.incarnation)
        self._timeout_ms: int | None = None
        self._register_at_ms: int | None = now.mono_ms
        # `sent_ms` of the last register.
        self._sent_ms = 0
        self._withdrawing = False
        self._duplicate = False
        self._n = 0
        self._heartbeat_at_ms = 0
        self._ready_at_ms = 0
        # Window, ahead and whether we leave, as the scheduler last got them.
        self._asked = (0, 0, False)
        # When the guard last spoke; and when to ask it again, None while that is not answered.
        self._guard_heard_ms = now.mono_ms
        self._alive_at_ms: int | None = now.mono_ms
        # The host could start no process: nothing is asked for until then, and each time in a row for longer.
        self._no_room_until_ms = 0
        self._no_room = Backoff(hello.incarnation)
        self._probation: set[int] = set()
        self._probation_at_ms: list[int] = []

    @property
    def registered(self) -> bool:
        """Whether a session lives."""
        return self._session is not None

    @property
    def timeout_ms(self) -> int | None:
        """The timeout in the last `registered`: after so long the scheduler gives us up. None before the first."""
        return self._timeout_ms

    # --- what happens ------------------------------------------------------------------------------------------------

    def on_connected(self, now: Now) -> None:
        """The link reaches a scheduler: register without waiting."""
        self._backoff.reset()
        if self._session is None and self._register_at_ms is not None:
            self._register_at_ms = now.mono_ms

    def on_seek(self) -> None:
        """The link is about to look for the scheduler, and does nothing else meanwhile."""
        self.to_guard.append(messages.Alive(AGENT_SEEKING_MS_MAX))

    def on_refused(self, why: str) -> None:
        """The scheduler refuses this worker for good: it ends."""
        log.error("worker %s: refused by the scheduler: %s", self._hello.worker, why)
        self.to_guard.append(messages.Refused(EXIT_REFUSED))
        self.exit_code = EXIT_REFUSED

    def on_disconnected(self, now: Now) -> None:
        """The link is cut, so frames may be lost: only a new session counts."""
        self._lose_session(now, "the connection is cut")

    def on_frame(self, frame: SchedulerFrame, now: Now) -> None:
        """A frame came. One of a session that is not ours is dropped."""
        # Who stood still may have lost the session, and this may have come before that.
        if self._due_ms is not None and now.mono_ms >= self._due_ms:
            self.on_tick(now)
        if isinstance(frame, Error):
            self._on_error(frame, now)
        elif isinstance(frame, Registered):
            self._on_registered(frame, now)
        elif self._session is not None and frame.s == self._session.name:
            self._on_session_frame(frame, now)

    def on_guard(self, message: FromGuard, now: Now) -> None:
        """A message of the guard came."""
        self._guard_heard_ms = now.mono_ms
        if self._changing and isinstance(message, messages.OF_RUNS):
            # Sent before the guard had read of the change: the number is that of another database's run.
            return
        match message:
            case messages.Alive():
                self._alive_at_ms = now.mono_ms + self._alive_ms()
            case messages.Ended(results):
                self._on_ended(results, now)
            case messages.Spooled():
                self._on_spooled(message, now)
            case messages.Foreign():
                self._on_foreign(message, now)
            case messages.DiskFails(fails):
                self._disk_fails = fails
            case messages.Began(run, pid, at_ms):
                self._on_began(run, pid, at_ms, now)
            case messages.Logged(run, stream, offset, data):
                if self._session is not None:
                    self.to_scheduler.append(
                        Log(s=self._session.name, run=run, stream=stream, offset=offset, data=data)
                    )
                return
            case messages.Unstarted():
                self._on_unstarted(message, now)
            case messages.Gone(runs):
                self._on_gone(runs)
            case messages.Stuck(runs):
                self._on_stuck(runs, now)
            case messages.Stopping():
                self._stopping = True
            case messages.Leave():
                self._on_leave()
        self._say_ready(now)

    def on_guard_lost(self) -> None:
        """The guard has died, and all its runs with it."""
        if self._session is not None:
            self.to_scheduler.append(WorkerBye(s=self._session.name, reason="guard_lost"))

    def on_tick(self, now: Now) -> int | None:
        """Do what is due. Returns the monotonic time in ms at which to call again at the latest, or None."""
        if self._session is not None and now.mono_ms >= self._renewal.acked_ms + self._session.timeout_ms:
            self._lose_session(now, f"no answer for {now.mono_ms - self._renewal.acked_ms} ms")
        if self._alive_at_ms is not None and now.mono_ms >= self._alive_at_ms:
            self._alive_at_ms = None
            self.to_guard.append(messages.Alive(self._silent_ms()))
        if self._session is None:
            if self._register_at_ms is not None and now.mono_ms >= self._register_at_ms:
                self._register(now)
        elif not self._guard_silent(now):
            if now.mono_ms >= min([self._heartbeat_at_ms, *self._probation_at_ms]):
                self._heartbeat(self._session, now)
            self._say_ready(now)
            self._send_results(self._reports.due(now.mono_ms))
        self._due_ms = self._deadline_ms(now)
        return self._due_ms

    def _guard_silent(self, now: Now) -> bool:
        """Whether the guard stands still. Then our reports would soon be wrong, so we send none, as if dead."""
        return self._session is not None and now.mono_ms > self._guard_heard_ms + self._session.timeout_ms // 2

    def _alive_ms(self) -> int:
        return _ALIVE_MS if self._session is None else min(_ALIVE_MS, self._session.heartbeat_ms)

    def _silent_ms(self) -> int:
        third_ms = AGENT_SILENT_MS_MAX if self._session is None else self._session.timeout_ms // 3
        return max(_SILENT_MS_MIN, min(AGENT_SILENT_MS_MAX, third_ms))

    def _deadline_ms(self, now: Now) -> int | None:
        session = self._session
        asking = [at_ms for at_ms in (self._alive_at_ms, self._register_at_ms) if at_ms is not None]
        if session is None:
            return min(asking, default=None)
        deadlines = [self._renewal.acked_ms + session.timeout_ms, *asking]
        if self._guard_silent(now):
            return min(deadlines)
        deadlines += [self._heartbeat_at_ms, *self._probation_at_ms]
        if not self._held:
            deadlines.append(self._ready_at_ms)
        if (resend_ms := self._reports.deadline_ms()) is not None:
            deadlines.append(resend_ms)
        if self._no_room_until_ms:
            deadlines.append(self._no_room_until_ms)
        return min(deadlines)

    # --- the session -------------------------------------------------------------------------------------------------

    def _register(self, now: Now) -> None:
        hello = self._hello
        # Each is later than the one before, or the scheduler could not see which of two came late.
        self._sent_ms = max(now.mono_ms, self._sent_ms + 1)
        self.to_scheduler.append(
            Register(
                versions=VERSIONS,
                worker=hello.worker,
                incarnation=hello.incarnation,
                boot_id=hello.boot_id,
                lock=(hello.lock[0] & INTEGER_MAX - 1, hello.lock[1] & INTEGER_MAX - 1),
                slots=hello.slots,
                heartbeat_ms=hello.heartbeat_ms,
                db=self._db,
                sent_ms=self._sent_ms,
                host=self._host,
                agent=__version__,
                can=CAN,
                runs=self._all_held(),
                foreign=tuple(_listed(held) for held in self._foreign),
                leaving=self._stopping,
            )
        )
        self._renewal.on_register(now.mono_ms)
        gap_ms = _DUPLICATE_RETRY_MS if self._duplicate else self._backoff.next_ms()
        self._register_at_ms = now.mono_ms + self._renewal.register_gap_ms(gap_ms)

    def _on_registered(self, frame: Registered, now: Now) -> None:
        if self._withdrawing:
            # The answer to a register from before that session was lost. What we hold has changed since.
            return
        beat_ms = min(self._hello.heartbeat_ms, frame.timeout_ms // 3)
        self._session = Session(frame.s, frame.timeout_ms, max(1, beat_ms))
        log.info("worker %s: registered, database %s, session %s", self._hello.worker, frame.db, frame.s)
        self._register_at_ms = None
        self._duplicate = False
        self._backoff.reset()
        self._backoff.hurry(frame.timeout_ms)
        self._timeout_ms = frame.timeout_ms
        self._n = 0
        if frame.db != self._db:
            self._renewal.on_database()
        self._renewal.on_registered(now.mono_ms)
        if self._alive_at_ms is not None:
            self._alive_at_ms = now.mono_ms
        self._heartbeat_at_ms = now.mono_ms + self._renewal.beat_ms(self._session.heartbeat_ms)
        self._asked = (0, 0, self._stopping)
        if frame.db != self._db:
            self._change_database(frame.db)
        self._discard(frame.discard)
        unwanted = set(frame.kill)
        # A running run that is not named at all was handed out by a session that this one replaced.
        unwanted |= {run for run, phase in self._held.items() if phase != "finished"} - set(frame.keep)
        self._drop(unwanted)
        if (self._renewal.pressing or self._stuck) and not self._guard_silent(now):
            self._heartbeat(self._session, now)
        self._tell_lease()
        self._send_results(self._reports.all(now.mono_ms))
        self._say_ready(now)

    def _change_database(self, db: str) -> None:
        """What was held becomes foreign: it continues, and frames only list it. What was held for the new database is
        held again. The guard's answer will say the same, with what has happened meanwhile.
        """
        others = {held.db: held for held in self._foreign}
        back = others.pop(db, ForeignRuns(db))
        # Where nothing was held since the guard's last answer, no run in its messages can be mistaken for another.
        self._changing = self._changing or bool(self._held) or back != ForeignRuns(db)
        if self._held:
            running = [run for run, phase in self._held.items() if phase != "finished" and run not in self._dropped]
            results = len(self._held) - len(running) - len(self._dropped)
            others[self._db] = ForeignRuns(self._db, tuple(running), tuple(self._dropped), results)
            log.warning(
                "worker %s: the scheduler has database %s: keeps %s and %s of database %s",
                *(self._hello.worker, db, counted(len(running), "run"), counted(results, "result")),
                self._db or "(none)",
            )
        for run in list(self._held):
            self._forget(run)
        self._probation_at_ms.clear()
        self._stuck.clear()
        self._held.update(dict.fromkeys((*back.running, *back.ending), "running"))
        self._held.update(dict.fromkeys(back.finished, "finished"))
        for run, lease_ms in back.leases:
            self._renewal.add(run, lease_ms)
        self._foreign = tuple(others.values())
        self._db = db
        self.to_guard.append(messages.Database(db))

    def _on_foreign(self, message: messages.Foreign, now: Now) -> None:
        if message.db != self._db:
            return
        news = self._changing or message.held != self._foreign
        if self._changing:
            self._doomed = set(message.doomed)
            # What has ended since the guard last said so has a result, which comes next, or was discarded.
            self._expected = self._held.keys() - set(message.live)
        self._changing = False
        self._foreign = message.held
        self._stuck = set(message.stuck)
        if news and self._session is not None and not self._guard_silent(now):
            # Work for this database may wait for it.
            self._heartbeat(self._session, now)

    def _discard(self, dbs: tuple[str, ...]) -> None:
        """End what is held for these databases. Repeated until nothing is left of them."""
        if known := tuple(held.db for held in self._foreign if held.db in dbs):
            self.to_guard.append(messages.Discard(known))

    def _lose_session(self, now: Now, why: str) -> None:
        """Runs that wait may not start now. The next register is sent when the guard has listed those that had not."""
        if self._session is None:
            return
        log.warning("worker %s: session %s lost: %s", self._hello.worker, self._session.name, why)
        self._session = None
        self._probation_at_ms.clear()
        self._register_at_ms = None
        self._withdrawing = True
        self.to_guard.append(messages.Withdraw())

    def _on_error(self, frame: Error, now: Now) -> None:
        if frame.fatal:
            self.on_refused(frame.detail)
        elif frame.code == "E_SESSION":
            self._lose_session(now, frame.detail)
        elif frame.code == "E_DUP":
            if not self._duplicate:
                log.warning("worker %s: trying again each second: %s", self._hello.worker, frame.detail)
            self._duplicate = True
            if self._register_at_ms is not None:
                gap_ms = self._renewal.register_gap_ms(_DUPLICATE_RETRY_MS)
                self._register_at_ms = max(now.mono_ms, self._sent_ms + gap_ms)
        else:
            log.warning("worker %s: the scheduler says %s: %s", self._hello.worker, frame.code, frame.detail)

    def _on_session_frame(self, frame: SchedulerFrame, now: Now) -> None:
        match frame:
            case Run():
                self._on_run(frame, now)
            case ResultAck():
                # No sign of life: it may have lain here, and does not say which frame it answers.
                self._on_result_ack(frame)
            case HeartbeatAck():
                self._renewal.on_ack(frame.seq)
                self._tell_lease()
                self._discard(frame.discard)
                self._drop(frame.kill)
                self._stop(frame.cancel)
            case Cancel():
                self._discard(frame.discard)
                self._stop(frame.runs)
            case Watch():
                self.to_guard.append(messages.Look(frame.run, frame.stdout, frame.stderr, frame.for_ms))
            case SchedulerBye():
                self._lose_session(now, f"the scheduler says goodbye: {frame.reason}")
        self._say_ready(now)

    def _tell_lease(self) -> None:
        """Tell the guard from when leases count, while there are runs with one."""
        if (heard_ms := self._renewal.take_untold()) is not None:
            self.to_guard.append(messages.Lease(heard_ms))

    def _on_leave(self) -> None:
        """Say goodbye. A run that still waits crossed with the guard's end: it never starts, and is not listed."""
        if self._session is not None:
            left = tuple(held for held in self._all_held() if held.phase != "waiting")
            self.to_scheduler.append(WorkerBye(s=self._session.name, reason="shutdown", runs=left))
        self.exit_code = 0

    # --- asking and reporting ----------------------------------------------------------------------------------------

    def _asking(self, now: Now) -> tuple[int, int]:
        if now.mono_ms >= self._no_room_until_ms:
            self._no_room_until_ms = 0
        if self._clash or self._disk_fails or self._stuck or self._renewal.lapsed or self._no_room_until_ms:
            return 0, 0
        if self._changing:
            return 0, 0
        window, ahead = self._window, self._pace.ahead()
        # A frame lists all that is held, results that are not acked too, and its lists are bounded.
        window = min(window, max(0, FRAME_LIST_MAX - len(self._reports)))
        # The scheduler does not count these.
        taken = len(self._dropped) + sum(len(held.running) + len(held.ending) for held in self._foreign)
        if taken:
            window, ahead = max(0, self._hello.slots - taken), 0
        return (0, 0) if self._stopping else (window, ahead)

    def _say_ready(self, now: Now) -> None:
        """Send `ready` when it says something new, and now and then while idle."""
        if self._session is None or self._guard_silent(now):
            return
        window, ahead = self._asking(now)
        asking = window, ahead, self._stopping
        if asking == self._asked and (self._held or now.mono_ms < self._ready_at_ms):
            return
        self._asked = asking
        self._ready_at_ms = now.mono_ms + self._hello.poll_ms
        self.to_scheduler.append(Ready(s=self._session.name, window=window, ahead=ahead, leaving=self._stopping))

    def _heartbeat(self, session: Session, now: Now) -> None:
        seq = self._renewal.on_heartbeat(now.mono_ms)
        self._heartbeat_at_ms = now.mono_ms + self._renewal.beat_ms(session.heartbeat_ms)
        self._probation_at_ms = [at_ms for at_ms in self._probation_at_ms if at_ms > now.mono_ms]
        window, ahead = self._asking(now)
        self._asked = window, ahead, self._stopping
        runs = self._all_held()
        stuck = tuple(held.run for held in runs if held.run in self._stuck and held.phase == "running")
        self.to_scheduler.append(
            Heartbeat(
                s=session.name,
                seq=seq,
                n=self._n,
                window=window,
                ahead=ahead,
                runs=runs,
                stuck=stuck,
                foreign=tuple(_brief(held) for held in self._foreign if held.running or held.ending or held.results),
                leaving=self._stopping,
            )
        )

    def _all_held(self) -> tuple[Held, ...]:
        """All that is held. When that is more than a list may have, finished runs are left out: results of many days
        that were found on the disk, for example. The scheduler then runs those again.
        """
        held = [Held(run, phase) for run, phase in self._held.items() if run not in self._dropped]
        if len(held) > FRAME_LIST_MAX:
            held.sort(key=lambda one: one.phase == "finished")
        return tuple(held[:FRAME_LIST_MAX])

    # --- runs --------------------------------------------------------------------------------------------------------

    def _on_run(self, frame: Run, now: Now) -> None:
        self._n = frame.n
        if clashing := tuple(order.run for order in frame.runs if order.run in self._dropped):
            # Of another database, mostly. They go back, and nothing is asked for until the old ones are gone.
            self._clash = True
            self._say_ready(now)
            self.to_scheduler.append(Return(s=frame.s, runs=clashing))
        orders = tuple(order for order in frame.runs if order.run not in self._held)
        for order in orders:
            self._held[order.run] = "waiting"
            if order.probation:
                self._probation.add(order.run)
            if order.lease_ms is not None:
                gap_ms = self._renewal.add(order.run, order.lease_ms)
                self._heartbeat_at_ms = min(self._heartbeat_at_ms, now.mono_ms + gap_ms)
        self._tell_lease()
        if orders:
            self.to_guard.append(messages.Start(orders, now.mono_ms))

    def _on_began(self, run: int, pid: int, at_ms: int, now: Now) -> None:
        if run not in self._held:
            return
        self._held[run] = "running"
        if self._session is None:
            return
        self.to_scheduler.append(Started(s=self._session.name, run=run, pid=pid, at_ms=at_ms))
        if run in self._probation:
            self._probation_at_ms.append(-(-(now.mono_ms + _PROBATION_MS) // _PROBATION_STEP_MS) * _PROBATION_STEP_MS)

    def _on_ended(self, results: tuple[RunResult, ...], now: Now) -> None:
        kept = [result for result in results if result.run in self._held and result.run not in self._dropped]
        for result in kept:
            self._held[result.run] = "finished"
            self._renewal.remove(result.run)
            if result.started_ms is not None:
                self._no_room.reset()
                self._pace.on_ended(result.finished_ms - result.started_ms)
        self._report(kept, now)

    def _on_spooled(self, message: messages.Spooled, now: Now) -> None:
        if message.db != self._db:
            return
        # Perhaps handed out again meanwhile: then the guard ignores that order.
        found = [result for result in message.results if result.run not in self._dropped]
        for run in self._expected.difference(result.run for result in found):
            # Discarded; or its file was damaged or too old. The next heartbeat does not list it, so it runs again.
            self._forget(run)
        self._expected.clear()
        self._held.update({result.run: "finished" for result in found})
        self._report(found, now)

    def _report(self, results: list[RunResult], now: Now) -> None:
        self._reports.add(results)
        if self._session is not None:
            self._send_results(self._reports.unsent(now.mono_ms))

    def _on_unstarted(self, message: messages.Unstarted, now: Now) -> None:
        known = tuple(run for run in message.runs if run in self._held)
        over = self._renewal.over(known, now.mono_ms)
        for run in known:
            self._forget(run)
        if message.no_room:
            self._no_room_until_ms = now.mono_ms + self._no_room.next_ms()
        if message.withdrawn:
            self._withdrawing = False
            self._register_at_ms = now.mono_ms
            # Whatever is left of those that waited has started in the meantime.
            self._held.update({run: "running" for run, phase in self._held.items() if phase == "waiting"})
        elif known:
            self._pace.on_returned()
            if over:
                self._renewal.lapse()
            # First how much it takes, then what it gives back: otherwise the runs would come again at once.
            self._say_ready(now)
            if self._session is not None:
                self.to_scheduler.append(Return(s=self._session.name, runs=known))
            if self._session is not None and over:
                self._heartbeat(self._session, now)

    def _on_gone(self, runs: tuple[int, ...]) -> None:
        """Dropped runs are gone. One that the guard dropped by itself, because the worker ends, has run. It is listed
        until the goodbye, so that it does not count as never started.
        """
        for run in runs:
            if run in self._held and run not in self._dropped and run not in self._doomed:
                self._held[run] = "running"
            else:
                self._forget(run)

    def _on_stuck(self, runs: tuple[int, ...], now: Now) -> None:
        """Report it at once: this heartbeat may be the last."""
        self._stuck = set(runs)
        if self._session is not None:
            self._heartbeat(self._session, now)

    def _on_result_ack(self, frame: ResultAck) -> None:
        runs = tuple(run for run, _ in frame.verdicts if self._held.get(run) == "finished")
        for run, verdict in frame.verdicts:
            if verdict in ("stale", "unknown"):
                log.info("run %d: the scheduler did not take its result: %s", run, verdict)
        for run in runs:
            self._forget(run)
        if runs:
            self.to_guard.append(messages.Forget(runs))

    def _send_results(self, batches: Iterable[tuple[RunResult, ...]]) -> None:
        assert self._session is not None
        for batch in batches:
            self.to_scheduler.append(Result(s=self._session.name, results=batch))

    def _stop(self, runs: Iterable[int]) -> None:
        live = tuple(run for run in runs if self._held.get(run, "finished") != "finished")
        if live:
            self.to_guard.append(messages.Stop(live))

    def _drop(self, runs: Iterable[int]) -> None:
        """End runs without results. They stay held until the guard says that they are gone."""
        known = tuple(run for run in runs if run in self._held and run not in self._dropped)
        for run in known:
            self._dropped.add(run)
            self._reports.forget(run)
        if known:
            self.to_guard.append(messages.Drop(known))

    def _forget(self, run: int) -> None:
        self._held.pop(run, None)
        self._dropped.discard(run)
        self._doomed.discard(run)
        self._clash = self._clash and bool(self._dropped)
        self._probation.discard(run)
        self._renewal.remove(run)
        self._reports.forget(run)


def _brief(held: ForeignRuns) -> Foreign:
    return Foreign(held.db, held.running, held.ending, held.results)


def _listed(held: ForeignRuns) -> Foreign:
    return Foreign(held.db, held.running, held.ending, held.results, held.finished, held.ended)
