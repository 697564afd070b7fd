"""The judge: after every turn it compares what the store says with what really happened.

`Judge.after_turn` checks safety. Each rule is a method whose docstring is the promise; what breaks it raises Violation.
The judge keeps its own picture of the runs, from the turn before, and replays the events beside it.
"""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgpack

from tests.sim.arrays import ENDED, Arrays
from tests.sim.artifacts import Artifacts
from tests.sim.callers import Asked, Client
from tests.sim.dependencies import Dependencies
from tests.sim.elsewhere import Elsewhere
from tests.sim.execution import Execution
from tests.sim.inspector import Inspector
from tests.sim.jobs import name_of
from tests.sim.machine import Machine, SimAgent
from tests.sim.outages import Outages
from tests.sim.overseer import Overseer
from tests.sim.pollers import SimPoller
from tests.sim.removals import Removals
from tests.sim.retries import Retries
from tests.sim.scheduler import FaultyEngine, Scheduler
from tests.sim.story import Story
from tests.sim.timeline import Timeline
from tests.sim.times import Times
from tests.sim.turns import Turns
from tests.sim.violation import Violation
from tests.sim.witness import Life, Witness
from zsched.model.limits import (
    ESTABLISHED_MS,
    LEASE_MARGIN_MS,
    MASS_WORKERS_MIN,
    PROBATION_MS,
    PROBATION_RUNS_MIN,
    STALL_MS,
)
from zsched.model.types import OnLost, WorkerId
from zsched.protocol import WorkerFrame
from zsched.scheduler.dispatcher.commands import Beat, Command, Next, RegisterWorker, Report
from zsched.scheduler.dispatcher.retention import KEEP_ALL

# Written by hand, as the moves below: the judge must not believe the table that it judges.
_TERMINAL: Final = frozenset({"success", "failed", "cancelled"})
_STATUSES: Final = ("pending", "running", "success", "failed", "cancelled")

_REPORTED: Final = frozenset({"exit", "signal", "timeout", "spawn_error", "reported", "lease_stop", "cwd_missing"})
# The moves of a run, as its events show them, with their reasons. Written by hand.
_MOVES: Final[Mapping[tuple[str | None, str], frozenset[str | None]]] = {
    (None, "pending"): frozenset({None, "fire", "requeued", "retry", "rerun"}),
    ("pending", "running"): frozenset({None}),
    ("pending", "cancelled"): frozenset({"cancelled", "max_fails"}),
    ("pending", "failed"): frozenset({"quarantined", "worker_lost", "expired", "dependency"}),
    ("running", "running"): frozenset({"cancel", "stuck", "stale"}),
    ("running", "pending"): frozenset({"returned", "undelivered"}),
    ("running", "success"): frozenset({"exit", "reported"}),
    ("running", "failed"): _REPORTED | {"worker_lost", "crash_limit", "unkillable", "quarantined"},
    ("running", "cancelled"): frozenset({"cancelled"}),
    **{(status, status): frozenset({"stale"}) for status in ("pending", *_TERMINAL)},
}

# What a worker's loss is called, by whether somebody is to blame for it.
_BLAMING: Final = ("started again", "lost its guard", "silent for", "registered again", "asked for another run")
_BLAMELESS: Final = ("does not hold it", "said goodbye")
# Failures that a job may have tried again.
_OWN_FAULT: Final = ("exit", "signal", "timeout", "spawn_error", "reported")

# Workers that a job may kill beyond its crash limit: one before it is suspected; one more whenever it meets another run
# alone on probation, which then pays; and those by which it is told from the others of its group.
KILLS_BEYOND: Final = 8
# What a run must have lived to be trusted, by clocks that may be slow.
_TRUSTED_MS: Final = PROBATION_MS * 97 // 100

# A run that nobody can start now waits; it is not handed back and forth.
COME_BACK_MAX: Final = 40

# In a healed world: a worker is back within the longest back-off, and a process is killed within its grace.
STRAY_MS: Final = 30_000

# The guard, and through it the agent's withdrawal, may be so late: two wake-ups and a signal.
_LATE_MS: Final = 5

# What an agent has heard may lie for a second on the way to its guard, and for another there, by a slow clock.
_HEARD_MS: Final = 2_070

# How long a frame may lie in the ROUTER of a scheduler that is well, until it counts as heard.
_LIES_MS: Final = 300


# The judge's attributes that follow from the store.
_PICTURE: Final = (
    *("rows", "_open", "_before", "_told", "_made", "_workers", "_told_workers", "_schedules", "_tasks", "_suspects"),
    *("_ended_ms", "_cancelled_ms", "_come_back", "_last_event", "_active", "_told_stuck", "kills", "_held"),
    "_ends",
)


class Row(NamedTuple):
    """A run as the store has it."""

    run: int
    job: int
    task: int
    attempt: int
    status: str
    reason: str | None
    worker: str | None
    crashes: int
    probation: int
    started: int
    cancelled: int
    failures: int
    stuck: int
    lived_ms: int | None

    @property
    def final(self) -> bool:
        return self.status in _TERMINAL


class Wish(NamedTuple):
    """What a job says of its failures, as the store has it."""

    retries: int
    crash_limit: int
    on_lost: str
    recurs: int
    stops: int


class Told(NamedTuple):
    """A run as the events tell it."""

    status: str
    reason: str | None
    worker: str | None


@dataclass(frozen=True, slots=True)
class Loss:
    """A run that ended because its worker was lost, and why. `announced`: that one had said that it would end."""

    run: int
    worker: str
    why: str
    announced: bool


RUNS: Final = """
    SELECT run_id, job_id, task, attempt, status, reason, worker_id, crashes, probation, started_ms IS NOT NULL,
        cancel_ms IS NOT NULL, failures, stuck, finished_ms - started_ms FROM runs"""
_RUN: Final = f"{RUNS} WHERE run_id = ?"
WISH: Final = """
    SELECT retries, crash_limit, on_lost, schedule IS NOT NULL, on_disconnect = 'stop' FROM jobs WHERE job_id = ?"""
_USAGE: Final = """
    SELECT name, sum(success), sum(failed), sum(cancelled) FROM usage WHERE kind = 'owner'
    GROUP BY name ORDER BY name"""
_HELD: Final = "SELECT run_id, job_id, blocked & 8 FROM runs WHERE status = 'pending'"
EVENTS: Final = """
    SELECT event_id, job_id, run_first, run_last, worker_id, was, became, reason, detail FROM events
    WHERE event_id > ? ORDER BY event_id"""


