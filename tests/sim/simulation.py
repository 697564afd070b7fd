"""One seed: a scheduler, some workers, a client and a nemesis; first everything goes wrong, then all is healed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Final

import apsw

from tests.sim import removals
from tests.sim.faults import Nemesis
from tests.sim.jobs import Poison
from tests.sim.judge import STRAY_MS
from tests.sim.machine import Habits as WorkerHabits
from tests.sim.machine import Machine
from tests.sim.scheduler import CALL_TIMEOUT_MS, Habits
from tests.sim.story import Story
from tests.sim.timeline import Timeline
from tests.sim.world import Setting, World

_POISONS: Final[tuple[tuple[Poison, ...], ...]] = (
    (),
    ("guard",),
    ("machine",),
    ("host",),
    ("guard", "machine", "host"),
)
# Workers that somebody starts with a name that is taken.
RIVALS_MAX: Final = 2
# The share of seeds in which a backup is restored.
RESTORES: Final = 0.15
# Once all is healed every job must have ended within this, and the time that they all take one after the other.
HEALED_MS: Final = 250_000
# What was lost before is sent again by then, and answered: its time, a pause, and the answer.
RETRY_MS: Final = 2 * CALL_TIMEOUT_MS + 4_000
# And then what is left over must go: kills take their grace, results their turn.
QUIET_MS: Final = 30_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a seed that broke no promise did."""

    seed: int
    steps: int
    virtual_ms: int
    checks: int
    runs: int
    faults: int
    excused: int


