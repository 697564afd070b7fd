"""Runs of databases other than the current one, which the guard keeps until their own scheduler is back.

A scheduler that starts on an empty or wrong database must not end the work of a whole fleet. So a change of the
database sets the live runs aside: they keep their slots, their leases are no longer renewed, and their results go to
the file of their own database. Only `discard` ends them. Each database numbers its runs from 1, so runs that are set
aside have negative keys in `Runs`. Here they have their database and number. Only the guard uses this.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from zsched.host.logs import Outage
from zsched.model.limits import FOREIGN_DATABASES_MAX, FOREIGN_LISTED_MAX
from zsched.model.units import counted
from zsched.protocol import RunResult
from zsched.worker.guard.runs import Runs
from zsched.worker.guard.spool import RETRY_MS, Spool
from zsched.worker.lease import Leases
from zsched.worker.messages import ForeignRuns

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Holding:
    """The runs and results of one database. `live`: live runs with their keys; `ending`: those that were dropped.

    `finished`: runs whose results are on disk, or in `unwritten` while the disk fails. `ended`: discarded runs that
    have ended, oldest first.
    """

    leases: Leases
    live: dict[int, int] = field(default_factory=dict)
    ending: set[int] = field(default_factory=set)
    finished: set[int] = field(default_factory=set)
    unwritten: list[RunResult] = field(default_factory=list)
    ended: dict[int, None] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        return not (self.live or self.finished or self.ended)


@dataclass(frozen=True, slots=True)
class Returned:
    """What the executor takes back when a database is the current one again."""

    leases: Leases
    doomed: set[int]
    unwritten: list[RunResult]


class Foreign:
    """All foreign runs of a worker. `changed`: there is news for the agent."""

    def __init__(self, runs: Runs, spool: Spool) -> None:
        self._runs = runs
        self._spool = spool
        self._holdings = {db: _Holding(Leases(), finished=runs) for db, runs in spool.others().items()}
        self._of_key: dict[int, tuple[str, int]] = {}
        self._last_key = 0
        self._retry_at_ms: int | None = None
        self._outage = Outage(log, "results of other databases can't be kept on disk", "they are kept on disk again")
        self.changed = False

    def listed(self) -> tuple[ForeignRuns, ...]:
        """All foreign runs, for the agent, as far as a frame has room. Databases with live runs come first."""
        self.changed = False
        holdings = sorted(self._holdings.items(), key=lambda item: not item[1].live)
        listed = []
        finished_max = ended_max = FOREIGN_LISTED_MAX
        for db, holding in holdings[:FOREIGN_DATABASES_MAX]:
            runs = _listed(db, holding, finished_max, ended_max)
            finished_max -= len(runs.finished)
            ended_max -= len(runs.ended)
            listed.append(runs)
        return tuple(listed)

    # --- a change of the database ------------------------------------------------------------------------------------

    def leave(self, db: str, leases: Leases, dying: Iterable[int]) -> None:
        """Set aside the live runs. `dying`: runs that were dropped before. Called before the spool changes."""
        live = {}
        for run in self._runs.ids():
            if run > 0:
                self._last_key -= 1
                live[run] = self._last_key
                self._of_key[self._last_key] = db, run
        self._runs.rename(live)
        finished = {result.run for result in self._spool.results()}
        holding = _Holding(leases, live, set(dying) & live.keys(), finished)
        if not holding.empty:
            self._holdings[db] = holding
        if live or finished:
            log.warning(
                "%s and %s of database %s wait for its scheduler",
                counted(len(live), "run"),
                counted(len(finished), "result"),
                db or "(none)",
            )
        self.changed = True

    def enter(self, db: str) -> Returned:
        """Take the runs of a database back. Called before the spool changes to it."""
        self.changed = True
        holding = self._holdings.pop(db, None)
        if holding is None:
            return Returned(Leases(), set(), [])
        for key in holding.live.values():
            del self._of_key[key]
        self._runs.rename({key: run for run, key in holding.live.items()})
        return Returned(holding.leases, holding.ending, holding.unwritten)

    def discard(self, dbs: Iterable[str], mono_ms: int) -> None:
        """End the live runs of these databases without results, and remove the results that wait on disk.

        Called when on_ends knows all that have ended.
        """
        for db in dbs:
            holding = self._holdings.get(db)
            if holding is None or (holding.ending == holding.live.keys() and not holding.finished):
                continue
            log.warning(
                "database %s is discarded: ending %s, dropping %s",
                db,
                counted(len(holding.live) - len(holding.ending), "run"),
                counted(len(holding.finished), "result"),
            )
            for run, key in holding.live.items():
                holding.ending.add(run)
                self._runs.stop(key, "dropped", mono_ms)
            _note_ended(holding, holding.finished)
            holding.finished.clear()
            holding.unwritten.clear()
            try:
                self._spool.drop_other(db)
            except OSError as error:
                log.warning("the spool of database %s can't be removed: %s", db, error)
            self.changed = True

    # --- time --------------------------------------------------------------------------------------------------------

    def on_ends(self, ends: Iterable[tuple[int, RunResult | None]], mono_ms: int) -> None:
        """Foreign runs have ended; see Happened."""
        changed = set()
        for key, result in ends:
            db, run = self._of_key.pop(key)
            holding = self._holdings[db]
            del holding.live[run]
            holding.leases.remove(run)
            if result is None:
                holding.ending.discard(run)
                _note_ended(holding, (run,))
            else:
                holding.finished.add(run)
                holding.unwritten.append(result)
                changed.add(db)
            self.changed = True
        for db in sorted(changed):
            self._write(db, mono_ms)

    def end_leases(self, mono_ms: int) -> None:
        """TERM to runs whose leases end now."""
        for db, holding in self._leased():
            for run in holding.leases.take_ended(mono_ms):
                # It may have ended in this turn.
                if holding.live.get(run, run) in self._runs:
                    log.info("run %d of database %s: its lease is over", run, db)
                    self._runs.stop(holding.live[run], "lease_stop", mono_ms)

    def kill_overdue(self, mono_ms: int) -> None:
        """KILL to runs that must be dead by their leases."""
        for _, holding in self._leased():
            for run in holding.leases.take_overdue(mono_ms):
                if holding.live.get(run, run) in self._runs:
                    self._runs.stop(holding.live[run], "lease_stop", mono_ms)
                    self._runs.kill(holding.live[run], mono_ms)

    def on_tick(self, mono_ms: int) -> None:
        """Try again to write results that could not be written."""
        if self._retry_at_ms is not None and mono_ms >= self._retry_at_ms:
            self._retry_at_ms = None
            for db in list(self._holdings):
                self._write(db, mono_ms)

    @property
    def leased(self) -> bool:
        """Whether any live run has a lease."""
        return any(self._leased())

    def deadline_ms(self) -> int | None:
        """When on_tick, end_leases or kill_overdue has something to do, or None."""
        deadlines = [self._retry_at_ms, *(holding.leases.deadline_ms() for _, holding in self._leased())]
        return min((at_ms for at_ms in deadlines if at_ms is not None), default=None)

    def _leased(self) -> Iterator[tuple[str, _Holding]]:
        return ((db, holding) for db, holding in self._holdings.items() if len(holding.leases))

    def _write(self, db: str, mono_ms: int) -> None:
        holding = self._holdings[db]
        if not holding.unwritten:
            return
        try:
            self._spool.add_other(db, holding.unwritten)
        except OSError as error:
            self._outage.failed(error, mono_ms)
            self._retry_at_ms = mono_ms + RETRY_MS
        else:
            self._outage.worked(mono_ms)
            holding.unwritten.clear()


def _listed(db: str, holding: _Holding, finished_max: int, ended_max: int) -> ForeignRuns:
    return ForeignRuns(
        db=db,
        running=tuple(sorted(holding.live.keys() - holding.ending)),
        ending=tuple(sorted(holding.ending)),
        results=len(holding.finished),
        finished=tuple(islice(holding.finished, finished_max)),
        ended=tuple(islice(holding.ended, ended_max)),
        leases=tuple(pair for pair in holding.leases.lengths() if pair[0] in holding.live),
    )


def _note_ended(holding: _Holding, runs: Iterable[int]) -> None:
    holding.ended.update(dict.fromkeys(runs))
    for run in list(islice(holding.ended, max(0, len(holding.ended) - FOREIGN_LISTED_MAX))):
        del holding.ended[run]
