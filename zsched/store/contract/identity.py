"""The identity of a database: its name, the databases it was restored from, and the starts of its schedulers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

# What the check value of secret.key is sealed for, as a secret is for its variable. No variable has this name.
KEY_CHECK: Final = "secret.key"


@dataclass(frozen=True, slots=True)
class Lineage:
    """A database that a restore replaces.

    `dbs`: its identities, the present one last. `ids`: the highest id given out, by table. `lease_ms`: the longest
    lease that one of its workers may still hold.
    """

    dbs: tuple[str, ...] = ()
    ids: Mapping[str, int] = field(default_factory=dict)
    lease_ms: int = 0


NO_LINEAGE: Final = Lineage()


@dataclass(frozen=True, slots=True, kw_only=True)
class Restoration:
    """How a restored database differs from its backup.

    `made_ms`: when the backup was made, None if unknown. `lease_ms`: how long a worker of the predecessor may continue
    a run that must not execute twice, unless a longer lease was granted. `replaced`: the database that the restored one
    replaces.
    """

    now_ms: int
    made_ms: int | None = None
    actor: str = "scheduler"
    detail: str = ""
    lease_ms: int = 0
    replaced: Lineage = NO_LINEAGE


class Identity(Protocol):
    """Names of databases and starts of schedulers."""

    @property
    def identity(self) -> str:
        """The random name that the database got when it was created. A restored database has a new identity."""

    def predecessors(self) -> tuple[str, ...]:
        """Identities of the databases that this one was restored from, newest first; empty if it never was.

        A worker may hold runs of a predecessor. Their ids are not ours, even if one of our runs has the same id.
        """

    def succeed(self, identity: str, how: Restoration) -> int:
        """Turn the content of a backup into a new database with the given identity, and record an event.

        The old identity becomes a predecessor. Job, run and event ids continue far above all ids given out after the
        backup, including those of the replaced database, whose runs count as a predecessor's.

        Running runs are lost without blame; returns their number. Pending runs are lost too unless they are not due
        yet: they may have started after the backup, and a run id is given out once. Pending runs with a lease become
        ready only after `lease_ms`.
        """

    def take_over(self) -> int:
        """Raise the epoch, and return it. Writers of earlier epochs are deposed when the transaction is committed.

        Raises StoreBusy while a turn of such a writer is under way.
        """

    def begin_epoch(self, host: str, pid: int, version: str, now_ms: int) -> int:
        """Take over, and record the start of a scheduler. Returns its epoch, which is larger than every earlier one."""

    def set_key_check(self, sealed: str) -> None:
        """Store the identity as sealed by secret.key."""

    def end_epoch(self, epoch: int, now_ms: int) -> None:
        """Record that this scheduler stopped cleanly."""
