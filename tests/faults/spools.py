"""A worker's spool at work on a disk whose power will be cut, and what is found in it afterwards.

What it was told to keep, and has synced, must be there until it is forgotten. What was forgotten may be there again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final
from unittest.mock import patch

from tests.faults.cuts import CorruptError, LostError, Tally, cut, in_memory
from tests.faults.images import Medium
from tests.faults.recording import recorded_os
from zsched.protocol import Output, RunResult
from zsched.worker.guard import spool as spool_module
from zsched.worker.guard.journal import Journal
from zsched.worker.guard.spool import Spool

log = logging.getLogger(__name__)

# So few that a new file is made every few results.
SLACK_BYTES: Final = 30_000

# The databases whose results take turns.
BASES: Final = ("b1", "b2")

Results = dict[int, RunResult]


@dataclass(frozen=True, slots=True)
class Promise:
    """What must be there: the runs of each database, and whose was the last; None: that is just changing."""

    held: dict[str, frozenset[int]]
    current: str | None


class Supervisor:
    """Uses the spool as a guard does. `promises[n]` is in force from the moment that n was told."""

    def __init__(self, folder: Path, medium: Medium, chance: Random) -> None:
        self.made: dict[str, Results] = {base: {} for base in BASES}
        self.promises = [Promise({}, None)]
        self._held: dict[str, set[int]] = {base: set() for base in BASES}
        self._folder = folder
        self._medium = medium
        self._chance = chance
        self._runs = 0
        self._start()
        self._change(BASES[0])

    def work(self, rounds: int) -> None:
        for _ in range(rounds):
            self._finish()
            if self._chance.random() < 0.7:
                self._forget()
            if self._chance.random() < 0.1:
                self._change(self._chance.choice([base for base in BASES if base != self._spool.db]))
            if self._chance.random() < 0.1:
                self._journal.close()
                self._start()
        self._journal.close()

    def _start(self) -> None:
        self._journal = Journal(self._folder)
        self._spool = Spool(self._journal, 0)

    def _promise(self, current: str | None) -> None:
        self.promises.append(Promise({base: frozenset(runs) for base, runs in self._held.items()}, current))
        self._medium.told(len(self.promises) - 1)

    def _finish(self) -> None:
        results = []
        for _ in range(self._chance.randint(1, 3)):
            self._runs += 1
            output = self._chance.randbytes(self._chance.choice((0, 100, 2_000, 9_000)))
            result = RunResult(
                run=self._runs,
                status="success",
                reason="exit",
                finished_ms=1,
                stdout=Output(head=output, total=len(output)),
            )
            self.made[self._spool.db][self._runs] = result
            self._held[self._spool.db].add(self._runs)
            results.append(result)
        self._spool.write(results, 0)
        self._spool.sync(0)
        self._promise(self._spool.db)

    def _forget(self) -> None:
        """Most of what is held: the scheduler has it."""
        held = self._held[self._spool.db]
        gone = {run for run in held if self._chance.random() < 0.7}
        held -= gone
        self._promise(self._spool.db)
        self._spool.forget(gone, 0)

    def _change(self, base: str) -> None:
        self._promise(None)
        self._spool.enter(base, 0)
        self._promise(base)


def cut_spool(*, rounds: int, count: int, seed: int, without: Collection[str] = ()) -> Tally:
    """Let a spool work, cut its power at `count` moments, and look at what is left. `without`: see recorded_os."""

    def recorded(medium: Medium, folder: Path) -> AbstractContextManager[None]:
        return recorded_os(medium, folder, without=without)

    chance = Random(seed)
    medium = Medium()
    with in_memory() as folder, patch.object(spool_module, "SLACK_BYTES", SLACK_BYTES):
        with recorded(medium, folder):
            keeper = Supervisor(folder, medium, chance)
            keeper.work(rounds)
        log.info("%d results, %d promises", sum(map(len, keeper.made.values())), len(keeper.promises))
        return cut(
            medium,
            count,
            chance,
            recorded=recorded,
            reopen=_reopen,
            look=lambda folder, told: _look(folder, keeper.promises[told], keeper.made),
        )


def _start(folder: Path) -> tuple[Journal, Spool]:
    """As a guard does. Raises CorruptError: whatever is there, it must be able to start."""
    try:
        journal = Journal(folder)
        spool = Spool(journal, 0)
    except Exception as error:
        raise CorruptError(repr(error)) from error
    if spool.failing:
        raise CorruptError("the spool says that the disk fails")
    return journal, spool


def _reopen(folder: Path) -> None:
    journal, _ = _start(folder)
    journal.close()


def _look(folder: Path, promise: Promise, made: dict[str, Results]) -> None:
    journal, spool = _start(folder)
    if promise.current not in (None, spool.db):
        raise LostError(f"the last database was {promise.current}, {spool.db!r} is remembered")
    for base in sorted(BASES, key=lambda base: base != spool.db):
        if base != spool.db:
            spool.enter(base, 0)
        found = {result.run: result for result in spool.results()}
        if not found.items() <= made[base].items():
            raise CorruptError(f"there are results of {base} that never were")
        if missing := promise.held.get(base, frozenset()) - found.keys():
            raise LostError(f"{len(missing)} results of {base} are missing")
    journal.close()
