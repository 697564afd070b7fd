"""The results that the guard keeps until the scheduler has answered them. They survive guard, agent and power cuts.

A result survives this process once `write` returns, and may be reported from then on. It survives a power cut once
`sync` returns. While the disk fails, results are kept in memory and reported all the same; `failing` says so, and
a new file is tried every RETRY_MS.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from zsched.host.files import InsecureError, demand_own, make_folder
from zsched.host.logs import Outage
from zsched.model.limits import MIB
from zsched.model.units import counted
from zsched.protocol import RunResult
from zsched.worker.guard.journal import Journal
from zsched.worker.state import StateError

# The file may be twice as long as its kept records, and this much longer.
SLACK_BYTES: Final = 4 * MIB
# How often a new file is tried while the disk fails.
RETRY_MS: Final = 2_000

log = logging.getLogger(__name__)


class Kept(Struct, frozen=True, array_like=True, tag="kept", gc=False):
    """A record of the file: this result is kept."""

    result: RunResult


class Forgotten(Struct, frozen=True, array_like=True, tag="forgotten", gc=False):
    """A record of the file: the results of these runs are no longer kept."""

    runs: tuple[int, ...]


def open_spool(state_dir: Path, mono_ms: int) -> Spool:
    """The spool of an open state directory. Raises StateError."""
    folder = state_dir / "spool"
    try:
        make_folder(folder)
        demand_own(folder, folder.lstat())
        return Spool(Journal(folder), mono_ms)
    except InsecureError as error:
        raise StateError(str(error)) from error
    except OSError as error:
        raise StateError(f"the spool {folder} can't be read: {error.strerror}") from error


class Spool:
    """Results of the current database by run, oldest first. Those of other databases stay on disk.

    Bounded by the agent's window: a kept result counts as an unfinished run.
    """

    def __init__(self, journal: Journal, mono_ms: int) -> None:
        """Read the results of the last current database. Raises OSError when they can't be read."""
        self._journal = journal
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Kept | Forgotten] = msgspec.msgpack.Decoder(Kept | Forgotten)
        self._results: dict[int, RunResult] = {}
        # The bytes of each result in the open file, and of all; none while the disk fails.
        self._sizes: dict[int, int] = {}
        self._kept_bytes = 0
        # Whether the file has unsynced records.
        self._unsynced = False
        self._outage = Outage(log, "results can't be kept on disk", "results are kept on disk again")
        # Results of other databases that could not be written, and when to try again.
        self._aside: dict[str, list[RunResult]] = {}
        self._aside_outage = Outage(
            log, "results of other databases can't be kept on disk", "they are kept on disk again"
        )
        self._aside_at_ms: int | None = None
        # When to read the file if it is unread, and to write all results to a new one. None: nothing is wrong.
        self._renew_at_ms: int | None = None
        self._unread = False
        self.failing = False
        self.db = journal.current
        if self._read():
            self._renew_at_ms = mono_ms
            self._renew_due(mono_ms)

    def __len__(self) -> int:
        return len(self._results)

    def results(self) -> tuple[RunResult, ...]:
        return tuple(self._results.values())

    def write(self, results: Iterable[RunResult], mono_ms: int) -> None:
        """Keep results, and write them to the file unless the disk is failing. They may be reported then."""
        added = {result.run: result for result in results}
        self._results |= added
        if not added or self.failing:
            return
        try:
            if not self._journal.is_open or self._journal.size > 2 * self._kept_bytes + SLACK_BYTES:
                self._renew()
            else:
                self._journal.append([self._pack(run) for run in added])
                self._unsynced = True
        except OSError as error:
            self._on_failure(error, mono_ms)

    def sync(self, mono_ms: int) -> None:
        """Sync the written results to the disk, unless it is failing."""
        if not self._unsynced:
            return
        try:
            self._journal.sync()
            self._unsynced = False
        except OSError as error:
            self._on_failure(error, mono_ms)

    def forget(self, runs: Iterable[int], mono_ms: int) -> None:
        """Forget answered results. Not synced: after a power cut they are reported again, which is harmless."""
        gone = []
        for run in runs:
            self._results.pop(run, None)
            if (size := self._sizes.pop(run, None)) is not None:
                self._kept_bytes -= size
                gone.append(run)
        if not gone:
            return
        try:
            if not self._sizes and self._journal.size > SLACK_BYTES:
                self._journal.clear()
            else:
                self._journal.append([self._encoder.encode(Forgotten(tuple(gone)))])
        except OSError as error:
            self._on_failure(error, mono_ms)

    def enter(self, db: str, mono_ms: int) -> tuple[RunResult, ...]:
        """Leave the results of the current database on disk, and read and return those of another one."""
        self.sync(mono_ms)
        if self.failing:
            self._renew_at_ms = mono_ms
            self._renew_due(mono_ms)
        if self.failing and self._results:
            log.error("lost %s of database %s: the disk fails", counted(len(self._results), "result"), self.db)
        try:
            self._journal.leave(keep=self._unread or bool(self._results))
        except OSError as error:
            log.warning("the spool of database %s: %s", self.db, error)
        self._results.clear()
        self._forget_sizes()
        self.db = db
        self._unread = True
        self._renew_at_ms = mono_ms
        self._renew_due(mono_ms)
        self.write(self._aside.pop(db, ()), mono_ms)
        return self.results()

    # --- results of other databases ----------------------------------------------------------------------------------

    def others(self) -> dict[str, set[int]]:
        """Runs with results on disk for other databases. A file that can't be read is left out."""
        others = {}
        for db in self._journal.others():
            with suppress(OSError):
                others[db] = set(self._replay(self._journal.read_other(db))[0])
        return {db: runs for db, runs in others.items() if runs}

    def write_aside(self, results: Iterable[tuple[str, RunResult]], mono_ms: int) -> None:
        """Write results of other databases. Those that can't be written now are written later."""
        dbs: dict[str, None] = {}
        for db, result in results:
            self._aside.setdefault(db, []).append(result)
            dbs[db] = None
        for db in dbs:
            self._write_aside(db, mono_ms)

    def _write_aside(self, db: str, mono_ms: int) -> None:
        try:
            self._journal.append_other(db, [self._encoder.encode(Kept(result)) for result in self._aside[db]])
        except OSError as error:
            self._aside_outage.failed(error, mono_ms)
            self._aside_at_ms = mono_ms + RETRY_MS
        else:
            self._aside_outage.worked(mono_ms)
            del self._aside[db]

    def discard(self, dbs: Iterable[str]) -> None:
        """Remove the results of other databases."""
        for db in dbs:
            self._aside.pop(db, None)
            try:
                self._journal.remove_other(db)
            except OSError as error:
                log.warning("the spool of database %s can't be removed: %s", db, error)

    # --- time --------------------------------------------------------------------------------------------------------

    def deadline_ms(self) -> int | None:
        """When on_tick has something to do, or None."""
        return min((at_ms for at_ms in (self._renew_at_ms, self._aside_at_ms) if at_ms is not None), default=None)

    def on_tick(self, mono_ms: int) -> tuple[RunResult, ...]:
        """Try again what failed when it is due. Returns results that could not be read until now."""
        if self._aside_at_ms is not None and mono_ms >= self._aside_at_ms:
            self._aside_at_ms = None
            for db in list(self._aside):
                self._write_aside(db, mono_ms)
        return self._renew_due(mono_ms)

    def _renew_due(self, mono_ms: int) -> tuple[RunResult, ...]:
        """Try a new file when it is due."""
        if self._renew_at_ms is None or mono_ms < self._renew_at_ms:
            return ()
        read: tuple[RunResult, ...] = ()
        try:
            if self._unread:
                before = set(self._results)
                exists = self._read()
                read = tuple(result for run, result in self._results.items() if run not in before)
                self._unread = False
            else:
                exists = True
            self._journal.remember(self.db)
            if exists or self.failing:
                self._renew()
        except OSError as error:
            self._on_failure(error, mono_ms)
            return read
        self._renew_at_ms = None
        self.failing = False
        self._outage.worked(mono_ms)
        return read

    def _renew(self) -> None:
        self._forget_sizes()
        self._unsynced = False
        self._journal.replace((self._pack(run) for run in self._results), room=self.failing)

    def _pack(self, run: int) -> bytes:
        body = self._encoder.encode(Kept(self._results[run]))
        self._kept_bytes += len(body) - self._sizes.get(run, 0)
        self._sizes[run] = len(body)
        return body

    def _forget_sizes(self) -> None:
        self._sizes.clear()
        self._kept_bytes = 0

    def _on_failure(self, error: OSError, mono_ms: int) -> None:
        """The file's content is unknown from now on. A failed sync is not repeated: the second may succeed falsely."""
        self._outage.failed(error, mono_ms)
        self._forget_sizes()
        self._unsynced = False
        self.failing = True
        self._renew_at_ms = mono_ms + RETRY_MS

    def _read(self) -> bool:
        """Add the results in the file. Returns whether it has records. Raises OSError, and then nothing is added."""
        read, records, unknown = self._replay(self._journal.load(self.db))
        if unknown:
            line = "left out of the spool of database %s: %s of an unknown format"
            log.error(line, self.db, counted(unknown, "record"))
        self._results = read | self._results
        return records > 0

    def _replay(self, bodies: Iterable[bytes]) -> tuple[dict[int, RunResult], int, int]:
        """The results in a file, the number of its records, and the number of records of an unknown format."""
        held: dict[int, RunResult] = {}
        records = unknown = 0
        for record in map(self._unpack, bodies):
            records += 1
            match record:
                case Kept(result):
                    held[result.run] = result
                case Forgotten(runs):
                    for run in runs:
                        held.pop(run, None)
                case None:
                    unknown += 1
        return held, records, unknown

    def _unpack(self, body: bytes) -> Kept | Forgotten | None:
        """None for a record of an unknown format, as another release may write."""
        try:
            return self._decoder.decode(body)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None
