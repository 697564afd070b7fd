"""One simulated installation: a scheduler, hosts with workers, workers that poll, a client, and the judge of them all.

A seed fills it by chance (`simulation`), a canonical story by its script (`stories`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

from tests.sim.callers import Client
from tests.sim.elsewhere import Elsewhere
from tests.sim.jobs import Poison
from tests.sim.judge import Judge
from tests.sim.machine import Habits as WorkerHabits
from tests.sim.machine import Machine
from tests.sim.network import Path
from tests.sim.pollers import SimPoller
from tests.sim.scheduler import Habits, Scheduler
from tests.sim.story import Story, listening
from tests.sim.violation import Violation
from tests.sim.witness import Witness


@dataclass(frozen=True, slots=True)
class Setting:
    """`slowest_ms`: how long a frame takes at most. `poisons`: chance chooses what the client's jobs may kill."""

    habits: Habits
    slowest_ms: int
    poisons: tuple[tuple[Poison, ...], ...] = ((),)


class World:
    """`chance` decides everything that its parts leave open; `elsewhere` decides when another database comes."""

    def __init__(self, setting: Setting, chance: Random, elsewhere: Random, story: Story) -> None:
        self.chance = chance
        self.story = story
        self.timeline = timeline = story.timeline
        self.habits = setting.habits
        self.witness = Witness(timeline, story)
        self.scheduler = Scheduler(timeline, chance, story, setting.habits)
        self.machines: dict[str, Machine] = {}
        self.pollers: dict[str, SimPoller] = {}
        self._slowest_ms = setting.slowest_ms
        self.client_path = self.new_path("client")
        poison = chance.choice(setting.poisons)
        self.client = Client(timeline, self.scheduler, self.client_path, chance, story, poison)
        self.judge = Judge(timeline, story, self.scheduler, self.witness, self.client, self.machines, self.pollers)
        self.scheduler.after_turn = self.judge.after_turn
        self.scheduler.before_send = self.judge.on_send
        self.scheduler.on_arrival = self.judge.on_arrival
        self.scheduler.on_call = self.judge.on_call
        self.elsewhere = self.judge.elsewhere = Elsewhere(self, elsewhere)

    def new_path(self, name: str) -> Path:
        return Path(self.story, self.chance, name, self._slowest_ms)

    def add_machine(self, name: str, worker: str, habits: WorkerHabits, lock: tuple[int, int] = (1, 2)) -> Machine:
        path = self.new_path(name)
        machine = Machine(
            self.timeline, self.chance, self.story, self.witness, self.scheduler, path, name, worker, habits, lock
        )
        machine.start_seen = self.judge.on_start
        machine.drop_seen = self.judge.on_drop
        machine.say_seen = self.judge.on_say
        machine.hear_seen = self.judge.overseer.on_hear
        machine.signal_seen = self.judge.on_signal
        machine.end_seen = self.judge.on_end
        machine.child_signal_seen = self.judge.inspector.on_child_signal
        machine.over_seen = self.judge.inspector.on_over
        machine.report_seen = self.judge.inspector.on_report
        machine.stop_seen = self.judge.inspector.on_agent_stopped
        machine.turned = self.judge.inspector.turned
        machine.on_kill = self._on_kill
        self.machines[name] = machine
        return machine

    def add_poller(self, name: str, slots: int) -> SimPoller:
        path, heartbeat_ms = self.new_path(name), self.habits.timeout_ms // 3
        poller = SimPoller(
            self.timeline, self.chance, self.story, self.witness, self.scheduler, path, name, heartbeat_ms, slots
        )
        poller.on_kill = self._on_kill
        self.pollers[name] = poller
        return poller

    def _on_kill(self, job: int) -> None:
        self.judge.kills[job] += 1

    @contextmanager
    def overheard(self) -> Iterator[None]:
        """While it lasts, what zsched logs goes into the story. Raises Violation for a bug that zsched has caught."""
        with listening(self.story) as ears:
            yield
        if ears.bug is not None:
            raise Violation(f"a bug was caught and logged: {ears.bug}")
