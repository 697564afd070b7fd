"""A host with a worker on it: the guard, its agent, and the processes of jobs. Each can die without the others."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.sim.callers import FOLDERS, QUEUES
from tests.sim.disk import Disk, Trouble
from tests.sim.execution import Execution
from tests.sim.guard import SimGuard, SimHost
from tests.sim.jobs import WORLD, Poison
from tests.sim.kernel import Kernel, Process
from tests.sim.network import Connection, Path
from tests.sim.scheduler import Scheduler
from tests.sim.story import Story
from tests.sim.timeline import Alarm, Clock, Timeline
from tests.sim.witness import KILLED, Witness
from zsched.protocol import RunOrder, SchedulerFrame, WorkerFrame, pack, unpack_from_scheduler
from zsched.worker.agent.agent import Agent
from zsched.worker.agent.search import Search
from zsched.worker.messages import OF_RUNS, FromGuard, Hello, Message


@dataclass(frozen=True, slots=True)
class Habits:
    """How a worker is set up, and its luck. `frames_max`: what its agent reads in one turn, which takes `read_ms`.
    `spawn_errors` and `no_room`: how often a run's command can't be started, and its host can't start any process.
    """

    slots: int
    heartbeat_ms: int
    shutdown_grace_ms: int
    frames_max: int
    read_ms: int
    spawn_errors: float
    no_room: float


class SimAgent:
    """The agent's process: the real Agent, and what main.py is around it. Also the worker's end of its connections."""

    def __init__(self, machine: Machine, host: SimHost) -> None:
        self.name = machine.name
        self.worker = machine.worker
        self.process = machine.kernel.start(machine.kernel.guard)
        self.pid = self.process.pid
        self.alive = True
        # A signal has stopped it, and when.
        self.stopped = False
        self.stopped_ms = 0
        self.agent: Agent | None = None
        # It is stopped until then; and whether it had just looked at what its guard says, and not at its socket.
        self.still_ms = 0
        self._stopped_between = False
        # When it last lost its session, on the timeline.
        self.lost_ms = -(10**9)
        self.connection: Connection | None = None
        self._registered = False
        self.machine = machine
        self._host = host
        self._heard: deque[FromGuard | None] = deque()
        self._changes: deque[bool] = deque()
        self._inboxes: dict[Connection, deque[bytes]] = {}
        # With several schedulers: the search among them, whether a frame came since the last enrolment, and the
        # connections that it has closed itself.
        self._search: Search | None = None
        self._received = False
        self._closed: set[Connection] = set()
        self._alarm = Alarm(machine.timeline, self._turn)
        # A Python process takes a while to come up.
        machine.timeline.after(machine.chance.randint(20, 300), self._come_up)
        self._up = False
        self.up_ms = 0

    def _come_up(self) -> None:
        self._up = True
        self.up_ms = self.machine.timeline.now_ms
        self._wake()
        if self.machine.scheduler.habits.places == 1:
            self._connect()

    # --- from outside ---

    @property
    def registering(self) -> Connection | None:
        """The connection over which its register is under way."""
        connection = self.connection
        unanswered = self.agent is not None and not self.agent.registered
        return connection if unanswered and connection is not None and connection.up.waiting else None

    def stand_still(self, gap_ms: int, *, between: bool) -> None:
        """SIGSTOP for a while. `between`: after it has looked at what its guard says and before it looks at its socket;
        then it goes on a moment after its guard has said something of runs.
        """
        now_ms = self.machine.timeline.now_ms
        if not self.stopped:
            self.stopped_ms = now_ms
            self.machine.stop_seen(self)
        self.still_ms = max(self.still_ms, now_ms + gap_ms)
        self.stopped = True
        self._stopped_between = between
        self.machine.story.tell(self.name, "its agent stands still until %d", self.still_ms)

    def receive(self, message: Message) -> None:
        """The guard says something."""
        self.machine.story.send(self.name, "its agent", message, detail=True)
        self._heard.append(message)  # type: ignore[arg-type]
        if self._stopped_between and isinstance(message, OF_RUNS):
            self.still_ms = min(self.still_ms, self.machine.timeline.now_ms)
        self._wake()

    def on_guard_gone(self) -> None:
        """The channel is closed at its other end."""
        self._heard.append(None)
        self._stopped_between = False
        self._wake()

    def kill(self) -> None:
        if self.alive:
            self.machine.story.tell(self.name, "its agent is killed")
            self._end(clean=False)

    def on_body(self, connection: Connection, body: bytes) -> None:
        if self.alive and connection not in self._closed:
            self._inboxes.setdefault(connection, deque()).append(body)
            self._wake()

    def on_cut(self, connection: Connection) -> None:
        if self.alive and connection is self.connection:
            self.machine.story.tell(self.name, "its connection %s is cut", connection.peer.decode())
            self.connection = None
            self._notice(False)
            if self._search is None:
                self.machine.timeline.after(self.machine.chance.randint(100, 1_000), self._connect)

    def _notice(self, made: bool) -> None:
        """The socket's monitor tells a little later than the socket itself knows."""
        self._changes.append(made)
        self.machine.timeline.after(self.machine.chance.choice((0, 1, 20)), self._wake)

    def _connect(self) -> None:
        if not self.alive or self.connection is not None:
            return
        machine = self.machine
        if not machine.scheduler.up or not machine.path.whole:
            machine.timeline.after(machine.chance.randint(100, 1_000), self._connect)
            return
        self._open()

    def _open(self) -> None:
        machine = self.machine
        peer = machine.new_peer().encode()
        self.connection = Connection(
            machine.timeline, machine.chance, machine.path, peer, self, machine.scheduler.router
        )
        machine.story.tell(self.name, "is connected as %s", peer.decode())
        self._notice(True)

    # --- its turns, as main.py does them ---

    def _wake(self) -> None:
        if self.alive and self._up:
            self._alarm.set(self.machine.timeline.now_ms + self.machine.chance.randint(0, 1))

    def _turn(self) -> None:
        now_ms = self.machine.timeline.now_ms
        if not self.alive or not self._up:
            return
        if now_ms < self.still_ms:
            self._alarm.set(self.still_ms)
            return
        self.stopped = False
        if self._stopped_between:
            self._stopped_between = False
            self._wake()
        else:
            self._on_messages()
        if self.agent is None:
            return
        if self.alive and self.agent.exit_code is None:
            more = self._on_socket(self.agent)
            deadlines = [self.agent.on_tick(self.machine.clock.now())]
            if self._search is not None:
                deadlines.append(self._seek(self.agent, self._search))
            self._flush(self.agent)
            for deadline_ms in deadlines:
                if deadline_ms is not None:
                    self._alarm.set(self.machine.clock.moment(deadline_ms))
            if more:
                self._alarm.set(now_ms + self.machine.habits.read_ms)
        if self._registered and not self.agent.registered:
            self.lost_ms = now_ms
        self._registered = self.agent.registered
        if self.alive and self.agent.exit_code is not None:
            self._flush(self.agent)
            self.machine.story.tell(self.name, "its agent exits: %d", self.agent.exit_code)
            self._end(clean=True)

    def _on_messages(self) -> None:
        now = self.machine.clock.now()
        while self._heard:
            message = self._heard.popleft()
            if message is None:
                self._on_guard_lost()
                return
            if isinstance(message, Hello):
                self.agent = Agent(message, now, self.machine.name)
                places = self.machine.scheduler.habits.places
                self._search = Search(places, message.incarnation, now.mono_ms) if places > 1 else None
            elif self.agent is not None:
                self.agent.on_guard(message, now)

    def _on_socket(self, agent: Agent) -> bool:
        """Returns whether some frames were left."""
        now = self.machine.clock.now()
        while self._changes:
            if self._changes.popleft():
                agent.on_connected(now)
            else:
                agent.on_disconnected(now)
        for _ in range(self.machine.habits.frames_max):
            # A DEALER takes from its connections in turn, also what an old one had brought.
            full = [inbox for inbox in self._inboxes.values() if inbox]
            if not full:
                self._inboxes.clear()
                return False
            frame = unpack_from_scheduler(self.machine.chance.choice(full).popleft())
            self.machine.story.send(f"{self.name} hears", "", frame, detail=True)
            self._received = True
            agent.on_frame(frame, now)
            self.machine.hear_seen(self, frame)
        return True

    # --- its search among several schedulers, as route.py does it ---

    def _seek(self, agent: Agent, search: Search) -> int | None:
        """Returns when to call again."""
        now_ms, silent_at_ms = self.machine.clock.mono_ms, agent.silent_at_ms
        silent = silent_at_ms is not None and now_ms >= silent_at_ms
        if not search.seeks(now_ms, registered=agent.registered, silent=silent):
            return None if silent else silent_at_ms
        while now_ms >= search.at_ms:
            self._ask(agent, search, now_ms)
        return search.at_ms

    def _ask(self, agent: Agent, search: Search, now_ms: int) -> None:
        scheduler = self.machine.scheduler
        if (search.joining and not self._received) or not self.machine.path.whole:
            search.on_failed(now_ms)
        elif search.index != scheduler.place:
            # It stands by, and names the active one.
            search.on_failed(now_ms, scheduler.place)
        elif not scheduler.up or scheduler.stands_still:
            search.on_failed(now_ms)
        else:
            search.on_enrolled(search.index, now_ms)
            self._received = False
            if agent.registered:
                search.on_moved(search.index, now_ms)
            elif self.connection is not None and scheduler.router.peers.get(self.connection.peer) is self.connection:
                return
            if self.connection is not None:
                self._closed.add(self.connection)
                self._inboxes.pop(self.connection, None)
                self.connection.break_off()
                self._notice(False)
            self._open()

    def _flush(self, agent: Agent) -> None:
        for message in agent.to_guard:
            self.machine.story.send("its agent", self.name, message, detail=True)
            self._host.incoming.append(message)
        if agent.to_guard:
            self.machine.wake_guard()
        agent.to_guard.clear()
        for frame in agent.to_scheduler:
            self.machine.say_seen(self, frame)
            if self.connection is not None:
                lost = self.connection.up.closed
                self.machine.story.send(self.name, "nobody" if lost else "scheduler", frame, detail=lost)
                self.connection.up.send(pack(frame))
            else:
                self.machine.story.send(self.name, "nobody", frame, detail=True)
        agent.to_scheduler.clear()

    def _on_guard_lost(self) -> None:
        if self.machine.guard is None:
            self.machine.sweep()
        if self.agent is not None:
            self.agent.on_guard_lost()
            self._flush(self.agent)
        self._end(clean=True)

    def _end(self, *, clean: bool) -> None:
        self.alive = False
        if self.connection is not None:
            if clean and self.machine.path.whole:
                self.connection.up.close(self.connection.up.waiting)
            self.connection.break_off()
        self.machine.agents.remove(self)
        self._host.on_agent_ended(self)
        self.machine.kernel.exit(self.process, 0 if clean else KILLED)


