"""A worker's guard: the real one, whose shell asks a simulated host instead of Linux."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from tests.sim.artifacts import Helpers
from tests.sim.disk import VirtualJournal
from tests.sim.execution import Execution
from tests.sim.timeline import Alarm
from zsched.host.notify import Notify
from zsched.protocol import RunOrder
from zsched.worker.guard.core import Core
from zsched.worker.guard.life import LIVE, Exit, Fate, Run
from zsched.worker.guard.runs import BEGAN_AFTER_MS
from zsched.worker.guard.shell import Shell
from zsched.worker.guard.spool import Spool
from zsched.worker.messages import Ended, FromAgent, Hello, Message, Snapshot, Start, Stop
from zsched.worker.process.spawn import NoRoomError, Spawned, SpawnError

if TYPE_CHECKING:
    from tests.sim.machine import Machine

_SIGNALS_FD: Final = 3
_AGENT_FD: Final = 4
_READ_BYTES: Final = 64 * 1024


class AgentProcess(Protocol):
    """The agent's side of the channel."""

    pid: int
    stopped: bool

    def receive(self, message: Message) -> None: ...

    def kill(self) -> None: ...


class SimHost:
    """What zsched.worker.guard.host.Host asks for, of one guard."""

    terminal = False

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._kernel = machine.kernel
        self.helpers = Helpers(machine)
        self._caught: list[int] = []
        self._watched: set[int] = set()
        # What the shells in front of jobs have reported, by their process.
        self._reports: dict[str, bytes] = {}
        # What the story has of signals: those to what does not end are repeated.
        self._signalled: set[tuple[int, int]] = set()
        self._outgoing: list[Message] = []
        self.agent: AgentProcess | None = None
        self.incoming: deque[FromAgent] = deque()
        self.agent_fd: int | None = None
        # The agent has closed its end.
        self.hung_up = False
        self.backed_up = False
        # Sees that nothing is told too early.
        self.journal = VirtualJournal(machine.disk)
        self.see: Any = lambda message: None

    def mono_ms(self) -> int:
        return self._machine.clock.mono_ms

    def wall_ms(self) -> int:
        return self._machine.clock.now().wall_ms

    # --- events ---

    def poll(self, wait_ms: int | None) -> list[tuple[int, int]]:
        ready = [fd for fd in self._kernel.readable() if fd in self._watched]
        if self._caught:
            ready.append(_SIGNALS_FD)
        if self.agent_fd is not None and (self.incoming or self.hung_up):
            ready.append(self.agent_fd)
        self._machine.chance.shuffle(ready)
        return [(fd, 1) for fd in ready]

    @property
    def signals_fd(self) -> int:
        return _SIGNALS_FD

    def catch(self, number: int) -> None:
        """The guard gets a signal."""
        self._caught.append(number)

    def signals(self) -> list[int]:
        caught, self._caught = self._caught, []
        return caught

    # --- jobs ---

    def spawn(self, order: RunOrder) -> Spawned:
        machine, luck = self._machine, self._machine.chance.random()
        if luck >= 1 - machine.habits.no_room:
            raise NoRoomError("Cannot allocate memory")
        if luck < machine.habits.spawn_errors:
            raise SpawnError("the process could not be started: Argument list too long")
        if order.cwd is not None and order.cwd != machine.folder:
            return self._spawn_nothing()
        execution = Execution(machine, order, machine.new_mark())
        execution.begin()
        stdout, stderr = execution.outputs
        return Spawned(execution.main.pid, execution.main.mark, stdout.fd, stderr.fd)

    def _spawn_nothing(self) -> Spawned:
        """The folder of a job is not here: the shell in front of it says so, and ends."""
        machine, kernel = self._machine, self._kernel
        process = kernel.start(kernel.guard, machine.new_mark())
        stdout, stderr = kernel.pipe(process), kernel.pipe(process)
        self._reports[process.mark] = b"missing"
        machine.timeline.after(machine.chance.randint(0, 20), lambda: kernel.exit(process, 1))
        return Spawned(process.pid, process.mark, stdout.fd, stderr.fd)

    def take_notes(self, spawned: Spawned) -> tuple[bytes, bytes]:
        return self._reports.pop(spawned.mark, b""), b""

    def tidy(self, spawned: Spawned, order: RunOrder, *, collect: bool) -> int | None:
        # A run whose folder is missing leaves nothing either.
        return self.helpers.start(order.run) if collect and order.artifacts else None

    def end_helper(self, fd: int, *, kill: bool) -> None:
        self.close(fd)
        self.helpers.close(fd, kill=kill)

    def watch(self, fd: int) -> None:
        self._watched.add(fd)

    def read(self, fd: int) -> bytes | None:
        return self._kernel.read(fd, _READ_BYTES)

    def close(self, fd: int) -> None:
        self._watched.remove(fd)
        self._kernel.close(fd)

    def signal_group(self, pid: int, number: int) -> None:
        with suppress(ProcessLookupError):
            if self._kernel.has_living(pid) and (pid, number) not in self._signalled:
                self._signalled.add((pid, number))
                self._machine.story.tell(self._machine.name, "%s to process group %d", signal.Signals(number).name, pid)
            self._kernel.killpg(pid, number)

    def signal_main(self, pid: int, number: int) -> None:
        with suppress(ProcessLookupError):
            self._machine.story.tell(self._machine.name, "%s to process %d alone", signal.Signals(number).name, pid)
            self._kernel.warn(pid, number)

    def kill(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            if (pid, signal.SIGKILL) not in self._signalled:
                self._signalled.add((pid, signal.SIGKILL))
                self._machine.story.tell(self._machine.name, "SIGKILL to process %d", pid)
            self._kernel.kill(pid, signal.SIGKILL)

    def next_ended(self) -> Exit | None:
        ended = self._kernel.ended_child()
        if ended is None:
            return None
        assert ended.status is not None
        return Exit(ended.pid, *ended.status)

    def reap(self, pid: int) -> None:
        self._signalled -= {(pid, signal.SIGTERM), (pid, signal.SIGKILL)}
        self._kernel.reap(pid)
        self.helpers.reap(pid)

    def strays(self, mains: Collection[int]) -> list[int]:
        agent = self.agent.pid if self.agent is not None else None
        return [pid for pid in self._kernel.children() if pid not in {*mains, *self.helpers.pids, agent}]

    def session(self, pid: int) -> int:
        return self._kernel.session(pid)

    def mark_of(self, pid: int) -> str | None:
        return self._kernel.mark_of(pid)

    def sweep(self) -> None:
        self._machine.sweep()

    # --- the agent ---

    def spawn_agent(self) -> int:
        self.agent = self._machine.spawn_agent(self)
        self.agent_fd, self.hung_up = _AGENT_FD, False
        self.incoming.clear()
        return self.agent.pid

    def on_agent_ended(self, agent: object) -> None:
        """Its end of the channel is closed."""
        if agent is self.agent:
            self.hung_up = True

    def agent_stopped(self) -> bool:
        return self.agent is not None and self.agent.stopped

    def kill_agent(self) -> None:
        if self.agent is not None:
            self.agent.kill()

    def put(self, message: Message) -> None:
        if isinstance(message, Ended | Snapshot):
            self.journal.see_told(message.results)
        elif isinstance(message, Hello):
            self.journal.see_told(message.snapshot.results)
        self._machine.report_seen(self._machine, message)
        if self.agent_fd is not None:
            self._outgoing.append(message)

    def flush(self) -> None:
        if self.agent is not None and self.agent_fd is not None and not self.hung_up:
            for message in self._outgoing:
                self.agent.receive(message)
        self._outgoing.clear()

    def receive(self) -> list[FromAgent] | None:
        if self.incoming or not self.hung_up:
            taken = list(self.incoming)
            self.incoming.clear()
            for message in taken:
                self.see(message)
            return taken
        self.agent_fd = None
        return None


class SimGuard:
    """The real shell, and when it takes its turns."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.host = SimHost(machine)
        self.host.see = self._see
        identity = Hello(
            worker=machine.worker,
            schedulers=(),
            slots=machine.habits.slots,
            heartbeat_ms=machine.habits.heartbeat_ms,
            poll_ms=1_000,
            log_level="info",
            incarnation=machine.incarnation,
            boot_id=machine.boot_id,
            lock=machine.lock,
            state_dir="/",
            spool_id="mark",
            queues=machine.queues,
        )
        spool = Spool(cast("Any", self.host.journal), machine.clock.mono_ms)
        self.shell = Shell(identity, machine.habits.shutdown_grace_ms, self.host, spool, Notify({}))
        self._alarm = Alarm(machine.timeline, self._wake)
        self.alive = True
        self.began_ms = machine.timeline.now_ms
        # Since when it knows that its disk fails.
        self.failed_ms: int | None = None
        # When it was stopped last, and until when.
        self.still_since_ms = self.still_ms = 0
        # When it was told to start each run, by its host's clock.
        self.told_ms: dict[int, int] = {}
        self._alarm.set(machine.timeline.now_ms)

    @property
    def core(self) -> Core:
        return self.shell.core

    def catch(self, number: int) -> None:
        """A signal comes."""
        self.host.catch(number)
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

    def _wake(self) -> None:
        if not self.alive:
            return
        if self._machine.timeline.now_ms < self.still_ms:
            self._alarm.set(self.still_ms)
            return
        self.shell.turn()
        self.host.journal.see_turned()
        if not self._machine.disk.failed:
            self.failed_ms = None
        elif self.failed_ms is None:
            self.failed_ms = self._machine.timeline.now_ms
        self._machine.turned(self._machine, self)
        wait_ms = self.shell.wait_ms()
        if self.shell.shutdown.done:
            self.alive = False
            self._machine.on_guard_ended(self.shell.shutdown.exit_code)
        elif wait_ms is not None:
            clock = self._machine.clock
            self._alarm.set(clock.moment(clock.mono_ms + wait_ms))

    def _see(self, message: FromAgent) -> None:
        """It reads a message of its agent."""
        if isinstance(message, Start):
            for order in message.orders:
                if not self.holds(order.run):
                    self.told_ms[order.run] = self._machine.clock.mono_ms
        elif isinstance(message, Stop) and message.drop:
            for number in message.runs:
                run = self.core.find(self.db, number)
                if run is not None and run.phase in LIVE:
                    self._machine.drop_seen(self._machine, number)

    # --- what others ask ---------------------------------------------------------------------------------------------

    @property
    def something_waits(self) -> bool:
        return bool(self.core.waiting or self.core.undelivered)

    @property
    def runs_wait(self) -> bool:
        return self.core.waiting > 0

    @property
    def orders_lie(self) -> bool:
        """Whether its agent has sent it orders that it has not read."""
        return any(isinstance(message, Start) for message in self.host.incoming)

    @property
    def has_just_begun(self) -> bool:
        """Whether a run lives whose start the scheduler can't know yet."""
        since_ms = self._machine.timeline.now_ms - BEGAN_AFTER_MS
        lives, own = self._machine.witness.lives, self._machine.executions.values()
        return any(lives[one.ident].started_ms > since_ms for one in own if self._machine.guards(one))

    @property
    def stuck(self) -> list[Run]:
        return list(self.core.runs.stuck)

    @property
    def results(self) -> list[int]:
        """Runs of the current database with results that the scheduler has not acked."""
        return [result.run for result in self.core.snapshot().results]

    @property
    def ending(self) -> bool:
        """Whether it was told to end."""
        return self.shell.shutdown.begun

    @property
    def db(self) -> str:
        """The current database."""
        return self.core.db

    def record_of(self, mark: str) -> Run | None:
        """Its record of the living run with that mark."""
        return self.core.runs._of_mark.get(mark)

    def holds(self, run: int) -> bool:
        """Whether it has this run of the current database in hand, and has not been told to drop it."""
        found = self.core.find(self.db, run)
        return found is not None and found.fate is Fate.WANTED

    def holds_for(self, db: str, run: int) -> bool:
        """The same for a run of any database."""
        found = self.core.find(db, run)
        if db == self.db or (found is not None and found.phase in LIVE):
            return found is not None and found.fate is Fate.WANTED
        return self._machine.disk.holds(run, db)
