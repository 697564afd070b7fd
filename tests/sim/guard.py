"""A worker's guard: the real one's decisions over virtual processes, signals and an agent that is an object.

The real Guard is one turn around an epoll. Here the epoll says what is ready in the simulation, and everything the
guard owns that is the operating system's is replaced by something of the same shape.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast
from unittest.mock import patch

from tests.sim.disk import VirtualJournal
from tests.sim.jobs import WORLD, Script, script
from tests.sim.timeline import Alarm
from tests.sim.witness import KILLED
from zsched.config.settings import WorkerConfig
from zsched.host.notify import Notify
from zsched.protocol import RunOrder, RunResult
from zsched.worker.guard import guard as guard_module
from zsched.worker.guard.backlog import Backlog
from zsched.worker.guard.executor import Executor
from zsched.worker.guard.guard import Guard
from zsched.worker.guard.live import Why
from zsched.worker.guard.runs import BEGAN_AFTER_MS, STUCK_MS, Happened
from zsched.worker.guard.spool import Spool
from zsched.worker.messages import Began, Ended, FromAgent, Hello, Message, Spooled, Start
from zsched.worker.state import State

if TYPE_CHECKING:
    from tests.sim.machine import Machine

_SIGNALS, _CHANNEL = 3, 4
# As supervisor.py restarts an agent.
_RESTART_MS = (0, 100, 200, 500, 1_000, 2_000, 5_000)
# As runs.py looks at what it has killed.
_AGAIN_MS = 500


class Process:
    """A job's process on a host. It outlives its guard, until somebody sweeps it away."""

    def __init__(self, machine: Machine, order: RunOrder, started_wall_ms: int) -> None:
        self.order = order
        self.script: Script = script(order.command)
        # Its run, as the witness knows it.
        self.ident = order.run + WORLD * self.script.world
        self.started_wall_ms = started_wall_ms
        self.finished_wall_ms = started_wall_ms
        self.why: Why | None = None
        self.code: int | None = None
        # When it first got a signal, and KILL, on the timeline.
        self.told_ms: int | None = None
        self.killed_ms: int | None = None
        self.on_exit: Callable[[], None] = lambda: None
        self._clinging = False
        self._machine = machine
        machine.on_start(self)
        machine.processes[self.ident] = self
        machine.timeline.after(self.script.lasts_ms, self._come_to_its_end)

    @property
    def sticks(self) -> bool:
        """It was killed, and lives on."""
        return self.code is None and self.killed_ms is not None and self._clings

    @property
    def _clings(self) -> bool:
        return self.script.sticks_ms > 0 and not self._machine.healed

    def _come_to_its_end(self) -> None:
        if self.code is None and not self.sticks:
            if self.script.kills is None:
                self.exit(self.script.code)
            else:
                self._machine.on_poison(self.order, self.script.kills)

    def signal(self, number: int) -> None:
        """Its guard sends it one."""
        if self.code is not None:
            return
        self._machine.signal_seen(self._machine, self, number)
        self._note(number)
        if self.sticks:
            self._cling()
        elif number == signal.SIGKILL or not self.script.deaf:
            gap_ms = self._machine.chance.randint(0, 30)
            self._machine.timeline.after(gap_ms, lambda: self.exit(-number))

    def die(self) -> None:
        """KILL from somebody else: it ends at once, if it can."""
        self._note(signal.SIGKILL)
        if self.sticks:
            self._cling()
        else:
            self.exit(KILLED)

    def _note(self, number: int) -> None:
        now_ms = self._machine.timeline.now_ms
        self.told_ms = now_ms if self.told_ms is None else self.told_ms
        if number == signal.SIGKILL and self.killed_ms is None:
            self.killed_ms = now_ms

    def _cling(self) -> None:
        if not self._clinging:
            self._clinging = True
            self._machine.timeline.after(self.script.sticks_ms, lambda: self.exit(KILLED))

    def exit(self, code: int) -> None:
        if self.code is None:
            self._machine.end_seen(self._machine, self)
            self.code = code
            self.finished_wall_ms = max(self.started_wall_ms, self._machine.clock.now().wall_ms)
            self._machine.processes.pop(self.ident, None)
            self._machine.witness.end(self.ident, code)
            self.on_exit()

    def result(self) -> RunResult:
        assert self.code is not None
        natural = "signal" if self.code < 0 else "exit"
        return RunResult(
            run=self.order.run,
            status="success" if self.code == 0 and self.why is None else "failed",
            reason=cast("Any", natural if self.why in (None, "dropped") else self.why),
            finished_ms=self.finished_wall_ms,
            started_ms=self.started_wall_ms,
            exit_code=None if self.code < 0 else self.code,
            signal=-self.code if self.code < 0 else None,
        )


