"""Crash attribution in a crowd: some poison jobs among 200 innocent ones, on two workers of 100 slots.

Nothing goes wrong but what the poison jobs do. The judge checks each turn, as in any seed.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.sim.callers import Asked, Request
from tests.sim.jobs import Poison, Script
from tests.sim.simulation import QUIET_MS, Simulation
from tests.sim.timeline import WALL_MS
from zsched.model.limits import CRASH_LIMIT_DEFAULT
from zsched.scheduler.dispatcher.retention import KEEP_ALL

INNOCENT = 200
SLOTS = 100
# A poison job may meet as many workers beyond its crash limit.
KILLS_BEYOND = 8
# Restarts of workers take up to 3 s here, and after several crashes a run waits for up to 8 s.
END_MS = 600_000


class Crowd(Simulation):
    """The jobs are submitted at once, `poison` of them at places that the seed decides. Half of the seeds have innocent
    jobs of 2 s, the others such of up to 20 s.
    """

    def __init__(self, seed: int, poison: int) -> None:
        super().__init__(seed)
        self.nemesis.stop()
        # How each job has ended is looked up when all have.
        self.scheduler.habits.keep = KEEP_ALL
        self.pollers.clear()
        while len(self.machines) > 2:
            self.machines.popitem()
        while len(self.machines) < 2:
            self.add_machine("w2", "w2", self._worker_habits())
        for machine in self.machines.values():
            machine.habits = replace(machine.habits, slots=SLOTS, spawn_errors=0.0, no_room=0.0)
        lasts_ms = self.chance.choice((2_000, 20_000))
        scripts = [Script(self.chance.randint(lasts_ms // 2, lasts_ms)) for _ in range(INNOCENT)]
        for _ in range(poison):
            kills: Poison = "guard" if self.chance.random() < 0.5 else "machine"
            scripts.insert(self.chance.randint(0, len(scripts)), Script(self.chance.choice((0, 0, 50)), kills=kills))
        self.batch = [Asked(f"j{number}", script) for number, script in enumerate(scripts)]

    def _act(self) -> None:
        self.scheduler.start()
        for machine in self.machines.values():
            machine.start()
            machine.stubborn = True
        self.timeline.run(1_000)
        self.client.asked.update((one.name, one) for one in self.batch)
        self.client.send(Request(self.batch, None))
        self.timeline.run(2_000)
        self.timeline.run(END_MS, self.judge.all_ended)
        self.judge.check_all_ended()
        self.timeline.run(self.timeline.now_ms + QUIET_MS)
        self.judge.at_phase_end()
        self.judge.check_nothing_left()

    @property
    def ended_ms(self) -> int:
        """When the last innocent job ended, counted from the submit."""
        ((ended_ms,),) = self.scheduler.engine.look(
            "SELECT max(finished_ms) FROM runs WHERE status = 'success'",
        )
        return int(ended_ms) - WALL_MS - 1_000


@pytest.mark.parametrize(("poison", "seed"), [(1, 0)])
def test_poison_in_a_crowd_meets_few_workers_and_no_innocent_job_fails(poison: int, seed: int) -> None:
    check(seed, poison)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(0, 60, 10))
@pytest.mark.parametrize("poison", [0, 1, 3])
def test_poison_in_a_crowd_meets_few_workers_in_many_more_seeds(poison: int, first: int) -> None:
    for seed in range(first, first + 10):
        check(seed, poison)


def check(seed: int, poison: int) -> tuple[int, int]:
    """Returns how many workers died, and when all innocent jobs had ended."""
    crowd = Crowd(seed, poison)
    crowd.run()
    ends = dict(
        crowd.scheduler.engine.look(
            "SELECT job_id, status || '/' || reason FROM runs GROUP BY job_id HAVING run_id = max(run_id)"
        )
    )
    for one in crowd.batch:
        assert one.acked is not None
        if one.cancel_asked:
            continue
        expected = "success/exit" if one.script.kills is None else "failed/crash_limit"
        assert ends[one.acked] == expected, f"seed {seed}: job {one.acked} ({one.script})"
    assert all(kills <= CRASH_LIMIT_DEFAULT + KILLS_BEYOND for kills in crowd.judge.kills.values()), seed
    return sum(crowd.judge.kills.values()), crowd.ended_ms