class Machine:
    """One host. `worker` is the worker's name; two hosts may have the same by mistake."""

    def __init__(
        self,
        timeline: Timeline,
        chance: Random,
        story: Story,
        witness: Witness,
        scheduler: Scheduler,
        path: Path,
        name: str,
        worker: str,
        habits: Habits,
        lock: tuple[int, int],
    ) -> None:
        self.timeline = timeline
        self.chance = chance
        self.story = story
        self.witness = witness
        self.scheduler = scheduler
        self.path = path
        self.name = name
        self.worker = worker
        self.habits = habits
        self.lock = lock
        # The folder of jobs that exists here.
        self.folder = FOLDERS[sum(map(ord, name)) % len(FOLDERS)]
        # Some don't serve every queue by `*`. All of them serve those of the client.
        self.queues = ("*",) if sum(map(ord, name)) % 2 else ("default", *QUEUES)
        self.clock = Clock(timeline, chance.randint(0, 10**9), chance.choice((970, 985, 1_000, 1_015, 1_030)))
        # Runs whose main process lives, and those that have left others; by the witness's number.
        self.executions: dict[int, Execution] = {}
        self.leftovers: dict[int, Execution] = {}
        # Runs whose artifacts could not be read here.
        self.spoiled: set[int] = set()
        self.kernel = Kernel(timeline, chance)
        self.kernel.on_child = self._on_child_ended
        self.kernel.on_data = self.wake_guard
        self.disk = Disk(chance)
        self.guard: SimGuard | None = None
        self.agents: list[SimAgent] = []
        # A worker that has ended for good is started again by hand only.
        self.restarts = True
        # Started by mistake with another's name; and one that was taken away.
        self.rival = False
        self.gone = False
        # Somebody sees to it that it comes back even when it was refused.
        self.stubborn = False
        # The machine that it really is, if it is another's second worker.
        self.boot_of: Machine = self
        self.start_seen: Callable[[Machine, Execution], None] = lambda machine, execution: None
        self.drop_seen: Callable[[Machine, int], None] = lambda machine, run: None
        self.say_seen: Callable[[SimAgent, WorkerFrame], None] = lambda agent, frame: None
        self.hear_seen: Callable[[SimAgent, SchedulerFrame], None] = lambda agent, frame: None
        self.signal_seen: Callable[[Machine, Execution, int], None] = lambda machine, execution, number: None
        self.end_seen: Callable[[Machine, Execution], None] = lambda machine, execution: None
        # None of a run's processes is left; a guard has taken a turn.
        self.over_seen: Callable[[Machine, Execution], None] = lambda machine, execution: None
        self.turned: Callable[[Machine, SimGuard], None] = lambda machine, guard: None
        # A signal stops an agent.
        self.stop_seen: Callable[[SimAgent], None] = lambda agent: None
        # A guard signals a process that a job has started, and tells its agent something.
        self.child_signal_seen: Callable[[Machine, Execution, Process], None] = lambda machine, execution, process: None
        self.report_seen: Callable[[Machine, Message], None] = lambda machine, message: None
        self.on_kill: Callable[[int], None] = lambda job: None
        # Starts of the worker that have ended by themselves.
        self.ended: set[str] = set()
        self._boots = 0
        self._starts = 0
        self._marks = 0
        self._peers = 0
        self._starting = False

    @property
    def boot_id(self) -> str:
        return f"boot {self.boot_of._boots} of {self.boot_of.name}"

    @property
    def incarnation(self) -> str:
        return f"{self.name}.{self._starts}"

    @property
    def agent(self) -> SimAgent | None:
        """The agent that belongs to the living guard."""
        found = self.guard.host.agent if self.guard is not None else None
        return found if isinstance(found, SimAgent) else None

    def guards(self, execution: Execution) -> bool:
        """Whether it was started by the living guard. Other processes were left by an earlier one."""
        return self.kernel.guard is not None and execution.main.parent is self.kernel.guard

    def new_mark(self) -> str:
        self._marks += 1
        return f"m{self._marks}"

    # --- the worker's life ---

    def start(self) -> None:
        if self.guard is not None or self.gone:
            return
        self._starts += 1
        self.sweep()
        self.story.tell(self.name, "worker %s starts as %s", self.worker, self.incarnation)
        self.kernel.guard = self.kernel.start(None)
        self.guard = SimGuard(self)

    def start_later(self) -> None:
        if self.restarts and not self._starting:
            self._starting = True
            self.timeline.after(self.chance.choice((50, 500, 3_000)), self._restart)

    def _restart(self) -> None:
        self._starting = False
        if self.restarts:
            self.start()

    def sweep(self) -> None:
        """End what an earlier start has left."""
        for process in self._jobs():
            self.kernel.die(process)

    def _jobs(self) -> list[Process]:
        """The living processes of jobs, by their mark."""
        return [process for process in self.kernel if process.mark]

    def heal(self) -> None:
        """The link is whole, and its disks: what was killed and did not end does now."""
        self.path.mend()
        self.disk.trouble = None
        self.kernel.healed = True
        for process in self._jobs():
            if process.clinging:
                self.kernel.die(process)

    def break_connection(self) -> None:
        """The network resets it."""
        if self.agent is not None and self.agent.connection is not None:
            self.story.tell("network", "%s breaks", self.agent.connection.peer.decode())
            self.agent.connection.break_off()

    def delay_register(self, late_ms: int) -> None:
        """The connection breaks while the worker registers over it. That frame arrives much later."""
        assert self.agent is not None
        connection = self.agent.registering
        assert connection is not None
        self.story.tell("network", "%s breaks, and delivers %d ms later", connection.peer.decode(), late_ms)
        connection.break_late(late_ms)

    def stall(self, what: str, gap_ms: int) -> None:
        """SIGSTOP to guard or agent for a while; the host: both, as when it is suspended."""
        if what != "agent" and self.guard is not None:
            self.guard.stand_still(gap_ms)
            self.story.tell(self.name, "its guard stands still until %d", self.guard.still_ms)
        if what != "guard" and self.agent is not None:
            self.agent.stand_still(gap_ms, between=False)

    def kill_agent(self) -> None:
        if self.agent is not None:
            self.agent.kill()

    def kill_guard(self) -> None:
        if self.guard is None:
            return
        self.story.tell(self.name, "its guard is killed")
        self.guard.alive = False
        self._on_guard_dead()
        for agent in self.agents:
            self.timeline.after(self.chance.randint(0, 3), agent.on_guard_gone)
        self.start_later()

    def _on_guard_dead(self) -> None:
        """By PR_SET_PDEATHSIG the kernel ends the runs that have a lease."""
        self.guard = None
        self.kernel.kill_guard()
        for execution in list(self.executions.values()):
            if execution.order.lease_ms is not None:
                self.kernel.die(execution.main)

    def kill(self) -> None:
        """Guard and agent at once. Their processes are left, unless a service manager ends them too."""
        self.kill_both()
        if self.chance.random() < 0.5 or not self.restarts:
            self.sweep()

    def kill_both(self) -> None:
        """And nobody else ends their processes."""
        for agent in list(self.agents):
            agent.kill()
        self.kill_guard()

    def reboot(self) -> None:
        self.story.tell(self.name, "the host goes down")
        self.kill()
        for process in self._jobs():
            self.kernel.exit(process, KILLED)
        self.disk.cut_power(self.chance)
        self._boots += 1

    def shut_down(self) -> None:
        """A clean end, as by SIGTERM."""
        if self.guard is not None:
            self.story.tell(self.name, "is told to end")
            self.guard.catch(signal.SIGTERM)

    def on_guard_ended(self, exit_code: int) -> None:
        self.story.tell(self.name, "worker %s ended: %d", self.worker, exit_code)
        self.ended.add(self.incarnation)
        self._on_guard_dead()
        for agent in self.agents:
            agent.on_guard_gone()
        if exit_code and not self.stubborn:
            self.restarts = False
        self.start_later()

    def on_poison(self, order: RunOrder, kills: Poison) -> None:
        self.story.tell(self.name, "run %d of job %d kills the %s", order.run, order.job, kills)
        self.on_kill(order.job)
        match kills:
            case "guard":
                self.kill_guard()
            case "machine":
                self.kill()
            case "host":
                self.reboot()

    def on_start(self, execution: Execution) -> None:
        """A process of a job starts here."""
        job = execution.order.job + WORLD * execution.script.world
        pid = execution.main.pid
        self.witness.start(execution.ident, job, self.worker, self.name, self.incarnation, pid)
        self.start_seen(self, execution)

    def member_ended(self, execution: Execution) -> None:
        """A process of a run has ended."""
        if execution.ended_ms is None:
            return
        self.leftovers[execution.ident] = execution
        if not execution.alive:
            del self.leftovers[execution.ident]
            self.over_seen(self, execution)

    def fill_disk(self, trouble: Trouble | None) -> None:
        """It has no space left, or its syncs fail; None: it is well again."""
        self.disk.trouble = trouble
        texts: dict[Trouble | None, str] = {"full": "has no space left", "sync": "can't sync", None: "is well again"}
        self.story.tell(self.name, "its disk %s", texts[trouble])

    def _on_child_ended(self) -> None:
        if self.guard is not None:
            self.guard.catch(signal.SIGCHLD)

    # --- the agent's ---

    def spawn_agent(self, host: SimHost) -> SimAgent:
        agent = SimAgent(self, host)
        self.agents.append(agent)
        return agent

    def wake_guard(self) -> None:
        if self.guard is not None:
            self.guard.wake()

    def new_peer(self) -> str:
        self._peers += 1
        return f"{self.name}/{self._peers}"