class VirtualRuns:
    """What runs.Runs is to the guard."""

    def __init__(self, machine: Machine, on_sigchld: Callable[[], None]) -> None:
        self._machine = machine
        self._on_sigchld = on_sigchld
        self._live: dict[int, Process] = {}
        self._ended: list[Process] = []
        self._due: list[tuple[int, int, str]] = []
        # When they were killed, and those that do not end by it.
        self._killed_ms: dict[int, int] = {}
        self._stuck: set[int] = set()
        self._happened = Happened()
        self.dead_agents: list[int] = []
        # Virtual jobs have no outputs that end before them.
        self.maybe_over = False

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, run: int) -> bool:
        return run in self._live

    def ids(self) -> tuple[int, ...]:
        return tuple(self._live)

    def has(self, process: Process) -> bool:
        return any(one is process for one in self._live.values())

    @property
    def young(self) -> bool:
        return any(what == "began" and run in self._live for _, run, what in self._due)

    def captures(self, run: int) -> None:
        """Virtual jobs write nothing."""

    def why(self, run: int) -> Why | None:
        return self._live[run].why

    def take(self) -> Happened:
        happened, self._happened = self._happened, Happened()
        return happened

    def start(self, order: RunOrder, mono_ms: int) -> None:
        started_ms = self._machine.clock.now().wall_ms
        luck, habits = self._machine.chance.random(), self._machine.habits
        if luck >= 1 - habits.no_room:
            self._happened.unstarted.append(order.run)
            return
        if luck < habits.spawn_errors:
            self._happened.results.append(RunResult(order.run, "failed", "spawn_error", finished_ms=started_ms))
            return
        process = self._live[order.run] = Process(self._machine, order, started_ms)
        process.on_exit = lambda: self._on_exit(process)
        if order.probation:
            self._happened.began.append(Began(order.run, order.run, started_ms))
        else:
            self._due.append((mono_ms + BEGAN_AFTER_MS, order.run, "began"))
        if order.timeout_ms is not None:
            self._due.append((mono_ms + order.timeout_ms, order.run, "timeout"))

    def rename(self, keys: Mapping[int, int]) -> None:
        self._live = {keys.get(run, run): process for run, process in self._live.items()}
        self._killed_ms = {keys.get(run, run): at_ms for run, at_ms in self._killed_ms.items()}
        self._stuck = {keys.get(run, run) for run in self._stuck}
        self._due = [(at_ms, keys.get(run, run), what) for at_ms, run, what in self._due]

    def _key(self, process: Process) -> int:
        return next(key for key, one in self._live.items() if one is process)

    def stop(self, run: int, why: Why, mono_ms: int) -> None:
        process = self._live[run]
        if process.why is not None or process.code is not None:
            process.why = "dropped" if why == "dropped" else process.why
            return
        process.why = why
        process.signal(signal.SIGTERM)
        self._due.append((mono_ms + process.order.grace_ms, run, "kill"))

    def kill(self, run: int, mono_ms: int) -> None:
        process = self._live[run]
        process.signal(signal.SIGKILL)
        if process.sticks and run not in self._killed_ms:
            self._killed_ms[run] = mono_ms
            self._due.append((mono_ms + _AGAIN_MS, run, "again"))

    def stuck(self) -> tuple[int, ...]:
        return tuple(sorted(self._stuck))

    def on_readable(self, fd: int) -> bool:
        return False

    def reap(self, mono_ms: int) -> list[int]:
        for process in self._ended:
            run = self._key(process)
            del self._live[run]
            self._stuck.discard(run)
            if run < 0:
                self._happened.foreign.append((run, None if process.why == "dropped" else process.result()))
            elif process.why == "dropped":
                self._happened.dropped.append(run)
            else:
                self._happened.results.append(process.result())
        self._ended.clear()
        self.maybe_over = False
        dead, self.dead_agents = self.dead_agents, []
        return dead

    def on_tick(self, mono_ms: int) -> None:
        due = [entry for entry in self._due if entry[0] <= mono_ms]
        self._due = [entry for entry in self._due if entry[0] > mono_ms]
        for _, run, what in sorted(due):
            process = self._live.get(run)
            if process is None or process.code is not None:
                continue
            if what == "began":
                if run > 0:
                    self._happened.began.append(Began(run, run, process.started_wall_ms))
            elif what == "timeout":
                self.stop(run, "timeout", mono_ms)
            elif what == "kill":
                self.kill(run, mono_ms)
            elif mono_ms >= self._killed_ms[run] + STUCK_MS:
                self._stuck.add(run)
            else:
                self._due.append((mono_ms + _AGAIN_MS, run, "again"))

    def deadline_ms(self) -> int | None:
        self._due = [entry for entry in self._due if entry[1] in self._live]
        return min((entry[0] for entry in self._due), default=None)

    def _on_exit(self, process: Process) -> None:
        self._ended.append(process)
        self._on_sigchld()


