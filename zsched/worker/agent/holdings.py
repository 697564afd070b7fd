"""The agent's record of its worker: runs by phase, unacknowledged results, and foreign runs. Pure.

The guard has the processes and the results themselves; its messages keep this record true.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from zsched.model.limits import FRAME_LIST_MAX
from zsched.model.units import counted
from zsched.protocol import Foreign, Held, Phase, RunOrder, RunResult
from zsched.worker.agent.renewal import Renewal
from zsched.worker.agent.reports import Reports
from zsched.worker.messages import Ended, ForeignRuns, Snapshot, State

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class HeldRun:
    """A run that the guard holds.

    `dropped`: it is being dropped, and takes a slot until its processes are gone. `discarded`: it was discarded for
    another database and has not ended; it is listed until then. `probation`: as in its order.
    """

    phase: Phase
    dropped: bool = False
    discarded: bool = False
    probation: bool = False


class Holdings:
    """Runs of the current database `db` by number, and `foreign`: what the guard holds for other databases."""

    def __init__(self, snapshot: Snapshot, renewal: Renewal) -> None:
        self.db = snapshot.state.db
        self.reports = Reports()
        # A run arrived with the number of a dropped run. No more are asked for until the dropped runs are gone.
        self.clash = False
        # Held runs whose killed processes do not end.
        self.stuck: frozenset[int] = frozenset()
        self.foreign: tuple[ForeignRuns, ...] = ()
        # Changes of the database that the guard has not answered: until then its messages name other runs. `changing`:
        # no work is asked for meanwhile.
        self.unanswered = 0
        self.changing = False
        self._runs: dict[int, HeldRun] = {}
        self._dropped = 0
        self._renewal = renewal
        self._take(snapshot)

    def __len__(self) -> int:
        return len(self._runs)

    def __contains__(self, run: int) -> bool:
        return run in self._runs

    # --- lists for the scheduler -------------------------------------------------------------------------------------

    def listed(self) -> tuple[Held, ...]:
        """All held runs, for a frame. Finished runs beyond the bound of a list are left out: results of many days that
        were found on the disk, for example. The scheduler then runs those tasks again.
        """
        held = [Held(number, run.phase) for number, run in self._runs.items() if not run.dropped]
        if len(held) > FRAME_LIST_MAX:
            held.sort(key=lambda item: item.phase == "finished")
        return tuple(held[:FRAME_LIST_MAX])

    def listed_stuck(self, listed: Iterable[Held]) -> tuple[int, ...]:
        """The stuck runs among those listed."""
        if not self.stuck:
            return ()
        return tuple(held.run for held in listed if held.run in self.stuck and held.phase == "running")

    @property
    def any_stuck(self) -> bool:
        """Whether a run of any database is stuck. No more runs are asked for meanwhile."""
        return bool(self.stuck) or any(held.stuck for held in self.foreign)

    def foreign_summary(self) -> tuple[Foreign, ...]:
        """Foreign runs for a heartbeat."""
        return tuple(
            Foreign(held.db, held.running, held.ending, held.results)
            for held in self.foreign
            if held.running or held.ending or held.results
        )

    def foreign_listed(self) -> tuple[Foreign, ...]:
        """Foreign runs for a register, with finished and ended ones."""
        return tuple(
            Foreign(held.db, held.running, held.ending, held.results, held.finished, held.ended)
            for held in self.foreign
        )

    @property
    def uncounted_slots(self) -> int:
        """Slots that are taken by runs which the scheduler does not count."""
        return self._dropped + sum(len(held.running) + len(held.ending) for held in self.foreign)

    # --- runs --------------------------------------------------------------------------------------------------------

    def clashes(self, orders: Iterable[RunOrder]) -> tuple[int, ...]:
        """Runs that can't be accepted, because a dropped run of the same number (mostly of another database) still
        lives.
        """
        if not self._dropped:
            return ()
        runs = tuple(order.run for order in orders if (run := self._runs.get(order.run)) is not None and run.dropped)
        self.clash = self.clash or bool(runs)
        return runs

    def accept(self, orders: Iterable[RunOrder]) -> tuple[RunOrder, ...]:
        """Hold these runs, and return those that were not held before."""
        accepted = tuple(order for order in orders if order.run not in self._runs)
        for order in accepted:
            self._runs[order.run] = HeldRun("waiting", probation=order.probation)
        return accepted

    def begin(self, number: int) -> HeldRun | None:
        """A run's process exists. Returns the run if it is held."""
        run = self._runs.get(number)
        if run is not None:
            run.phase = "running"
        return run

    def finish(self, ended: Ended) -> list[RunResult]:
        """These runs have ended. Returns the results to report."""
        kept = []
        for result in ended.results:
            run = self._runs.get(result.run)
            if run is None and ended.found:
                run = self._runs[result.run] = HeldRun("finished")
            if run is not None and not run.dropped:
                run.phase = "finished"
                self._renewal.remove(result.run)
                kept.append(result)
        self.reports.add(kept)
        return kept

    def assume_started(self) -> None:
        """The guard has returned all that waited: the other waiting runs have started meanwhile."""
        for run in self._runs.values():
            if run.phase == "waiting":
                run.phase = "running"

    def unfinished(self, numbers: Iterable[int]) -> tuple[int, ...]:
        """Those of these runs that are held and not finished."""
        return tuple(number for number in numbers if (run := self._runs.get(number)) and run.phase != "finished")

    def unnamed(self, keep: Iterable[int]) -> set[int]:
        """Unfinished runs that are not in `keep`."""
        return {number for number, run in self._runs.items() if run.phase != "finished"} - set(keep)

    def drop(self, numbers: Iterable[int]) -> tuple[int, ...]:
        """Drop these runs. They stay held until the guard says that they are gone. Returns the ones that were held."""
        known = tuple(number for number in numbers if (run := self._runs.get(number)) and not run.dropped)
        for number in known:
            self._runs[number].dropped = True
            self._dropped += 1
            self.reports.forget(number)
        return known

    def on_gone(self, numbers: Iterable[int]) -> None:
        """Dropped runs are gone. Runs that the guard dropped by itself, because the worker ends, have run: they stay
        listed until the goodbye, or the scheduler would take them for runs that never started.
        """
        for number in numbers:
            run = self._runs.get(number)
            if run is not None and not (run.dropped or run.discarded):
                run.phase = "running"
            else:
                self.forget(number)

    def on_answered(self, numbers: Iterable[int]) -> tuple[int, ...]:
        """The scheduler has answered the results of these runs. Returns those that the guard may forget."""
        answered = tuple(number for number in numbers if (run := self._runs.get(number)) and run.phase == "finished")
        for number in answered:
            self.forget(number)
        return answered

    def forget(self, number: int) -> None:
        """The guard holds this run no longer."""
        run = self._runs.pop(number, None)
        if run is not None and run.dropped:
            self._dropped -= 1
            self.clash = self.clash and self._dropped > 0
        self._renewal.remove(number)
        self.reports.forget(number)

    # --- a change of the database ------------------------------------------------------------------------------------

    def change_database(self, db: str, worker: str) -> None:
        """The held runs become foreign: they continue, and the new scheduler hears only that they exist. Runs that were
        foreign because they are of `db` are held again. The guard's Snapshot confirms this, with later news.
        """
        others = {held.db: held for held in self.foreign}
        back = others.pop(db, ForeignRuns(db))
        self.unanswered += 1
        # When nothing is held, the scheduler has nothing to wait for.
        self.changing = bool(self._runs or back != ForeignRuns(db))
        if self._runs:
            dropped = tuple(number for number, run in self._runs.items() if run.dropped)
            unfinished = self._runs.items()
            running = tuple(number for number, run in unfinished if run.phase != "finished" and not run.dropped)
            results = len(self._runs) - len(running) - len(dropped)
            others[self.db] = ForeignRuns(self.db, running, dropped, results)
            log.warning(
                "worker %s: the scheduler has database %s: keeps %s and %s of database %s",
                *(worker, db, counted(len(running), "run"), counted(results, "result"), self.db or "(none)"),
            )
        for number in list(self._runs):
            self.forget(number)
        self.stuck = frozenset()
        for number in (*back.running, *back.ending):
            self._runs[number] = HeldRun("running")
        for number in back.finished:
            self._runs[number] = HeldRun("finished")
        for number, lease_ms in back.leases:
            self._renewal.add(number, lease_ms)
        self.foreign = tuple(others.values())
        self.db = db

    def on_state(self, state: State) -> bool:
        """The worker's state has changed. Returns whether the scheduler must know at once."""
        if self.unanswered:
            return False
        stuck = frozenset(state.stuck)
        news = state.foreign != self.foreign or stuck != self.stuck
        self.foreign, self.stuck = state.foreign, stuck
        return news

    def on_snapshot(self, snapshot: Snapshot) -> bool:
        """The guard has changed the database. Returns whether the scheduler must know at once. An answer to an earlier
        change is ignored.
        """
        self.unanswered -= 1
        if self.unanswered:
            return False
        news = self.changing or (snapshot.state.foreign, frozenset(snapshot.state.stuck)) != (self.foreign, self.stuck)
        self.changing = False
        self._take(snapshot)
        return news

    def _take(self, snapshot: Snapshot) -> None:
        """Hold what the guard holds. Runs that are being dropped stay dropped.

        The scheduler may have dispatched a finished run again meanwhile: the guard ignores that order. Others that the
        guard does not hold were discarded; or their file was damaged or too old. The next heartbeat does not list
        them, so they run again.
        """
        held = {item.run for item in snapshot.held}
        for number in [number for number, run in self._runs.items() if run.phase != "waiting" and number not in held]:
            self.forget(number)
        for item in snapshot.held:
            run = self._runs.setdefault(item.run, HeldRun(item.phase))
            run.phase = item.phase
        for number in snapshot.discarded:
            self._runs[number].discarded = True
        self.drop(snapshot.dropped)
        for number, lease_ms in snapshot.leases:
            self._renewal.add(number, lease_ms)
        self.reports.add(result for result in snapshot.results if not self._runs[result.run].dropped)
        self.foreign, self.stuck = snapshot.state.foreign, frozenset(snapshot.state.stuck)
