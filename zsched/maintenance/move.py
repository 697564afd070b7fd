"""Move a database with its keys to another place, such as from SQLite to PostgreSQL, while no scheduler uses either.

Used by `zsched db copy`. The database keeps its identity and its ids, so workers that hold its runs go on with these.
Therefore only one of the two databases may ever be used. After an interruption at any point, the same call completes
the move:

| step | source | target |
|---|---|---|
| the target is marked | usable | refuses to start |
| all rows are copied, in one transaction | usable | refuses to start |
| the checksums of all tables on both sides are compared | usable | refuses to start |
| the keys are written into the target's folder | usable | refuses to start |
| the source is marked | refuses to start | refuses to start |
| the target's mark is removed | refuses to start | usable |
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from zsched.host import files
from zsched.maintenance import backup
from zsched.maintenance.keycheck import demand_key, store_check
from zsched.model.types import lease_margin_ms
from zsched.security.vault import Vault
from zsched.store import transfer
from zsched.store.contract import Restoration, StoreError, StoreLocked
from zsched.store.database import Hold, Tenure
from zsched.store.transfer import Mark, State, Sum


class TakenError(Exception):
    """The target has content that a copy would overwrite."""


class MismatchError(Exception):
    """The copy differs from its source. `compared`: the checksums of each table, of source and target."""

    def __init__(self, compared: Mapping[str, tuple[Sum, Sum]]) -> None:
        differ = ", ".join(name for name, (read, copied) in compared.items() if read != copied)
        super().__init__(f"the copy differs from its source in {differ}: the source stays in use")
        self.compared = compared


@dataclass(frozen=True, slots=True)
class Side:
    """A database that takes part. `name`: its address for messages. `folder`: of its keys."""

    name: str
    folder: Path
    hold: Hold


@dataclass(frozen=True, slots=True)
class Moved:
    """`compared`: the checksums of each table, of source and target. `keys`: the names of the key files that were
    copied.
    """

    compared: Mapping[str, tuple[Sum, Sum]]
    keys: tuple[str, ...]


def move(source: Side, target: Side, now_ms: int) -> Moved:
    """Copy a database and its keys, and mark the source as moved.

    Raises TakenError, MismatchError, PrivateFileError, StoreError.
    """
    keys = _new_keys(source.folder, target.folder)
    with (
        leading(source.hold, source.name, now_ms, marked=True) as old,
        leading(target.hold, target.name, now_ms, marked=True) as new,
    ):
        identity = old.store.identity
        _demand_sides(source, target, old, new)
        vault = Vault(source.folder / backup.SECRET)
        demand_key(old.store.reads, vault)
        if backup.SECRET in backup.read_keys(source.folder):
            # Else the first scheduler of the target would decide which key is the right one.
            store_check(old.store, vault)
        transfer.set_mark(new.engine, Mark(State.UNFINISHED, identity, source.name, now_ms))
        read = transfer.load(old.engine, new.engine)
        copied = transfer.sums_of(new.engine)
        compared = {name: (read[name], copied[name]) for name in read}
        if read != copied:
            raise MismatchError(compared)
        for name, text in keys.items():
            files.write_private(target.folder / name, text)
        transfer.set_mark(old.engine, Mark(State.MOVED, identity, target.name, now_ms))
        transfer.set_mark(new.engine, None)
    return Moved(compared, tuple(keys))


@contextmanager
def leading(hold: Hold, name: str, now_ms: int, *, marked: bool = False) -> Iterator[Tenure]:
    """The right to write to a database, for maintenance. No earlier scheduler of it can write from now on.

    `name`: its address for messages. `marked`: as of Hold.lead. Raises StoreLocked while a scheduler leads, StoreError.
    """
    tenure = hold.lead(now_ms, marked=marked)
    if tenure is None:
        raise StoreLocked(f"a scheduler leads on {name}")
    with closing(tenure):
        take_over(tenure)
        yield tenure


def take_over(tenure: Tenure) -> None:
    """Exclude all earlier writers. Raises StoreError."""
    tenure.store.begin()
    tenure.store.take_over()
    tenure.store.commit()


def _demand_sides(source: Side, target: Side, old: Tenure, new: Tenure) -> None:
    """Raise StoreMoved if the source may not be used, TakenError if the target has content."""
    identity, moved, mark = old.store.identity, transfer.mark_of(old.engine), transfer.mark_of(new.engine)
    begun = mark if mark is not None and mark.state is State.UNFINISHED else None
    # Only the last step of this move is missing.
    last = begun is not None and moved is not None and (moved.state, moved.place) == (State.MOVED, target.name)
    if not last:
        transfer.demand_unmarked(old.engine, source.name)
    if begun is not None and begun.db != identity:
        raise TakenError(f"{target.name} is an unfinished copy of {begun.place}: name another target")
    if begun is None and (mark is not None or not transfer.is_new(new.engine)):
        raise TakenError(f"{target.name} is not a new database: name another one, a copy never replaces anything")


def _new_keys(source: Path, target: Path) -> dict[str, str]:
    """The keys to copy. Raises TakenError if the target's folder has other ones, PrivateFileError."""
    keys, present = backup.read_keys(source), backup.read_keys(target)
    for name, text in present.items():
        if keys.get(name, text) != text:
            raise TakenError(
                f"{target / name} is another key than {source / name}: move it away, or name another folder"
            )
    return {name: text for name, text in keys.items() if name not in present}


def succeed(tenure: Tenure, detail: str, actor: str, now_ms: int, worker_timeout_ms: int) -> int:
    """Give a database that was restored from a backup a new identity and new ids. Returns the number of its running
    runs, which are lost now. Raises StoreError.
    """
    how = Restoration(
        now_ms=now_ms, actor=actor, detail=detail, lease_ms=worker_timeout_ms + lease_margin_ms(worker_timeout_ms)
    )
    store = tenure.store
    store.begin()
    try:
        lost = store.succeed(secrets.token_hex(16), how)
        store.flush_counters(now_ms)
        store.commit()
    except StoreError:
        store.rollback()
        raise
    return lost
