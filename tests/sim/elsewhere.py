"""Somebody starts the scheduler on another database beside the living fleet, decides or not, and goes back.

The first database is world 0, and the judge's. Each other one is empty, or was restored from the first: then that is
its predecessor. All number their jobs and runs from 1, so the ids of several worlds overlap on the workers; a job's
command names its world, and by that the witness knows them apart. Part of the judge: it checks what schedulers and
workers do about runs of other worlds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from random import Random
from typing import TYPE_CHECKING, Any, Final

from tests.sim.execution import Execution
from tests.sim.jobs import WORLD, Script, name_of, world_of
from tests.sim.machine import Machine, SimAgent
from tests.sim.scheduler import FaultyEngine
from tests.sim.violation import Violation
from tests.sim.witness import Life
from zsched.model.access import Caller
from zsched.model.records import ForeignDecision
from zsched.model.types import JobSpec, OnDisconnect, Policy, WorkerId
from zsched.protocol import Result, WorkerFrame
from zsched.scheduler.dispatcher.commands import Command, DecideForeign, Submit
from zsched.store import sql
from zsched.store.contract import StoreError

if TYPE_CHECKING:
    from tests.sim.world import World

_SHARE: Final = 0.4
_CALLER: Final = Caller(owner="user:other", actor="other", all_jobs=True, admin=True)
# So long a run of another world lasts at most: all must have ended when the simulation does.
_LASTS_MS: Final = 12_000


class Elsewhere:
    """`world` is that of the scheduler's database now."""

    def __init__(self, sim: World, chance: Random) -> None:
        self.world = 0
        self._sim = sim
        # Apart, so that other seeds stay as they are.
        self._chance = chance
        self._home = sim.scheduler.engine
        self._worlds = 0
        # Whether there was another database at any time.
        self.visited = False
        self._over = False
        self._predecessors: dict[int, set[int]] = {0: set()}
        # Since when runs of a world on a worker may be dropped: somebody decided so.
        self._dropped_ms: dict[tuple[str, int], int] = {}
        self._waiting: list[Future[Any]] = []
        # Runs that were dropped, by the witness's numbers.
        self._dropped: set[int] = set()
        sim.scheduler.engine.execute("UPDATE identity SET db = ?", (name_of(0),))

    def plan(self, end_ms: int) -> None:
        """In some seeds it happens, up to three times."""
        if self._chance.random() < _SHARE:
            for _ in range(self._chance.choice((1, 2, 3))):
                self._sim.timeline.at(self._chance.randint(1_000, end_ms), self._leave_soon)

    # --- what somebody does ------------------------------------------------------------------------------------------

    def _leave_soon(self, tries: int = 200) -> None:
        """When some worker has a run that lasts, if that is within a few seconds."""
        if tries and not any(map(self._is_at_work, self._sim.machines.values())):
            self._sim.timeline.after(25, lambda: self._leave_soon(tries - 1))
        elif not self._over:
            self.leave()

    def _is_at_work(self, machine: Machine) -> bool:
        lasting_ms = self._sim.timeline.now_ms + 5_000
        lives = [(self._sim.witness.lives[ident], one.script) for ident, one in machine.executions.items()]
        return any(life.started_ms + script.lasts_ms > lasting_ms for life, script in lives)

    def leave(self) -> None:
        """Start the scheduler on another database, for a while."""
        if self.world:
            return
        self.open(restored=self._chance.random() < 0.4)
        timeline = self._sim.timeline
        stay_ms = self._chance.choice((3_000, 10_000, 25_000))
        for _ in range(self._chance.randint(1, 5)):
            timeline.after(self._chance.randint(500, stay_ms), self._submit)
        either = tuple(ForeignDecision)
        mood = self._chance.choice((either, (ForeignDecision.KEEP,)))
        for _ in range(self._chance.choice((0, 1, 4))):
            timeline.after(self._chance.randint(1_000, stay_ms + 5_000), lambda: self._decide(mood))
        self._go_home_by(timeline.now_ms + stay_ms)

    def open(self, *, restored: bool) -> None:
        """Start the scheduler on another database: an empty one, or one that was `restored` from the first."""
        scheduler = self._sim.scheduler
        self._worlds += 1
        world = self._worlds
        scheduler.kill("another database is put in its place")
        engine = FaultyEngine(self._chance)
        now_ms = scheduler.clock.now().wall_ms
        engine.migrate(now_ms)
        engine.execute("UPDATE identity SET db = ?", (name_of(world),))
        # Mostly it has been in use before, so that it gives out numbers that are those of living runs here.
        lives = [one.order.run for machine in self._sim.machines.values() for one in machine.executions.values()]
        if lives and self._chance.random() < 0.8:
            last = max(0, self._chance.choice(lives) - self._chance.randint(1, 15))
            engine.raise_ids("runs", 0, last)
        self._predecessors[world] = set()
        if restored:
            engine.execute(sql.ADD_PREDECESSOR, (1, name_of(0), None, now_ms))
            self._predecessors[world].add(0)
        self._move(world, engine)

    def _go_home_by(self, end_ms: int) -> None:
        """At that time, or earlier while a worker holds runs of the same number for two databases."""
        if not self.world:
            return
        twins = any(map(self._has_twins, self._sim.machines.values()))
        if self._sim.timeline.now_ms >= end_ms or (twins and self._chance.random() < 0.03):
            self.go_home()
        else:
            self._sim.timeline.after(50, lambda: self._go_home_by(end_ms))

    def _has_twins(self, machine: Machine) -> bool:
        guard, home = machine.guard, self._sim.judge.home
        here = [
            execution.order.run for execution in machine.executions.values() if execution.script.world == self.world
        ]
        return guard is not None and any(guard.holds_for(home, run) for run in here)

    def end(self) -> None:
        """From here on it is the first database."""
        self._over = True
        self.go_home()

    def go_home(self) -> None:
        """The first database again."""
        if not self.world:
            return
        self.come_back()
        for machine in self._sim.machines.values():
            if self._chance.random() < 0.8:
                self._stop_agent(machine)

    def come_back(self) -> None:
        self._sim.scheduler.kill("the first database is put back")
        self._move(0, self._home)

    def _move(self, world: int, engine: FaultyEngine) -> None:
        scheduler = self._sim.scheduler
        self.world = self._sim.judge.overseer.world = world
        self.visited |= world != 0
        scheduler.away = world != 0
        scheduler.engine.trouble = None
        scheduler.engine = engine
        engine.trouble = None
        self._sim.story.tell("somebody", "starts the scheduler on the database of world %d", world)
        self._sim.timeline.after(self._chance.choice((50, 2_000)), scheduler.start)

    def _stop_agent(self, machine: Machine, tries: int = 5_000) -> None:
        """It stands still when it has registered, until its guard says something before it reads the answer."""
        if machine.agent is not None and machine.agent.registering is not None:
            machine.agent.stand_still(self._chance.choice((1_000, 10_000)), between=True)
        elif tries and not self._over:
            self._sim.timeline.after(1, lambda: self._stop_agent(machine, tries - 1))

    def _submit(self) -> None:
        """Jobs of this world."""
        if not self.world or not self._sim.scheduler.up:
            return
        stop = Policy(on_disconnect=OnDisconnect.STOP, grace_ms=200)
        specs = tuple(
            JobSpec(
                name="elsewhere",
                command=Script(self._chance.choice((50, 1_000, _LASTS_MS)), code=1, world=self.world).command,
                policy=self._chance.choice((Policy(grace_ms=200), stop)),
            )
            for _ in range(self._chance.choice((1, 4, 12)))
        )
        self._ask(Submit(specs, _CALLER))

    def submit_one(self, lasts_ms: int) -> None:
        """One job of this world that somebody has made up."""
        command = Script(lasts_ms, world=self.world).command
        self._sim.story.tell("somebody", "submits a job of %d ms in world %d", lasts_ms, self.world)
        self._ask(Submit((JobSpec(name="elsewhere", command=command),), _CALLER))

    def _decide(self, mood: Sequence[ForeignDecision]) -> None:
        """About all foreign runs of some workers."""
        if not self._sim.scheduler.up:
            return
        found = self._sim.scheduler.engine.look("SELECT DISTINCT worker_id FROM foreign_runs ORDER BY worker_id")
        for (worker,) in found:
            if self._chance.random() < 0.6:
                decision = self._chance.choice(mood)
                self._sim.story.tell("somebody", "decides to %s what %s holds for others", decision, worker)
                self._ask(DecideForeign(WorkerId(worker), decision, "other"))

    def discard(self, worker: str) -> None:
        """Somebody decides so about all that a worker holds for others."""
        self._ask(DecideForeign(WorkerId(worker), ForeignDecision.DISCARD, "other"))

    def _ask(self, command: Command[Any]) -> None:
        future: Future[Any] = Future()
        self._waiting.append(future)
        self._sim.scheduler._mailbox.post(command, future)
        self._sim.scheduler.wake()

    # --- what is judged ----------------------------------------------------------------------------------------------

    def after_turn(self) -> None:
        """Of every world: what was decided."""
        if self._waiting:
            for future in self._waiting:
                if future.done() and not isinstance(future.exception(), StoreError | None):
                    self._sim.story.tell("somebody", "is refused: %s", future.exception())
            self._waiting.clear()
        for worker, db in self._sim.scheduler.engine.look(
            "SELECT worker_id, db FROM foreign_runs WHERE decision = 'discard'"
        ):
            self._dropped_ms[worker, world_of(db)] = self._sim.timeline.now_ms
        for former in self._predecessors[self.world]:
            for machine in self._sim.machines.values():
                self._dropped_ms[machine.worker, former] = self._sim.timeline.now_ms

    def on_send(self, dealer: object, frame: Mapping[str, Any]) -> None:
        """While a worker has processes of another world, it gets no run, unless somebody has decided that they go on.
        Those of a predecessor are gone by then in any case.
        """
        if frame["t"] != "run" or not isinstance(dealer, SimAgent):
            return
        machine = dealer.machine
        for execution in self._foreign(machine):
            world = execution.script.world
            statement = "SELECT decision FROM foreign_runs WHERE worker_id = ? AND db = ?"
            kept = self._sim.scheduler.engine.look(statement, machine.worker, name_of(world)) == [("keep",)]
            if not kept or world in self._predecessors[self.world]:
                raise Violation(
                    f"{machine.name} gets runs of world {self.world}, but run {execution.ident} lives there"
                )

    def on_signal(self, machine: Machine, execution: Execution) -> None:
        """A process of another world than its guard's is dropped only when somebody has decided so."""
        guard, world = machine.guard, execution.script.world
        if not execution.dropped or execution.told_ms is not None or guard is None or guard.ending:
            return
        if world == world_of(guard.db):
            return
        started_ms = self._sim.witness.lives[execution.ident].started_ms
        if self._dropped_ms.get((machine.worker, world), -1) < started_ms:
            raise Violation(f"run {execution.ident} is ended on {machine.name} for another database")

    def on_end(self, execution: Execution) -> None:
        """A process is about to end."""
        if execution.dropped:
            self._dropped.add(execution.ident)

    def was_dropped(self, life: Life) -> bool:
        """Whether the result of an ended run of the first database is wanted by nobody."""
        return life.run in self._dropped or self._dropped_ms.get((life.worker, 0), -1) >= life.started_ms

    def on_say(self, agent: SimAgent, frame: WorkerFrame) -> None:
        """A worker tells a scheduler the results of its own world's runs alone."""
        if not isinstance(frame, Result):
            return
        world = self._sim.judge.overseer.world_of_session(frame.s)
        for result in frame.results:
            life = self._sim.witness.lives.get(result.run + WORLD * world)
            code = result.exit_code if result.signal is None else -result.signal
            if result.started_ms is not None and (life is None or life.code != code):
                raise Violation(f"{agent.name} says to world {world} that run {result.run} ended {code}: {life}")

    def _foreign(self, machine: Machine) -> Iterable[Execution]:
        return [
            execution
            for execution in machine.executions.values()
            if execution.script.world != self.world and machine.guards(execution)
        ]