class Judge:
    """Knows everything, touches nothing."""

    def __init__(
        self,
        timeline: Timeline,
        story: Story,
        scheduler: Scheduler,
        witness: Witness,
        client: Client,
        machines: Mapping[str, Machine],
        pollers: Mapping[str, SimPoller],
    ) -> None:
        self.checks = 0
        # How often each job has killed what it ran on, and losses that no poison explains.
        self.kills: Counter[int] = Counter()
        self.faults = 0
        self.overseer = Overseer(timeline, witness, machines)
        self.inspector = Inspector(timeline)
        self.elsewhere: Elsewhere | None = None
        # The identity of the database that it follows.
        self.home = name_of(0)
        self._timeline = timeline
        self._story = story
        self._scheduler = scheduler
        self._witness = witness
        self._client = client
        self._machines = machines
        self._pollers = pollers
        # Of every run, and those that are pending or running.
        self.rows: dict[int, Row] = {}
        self._open: set[int] = set()
        self._before: dict[int, Row] = {}
        self._told: dict[int, Told] = {}
        # Why each run was made, by its event, and what each job wishes.
        self._made: dict[int, str | None] = {}
        self._wishes: dict[int, Wish] = {}
        self._workers: dict[str, tuple[str, str, str]] = {}
        self._told_workers: dict[str, str] = {}
        # Jobs that are held, as the events tell it.
        self._held: set[int] = set()
        # The state of each schedule, as the events tell it.
        self._schedules: dict[int, str] = {}
        self._tasks: dict[tuple[int, int], list[int]] = defaultdict(list)
        # The tasks of each job that ever had a run.
        self._indexes: dict[int, set[int]] = defaultdict(set)
        # Runs that must be on probation, each with the most suspects that may be so at once with it on a worker.
        self._suspects: dict[int, int] = {}
        # Workers that have announced their end, as events tell it.
        self._leaving: set[str] = set()
        # Workers that said at any time that they are about to end.
        self._announced: set[str] = set()
        self._last_words: set[tuple[str, int]] = set()
        self._ended_ms: dict[int, int] = {}
        self._cancelled_ms: dict[int, int] = {}
        self._come_back: Counter[int] = Counter()
        self._last_event = 0
        # The last event of each database that the story has.
        self._told_events: dict[FaultyEngine, int] = {}
        self._changes = -1
        # Runs to read at the next look, whether or not they were written.
        self._unread: set[int] = set()
        # How the runs of each owner have ended.
        self._ends: Counter[tuple[str, str]] = Counter()
        # When each session, and each polling worker, was last heard; whose sessions they are.
        self._heard_ms: dict[str, int] = {}
        self._sessions: dict[str, tuple[str, bytes]] = {}
        # When the last of the registers that have arrived was sent, by worker and boot, by the clock of its host.
        self._sent_ms: Counter[tuple[str, str]] = Counter()
        # Every word of it, also one that may not have counted.
        self._word_ms: dict[str, int] = {}
        self.outages = Outages(timeline, scheduler, self._word_ms)
        self.times = Times(timeline, scheduler, client.asked)
        self.artifacts = Artifacts(scheduler, machines)
        self.turns = Turns(scheduler, witness, machines, pollers, client.asked)
        self.retries = Retries(timeline, scheduler, client.asked)
        self.arrays = Arrays(timeline, scheduler, client.asked)
        self.removals = Removals(scheduler, lambda run: self._made[run], self._recurs, self.arrays)
        client.removed = self.removals.jobs
        self.dependencies = Dependencies(timeline, scheduler, witness, client.asked, self.arrays)
        self.arrays.is_held_back = self.dependencies.holds_back
        # Who was active after the turn before, and the lease of each run that was handed out with one.
        self._active: frozenset[str] = frozenset()
        self._lease_ms: dict[int, int] = {}
        # Runs that heartbeats named as stuck, by session and number; those that a heartbeat named that has arrived, and
        # those that one named that was acked. Sessions whose last heartbeat named some.
        self._named: dict[tuple[str, int], tuple[int, ...]] = {}
        self._said_stuck: set[int] = set()
        self._told_stuck: set[int] = set()
        self._hampered: set[str] = set()

    def picture(self) -> dict[str, Any]:
        """What the judge knows of the store, to go back to when the store does."""
        self.after_turn()
        known = {name: copy.deepcopy(getattr(self, name)) for name in _PICTURE}
        return {**known, "removals": self.removals.picture(), "dependencies": self.dependencies.picture()}

    def on_restored(self, picture: Mapping[str, Any]) -> None:
        """The store is that of an earlier moment again, and its runs are lost."""
        for name in _PICTURE:
            setattr(self, name, picture[name])
        self.removals.on_restored(picture["removals"])
        self.dependencies.on_restored(picture["dependencies"])
        [(self.home,)] = self._scheduler.engine.look("SELECT db FROM identity")
        self._changes = -1
        # A restore is not seen as writes.
        self._unread = self.rows.keys() | {row[0] for row in self._scheduler.engine.look(RUNS)}
        self._client.forget({job for (job,) in self._scheduler.engine.look("SELECT job_id FROM jobs")})
        self.turns.forget()
        self.after_turn()

    @property
    def sessions(self) -> list[str]:
        """The tokens of the last session of each worker, for those who would misuse them."""
        return [token for token, _ in self._sessions.values()]

    # --- what it overhears -------------------------------------------------------------------------------------------

    def on_arrival(self, peer: bytes, body: bytes) -> None:
        """A frame lies in the ROUTER."""
        try:
            frame = msgpack.unpackb(body)
            session = frame.get("s", "") if isinstance(frame, dict) else ""
        except ValueError:
            return
        if not isinstance(frame, dict):
            return
        self.overseer.on_arrival(peer, frame)
        if self._scheduler.away:
            return
        self.outages.on_arrival(peer, frame)
        if frame.get("leaving"):
            self._announced.update(worker for worker, (token, _) in self._sessions.items() if token == session)
            self._announced.update([frame["worker"]] if "worker" in frame else ())
        match frame.get("t"):
            case "heartbeat":
                self._on_heartbeat(session, frame)
            case "register":
                self._on_register(frame)
            case "ready" if session in self._hampered and frame["window"]:
                raise Violation(f"a worker says that it can't end runs, and takes {frame['window']}")
        for worker, (token, its_peer) in self._sessions.items():
            if its_peer == peer:
                self._word_ms[worker] = self._timeline.now_ms
            if token == session and its_peer == peer:
                # A session of a turn that was given up, or whose news could not be sent, stands in its place.
                current = self._scheduler.dispatcher._sessions.of_worker(WorkerId(worker))
                if current is None or current.token == token:
                    self._heard_ms[worker] = self._timeline.now_ms

    def _on_register(self, frame: Mapping[str, Any]) -> None:
        """A word of a worker, unless it comes after a register that was sent later: what it says is outdated."""
        host = frame["worker"], frame["boot_id"]
        late = 0 < frame.get("sent_ms", 0) < self._sent_ms[host]
        self._sent_ms[host] = max(frame.get("sent_ms", 0), self._sent_ms[host])
        if frame["incarnation"] == self._workers.get(frame["worker"], ("", "", ""))[1]:
            self._word_ms[frame["worker"]] = self._timeline.now_ms
            if not late:
                self._heard_ms[frame["worker"]] = self._timeline.now_ms

    def _on_heartbeat(self, session: str, frame: Mapping[str, Any]) -> None:
        stuck = tuple(frame.get("stuck", ()))
        self._named[session, frame["seq"]] = stuck
        if frame.get("leaving"):
            self._last_words.add((session, frame["seq"]))
        self._said_stuck.update(stuck)
        if stuck:
            self._hampered.add(session)
        else:
            self._hampered.discard(session)

    def on_call(self, command: Command[Any]) -> None:
        """A polling worker's request is with the loop."""
        assert not self._scheduler.away
        if isinstance(command, Beat | Next | RegisterWorker):
            self._heard_ms[command.worker_id] = self._timeline.now_ms
        if isinstance(command, Beat | Next | RegisterWorker | Report):
            self._word_ms[command.worker_id] = self._timeline.now_ms

    def on_send(self, connection: Any, body: bytes) -> None:
        """A frame leaves the scheduler: what it says is committed."""
        frame = msgpack.unpackb(body)
        worker = connection.dealer.worker
        self.overseer.on_send(connection.peer, frame)
        if self.elsewhere is not None:
            self.elsewhere.on_send(connection.dealer, frame)
        self._tell_news()
        if self._scheduler.away:
            return
        self.outages.on_send(connection.peer, worker, frame)
        match frame["t"]:
            case "registered":
                self._sessions[worker] = (frame["s"], connection.peer)
                self._heard_ms[worker] = self._word_ms[worker] = self._timeline.now_ms
            case "heartbeat_ack":
                # What it named is committed, if it was true.
                held = (self.rows[run] for run in self._open)
                own = {row.run for row in held if row.worker == worker and row.status == "running"}
                self._told_stuck |= own.intersection(self._named.get((frame["s"], frame["seq"]), ()))
                if (frame["s"], frame["seq"]) in self._last_words:
                    self._check_known(worker, frame["s"])
            case "run":
                for order in frame["runs"]:
                    if order.get("lease_ms") is not None:
                        self._lease_ms[order["run"]] = order["lease_ms"]
                    found = self._scheduler.engine.look(
                        "SELECT status, worker_id, handed_n FROM runs WHERE run_id = ?", order["run"]
                    )
                    if found != [("running", worker, frame["n"])]:
                        raise Violation(f"run {order['run']} is sent to {worker} in frame {frame['n']}, but is {found}")
            case "result_ack":
                for run, verdict in frame["verdicts"]:
                    found = self._scheduler.engine.look("SELECT status FROM runs WHERE run_id = ?", run)
                    if verdict == "stored" and found[0][0] not in _TERMINAL:
                        raise Violation(f"run {run} is acked as stored, but is {found[0][0]}")

    def on_say(self, agent: SimAgent, frame: WorkerFrame) -> None:
        """An agent sends a frame."""
        self.overseer.on_say(agent, frame)
        if self.elsewhere is not None:
            self.elsewhere.on_say(agent, frame)

    def on_signal(self, machine: Machine, execution: Execution, number: int) -> None:
        """A guard sends a signal to a process, which has not noted it yet."""
        self.overseer.on_signal(machine, execution, number)
        self.inspector.on_signal(machine, execution, number)
        if self.elsewhere is not None:
            self.elsewhere.on_signal(machine, execution)

    def on_end(self, machine: Machine, execution: Execution) -> None:
        """A process is about to end."""
        self.overseer.on_end(machine, execution)
        self.inspector.on_main_end(machine, execution)
        if self.elsewhere is not None:
            self.elsewhere.on_end(execution)

    def on_start(self, machine: Machine, execution: Execution) -> None:
        """An agent that has no session starts nothing; what waited for a second is not started any more; nothing is
        started that a worker hears of when it has been lost; and a run that may start once starts only where it is.
        """
        guard, agent, order = machine.guard, machine.agent, execution.order
        assert guard is not None
        home = not execution.script.world
        # Until a scheduler is up on the other database, what the one before has sent may still arrive.
        other = self._scheduler.up and self._scheduler.away
        if home and other and self._timeline.now_ms - self._scheduler.started_ms > _HEARD_MS:
            raise Violation(f"run {order.run} starts on {machine.name}, but the scheduler has another database")
        now_ms = self._timeline.now_ms
        if guard.ending:
            raise Violation(f"run {order.run} starts on {machine.name}, which is told to end")
        self.turns.on_start(machine, execution)
        if home:
            self.dependencies.on_start(order.job, order.run)
        alone = self._wish(order.job).stops if home else order.lease_ms
        self.overseer.on_start(machine, execution, alone=bool(alone))
        self.inspector.on_start(machine, execution)
        mono_ms = machine.clock.mono_ms
        if mono_ms - guard.told_ms.get(order.run, mono_ms) > 1_000:
            raise Violation(f"run {order.run} starts on {machine.name} after it waited for more than a second")
        if agent is None or agent.agent is None:
            raise Violation(f"run {order.run} starts on {machine.name}, which has no agent")
        if not agent.agent.registered and now_ms - agent.lost_ms > _LATE_MS:
            raise Violation(f"run {order.run} starts on {machine.name}, which has no session")
        row = self.rows.get(order.run)
        if home and row is not None and self._once(order.job) and row.worker != machine.worker:
            raise Violation(f"run {order.run} may start once and starts on {machine.name}, but is elsewhere: {row}")
        ended_ms = self._ended_ms.get(execution.ident, now_ms)
        if now_ms - ended_ms > _HEARD_MS + _LATE_MS:
            raise Violation(f"run {order.run} starts on {machine.name}, but has ended {now_ms - ended_ms} ms ago")

    def on_drop(self, machine: Machine, run: int) -> None:
        """No work is thrown away that is still wanted: what a guard is told to drop is not its worker's any more."""
        row = self.rows.get(run)
        if machine.guard is None or machine.guard.db != self.home:
            return
        if row is not None and row.status == "running" and row.worker == machine.worker and not machine.rival:
            raise Violation(f"run {run} is dropped on {machine.name}, but is running there: {row}")

    # --- after a turn ------------------------------------------------------------------------------------------------

    def after_turn(self) -> None:
        """Safety. Cheap when nothing has changed."""
        self._tell_news()
        if self._scheduler.broken:
            raise Violation(self._scheduler.broken)
        if self.elsewhere is not None:
            self.elsewhere.after_turn()
        if self._scheduler.away:
            return
        self._check_changes()
        self.outages.after_turn(self._active)
        self.times.after_turn()
        self.retries.after_turn()
        self.dependencies.after_turn()
        self.arrays.after_turn()

    def _tell_news(self) -> None:
        """The story has what was committed, before what is sent of it."""
        engine, story = self._scheduler.engine, self._story
        if not story.wanted or engine.in_turn:
            return
        told = self._told_events.get(engine, 0)
        for event, job, first, last, worker, was, became, reason, _ in engine.look(EVENTS, told):
            self._told_events[engine] = event
            what = f"run {first}" if first is not None else f"job {job}" if job is not None else f"worker {worker}"
            what = "database" if job is None and worker is None and first is None else what
            more = f" to {last}" if last != first else ""
            place = f" on {worker}" if worker and first is not None and became == "running" else ""
            change = became if was == became else f"{was or 'new'} → {became}"
            story.tell("store", f"{what}{more}: {change}{place}{f' ({reason})' if reason else ''}")

    def _check_changes(self) -> None:
        changes = self._scheduler.engine.changes()
        if changes == self._changes:
            return
        self._changes = changes
        self.checks += 1
        before = self._before = self.rows
        written = self._scheduler.engine.take_written() | self._unread
        self._unread.clear()
        changed, missing = [], []
        for run in sorted(written):
            found = self._scheduler.engine.look(_RUN, run)
            if not found:
                missing.append(run)
            elif before.get(run) != found[0]:
                changed.append(Row(*found[0]))
        self.rows = before | {row.run: row for row in changed}
        self._open -= {row.run for row in changed if row.final}
        self._open |= {row.run for row in changed if not row.final}
        for row in changed:
            if row.run not in before:
                self._tasks[row.job, row.task].append(row.run)
                self._indexes[row.job].add(row.task)
        losses = self._replay(before)
        for row in changed:
            if row.cancelled:
                self._cancelled_ms.setdefault(row.run, self._timeline.now_ms)
            if row.final:
                self._ended_ms.setdefault(row.run, self._timeline.now_ms)
                self.artifacts.check(row)
            self._check_final(before.get(row.run), row)
            self._check_end(row)
        for row in changed:
            if row.run not in before:
                self._check_new(row)
        self._check_losses(losses)
        for row in changed:
            self._check_probation(row)
            self._check_trust(before.get(row.run), row)
        self.times.check(
            [row.run for row in changed if row.status == "pending" and self._made[row.run] is None],
            [row.run for row in changed if row.status == "running" and self._is_given(before.get(row.run))],
            [row.run for row in changed if row.reason == "expired"],
        )
        self.turns.check(
            (row.run, row.job, row.worker or "")
            for row in changed
            if row.status == "running" and self._is_given(before.get(row.run))
        )
        self.retries.check(
            row.run for row in changed if row.status == "running" and self._is_given(before.get(row.run))
        )
        new = [row for row in changed if row.run not in before and self._made[row.run] is None]
        self.arrays.check(self._tasks, self.rows, changed, new)
        self._check_held()
        self._check_usage(changed)
        self._check_tasks(changed)
        self.removals.check(before, missing, changed, self._timeline.now_ms)
        given = {row.run for row in changed if row.status == "running" and self._is_given(before.get(row.run))}
        self.dependencies.check(changed, self.rows, self._tasks, given)
        self._check_counters({row.job for row in changed})
        self._check_loads(before, changed)
        self._check_workers()
        self._check_told(changed)
        self._check_answers()
        self._active = frozenset(worker for worker, status in self._told_workers.items() if status == "active")

    @staticmethod
    def _is_given(before: Row | None) -> bool:
        """Whether a run that is running was not running before."""
        return before is None or before.status != "running"

    def at_phase_end(self) -> None:
        """Everything once more, over all rows."""
        found = {row[0]: row for row in self._scheduler.engine.look(RUNS)}
        known = {run: row for run, row in self.rows.items() if run not in self.removals.runs}
        if found != known:
            raise Violation(f"runs have changed unseen: {dict(found.items() ^ known.items())}")
        self._check_counters({row.job for row in self.rows.values()} - self.removals.jobs)
        self.removals.check_totals(self.rows.values())
        self._check_told(self.rows.values())
        workers = dict(self._scheduler.engine.look("SELECT worker_id, status FROM workers"))
        if workers != self._told_workers:
            raise Violation(f"the events tell of workers {self._told_workers}, but they are {workers}")

    # --- when all is healed ------------------------------------------------------------------------------------------

    def all_ended(self) -> bool:
        return all(self._goes_on(self.rows[run].job) for run in self._open) and not self.arrays.left(self._goes_on)

    def _goes_on(self, job: int) -> bool:
        """Whether a job does not end in a healed world."""
        if self._recurring(job) or self.times.waits(job):
            return True
        return any(self._goes_on(parent) for parent in self.dependencies.parents(job))

    def check_all_ended(self) -> None:
        """An acked job ends, once there is somebody to run it."""
        for row in self.rows.values():
            if not row.final and not self._goes_on(row.job):
                raise Violation(f"{row} has not ended")
        for (job, index), state in self.arrays.left(self._goes_on).items():
            raise Violation(f"the task {index} of job {job} is {state}, and is not made")

    def check_strays(self) -> None:
        """For a healed world: a process whose run has ended is soon killed, and what runs for long is known to run."""
        now_ms = self._timeline.now_ms
        for life in self._witness.alive():
            row = self.rows.get(life.run)
            if row is None or life.host in self._pollers:
                continue  # nobody tells a polling worker that its run has ended
            if row.final and now_ms - self._ended_ms.get(row.run, now_ms) > STRAY_MS:
                raise Violation(f"run {row.run} is long {row.status}, but its process lives on {life.host}")
            if row.status == "running" and now_ms - life.started_ms > STRAY_MS and not row.started:
                raise Violation(f"run {row.run} lives on {life.host} for long, but is not known to have started")
            if row.status == "running" and now_ms - self._cancelled_ms.get(row.run, now_ms) > STRAY_MS:
                raise Violation(f"run {row.run} was cancelled long ago, but lives on {life.host}")
            if row.status == "running" and now_ms - life.started_ms > STRAY_MS and row.probation:
                raise Violation(f"run {row.run} lives on {life.host} for long, but is still on probation")

    def check_nothing_left(self) -> None:
        """What the store believes and what is real are the same; poison has ended, and the innocent have succeeded."""
        for row in self.rows.values():
            life = self._witness.lives.get(row.run)
            if row.final and life is not None and life.code is None and life.host not in self._pollers:
                raise Violation(f"run {row.run} is {row.status}, but its process lives on {life.host}")
            if row.status == "running" and not self._recurring(row.job) and (life is None or life.worker != row.worker):
                raise Violation(f"run {row.run} is running on {row.worker}, but the witness says {life}")
        for machine in self._machines.values():
            self.inspector.check_acked(machine)
            for left in machine.leftovers.values():
                raise Violation(f"processes of run {left.order.run}, which has ended, live on {machine.name}")
        for life in self._witness.alive():
            # A polling worker learns only by its report that a restored database does not have its run.
            if life.run not in self.rows and life.host not in self._pollers:
                raise Violation(f"{life} has no run in the store")
        for job, one in self._client.jobs.items():
            if not one.recurring and not one.cancel_asked and not self._goes_on(job):
                for runs in self._runs_of(job):
                    self._check_fate(job, one, self.rows[runs[-1]])

    def _runs_of(self, job: int) -> list[list[int]]:
        """The runs of each task of a job, but those of an array that a range describes."""
        of_job = ((job, index) for index in sorted(self._indexes[job]))
        return [runs for task in of_job if (runs := self._tasks[task]) and task not in self.arrays.ranges]

    def _check_fate(self, job: int, one: Asked, row: Row) -> None:
        if one.script.kills is not None:
            limit = one.policy.crash_limit
            if limit is None or self.kills[job] > limit + KILLS_BEYOND:
                raise Violation(f"job {job} has killed {self.kills[job]} workers")
            lost = ("worker_lost",) if one.policy.on_lost is OnLost.FAIL else ()
            if row.reason not in ("crash_limit", "spawn_error", "timeout", "expired", "dependency", *lost):
                raise Violation(f"job {job} kills workers, but ended {row.status}/{row.reason}")
            return
        if row.reason == "crash_limit" and self.faults < self._wish(job).crash_limit - 2:
            raise Violation(f"job {job} is innocent, but was blamed {row.crashes} times")
        if row.status == "failed" and row.reason == "exit" and one.script.code == 0:
            raise Violation(f"job {job} exits with 0, but failed")

    def _recurring(self, job: int) -> bool:
        one = self._client.jobs.get(job)
        return self._recurs(job) if one is None else one.recurring

    # --- replaying ---------------------------------------------------------------------------------------------------

    def _replay(self, before: Mapping[int, Row]) -> list[Loss]:
        """Every decision leaves an event: follow the new ones. Returns the runs that they say were lost."""
        losses = []
        for event, job, first, last, worker, was, became, reason, detail in self._scheduler.engine.look(
            EVENTS, self._last_event
        ):
            self._last_event = event
            if first is None:
                if job is None and worker is not None:
                    self._on_worker_event(worker, was, became, reason)
                elif job is not None:
                    self._on_job_event(job, became)
                continue
            if reason == "fire" and self._schedules[job] != "scheduled":
                raise Violation(f"job {job} fires, but its schedule is {self._schedules[job]}")
            if was == "pending" and became == "running" and job in self._held:
                raise Violation(f"run {first} is given out, but job {job} is held")
            for run in range(first, last + 1):
                self._replay_run(run, worker, was, became, reason)
                if was == "running" and became != "running" and detail and detail.startswith(_BLAMING + _BLAMELESS):
                    losses.append(Loss(run, worker, detail, worker in self._leaving))
                if was == "running" and became == "pending":
                    self._check_put_back(run, worker, reason, before.get(run))
        return losses

    def _on_job_event(self, job: int, became: str) -> None:
        """An ended schedule stays so, and nothing is skipped while a schedule is paused. Only a job that is not held is
        held, and only a held one is released.
        """
        if became in ("held", "released"):
            if (became == "held") == (job in self._held):
                raise Violation(f"an event says that job {job} is {became}, but it was already")
            self._held ^= {job}
        known = self._schedules.get(job)
        if became == "fire_skipped" and known != "scheduled":
            raise Violation(f"job {job} skips a fire, but its schedule is {known}")
        if became == "scheduled" or became.startswith("schedule_"):
            if known == "ended":
                raise Violation(f"an event says that the schedule of job {job} is {became}, but it had ended")
            self._schedules[job] = became.removeprefix("schedule_").replace("resumed", "scheduled")

    def _replay_run(self, run: int, worker: str | None, was: str | None, became: str, reason: str | None) -> None:
        known = self._told.get(run)
        if (known.status if known else None) != was:
            raise Violation(f"an event says that run {run} was {was}, but the events before say {known}")
        if reason not in _MOVES.get((was, became), ()):
            raise Violation(f"run {run} went from {was} to {became} by {reason}, which no run may do")
        if was is None:
            self._told[run] = Told(became, None, None)
            self._made[run] = reason
        elif was != became:
            self._told[run] = Told(became, reason, None if became == "pending" else worker)

    # --- the rules of runs -------------------------------------------------------------------------------------------

    def _check_final(self, before: Row | None, row: Row) -> None:
        """Terminal is final."""
        if before is not None and before.final:
            raise Violation(f"run {row.run} was {before.status} and changed: {before} became {row}")

    def _check_end(self, row: Row) -> None:
        """A stored end is what the job's own process met, on the worker that owned the run; a cancel stands."""
        if row.cancelled and row.status not in ("running", "cancelled"):
            raise Violation(f"run {row.run} is {row.status}, though its cancel is stored")
        if row.status == "cancelled" and not row.cancelled and row.reason != "max_fails":
            raise Violation(f"run {row.run} is cancelled, but nobody asked for it")
        life = self._witness.lives.get(row.run)
        if row.status == "success" and (life is None or life.code != 0 or life.worker != row.worker):
            raise Violation(f"run {row.run} is a success of {row.worker}, but the witness says {life}")
        if (
            row.status == "failed"
            and row.reason in ("exit", "signal")
            and (life is None or not life.code or life.worker != row.worker)
        ):
            raise Violation(f"run {row.run} failed by {row.reason} on {row.worker}, but the witness says {life}")
        if row.reason == "cwd_missing":
            self._check_folder(row, life)
        if row.reason == "worker_lost" and row.run in self._told_stuck:
            raise Violation(f"run {row.run} is lost, though its worker {row.worker} had said that it can't end it")
        if row.reason == "unkillable" and row.run not in self._said_stuck:
            raise Violation(f"run {row.run} is unkillable, but worker {row.worker} has not said so")
        if row.reason == "lease_stop" and row.run not in self._lease_ms:
            raise Violation(f"run {row.run} of {row.worker} was ended by its lease, but has none")

    def _check_folder(self, row: Row, life: Life | None) -> None:
        """A run fails for its folder only where its job asks for one, and that is not on the worker's host."""
        ((cwd,),) = self._scheduler.engine.look("SELECT cwd FROM jobs WHERE job_id = ?", row.job)
        here = {machine.folder for machine in self._machines.values() if machine.worker == row.worker}
        if cwd is None or life is not None or here == {cwd}:
            raise Violation(f"run {row.run} fails for its folder {cwd}, but {row.worker} has {here}: {life}")

    def _check_put_back(self, run: int, worker: str, reason: str, before: Row | None) -> None:
        """Only what never started is pending again, so that a run executes once."""
        life = self._witness.lives.get(run)
        if life is not None:
            raise Violation(f"run {run} of {worker} is pending again ({reason}), but has started: {life}")
        self.times.on_put_back(run)
        self._come_back[run] += 1
        if self._come_back[run] > COME_BACK_MAX:
            raise Violation(f"run {run} has come back unstarted {COME_BACK_MAX} times")
        if before is not None and before.started:
            raise Violation(f"run {run} of {worker} is pending again ({reason}), but was said to have started")

    def _check_new(self, row: Row) -> None:
        """A run has a predecessor only when that was lost, or failed and may be tried again; it carries its crashes and
        failures, and counts it if it had started.
        """
        last = self._predecessor(row)
        made = self._made[row.run]
        if made == "rerun":
            runs = self._tasks[row.job, row.task]
            ended = self.rows[runs[runs.index(row.run) - 1]]
            # A task of an array may have been cancelled before it had a run.
            first = ended.run == row.run and self.arrays.is_array(row.job)
            if not first and (not ended.final or ended.run == row.run):
                raise Violation(f"run {row.run} runs job {row.job} again, which has not ended: {ended}")
            expected = (1, 0, 0) if first else (ended.attempt + ended.started, 0, 0)
        elif last is None:
            if self._tasks[row.job, row.task][0] != row.run and not self._recurs(row.job):
                raise Violation(f"run {row.run} is the second of its task, and nothing says why")
            expected = (1, 0, 0)
        else:
            wish = self._wish(row.job)
            if made == "requeued" and (last.reason not in ("worker_lost", "lease_stop") or self._once(row.job)):
                raise Violation(f"run {row.run} takes the place of run {last.run}, which ended {last.reason}")
            if made == "retry" and (last.reason not in _OWN_FAULT or last.failures >= wish.retries):
                raise Violation(f"run {row.run} tries run {last.run} again: {last.reason}, {last.failures} failures")
            if made == "retry" and not self.retries.wants(last.run):
                raise Violation(f"run {row.run} tries run {last.run} again, a failure that the job does not retry")
            expected = (last.attempt + last.started, last.crashes, last.failures + (made == "retry"))
        is_ = (row.attempt, row.crashes - self._crashed(row), row.failures)
        if is_ != expected:
            raise Violation(f"run {row.run} has attempt, crashes and failures {is_}, not {expected}")

    def _predecessor(self, row: Row) -> Row | None:
        """The run of its task that it was made to follow."""
        if self._made[row.run] not in ("requeued", "retry"):
            return None
        runs = self._tasks[row.job, row.task]
        return self.rows[runs[runs.index(row.run) - 1]]

    def _wish(self, job: int) -> Wish:
        if job not in self._wishes:
            self._wishes[job] = Wish(*self._scheduler.engine.look(WISH, job)[0])
        return self._wishes[job]

    def _recurs(self, job: int) -> bool:
        return bool(self._wish(job).recurs)

    def _once(self, job: int) -> bool:
        return self._wish(job).on_lost == "fail"

    def _crashed(self, row: Row) -> int:
        """What the row's own end added to the crashes it was made with."""
        last = self._predecessor(row)
        return row.crashes - (0 if last is None else last.crashes)

    def _check_tasks(self, changed: Iterable[Row]) -> None:
        """At most one live run of a task, and it is the last; a lost one has a successor unless it may start once only,
        one that failed has one as long as it may be tried again, a cancelled one has none.
        """
        for job, task in {(row.job, row.task) for row in changed}:
            runs = [self.rows[run] for run in self._tasks[job, task]]
            for row in runs[:-1]:
                if not row.final:
                    raise Violation(f"run {row.run} of job {job} is {row.status} beside run {runs[-1].run}")
                follows = self._made[runs[runs.index(row) + 1].run]
                if row.status == "cancelled" and not self._recurs(job) and follows != "rerun":
                    raise Violation(f"run {row.run} of job {job} is cancelled, but run {runs[-1].run} follows it")
            last, wish = runs[-1], self._wish(job)
            if last.reason in ("worker_lost", "lease_stop") and not self._once(job):
                raise Violation(f"run {last.run} of job {job} was lost, and no run follows it")
            failed = last.status == "failed" and last.reason in _OWN_FAULT and last.failures < wish.retries
            if failed and self.retries.wants(last.run):
                raise Violation(f"run {last.run} of job {job} failed {last.failures + 1} times, and no run follows it")

    def _check_usage(self, changed: Iterable[Row]) -> None:
        """Every run that has ended counts once for the owner of its job."""
        ended = self._ends
        ended.update((self.turns.owner(row.job), row.status) for row in changed if row.final)
        used = self._scheduler.engine.look(_USAGE)
        for owner, *counts in used:
            if counts != [ended[owner, status] for status in ("success", "failed", "cancelled")]:
                raise Violation(f"{owner} has used {counts}, but ended are {dict(ended)}")
        if [owner for owner, *_ in used] != sorted({owner for owner, _ in ended}):
            raise Violation(f"the usage of {used} is known, but ended are {dict(ended)}")

    def _check_held(self) -> None:
        """Each pending run of a held job is held, whatever made it pending, and no other run is."""
        for run, job, held in self._scheduler.engine.look(_HELD):
            if bool(held) != (job in self._held) and not self.arrays.is_array(job):
                raise Violation(f"run {run} {'is' if held else 'is not'} held, unlike its job {job}")

    def _check_counters(self, jobs: Iterable[int]) -> None:
        """A job counts its tasks by their last runs, and its status follows."""
        for job in jobs:
            status, *counts = self._scheduler.engine.look(
                "SELECT status, pending, running, success, failed, cancelled, unmade FROM jobs WHERE job_id = ?", job
            )[0]
            tasks = {
                index: self.rows[runs[-1]].status for index in self._indexes[job] if (runs := self._tasks[job, index])
            }
            tasks |= {
                index: state if state in ENDED else "unmade"
                for index, state in self.arrays.ranges_of.get(job, {}).items()
            }
            lasts = Counter(tasks.values())
            if counts != [lasts[one] for one in (*_STATUSES, "unmade")]:
                counted = dict(zip((*_STATUSES, "unmade"), counts, strict=True))
                raise Violation(f"job {job} counts {counted}, but has {dict(lasts)}")
            lasts["pending"] += lasts.pop("unmade", 0)
            rule = [one for one in ("running", "pending", "failed", "cancelled", "success") if lasts[one]]
            if status != (rule or ["pending"])[0]:
                raise Violation(f"job {job} is {status}, but its runs are {dict(lasts)}")

    def _check_told(self, rows: Iterable[Row]) -> None:
        """Replaying the events gives the same state."""
        for row in rows:
            told = self._told.get(row.run)
            if told != (row.status, row.reason, row.worker):
                raise Violation(f"the events say {told} of run {row.run}, but it is {row}")

    # --- blame -------------------------------------------------------------------------------------------------------

    def _check_losses(self, losses: list[Loss]) -> None:
        """Who was lost is lost for a true reason, and the crash goes to the right runs."""
        groups: dict[tuple[str, str, bool], list[Row]] = defaultdict(list)
        for loss in losses:
            groups[loss.worker, loss.why, loss.announced].append(self.rows[loss.run])
            self._check_reason(loss)
        for (worker, why, announced), rows in groups.items():
            suspects = sum(row.probation > 0 for row in rows)
            if why.startswith(_BLAMELESS) or (announced and not why.startswith("asked")):
                expected = dict.fromkeys((row.run for row in rows), 0)
            elif why.startswith("asked"):
                # Only what it had said to be running; what it has not said may be an answer that was lost.
                expected = {row.run: row.started for row in rows}
                if not all(expected.values()):
                    raise Violation(f"worker {worker} {why}, and loses what it has never heard of: {rows}")
            elif suspects:
                expected = {row.run: int(row.probation > 0 and suspects == 1) for row in rows}
                self._suspect([row.run for row in rows if row.probation], suspects // 4)
                others = [row.run for row in rows if not row.probation]
                self._suspect(others, max(len(others) // 2, PROBATION_RUNS_MIN))
            else:
                expected = {row.run: int(row.started and not self._is_spared(row, rows)) for row in rows}
                self._suspect([row.run for row in rows], max(len(rows) // 2, PROBATION_RUNS_MIN))
            blamed = {row.run: self._crashed(row) for row in rows}
            if blamed != expected:
                raise Violation(f"worker {worker} {why}: the crashes are {blamed}, not {expected}")
            for row in rows:
                self._check_limit(row)
            if why.startswith(_BLAMING) and not announced and not any(self.kills[row.job] for row in rows):
                self.faults += 1

    def _is_spared(self, row: Row, rows: Iterable[Row]) -> bool:
        """A run that had lived for a minute is not blamed if a younger one was there, and it was never suspect."""
        established = [one.run for one in rows if one.lived_ms is not None and one.lived_ms >= ESTABLISHED_MS]
        suspect_before = row.run in self._suspects or row.crashes > self._crashed(row)
        return row.run in established and any(one.run not in established for one in rows) and not suspect_before

    def _suspect(self, group: Iterable[int], bound: int) -> None:
        """One of these may have killed their worker: no more than the bound may be on probation at once on another."""
        for run in group:
            self._suspects[run] = min(max(1, bound), self._suspects.get(run, max(1, bound)))

    def _check_limit(self, row: Row) -> None:
        """A run that has crashed as often as the limit says fails for good, and no other."""
        if row.cancelled or row.reason == "unkillable":
            return
        limit = self._wish(row.job).crash_limit
        at_limit = 0 < limit <= row.crashes and self._crashed(row) > 0
        if (row.reason == "crash_limit") != at_limit:
            raise Violation(f"run {row.run} has {row.crashes} crashes and ended {row.reason}")

    def _check_reason(self, loss: Loss) -> None:
        """Is it true what is said of the worker?"""
        what = f"run {loss.run} is lost because worker {loss.worker} {loss.why}"
        row = self.rows[loss.run]
        ours = any(loss.worker == one.worker for one in self._machines.values())
        # A worker that is lost says nothing any more; a living one of ours knows what it has started, unless it has had
        # another database since.
        sure = ours and (self.elsewhere is None or not self.elsewhere.visited)
        knows = sure and loss.why.startswith(_BLAMELESS) and row.run not in self._witness.lives
        if knows and self._once(row.job) and not row.cancelled:
            raise Violation(f"{what}, but it may start once and has never started")
        _, incarnation, _ = self._workers.get(loss.worker, ("", "", ""))
        machine = self._machines.get(incarnation.partition(".")[0])
        alive = machine is not None and machine.guard is not None and machine.incarnation == incarnation
        if loss.why.startswith(("started again", "lost its guard")) and alive:
            raise Violation(f"{what}, but it lives")
        if loss.why.startswith("lost its guard") and machine is not None and incarnation in machine.ended:
            raise Violation(f"{what}, but it has ended by itself")
        if loss.why.startswith("does not hold it") and alive:
            assert machine is not None
            assert machine.guard is not None
            if machine.guard.holds_for(self.home, loss.run):
                raise Violation(f"{what}, but it does")
            life = self._witness.lives.get(loss.run)
            kept = life is not None and not machine.disk.ever_failed and self._elsewhere_told(life)
            if kept and life is not None and life.incarnation == incarnation:
                raise Violation(f"{what}, but its result must have been kept: {life}")
        newcomer = self._of_incarnation(loss.worker)
        if loss.why.startswith("started again") and newcomer is not None and newcomer.disk.holds(loss.run, self.home):
            raise Violation(f"{what}, but its result lies on that worker's disk")
        poller = self._pollers.get(loss.worker)
        busy = poller.job if poller is not None else None
        # Over REST nobody knows which start of a worker has made a call.
        outdated = poller is not None and poller.is_asked_for
        if loss.why.startswith("asked") and busy is not None and busy.run == loss.run and not outdated:
            raise Violation(f"{what}, but it is busy with it")
        if loss.why.startswith("silent"):
            self._check_silence(loss.worker)

    def _elsewhere_told(self, life: Life) -> bool:
        """Whether a run ended by itself, so that its result is kept until its database has it."""
        return life.code is not None and self.elsewhere is not None and not self.elsewhere.was_dropped(life)

    def _of_incarnation(self, worker: str) -> Machine | None:
        """The host of the start of a worker that the store knows now."""
        found = self._scheduler.engine.look("SELECT incarnation FROM workers WHERE worker_id = ?", worker)
        return self._machines.get(found[0][0].partition(".")[0]) if found else None

    def _check_probation(self, row: Row) -> None:
        """A run that carries a crash, or was there when a worker died, is on probation until it has lived a second."""
        last = self._predecessor(row)
        if last is not None and last.run in self._suspects:
            self._suspects.setdefault(row.run, self._suspects[last.run])
        must = row.crashes > 0 or row.run in self._suspects
        if row.status == "running" and not row.started and bool(row.probation) != must:
            raise Violation(f"run {row.run} {'must be' if must else 'is'} on probation: {row}")

    def _check_trust(self, before: Row | None, row: Row) -> None:
        """A run is on probation until it has lived a second, or ended by itself."""
        if before is None or before.status != "running" or not before.probation or row.probation:
            return
        life = self._witness.lives.get(row.run)
        if row.worker in self._pollers:
            # One that polls says that a run has started before it starts it.
            pass
        elif row.reason == "cwd_missing":
            # A shell in front of it has started, and ended by itself.
            pass
        elif life is None:
            raise Violation(f"run {row.run} is trusted, but has never started")
        elif row.status == "running" and self._timeline.now_ms - life.started_ms < _TRUSTED_MS:
            raise Violation(f"run {row.run} is trusted {self._timeline.now_ms - life.started_ms} ms after its start")

    # --- the rules of workers ----------------------------------------------------------------------------------------

    def _check_loads(self, before: Mapping[int, Row], changed: Iterable[Row]) -> None:
        """No worker is given more than it asked for, nor more runs on probation than their lowest bound."""
        running = [row for run in self._open if (row := self.rows[run]).status == "running"]
        held = Counter(row.worker for row in running)
        suspects: dict[str, list[int]] = defaultdict(list)
        for row in running:
            if row.probation and row.worker is not None:
                suspects[row.worker].append(row.run)
        for its_worker, runs in suspects.items():
            together = min(self._suspects.get(run, 1) for run in runs)
            if len(runs) > together:
                raise Violation(f"worker {its_worker} has {runs} on probation, of {together}")
        given = {
            row.worker
            for row in changed
            if row.status == "running" and (row.run not in before or before[row.run].status != "running")
        }
        for row in changed:
            if row.status == "running" and row.worker in self._pollers and self._wish(row.job).stops:
                raise Violation(
                    f"run {row.run} stops at a disconnect, but is given to {row.worker}, which can't do that"
                )
        for worker in given:
            session = self._scheduler.dispatcher._sessions.of_worker(WorkerId(worker or ""))
            if session is None:
                raise Violation(f"worker {worker} is given runs, but has no session")
            most = session.worker.slots if session.polls else min(session.worker.slots + session.ahead, session.window)
            if held[worker] > most:
                raise Violation(f"worker {worker} is given runs until it holds {held[worker]}, but takes {most}")

    def _on_worker_event(self, worker: str, was: str | None, became: str, reason: str) -> None:
        told = self._told_workers.get(worker)
        if told != was:
            raise Violation(f"an event says that worker {worker} was {was}, but it was {told}")
        self._told_workers[worker] = became
        if reason == "registered":
            # Also when the answer could not be sent.
            self._word_ms[worker] = self._timeline.now_ms
            self._leaving.discard(worker)
        elif reason == "leaving":
            self._leaving.add(worker)
            self._check_announced(worker)
        if became == "inactive":
            if reason == "silent":
                self._check_silence(worker)
                self._check_mass(worker)
            if worker in self._workers:
                self._workers[worker] = (became, *self._workers[worker][1:])

    def _check_announced(self, worker: str) -> None:
        """Only a worker that says so is about to end."""
        if worker not in self._announced:
            raise Violation(f"worker {worker} is said to end, but has not announced it")

    def _check_known(self, worker: str, session: str) -> None:
        """An announced end is stored before it is answered, unless the turn can't be stored: a later heartbeat repeats
        it. In the same turn a new start may have taken the name.
        """
        if self._scheduler.failing:
            return
        ((leaving,),) = self._scheduler.engine.look("SELECT leaving_ms FROM workers WHERE worker_id = ?", worker)
        current = self._scheduler.dispatcher._sessions.of_worker(WorkerId(worker))
        if leaving is None and current is not None and current.token == session:
            raise Violation(f"worker {worker} has announced its end and was answered, but that is not stored")

    def _check_workers(self) -> None:
        """A living worker keeps its name: a newcomer gets it only when the old one is dead, or was silent too long."""
        for worker, *state in self._scheduler.engine.look("SELECT worker_id, status, incarnation, kind FROM workers"):
            old = self._workers.get(worker)
            self._workers[worker] = (state[0], state[1], state[2])
            if old is None or old[1] == state[1] or old[0] != "active" or old[2] != "zmq":
                continue
            machine = self._machines.get(old[1].partition(".")[0])
            if machine is not None and machine.guard is not None and machine.incarnation == old[1]:
                raise Violation(f"worker {worker}: {state[1]} takes over from {old[1]}, which lives")

    def _check_silence(self, worker: str) -> None:
        """Nobody is judged who was heard within the timeout, nor by the time in which the scheduler stood still, nor
        before the scheduler itself has been up for so long.
        """
        now_ms = self._timeline.now_ms
        timeout_ms = max(self._scheduler.habits.timeout_ms, self._longest_lease_ms(worker))
        since_ms = max(self._heard_ms.get(worker, 0), self._scheduler.started_ms)
        forgiven_ms = 0
        for start_ms, end_ms in self._scheduler.still:
            gap_ms = min(end_ms, now_ms) - max(start_ms, since_ms)
            # Up to a second of it may have been the tick's own pause; what is then short is not forgiven.
            if gap_ms > 2 * STALL_MS:
                forgiven_ms += gap_ms - STALL_MS
        if now_ms - since_ms < timeout_ms + forgiven_ms:
            raise Violation(
                f"worker {worker} is judged silent, but was heard at {since_ms} ms, {now_ms - since_ms} ms ago,"
                f" and the scheduler stood still for {forgiven_ms} ms"
            )

    def _longest_lease_ms(self, worker: str) -> int:
        """How long the leases of a worker's runs go on by anybody's clock."""
        running = (row.run for row in self._before.values() if row.worker == worker and row.status == "running")
        lease_ms = max((self._lease_ms.get(run, 0) for run in running), default=0)
        return lease_ms + max(LEASE_MARGIN_MS, lease_ms // 30) if lease_ms else 0

    def _check_mass(self, worker: str) -> None:
        """While most of at least four workers are silent together, each is given twice the timeout."""
        now_ms, timeout_ms = self._timeline.now_ms, self._scheduler.habits.timeout_ms
        begun_ms = now_ms - 2 * timeout_ms - 2_000
        # While turns fail, frames lie unread.
        disturbed = max(
            [self._scheduler.slow_ms, self._scheduler.failed_ms, *(end_ms for _, end_ms in self._scheduler.still[-1:])]
        )
        if disturbed > begun_ms:
            return
        started_ms = self._scheduler.started_ms
        silence_ms = {one: now_ms - max(self._word_ms.get(one, 0), started_ms) for one in self._active}
        quiet = [one for one, ms in silence_ms.items() if ms > timeout_ms * 2 // 3 + _LIES_MS]
        there = self._active | {one for one, status in self._told_workers.items() if status == "active"}
        most = len(self._active) >= MASS_WORKERS_MIN and 2 * len(quiet) > len(there)
        if most and silence_ms.get(worker, 10**9) < 2 * timeout_ms:
            raise Violation(
                f"worker {worker} is given up after {silence_ms[worker]} ms, but {len(quiet)} of {len(there)} are quiet"
            )

    # --- the rules of callers ----------------------------------------------------------------------------------------

    def _check_answers(self) -> None:
        """An acked submit exists, a refused one doesn't, and one key makes at most one; what a cancel was acked for
        never runs again.
        """
        found = self.dependencies.present()
        names = {name: job for job, name in found.items()}
        if len(names) < len(found):
            doubled = [name for name, count in Counter(found.values()).items() if count > 1]
            raise Violation(f"{', '.join(doubled)}: submitted once, by one key, and stored several times")
        if unasked := names.keys() - self._client.asked.keys():
            raise Violation(f"job {names[unasked.pop()]} exists, though its key belongs to another submit")
        for name, one in self._client.asked.items():
            if one.acked is not None and names.get(name) != one.acked and not self._is_gone(name, one, names):
                raise Violation(f"job {one.acked} was acked, but is {names.get(name)}")
            if one.undone and name in names:
                raise Violation(f"job {names[name]} exists, though its submit was answered as not done")
        for (job,) in self._scheduler.engine.look("SELECT job_id FROM jobs WHERE cancel_ms IS NOT NULL"):
            known = self._client.jobs.get(job)
            if known is not None and not known.cancel_asked and not known.cancel_possible:
                raise Violation(f"job {job} is marked as cancelled, but each of its cancels was refused")
        for job, one in self._client.jobs.items():
            if one.held is not None and one.held != (job in self._held):
                raise Violation(f"job {job} was acked as {'' if one.held else 'not '}held, unlike its events")
            if one.indexes:
                self._check_array_answers(job, one)
                continue
            if one.reruns and one.reruns > sum(self._made[run] == "rerun" for run in self._tasks[job, 0]):
                raise Violation(f"{one.reruns} reruns of job {job} were acked, but its task has fewer runs")
            if one.recurring and one.schedule is not None and self._schedules[job] != one.schedule:
                raise Violation(f"the schedule of job {job} was acked as {one.schedule}, but is {self._schedules[job]}")
            if one.cancel_late and not one.recurring and not self.rows[self._tasks[job, 0][-1]].final:
                raise Violation(f"job {job} is live, though a cancel was refused because it had finished")
            if one.cancel_acked and not one.recurring:
                row = self.rows[self._tasks[job, 0][-1]]
                if not row.cancelled:
                    raise Violation(f"run {row.run} of job {job} is {row.status}, though the cancel was acked")

    def _is_gone(self, name: str, one: Asked, names: Mapping[str, int]) -> bool:
        """Whether an acked job was removed. An array that ended before it had a run leaves no trace then."""
        if one.acked in self.removals.jobs:
            return True
        bare = one.indexes and name not in names and not self._runs_of(one.acked or 0)
        return bool(bare) and self._scheduler.habits.keep != KEEP_ALL

    def _check_array_answers(self, job: int, one: Asked) -> None:
        """After an acked cancel of an array, and after one that was refused, no task of it is still to start."""
        if not one.cancel_late and not one.cancel_acked:
            return
        unmade = [index for index, state in self.arrays.ranges_of.get(job, {}).items() if state not in ENDED]
        live = [self.rows[runs[-1]] for runs in self._runs_of(job) if not self.rows[runs[-1]].final]
        if one.cancel_late and (unmade or live):
            raise Violation(f"job {job} is live, though a cancel was refused because it had finished: {live or unmade}")
        if one.cancel_acked and (unmade or any(not row.cancelled for row in live)):
            raise Violation(f"tasks of job {job} are live, though the cancel was acked: {live or unmade}")
