"""The agent's record of its worker: runs by phase, unacknowledged results, and foreign runs. Pure.

The guard has the processes and the results themselves; its messages keep this record true.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from zsched.model.limits import FRAME_LIST_MAX
from zsched.model.units import counted
from zsched.protocol import Foreign, Held, Phase, RunOrder, RunResult
from zsched.worker import messages
from zsched.worker.agent.renewal import Renewal
from zsched.worker.agent.reports import Reports
from zsched.worker.messages import ForeignRuns, Hello

log = logging.getLogger(__name__)


class Holdings:
    """Runs of the current database `db` by number, and `foreign`: what the guard holds for other databases."""

    def __init__(self, hello: Hello, renewal: Renewal) -> None:
        self.db = hello.db
        self.phases: dict[int, Phase] = {held.run: held.phase for held in hello.held}
        self.reports = Reports(hello.results)
        # Held runs that are being dropped. Each takes a slot until its processes are gone.
        self.dropped: set[int] = set(hello.dying)
        # A run arrived with the number of a dropped run. No more are asked for until the dropped runs are gone.
        self.clash = False
        # Held runs whose killed processes do not end. No more runs are asked for meanwhile.
        self.stuck: set[int] = set(hello.stuck)
        self.foreign = hello.foreign
        # The guard has not answered a change of the database.
        self.changing = False
        # Held runs that were discarded for another database and have not ended. They are listed until they have.
        self._doomed: set[int] = set(hello.doomed)
        # Runs that do not live after a change of the database: their results follow in Spooled.
        self._expected: set[int] = set()
        self._probation: set[int] = set()
        self._renewal = renewal

    def __len__(self) -> int:
        return len(self.phases)

    def __contains__(self, run: int) -> bool:
        return run in self.phases

    # --- lists for the scheduler -------------------------------------------------------------------------------------

    def listed(self) -> tuple[Held, ...]:
        """All held runs, for a frame. Finished runs beyond the bound of a list are left out: results of many days that
        were found on the disk, for example. The scheduler then runs those tasks again.
        """
        held = [Held(run, phase) for run, phase in self.phases.items() if run not in self.dropped]
        if len(held) > FRAME_LIST_MAX:
            held.sort(key=lambda item: item.phase == "finished")
        return tuple(held[:FRAME_LIST_MAX])

    def listed_stuck(self, listed: Iterable[Held]) -> tuple[int, ...]:
        """The stuck runs among those listed."""
        return tuple(held.run for held in listed if held.run in self.stuck and held.phase == "running")

    def foreign_summary(self) -> tuple[Foreign, ...]:
        """Foreign runs for a heartbeat."""
        return tuple(
            Foreign(held.db, held.running, held.ending, held.results)
            for held in self.foreign
            if held.running or held.ending or held.results
        )

    def foreign_listed(self) -> tuple[Foreign, ...]:
        """Foreign runs for a register, with finished and ended ones."""
        return tuple(map(foreign_listed, self.foreign))

    @property
    def uncounted_slots(self) -> int:
        """Slots that are taken by runs which the scheduler does not count."""
        return len(self.dropped) + sum(len(held.running) + len(held.ending) for held in self.foreign)

    # --- runs --------------------------------------------------------------------------------------------------------

    def clashes(self, orders: Iterable[RunOrder]) -> tuple[int, ...]:
        """Runs that can't be accepted, because a dropped run of the same number (mostly of another database) still
        lives.
        """
        runs = tuple(order.run for order in orders if order.run in self.dropped)
        self.clash = self.clash or bool(runs)
        return runs

    def accept(self, orders: Iterable[RunOrder]) -> tuple[RunOrder, ...]:
        """Hold these runs, and return those that were not held before."""
        accepted = tuple(order for order in orders if order.run not in self.phases)
        for order in accepted:
            self.phases[order.run] = "waiting"
            if order.probation:
                self._probation.add(order.run)
        return accepted

    def on_probation(self, run: int) -> bool:
        return run in self._probation

    def finish(self, results: Iterable[RunResult]) -> list[RunResult]:
        """These runs have ended. Returns the results to report."""
        kept = [result for result in results if result.run in self.phases and result.run not in self.dropped]
        for result in kept:
            self.phases[result.run] = "finished"
            self._renewal.remove(result.run)
        self.reports.add(kept)
        return kept

    def assume_started(self) -> None:
        """The guard has returned all that waited: the other waiting runs have started meanwhile."""
        self.phases.update({run: "running" for run, phase in self.phases.items() if phase == "waiting"})

    def unfinished(self, runs: Iterable[int]) -> tuple[int, ...]:
        return tuple(run for run in runs if self.phases.get(run, "finished") != "finished")

    def unnamed(self, keep: Iterable[int]) -> set[int]:
        """Unfinished runs that are not in `keep`."""
        return {run for run, phase in self.phases.items() if phase != "finished"} - set(keep)

    def drop(self, runs: Iterable[int]) -> tuple[int, ...]:
        """Drop these runs. They stay held until the guard says that they are gone. Returns the ones that were held."""
        known = tuple(run for run in runs if run in self.phases and run not in self.dropped)
        for run in known:
            self.dropped.add(run)
            self.reports.forget(run)
        return known

    def on_gone(self, runs: Iterable[int]) -> None:
        """Dropped runs are gone. Runs that the guard dropped by itself, because the worker ends, have run: they stay
        listed until the goodbye, or the scheduler would take them for runs that never started.
        """
        for run in runs:
            if run in self.phases and run not in self.dropped and run not in self._doomed:
                self.phases[run] = "running"
            else:
                self.forget(run)

    def on_answered(self, runs: Iterable[int]) -> tuple[int, ...]:
        """The scheduler has answered the results of these runs. Returns those that the guard may forget."""
        answered = tuple(run for run in runs if self.phases.get(run) == "finished")
        for run in answered:
            self.forget(run)
        return answered

    def forget(self, run: int) -> None:
        self.phases.pop(run, None)
        self.dropped.discard(run)
        self._doomed.discard(run)
        self.clash = self.clash and bool(self.dropped)
        self._probation.discard(run)
        self._renewal.remove(run)
        self.reports.forget(run)

    # --- a change of the database ------------------------------------------------------------------------------------

    def change_database(self, db: str, worker: str) -> None:
        """The held runs become foreign: they continue, and the new scheduler hears only that they exist. Runs that were
        foreign because they are of `db` are held again. The guard's answer confirms this, with later news.
        """
        others = {held.db: held for held in self.foreign}
        back = others.pop(db, ForeignRuns(db))
        # When nothing is held, no message of the guard can be mistaken.
        self.changing = bool(self.phases or back != ForeignRuns(db))
        if self.phases:
            live = (run for run, phase in self.phases.items() if phase != "finished")
            running = tuple(run for run in live if run not in self.dropped)
            results = len(self.phases) - len(running) - len(self.dropped)
            others[self.db] = ForeignRuns(self.db, running, tuple(self.dropped), results)
            log.warning(
                "worker %s: the scheduler has database %s: keeps %s and %s of database %s",
                *(worker, db, counted(len(running), "run"), counted(results, "result"), self.db or "(none)"),
            )
        for run in list(self.phases):
            self.forget(run)
        self.stuck.clear()
        self.phases.update(dict.fromkeys((*back.running, *back.ending), "running"))
        self.phases.update(dict.fromkeys(back.finished, "finished"))
        for run, lease_ms in back.leases:
            self._renewal.add(run, lease_ms)
        self.foreign = tuple(others.values())
        self.db = db

    def on_foreign(self, message: messages.Foreign) -> bool:
        """The guard's view of foreign runs. Returns whether it is news."""
        if message.db != self.db:
            return False
        news = self.changing or message.held != self.foreign
        if self.changing:
            self._doomed = set(message.doomed)
            # Held runs that ended since the guard last listed them: their results follow, or they were discarded.
            self._expected = self.phases.keys() - set(message.live)
        self.changing = False
        self.foreign = message.held
        self.stuck = set(message.stuck)
        return news

    def on_spooled(self, message: messages.Spooled) -> None:
        """Results of `db` that were on the guard's disk."""
        if message.db != self.db:
            return
        # The scheduler may have dispatched such a run again meanwhile: the guard ignores that order.
        results = [result for result in message.results if result.run not in self.dropped]
        for run in self._expected.difference(result.run for result in results):
            # Discarded; or its file was damaged or too old. The next heartbeat does not list it, so it runs again.
            self.forget(run)
        self._expected.clear()
        self.phases.update({result.run: "finished" for result in results})
        self.reports.add(results)


def foreign_listed(held: ForeignRuns) -> Foreign:
    """Foreign runs of one database, for a register."""
    return Foreign(held.db, held.running, held.ending, held.results, held.finished, held.ended)