class Simulation(World):
    """Everything that a seed decides is decided by `chance`, so the seed alone tells the whole story again."""

    def __init__(self, seed: int, *, story: bool = False) -> None:
        self.seed = seed
        chance = Random(seed)
        timeout_ms = chance.choice((3_000, 3_000, 6_000, 15_000))
        slowest_ms = chance.choice((5, 50, 400))
        habits = Habits(
            timeout_ms=timeout_ms,
            turn_frames_max=chance.choice((2, 1_000)),
            turn_rows_max=chance.choice((3, 20_000)),
            frames_queued_max=chance.choice((3, 1_000)),
            places=Random(f"places {seed}").choice((1, 1, 2, 3)),
            keep=removals.habit(Random(f"keep {seed}")),
            turn_tasks_max=Random(f"tasks {seed}").choice((1, 3, 1_000)),
        )
        told = Story(Timeline(), wanted=story)
        super().__init__(Setting(habits, slowest_ms, _POISONS), chance, Random(f"elsewhere {seed}"), told)
        for number in range(chance.choice((1, 2, 3, 4, 5))):
            self.add_machine(f"w{number + 1}", f"w{number + 1}", self._worker_habits())
        for number in range(chance.choice((0, 1, 1, 3))):
            self.add_poller(f"r{number + 1}", chance.choice((1, 1, 2)))
        self._submits = chance.randint(4, 16)
        self.nemesis = Nemesis(self)

    # --- the cast ---

    def _worker_habits(self) -> WorkerHabits:
        return WorkerHabits(
            slots=self.chance.choice((1, 2, 3, 3, 12)),
            heartbeat_ms=self.chance.choice((500, 1_000, 10_000)),
            shutdown_grace_ms=self.chance.choice((0, 0, 2_000, 30_000)),
            frames_max=self.chance.choice((1, 100)),
            read_ms=self.chance.choice((1, 1, 100)),
            spawn_errors=self.chance.choice((0.0, 0.0, 0.05)),
            no_room=self.chance.choice((0.0, 0.0, 0.1)),
        )

    def add_rival(self, victim: Machine) -> None:
        """Another worker with the same name: on another host, or on the same one with a state directory of its own."""
        if sum(machine.rival for machine in self.machines.values()) == RIVALS_MAX:
            return
        name = f"{victim.worker}x{len(self.machines)}"
        if self.chance.random() < 0.5:
            rival = self.add_machine(name, victim.worker, self._worker_habits())
        else:
            lock = (1, 2 + len(self.machines))
            rival = self.add_machine(name, victim.worker, self._worker_habits(), lock)
            rival.boot_of = victim
        rival.rival = True
        rival.start()

    # --- the two phases ---

    def run(self) -> Outcome:
        """Raises Violation with the promise that was broken."""
        with self.overheard():
            self._act()
        return Outcome(
            self.seed,
            self.timeline.steps,
            self.timeline.now_ms,
            self.judge.checks,
            len(self.judge.rows),
            self.judge.faults,
            self.judge.overseer.excused,
        )

    def _act(self) -> None:
        self.story.tell("nemesis", "will bring %s", ", ".join(self.nemesis.names) or "nothing")
        self.scheduler.start()
        for machine in list(self.machines.values()):
            self.timeline.after(self.chance.randint(0, 500), machine.start)
        for poller in self.pollers.values():
            self.timeline.after(self.chance.randint(0, 500), poller.start)
        end_ms = self.chance.choice((10_000, 30_000, 60_000))
        for _ in range(self._submits):
            self.timeline.at(self.chance.randint(0, end_ms), self.client.submit)
            if self.chance.random() < 0.4:
                self.timeline.at(self.chance.randint(0, end_ms), self.client.cancel)
        pauses = Random(f"pauses {self.seed}")
        for _ in range(pauses.choice((0, 0, 1, 3))):
            self.timeline.at(pauses.randint(0, end_ms), self.client.pause_queue)
        self._plan(end_ms)
        self.timeline.run(end_ms)
        self.elsewhere.end()
        self.judge.at_phase_end()
        self._heal()
        healed_ms = self.timeline.now_ms
        for _ in range(3):
            self.client.cancel()
        for beat in range(1, 60):
            self.timeline.at(healed_ms + STRAY_MS + 5_000 * beat, self.judge.check_strays)
        # What callers have under way, and send once more, may still make work.
        self.timeline.run(self.timeline.now_ms + RETRY_MS)
        work_ms = sum(one.script.lasts_ms * max(1, len(one.indexes)) for one in self.client.asked.values())
        self.timeline.run(self.timeline.now_ms + HEALED_MS + work_ms, self.judge.all_ended)
        self.judge.check_all_ended()
        self.timeline.run(self.timeline.now_ms + QUIET_MS)
        self.judge.at_phase_end()
        self.judge.check_nothing_left()
        self.check_end()

    def check_end(self) -> None:
        """For seeds of other kinds: what must be so when all is quiet."""

    def _plan(self, end_ms: int) -> None:
        """What happens to the scheduler's database."""
        if not self._plan_restore(end_ms):
            self.elsewhere.plan(end_ms)

    def _plan_restore(self, end_ms: int) -> bool:
        """In some seeds somebody makes a backup and restores it later, while workers hold runs of the time between.
        Decided apart, so that a seed's other decisions don't hang on it. Returns whether it will happen.
        """
        whim = Random(f"restore {self.seed}")
        if whim.random() >= RESTORES:
            return False
        # No answer of the time before is on its way any more.
        pause_ms = whim.choice((1_000, CALL_TIMEOUT_MS + 1_000))
        backup_ms = whim.randint(500, (end_ms - pause_ms) * 2 // 3)
        restore_ms = whim.randint(backup_ms, end_ms - pause_ms - 1)

        def back_up() -> None:
            copy, picture = self.scheduler.back_up(), self.judge.picture()
            self.story.tell("nemesis", "makes a backup")
            self.timeline.at(restore_ms, lambda: end(copy, picture))

        def end(copy: apsw.Connection, picture: dict[str, Any]) -> None:
            self.scheduler.kill("somebody restores a backup")
            self.scheduler.restoring = True
            for machine in self.machines.values():
                if whim.random() < 0.4:
                    self.story.tell("network", "%s is cut", machine.path.name)
                    machine.path.cut("up", "down")
                    self.timeline.after(whim.choice((3_000, 10_000, 20_000)), machine.path.mend)
            self.timeline.after(pause_ms, lambda: restore(copy, picture))

        def restore(copy: apsw.Connection, picture: dict[str, Any]) -> None:
            self.scheduler.restore(copy, f"successor of seed {self.seed}")
            self.judge.on_restored(picture)
            self.scheduler.restoring = False
            self.scheduler.start()

        self.timeline.at(backup_ms, back_up)
        return True

    def _heal(self) -> None:
        """All links are whole, all workers are there, the store works. Poison jobs still kill."""
        self.story.tell("healer", "from here on nothing goes wrong")
        self.nemesis.stop()
        self.nemesis.lose_no_answers()
        self.scheduler.engine.trouble = None
        self.scheduler.ambushes.clear()
        self.scheduler.engine.refusing = self.scheduler.engine.flapping = False
        self.scheduler.habits.commit_ms = 2
        self.client_path.mend()
        for machine in self.machines.values():
            machine.heal()
            machine.restarts = machine.stubborn = not machine.rival and not machine.gone
            if machine.rival:
                machine.kill()
            elif machine.restarts:
                machine.start_later()
        for poller in self.pollers.values():
            poller.path.mend()
            poller.start()
        self.scheduler.go_on()
        self.scheduler.start()
        self.client.resume_queues()
