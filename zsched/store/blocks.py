"""The entries of arrays, read block by block. Those that were read last are kept."""

from __future__ import annotations

from collections import OrderedDict

from zsched.model.entries import unpack
from zsched.model.limits import ENTRY_BLOCKS_KEPT
from zsched.model.types import JobId
from zsched.store import array_sql
from zsched.store.engine import ReadEngine


class Blocks:
    """Finds entries by their jobs and indexes."""

    def __init__(self, engine: ReadEngine) -> None:
        self._engine = engine
        # The last block of each job: the index of its first entry, and its entries.
        self._kept: OrderedDict[JobId, tuple[int, list[str]]] = OrderedDict()

    def entry(self, job_id: JobId, index: int) -> str:
        """Raises ValueError for a damaged or missing one."""
        kept = self._kept.get(job_id)
        if kept is None or not kept[0] <= index < kept[0] + len(kept[1]):
            stored = self._engine.execute(array_sql.ENTRIES, (job_id, index))
            if not stored:
                raise ValueError("its entry is missing")
            first, packed = stored[0]
            kept = self._kept[job_id] = first, unpack(packed)
            if len(self._kept) > ENTRY_BLOCKS_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(job_id)
        first, entries = kept
        if index >= first + len(entries):
            raise ValueError("its entry is missing")
        return entries[index - first]

    def clear(self) -> None:
        """Changes were undone: a number of a job may be given to another one."""
        self._kept.clear()
