"""The runs and results of one database. Pure.

A scheduler that starts on an empty or wrong database must not end the work of a whole fleet. So a change of the
database sets the live runs aside: they keep their slots, their leases are no longer renewed, and their results go to
the file of their own database. Only a discard ends them. Each database numbers its runs from 1.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from zsched.model.limits import FOREIGN_DATABASES_MAX, FOREIGN_LISTED_MAX
from zsched.model.units import counted
from zsched.protocol import RunResult
from zsched.worker.guard.life import FINISHED, Event, Fate, Phase, Run
from zsched.worker.lease import Leases
from zsched.worker.messages import ForeignRuns

_ENDING: Final = (Fate.DROPPED, Fate.DISCARDED)

log = logging.getLogger(__name__)


class Database:
    """`runs`: all records by the run's number, in the order in which they came. `leases` are those of live runs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.runs: dict[int, Run] = {}
        self.leases = Leases()
        # Discarded runs that have ended, oldest first.
        self._discarded: dict[int, Run] = {}

    def move(self, run: Run, event: Event) -> None:
        """Move a run of this database, and remove the record of one that is over."""
        if run.move(event) is None:
            del self.runs[run.number]

    def live(self) -> Iterator[Run]:
        """The live runs, which take a slot each."""
        return (run for run in self.runs.values() if run.live)

    def results(self) -> Iterator[Run]:
        """The runs with results that the scheduler has not acked, of the current database."""
        return (run for run in self.runs.values() if run.phase in FINISHED)

    def add_result(self, result: RunResult) -> Run:
        """A result was found on disk. Holds it, unless a run of that number is held, and returns the record."""
        run = self.runs.get(result.run)
        if run is None:
            run = self.runs[result.run] = Run(self.name, result.run, phase=Phase.REPORTED, result=result)
        return run

    def add_aside(self, number: int) -> None:
        """A result of that run is on disk."""
        self.runs[number] = Run(self.name, number, phase=Phase.ASIDE)

    # --- as a foreign database ---------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Another database becomes the current one. No run waits or is to be reported any more."""
        for run in list(self.runs.values()):
            if run.live:
                run.fate = Fate.DISCARDED if run.fate is Fate.DROPPED else run.fate
            else:
                run.result = None
                self.move(run, Event.LEAVE)
        live = sum(1 for _ in self.live())
        if self.runs:
            log.warning(
                "%s and %s of database %s wait for its scheduler",
                counted(live, "run"),
                counted(len(self.runs) - live, "result"),
                self.name or "(none)",
            )

    def enter(self, results: Iterable[RunResult]) -> None:
        """This becomes the current database, with these results on its disk."""
        found = {result.run: result for result in results}
        for run in list(self.runs.values()):
            if run.phase is Phase.DISCARDED:
                self.move(run, Event.FORGET)
            elif run.phase is Phase.ASIDE:
                run.result = found.pop(run.number, None)
                self.move(run, Event.LOSE if run.result is None else Event.READ)
        self._discarded.clear()
        for result in found.values():
            self.add_result(result)

    def finish(self, run: Run) -> RunResult | None:
        """A run has ended while this is not the current database. Returns the result to write, if it is wanted."""
        result, run.result = run.result, None
        if run.fate is Fate.WANTED:
            self.move(run, Event.RESULT)
            self.move(run, Event.LEAVE)
            return result
        self._discard(run)
        return None

    def discard(self) -> list[Run] | None:
        """Discard the results of a foreign database. Returns the live runs to end; None when nothing is left to do."""
        live = [run for run in self.live() if run.fate not in _ENDING]
        aside = [run for run in self.runs.values() if run.phase is Phase.ASIDE]
        if not live and not aside:
            return None
        log.warning(
            "database %s is discarded: ending %s, dropping %s",
            self.name,
            counted(len(live), "run"),
            counted(len(aside), "result"),
        )
        for run in live:
            run.fate = Fate.DISCARDED
        for run in aside:
            self._discard(run)
        return live

    def _discard(self, run: Run) -> None:
        self.move(run, Event.DISCARD)
        self._discarded[run.number] = run
        for oldest in list(islice(self._discarded, max(0, len(self._discarded) - FOREIGN_LISTED_MAX))):
            self.move(self._discarded.pop(oldest), Event.FORGET)

    def listed(self, finished_max: int, ended_max: int) -> ForeignRuns:
        """What is held for a foreign database, for the agent."""
        live = list(self.live())
        aside = [run.number for run in self.runs.values() if run.phase is Phase.ASIDE]
        return ForeignRuns(
            db=self.name,
            running=tuple(sorted(run.number for run in live if run.fate not in _ENDING)),
            ending=tuple(sorted(run.number for run in live if run.fate in _ENDING)),
            results=len(aside),
            finished=tuple(aside[:finished_max]),
            ended=tuple(islice(self._discarded, ended_max)),
            leases=self.leases.lengths(),
            stuck=sum(1 for run in live if run.process is not None and run.process.stuck),
        )


def listed(databases: Iterable[Database]) -> tuple[ForeignRuns, ...]:
    """What is held for foreign databases, as far as a frame has room. Databases with live runs come first."""
    found = []
    finished_max = ended_max = FOREIGN_LISTED_MAX
    by_need = sorted((database for database in databases if database.runs), key=lambda item: not any(item.live()))
    for database in by_need[:FOREIGN_DATABASES_MAX]:
        runs = database.listed(finished_max, ended_max)
        finished_max -= len(runs.finished)
        ended_max -= len(runs.ended)
        found.append(runs)
    return tuple(found)