class AgentProcess(Protocol):
    """The agent's side of the channel."""

    pid: int

    def receive(self, message: Message) -> None: ...

    def kill(self) -> None: ...


class VirtualKeeper:
    """What supervisor.Supervisor is to the guard."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._agent: AgentProcess | None = None
        self._deaths = 0
        self._started_ms = 0
        self._start_at_ms: int | None = 0
        self._outgoing: list[Message] = []
        # Sees that nothing is told too early.
        self.journal: VirtualJournal | None = None
        self.incoming: deque[FromAgent] = deque()
        self.backed_up = False
        # No signal stops an agent here.
        self.stopped_too_often = False

    @property
    def pid(self) -> int | None:
        return self._agent.pid if self._agent is not None else None

    @property
    def agent(self) -> AgentProcess | None:
        return self._agent

    def deadline_ms(self) -> int | None:
        return self._start_at_ms

    def on_tick(self, mono_ms: int) -> bool:
        if self._start_at_ms is None or mono_ms < self._start_at_ms:
            return False
        self._start_at_ms, self._started_ms = None, mono_ms
        self._agent = self._machine.spawn_agent(self)
        return True

    def owns(self, fd: int) -> bool:
        return fd == _CHANNEL

    def receive(self) -> list[FromAgent]:
        taken = list(self.incoming)
        self.incoming.clear()
        return taken

    def put(self, message: Message) -> None:
        if self.journal is not None and isinstance(message, Ended | Hello | Spooled):
            self.journal.see_told(message.results)
        if self._agent is not None:
            self._outgoing.append(message)

    def flush(self) -> None:
        if self._agent is not None:
            for message in self._outgoing:
                self._agent.receive(message)
        self._outgoing.clear()

    def kill(self) -> None:
        if self._agent is not None:
            self._agent.kill()

    def on_exit(self, mono_ms: int, again: bool) -> list[FromAgent]:
        self._agent = None
        self._outgoing.clear()
        words = self.receive()
        if not again:
            self._start_at_ms = None
            return words
        self._deaths = 0 if mono_ms - self._started_ms >= 10_000 else self._deaths + 1
        self._start_at_ms = mono_ms + _RESTART_MS[min(self._deaths, len(_RESTART_MS) - 1)]
        return words


class _Shape:
    """Something that only has to have these attributes."""

    def __init__(self, **attributes: object) -> None:
        self.__dict__.update(attributes)


class SimExecutor(Executor):
    """The real executor. `guard` sees what it is asked."""

    guard: SimGuard

    @property
    def backlog(self) -> Backlog:
        return self._backlog

    def _on_start(self, orders: tuple[RunOrder, ...], now_ms: int) -> Message | None:
        self.guard.see_start(orders)
        return super()._on_start(orders, now_ms)

    def _on_drop(self, runs: tuple[int, ...], now_ms: int) -> Message | None:
        self.guard.see_drop(runs)
        return super()._on_drop(runs, now_ms)


class SimGuard(Guard):
    """The real guard, and its turns as they are. What it would make of the operating system is virtual."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._caught: list[int] = []
        self.runs = VirtualRuns(machine, lambda: self.catch(signal.SIGCHLD))
        self.keeper = VirtualKeeper(machine)
        self.keeper.journal = journal = VirtualJournal(machine.disk)
        signals = _Shape(fd=_SIGNALS, terminal=False, take=self._take_signals)
        epoll = _Shape(poll=self._poll, register=lambda fd, events: None)
        virtual: dict[str, Any] = {
            "Signals": lambda: signals,
            "prctl": _Shape(become_subreaper=lambda: None),
            "make_room": lambda slots: slots,
            "select": _Shape(epoll=lambda: epoll, EPOLLIN=1),
            "Orphans": lambda spool_id: _Shape(spared=set()),
            "Spawner": lambda worker, spool_id, users: None,
            "Runs": lambda spawner, strays, epoll, wall_ms: self.runs,
            "Supervisor": lambda epoll: self.keeper,
            "Executor": SimExecutor,
        }
        config = WorkerConfig(
            id=machine.worker,
            scheduler="",
            slots=machine.habits.slots,
            poll_interval_ms=1_000,
            heartbeat_interval_ms=machine.habits.heartbeat_ms,
            shutdown_grace_ms=machine.habits.shutdown_grace_ms,
            state_dir=Path("/"),
            log_level="info",
        )
        with patch.multiple(guard_module, **virtual):
            spool = Spool(cast("Any", journal), machine.clock.mono_ms)
            super().__init__(config, State(Path("/"), "mark", machine.lock, -1), spool, Notify({}))
        self._incarnation = machine.incarnation
        self.executor = cast("SimExecutor", self._executor)
        self.executor.guard = self
        self._alarm = Alarm(machine.timeline, self._wake)
        self.alive = True
        # When it was stopped last, and until when.
        self.still_since_ms = self.still_ms = 0
        # When it was told to start each run, by its host's clock.
        self.told_ms: dict[int, int] = {}
        self._alarm.set(machine.timeline.now_ms)

    def catch(self, number: int) -> None:
        """A signal comes."""
        self._caught.append(number)
        self.wake()

    def wake(self) -> None:
        if self.alive:
            self._alarm.set(self._machine.timeline.now_ms + self._machine.chance.randint(0, 1))

    def stand_still(self, gap_ms: int) -> None:
        """SIGSTOP for a while."""
        now_ms = self._machine.timeline.now_ms
        if now_ms > self.still_ms:
            self.still_since_ms = now_ms
        self.still_ms = max(self.still_ms, now_ms + gap_ms)

    @property
    def something_waits(self) -> bool:
        return bool(len(self.executor.backlog) or len(self._spool))

    @property
    def runs_wait(self) -> bool:
        return len(self.executor.backlog) > 0

    @property
    def orders_lie(self) -> bool:
        """Whether its agent has sent it orders that it has not read."""
        return any(isinstance(message, Start) for message in self.keeper.incoming)

    @property
    def has_just_begun(self) -> bool:
        """Whether a run lives whose start the scheduler can't know yet."""
        return self.runs.young

    @property
    def db(self) -> str:
        """The current database."""
        return self._spool.db

    def holds(self, run: int) -> bool:
        """Whether it has this run of the current database in hand, and has not been told to drop it."""
        if run in self.runs:
            return self.runs.why(run) != "dropped"
        return run in self.executor.backlog or run in self._spool

    def holds_for(self, db: str, world: int, run: int) -> bool:
        """The same for a run of any database."""
        if db == self.db:
            return self.holds(run)
        process = self._machine.processes.get(run + WORLD * world)
        if process is not None and self.runs.has(process):
            return process.why != "dropped"
        return self._machine.disk.holds(run, db)

    def _wake(self) -> None:
        if not self.alive:
            return
        if self._machine.timeline.now_ms < self.still_ms:
            self._alarm.set(self.still_ms)
            return
        clock = self._machine.timeline.here = self._machine.clock
        self._turn()
        if self.keeper.journal is not None:
            self.keeper.journal.see_turned()
        wait_s = self._wait_s()
        if self._shutdown.done:
            self.alive = False
            self._machine.on_guard_ended(self._shutdown.exit_code)
        elif wait_s is not None:
            self._alarm.set(clock.moment(clock.mono_ms + round(wait_s * 1000)))

    @property
    def ending(self) -> bool:
        """Whether it was told to end."""
        return self._shutdown.begun

    def see_start(self, orders: tuple[RunOrder, ...]) -> None:
        for order in orders:
            if not self.holds(order.run):
                self.told_ms[order.run] = self._machine.clock.mono_ms

    def see_drop(self, runs: tuple[int, ...]) -> None:
        for run in runs:
            if run in self.runs:
                self._machine.drop_seen(self._machine, run)

    def _on_agent_started(self) -> None:
        with patch.object(guard_module, "boot_id", lambda: self._machine.boot_id):
            super()._on_agent_started()

    def _poll(self, timeout_s: float | None, events_max: int) -> list[tuple[int, int]]:
        ready = []
        if self._caught:
            ready.append((_SIGNALS, 1))
        if self.keeper.incoming:
            ready.append((_CHANNEL, 1))
        self._machine.chance.shuffle(ready)
        return ready

    def _take_signals(self) -> list[int]:
        caught, self._caught = self._caught, []
        return caught
