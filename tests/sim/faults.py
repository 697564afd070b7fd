"""What goes wrong, and when. Each method of Nemesis is one fault; each seed draws which of them it will see.

A fault either passes by itself (a cut is mended, a process started again) or stays until `heal`.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Final

from tests.sim.guard import SimGuard
from tests.sim.machine import Machine
from tests.sim.network import Path
from tests.sim.scheduler import SLOW_COMMIT_MS
from tests.sim.strangers import Stranger

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation


_WAITS: Final = "SELECT 1 FROM runs WHERE status = 'pending' AND due_ms IS NOT NULL LIMIT 1"


class Nemesis:
    """Acts until it is told to stop."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self._chance = sim.chance
        self._timeline = sim.timeline
        self._acting = True
        self._strangers = 0
        everything: list[Callable[[], None]] = [
            self.kill_worker,
            self.reboot_host,
            self.kill_agent,
            self.kill_agent_that_holds,
            self.kill_guard,
            self.shut_worker_down,
            self.preempt_host,
            self.cut_both_ways,
            self.cut_one_way,
            self.reset_connection,
            self.stop_agent,
            self.stop_guard,
            self.kill_scheduler,
            self.crash_scheduler,
            self.end_scheduler,
            self.stop_scheduler,
            self.refuse_a_turn,
            self.refuse_for_a_while,
            self.refuse_at_bad_moments,
            self.slow_down,
            self.set_a_clock,
            self.add_a_rival,
            self.take_a_worker_away,
            self.kill_poller,
            self.stop_poller,
            self.send_a_stranger,
            self.lose_answers,
            self.suspend_host,
            self.cut_most_off,
            self.restart_with_another_timeout,
            self.lose_who_is_stuck,
            self.kill_worker_for_long,
        ]
        # Few kinds at a time: a seed in which everything goes wrong hides what one fault alone would show.
        share = self._chance.choice((0.1, 0.2, 0.5))
        # Bad moments are rare, so many seeds wait for some.
        rare = (self.refuse_at_bad_moments, self.lose_who_is_stuck)
        self._faults = [fault for fault in everything if self._chance.random() < (0.5 if fault in rare else share)]
        # Drawn apart, so that the other seeds stay as they were.
        aside = Random(repr(self._chance.getstate()) + "strand")
        if aside.random() < 0.3:
            self._faults.append(self.strand_runs)
        if aside.random() < 0.3:
            self._faults.append(self.delay_a_register)
        if aside.random() < 0.5:
            self._faults.append(self.fail_a_disk)
        if aside.random() < 0.3:
            self._faults.append(self.lose_a_claim)
        self._gap_ms = self._chance.choice((500, 1_500, 4_000))
        if self._faults:
            self._later()
        # Decided apart, so that a seed's other decisions don't hang on it.
        self._flaps = Random(repr(self._chance.getstate()))
        if self._flaps.random() < 0.3:
            self._timeline.after(self._flaps.randint(2_000, 20_000), self.flap)

    def stop(self) -> None:
        self._acting = False

    @property
    def names(self) -> list[str]:
        return [fault.__name__ for fault in self._faults]

    def _later(self) -> None:
        self._timeline.after(self._chance.randint(1, 2 * self._gap_ms), self._act)

    def _act(self) -> None:
        if self._acting:
            self._chance.choice(self._faults)()
            self._later()

    def _a_while_ms(self) -> int:
        """From a moment to much longer than the timeout."""
        timeout_ms = self._sim.habits.timeout_ms
        return self._chance.choice((50, 300, 1_000, timeout_ms // 2, timeout_ms, 2 * timeout_ms))

    def _machine(self) -> Machine:
        return self._chance.choice(list(self._sim.machines.values()))

    def _path(self) -> Path:
        return self._chance.choice([*self._workers_paths(), self._sim.client_path])

    def _workers_paths(self) -> list[Path]:
        paths = [machine.path for machine in self._sim.machines.values()]
        return paths + [poller.path for poller in self._sim.pollers.values()]

    # --- workers ---

    def kill_worker(self) -> None:
        self._machine().kill()

    def kill_worker_for_long(self) -> None:
        """Until all that it held has long been lost. One that runs something, if there is one."""
        there = [machine for machine in self._sim.machines.values() if machine.restarts and not machine.rival]
        if not there:
            return
        machine = self._chance.choice([one for one in there if one.executions] or there)
        machine.restarts = False
        machine.kill_both()

        def start() -> None:
            machine.restarts = not machine.gone
            machine.start()

        self._timeline.after(3 * self._sim.habits.timeout_ms, start)

    def reboot_host(self) -> None:
        machine = self._machine()
        machine.reboot()

    def kill_agent(self) -> None:
        self._machine().kill_agent()

    def kill_agent_that_holds(self) -> None:
        """At the moment when something waits in the guard: runs for a slot, or results for their answer."""
        machine = self._machine()
        if self._chance.random() < 0.5:
            # The next agent takes longer to come each time, or can't reach anybody, and slots get free meanwhile.
            cut_ms = self._chance.choice((0, 1_000))

            def kill() -> None:
                machine.kill_agent()
                if cut_ms:
                    machine.path.cut("up", "down")
                    self._timeline.after(cut_ms, machine.path.mend)

            for after_ms in (0, 500, 1_000):
                self._timeline.after(after_ms, lambda: self._when(machine, lambda guard: guard.runs_wait, kill))
        else:
            self._when(machine, lambda guard: guard.something_waits, machine.kill_agent)

    def _when(
        self, machine: Machine, it: Callable[[SimGuard], bool], action: Callable[[], object], tries: int = 1_000
    ) -> None:
        """Wait for a bad moment of a guard, two seconds at most, and act in it."""
        if machine.guard is not None and it(machine.guard):
            action()
        elif tries and self._acting:
            self._timeline.after(2, lambda: self._when(machine, it, action, tries - 1))

    def kill_guard(self) -> None:
        self._machine().kill_guard()

    def lose_who_is_stuck(self) -> None:
        """A worker that can't end a run is killed or cut off as well, if there is one, or its agent is."""
        for machine in self._sim.machines.values():
            if machine.guard is not None and machine.guard.stuck:
                luck = self._chance.random()
                if luck < 0.4:
                    machine.kill()
                elif luck < 0.7:
                    machine.kill_agent()
                else:
                    machine.path.cut("up", "down")
                    self._tell("network", f"{machine.path.name} is cut")
                    self._timeline.after(3 * self._sim.habits.timeout_ms, machine.path.mend)

    def shut_worker_down(self) -> None:
        """It ends when its runs have, and is started again. Sometimes just when one has begun."""
        machine = self._machine()
        if self._chance.random() < 0.5:
            self._when(machine, lambda guard: guard.has_just_begun, machine.shut_down)
        else:
            machine.shut_down()

    def preempt_host(self) -> None:
        """As a cloud takes a machine back: its worker is told to end, and all is killed before its jobs are over."""
        machine = self._machine()
        machine.shut_down()
        end = self._chance.choice((machine.kill, machine.kill_both, machine.kill_guard, machine.reboot))
        self._timeline.after(self._chance.choice((0, 50, 500, 2_000)), end)

    def stop_agent(self) -> None:
        """SIGSTOP for a while, or until its guard replaces it."""
        machine = self._machine()
        gap_ms = 40_000 if self._chance.random() < 0.3 else self._a_while_ms()
        if machine.agent is not None:
            machine.agent.stand_still(gap_ms, between=self._chance.random() < 0.5)

    def stop_guard(self) -> None:
        machine = self._machine()
        if machine.guard is not None:
            machine.stall("guard", self._a_while_ms())

    def strand_runs(self) -> None:
        """Sessions are lost while orders of them lie before guards that stand still: none of those may start."""
        for machine in list(self._sim.machines.values()):
            if machine.guard is not None:
                machine.stall("guard", 900)
                self._when(machine, lambda guard: guard.orders_lie, self._end_of_session(machine), 450)
        for _ in range(3):
            self._sim.client.submit()

    def _end_of_session(self, machine: Machine) -> Callable[[], None]:
        def break_off() -> None:
            if machine.agent is not None and machine.agent.connection is not None:
                machine.agent.connection.break_off()

        return self._chance.choice((break_off, machine.kill_agent, self.kill_scheduler, machine.shut_down))

    def fail_a_disk(self) -> None:
        """A worker's disk has no space, or can't sync, for a while. Sometimes its guard is killed."""
        machine = self._machine()
        gap_ms = self._chance.choice((50, 1_000, 5_000, 15_000))
        machine.fill_disk(self._chance.choice(("full", "sync")))
        self._timeline.after(gap_ms, lambda: machine.fill_disk(None))
        if self._chance.random() < 0.3:
            self._timeline.after(self._chance.randint(0, gap_ms + 3_000), machine.kill_guard)

    def suspend_host(self) -> None:
        """Guard and agent stand still together, and go on together."""
        machine = self._machine()
        if machine.guard is not None:
            machine.guard.stand_still(self._a_while_ms())
            if machine.agent is not None:
                machine.agent.still_ms = machine.guard.still_ms
            self._tell(machine.name, f"is suspended until {machine.guard.still_ms}")

    def add_a_rival(self) -> None:
        """Somebody starts a worker with a name that is taken, on a host with the same lock or the same boot."""
        self._sim.add_rival(self._machine())

    def take_a_worker_away(self) -> None:
        """One that was there at the beginning goes for ever, if another is left."""
        there = [machine for machine in self._sim.machines.values() if machine.restarts and not machine.rival]
        if len(there) > 1:
            machine = self._chance.choice(there)
            machine.restarts = False
            machine.gone = True
            machine.reboot()
            self._tell(machine.name, "is gone for ever")

    def kill_poller(self) -> None:
        if self._sim.pollers:
            poller = self._chance.choice(list(self._sim.pollers.values()))
            poller.kill()
            self._timeline.after(self._a_while_ms(), poller.start)

    def stop_poller(self) -> None:
        if self._sim.pollers:
            poller = self._chance.choice(list(self._sim.pollers.values()))
            poller.still_ms = self._timeline.now_ms + self._a_while_ms()
            self._tell(poller.name, f"stands still until {poller.still_ms}")

    # --- the network ---

    def cut_both_ways(self) -> None:
        path = self._path()
        path.cut("up", "down")
        self._tell("network", f"{path.name} is cut")
        self._timeline.after(self._a_while_ms(), path.mend)

    def cut_one_way(self) -> None:
        path = self._path()
        way = self._chance.choice(("up", "down"))
        path.cut("up" if way == "up" else "down")
        self._tell("network", f"{path.name} is cut {way}")
        self._timeline.after(self._a_while_ms(), path.mend)

    def cut_most_off(self) -> None:
        """More than half of the workers at once, as when the scheduler's own network fails."""
        paths = self._workers_paths()
        self._chance.shuffle(paths)
        cut = paths[: self._chance.randint(len(paths) // 2 + 1, len(paths))]
        for path in cut:
            path.cut("up", "down")
        self._tell("network", f"{', '.join(path.name for path in cut)} are cut together")
        gap_ms = self._a_while_ms()
        for path in cut:
            self._timeline.after(gap_ms, path.mend)

    def reset_connection(self) -> None:
        """Sometimes just when runs wait for a slot."""
        machine = self._machine()

        if self._chance.random() < 0.5:
            self._when(machine, lambda guard: guard.runs_wait, machine.break_connection)
        else:
            machine.break_connection()

    def delay_a_register(self) -> None:
        """A worker's connection breaks while it registers. That frame is delivered long after the worker's next one."""
        machine = self._machine()
        lose = self._chance.choice((None, machine.kill_agent, machine.kill))
        late_ms = self._chance.randint(500, 4_000)

        def delay(tries: int) -> None:
            if machine.agent is not None and machine.agent.registering is not None:
                machine.delay_register(late_ms)
                if lose is not None:
                    lose()
                for _ in range(3):
                    self._timeline.after(self._chance.randint(0, late_ms), self._sim.client.submit)
            elif tries and self._acting:
                self._timeline.after(1, lambda: delay(tries - 1))

        if machine.agent is not None and machine.agent.connection is not None:
            machine.agent.connection.break_off()
            delay(3_000)

    def lose_answers(self) -> None:
        """For a while something between callers and the scheduler swallows answers."""
        self._sim.scheduler.answers_lost = 0.4
        self._tell("network", "swallows answers")
        self._timeline.after(self._a_while_ms(), self.lose_no_answers)

    def lose_a_claim(self) -> None:
        """The next answer that hands a run to a worker that polls."""
        self._sim.scheduler.claims_lost = 1

    def lose_no_answers(self) -> None:
        self._sim.scheduler.answers_lost = 0.0
        self._sim.scheduler.claims_lost = 0

    def send_a_stranger(self) -> None:
        if not self._sim.scheduler.up:
            return
        self._strangers += 1
        stranger = Stranger(
            self._timeline,
            self._chance,
            self._sim.story,
            self._sim.scheduler,
            self._sim.new_path("x"),
            self._strangers,
        )
        what = self._chance.randint(0, 4)
        sessions = self._sim.judge.sessions
        if what == 0:
            stranger.babble()
        elif what <= 2:
            stranger.register(works=what == 2)
        elif what == 3 and sessions:
            stranger.lie(self._chance.choice(sessions))
        elif self._sim.pollers:
            stranger.report(self._chance.choice(list(self._sim.pollers)))

    # --- the scheduler ---

    def _start_later(self) -> None:
        self._timeline.after(self._a_while_ms(), self._sim.scheduler.start)

    def kill_scheduler(self) -> None:
        self._sim.scheduler.kill()
        self._start_later()

    def restart_with_another_timeout(self) -> None:
        """Somebody has set worker_timeout to another value. Workers that poll are told so by hand."""
        self._sim.scheduler.kill()
        self._sim.habits.timeout_ms = timeout_ms = self._chance.choice((3_000, 6_000, 15_000))
        for poller in self._sim.pollers.values():
            poller.heartbeat_ms = timeout_ms // 3
        self._tell("nemesis", f"the timeout will be {timeout_ms} ms")
        self._start_later()

    def crash_scheduler(self) -> None:
        """Killed inside its next turn: before the commit, after it, or while it sends; or a sync fails."""
        self._sim.scheduler.engine.trouble = self._chance.choice(
            ("kill", "kill after commit", "kill while sending", "unsure")
        )
        self._sim.scheduler.wake()
        self._start_later()

    def end_scheduler(self) -> None:
        self._sim.scheduler.stop()
        self._start_later()

    def stop_scheduler(self) -> None:
        self._sim.scheduler.stand_still(self._a_while_ms())

    def refuse_a_turn(self) -> None:
        self._sim.scheduler.engine.trouble = self._chance.choice(("refuse", "refuse a statement"))

    def refuse_at_bad_moments(self) -> None:
        """From now on each turn that hears of runs that come back, or of some that could not be sent."""
        self._sim.scheduler.ambushes |= {"return", "unsent"}

    def refuse_for_a_while(self) -> None:
        engine = self._sim.scheduler.engine
        engine.refusing = True
        self._tell("store", "has no space left")

        def accept() -> None:
            engine.refusing = False
            self._tell("store", "has space again")

        self._timeline.after(self._a_while_ms(), accept)

    def flap(self) -> None:
        """Every other turn fails for a while. Meanwhile workers die for long or boot again, or a clock is set."""
        if not self._acting:
            return
        engine, timeout_ms = self._sim.scheduler.engine, self._sim.habits.timeout_ms
        engine.flapping = True
        self._tell("store", "takes every other turn only")
        machines = list(self._sim.machines.values())

        def hurt() -> None:
            if not self._acting:
                return
            machine = self._flaps.choice(machines)
            self._flaps.choice((machine.kill_both, machine.reboot, self._set_schedulers_clock))()

        for _ in range(3):
            self._timeline.after(self._flaps.randint(0, 2 * timeout_ms), hurt)

        def settle() -> None:
            engine.flapping = False
            self._tell("store", "takes all turns again")

        self._timeline.after(4 * timeout_ms, settle)

    def _set_schedulers_clock(self, tries: int = 500) -> None:
        """While some run waits for its time, if that comes soon; and the turn that sees it fails."""
        engine = self._sim.scheduler.engine
        if not self._sim.scheduler.up or not engine.look(_WAITS):
            if tries and engine.flapping:
                self._timeline.after(20, lambda: self._set_schedulers_clock(tries - 1))
            return
        jump_ms = self._flaps.choice((-86_400_000, 3_600_000))
        self._sim.scheduler.clock.wall_ms_off += jump_ms
        engine.trouble = "refuse"
        self._tell("clock", f"of the scheduler jumps by {jump_ms} ms")

    def slow_down(self) -> None:
        """Commits take long, and sometimes callers bring more than one turn takes, so that commands wait for others."""
        habits = self._sim.scheduler.habits
        habits.commit_ms = SLOW_COMMIT_MS
        self._tell("store", "is slow")
        for _ in range(self._chance.choice((0, 6))):
            self._sim.client.submit()

        def speed_up() -> None:
            habits.commit_ms = 2

        self._timeline.after(2 * self._a_while_ms(), speed_up)

    def set_a_clock(self) -> None:
        """Somebody's wall clock jumps."""
        clocks = [self._sim.scheduler.clock, *(machine.clock for machine in self._sim.machines.values())]
        jump_ms = self._chance.choice((-86_400_000, -5_000, 5_000, 3_600_000))
        clock = self._chance.choice(clocks)
        if clock is self._sim.scheduler.clock and not self._sim.scheduler.up:
            return
        clock.wall_ms_off += jump_ms
        self._tell("clock", f"number {clocks.index(clock)} jumps by {jump_ms} ms")

    def _tell(self, who: str, what: str) -> None:
        self._sim.story.tell(who, "%s", what)
