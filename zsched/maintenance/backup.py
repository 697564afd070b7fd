"""Backup and restore of a scheduler's database and keys, and the rescue of a deleted or replaced database.

Used by `zsched db`, and by a scheduler whose database was displaced. Each file is complete, synced and of mode 0600
before it gets its name. An interrupted restore leaves either the old or the new database under the database's name, and
the same command completes it:

| step | database under its name after the step |
|---|---|
| a copy of the backup is turned into a database, under another name | old |
| the backup's secret keys are put in front of those in secret.key | old |
| the old database and its WAL get a second name, `.replaced-TIME` | old |
| the new file is renamed | new; a scheduler refuses the old WAL if it still exists |
| the old WAL is removed, and the backup's keys replace the present ones | new |
"""

from __future__ import annotations

import glob
import logging
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zsched import __version__
from zsched.host import files
from zsched.model.types import lease_margin_ms
from zsched.store.check import check
from zsched.store.contract import Restoration, StoreCorrupt, StoreError
from zsched.store.sqlite import copies
from zsched.store.sqlite.copies import Content, Origin
from zsched.store.sqlite.engine import SqliteEngine
from zsched.store.sqlite.head import BACKUP_ID
from zsched.store.sqlite.lock import COMPANIONS, Lock, hold_copy, read_head

# The key files in a backup. The first opens the jobs' secrets; workers on other hosts authenticate the scheduler by the
# second.
SECRET: Final = "secret.key"  # noqa: S105  (a file's name)
CURVE: Final = "curve.key"
KEYS: Final = (SECRET, CURVE)

log = logging.getLogger(__name__)


class TakenError(Exception):
    """The target of a backup exists and is not a backup."""


@dataclass(frozen=True, slots=True)
class Made:
    """A new backup: its size in bytes, and the names of the key files in it."""

    size: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Restored:
    """Result of a restore.

    `origin`: of the backup, None for a plain copy. `replaced`: where the old database is now, None if there was none.
    `lost`: number of runs that were running in the backup. `keys`: names of the key files that were replaced.
    """

    origin: Origin | None
    replaced: Path | None
    lost: int
    keys: tuple[str, ...]


def back_up(db: Path, target: Path, now_ms: int, *, keys: bool = True) -> Made:
    """Write a backup of a database to a file, whether a scheduler runs or not. Replaces an older backup of that name;
    where a link has the name, the file that it leads to.

    Raises TakenError, PrivateFileError, InsecureError, StoreError, OSError.
    """
    db = files.resolve(db)
    _demand_backup_or_nothing(target)
    target = files.resolve(target)
    folder = db.with_name(f"{db.name}.d")
    before = read_keys(folder) if keys else {}
    with _aside(target) as aside, copies.source(db) as engine:
        copied: dict[str, str] = {}

        def content(identity: str) -> Content:
            # Read after the copy: a key exists before the first secret that it seals.
            copied.update(read_keys(folder) if keys else {})
            return Content(_origin(identity, db, now_ms), copied)

        if not copies.make_backup(engine, aside, content):
            raise StoreCorrupt("the database is damaged: no backup was made")
        if any(copied.get(name) != text for name, text in before.items()):
            raise StoreError(f"a key in {folder} changed during the backup: make the backup again")
        size = aside.stat().st_size
        _publish(aside, target)
    return Made(size, tuple(copied))


def rescue(engine: SqliteEngine, db: Path, now_ms: int, on_step: Callable[[], None]) -> tuple[Path, bool]:
    """Save an open database whose file was deleted, replaced or overwritten, as a backup. Leaves out unreadable keys.

    Tries the database's folder, the working folder and the folder for temporary files. Returns the path, and whether
    the copy is consistent: pages of an overwritten file are lost. Raises StoreError or OSError if no folder works.
    """
    # A turn may be under way. It is not committed, and a copy can't begin within it.
    with suppress(StoreError):
        engine.rollback()
    folders, keys = _rescue_folders(db), _readable_keys(db.with_name(f"{db.name}.d"))
    for number, folder in enumerate(folders, 1):
        path = _unused(folder / f"{db.name}.rescue-{_stamp(now_ms)}")
        try:
            with _aside(path) as aside:
                sound = copies.make_backup(
                    engine, aside, lambda name: Content(_origin(name, db, now_ms), keys), on_step=on_step
                )
                _publish(aside, path)
        except (OSError, StoreError):
            if number == len(folders):
                raise
        else:
            if folder != db.parent:
                # A start finds it there, and does not create an empty database. A link fits on a full disk.
                with suppress(OSError):
                    (db.parent / path.name).symlink_to(path)
            return path, sound and _is_consistent(path)
    raise AssertionError


def _rescue_folders(db: Path) -> list[Path]:
    """The database's folder, the working folder, and the one for temporary files; without those that do not exist."""
    folders = [db.parent]
    for find in (os.getcwd, tempfile.gettempdir):
        # The scheduler may have been started in a folder that is gone.
        with suppress(FileNotFoundError):
            folders.append(Path(find()))
    return folders


def restore(lock: Lock, backup: Path, actor: str, now_ms: int, worker_timeout_ms: int) -> Restored:
    """Replace the database that `lock` holds by a backup or a plain copy; the old database is kept under another name.

    Raises PrivateFileError, StoreError, OSError.
    """
    db, stamp, before = lock.path, _stamp(now_ms), read_keys(lock.folder)
    with _aside(db) as aside:
        with copies.source(backup, still=True) as engine:
            content = copies.read_content(engine)
            engine.copy_to(aside)
        made_ms = None if content.origin is None else content.origin.made_ms
        patience_ms = worker_timeout_ms + lease_margin_ms(worker_timeout_ms)
        how = Restoration(
            now_ms=now_ms,
            made_ms=made_ms,
            actor=actor,
            detail=f"from {backup.name}",
            lease_ms=patience_ms,
            replaced=copies.lineage(db),
        )
        lost = copies.make_successor(aside, how)
        _add_secret(lock.folder, before, content.keys)
        replaced = _keep_aside(db, stamp)
        _publish(aside, db)
    for suffix in COMPANIONS:
        db.with_name(db.name + suffix).unlink(missing_ok=True)
    files.sync_folder(db.parent)
    keys = _put_keys(lock.folder, before, content.keys, stamp)
    if backup.name.startswith(f"{db.name}.rescue-"):
        # It is no longer needed, and a scheduler refuses to start while a rescue copy exists. A file on a read-only
        # medium may keep its name.
        with suppress(OSError):
            backup.rename(_unused(backup.with_name(backup.name.replace(".rescue-", ".restored-"))))
        _remove_link(db.with_name(backup.name))
    return Restored(content.origin, replaced, lost, keys)


def _remove_link(path: Path) -> None:
    """Remove the link to a rescue copy that was renamed."""
    if path.is_symlink() and not path.exists():
        path.unlink()


def _is_consistent(path: Path) -> bool:
    with closing(SqliteEngine(path, read_only=True)) as engine:
        return check(engine).count == 0


# --- files ---


def _origin(identity: str, db: Path, now_ms: int) -> Origin:
    return Origin(identity, now_ms, str(db), socket.gethostname(), __version__)


def _stamp(now_ms: int) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_ms / 1000))


def _unused(path: Path) -> Path:
    """The path, or the first of path-2, path-3 … that does not exist."""
    unused, number = path, 1
    while os.path.lexists(unused):
        number += 1
        unused = path.with_name(f"{path.name}-{number}")
    return unused


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """An empty file (0600) in the target's folder, removed at the end unless it was published.

    First removes the files that killed commands left there.
    """
    _remove_left(target)
    path, descriptor = _make_aside(target)
    try:
        yield path
    finally:
        _remove_aside(path)
        # Last, because closing a descriptor of a file drops SQLite's locks on it.
        os.close(descriptor)


def _make_aside(target: Path) -> tuple[Path, int]:
    """Create the file; returns its path and the descriptor that locks it."""
    while True:
        path = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        # Until it is locked, another command may remove it as a leftover.
        if hold_copy(descriptor) and os.fstat(descriptor).st_nlink:
            return path, descriptor
        os.close(descriptor)


def _remove_left(target: Path) -> None:
    """Remove unlocked files of earlier commands for this target: they are complete copies, including the keys."""
    for path in target.parent.glob(f".{glob.escape(target.name)}.{'[0-9a-f]' * 8}"):
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if os.fstat(descriptor).st_uid == os.geteuid() and hold_copy(descriptor):
                    _remove_aside(path)
            finally:
                os.close(descriptor)


def _remove_aside(path: Path) -> None:
    # The main file last: if this is interrupted, the others are found by its name.
    for suffix in (*COMPANIONS, ""):
        with suppress(OSError):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _publish(aside: Path, target: Path) -> None:
    """Rename a complete file to its target, so that after a power cut the target is either the old or the new file."""
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    aside.rename(target)
    files.sync_folder(target.parent)


def _demand_backup_or_nothing(target: Path) -> None:
    try:
        # O_NONBLOCK: opening a FIFO would block.
        descriptor = os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    with open(descriptor, "rb") as file:
        head = read_head(file.fileno())
    if head is None or head.application_id != BACKUP_ID:
        raise TakenError(f"{target} exists and is not a backup: name another file")


def _keep_aside(db: Path, stamp: str) -> Path | None:
    """Give a database and its WAL a second name, usable as a database; None if there is no database."""
    if not db.exists():
        return None
    kept = _unused(db.with_name(f"{db.name}.replaced-{stamp}"))
    for suffix in ("", "-wal"):
        name, second = db.with_name(db.name + suffix), kept.with_name(kept.name + suffix)
        if suffix and not name.exists():
            continue
        try:
            second.hardlink_to(name)
        except OSError:
            # The file system has no hard links.
            name.rename(second)
    return kept


# --- keys ---


def read_keys(folder: Path) -> dict[str, str]:
    """The keys in a folder by file name. Raises PrivateFileError."""
    return {name: text for name in KEYS if (text := _read_key(folder / name)) is not None}


def _readable_keys(folder: Path) -> dict[str, str]:
    """The keys that can be read, by file name. Logs each other: the database matters more."""
    keys = {}
    for name in KEYS:
        try:
            text = _read_key(folder / name)
        except files.PrivateFileError as error:
            log.error("the copy of the database has no %s: %s", name, error)
        else:
            if text is not None:
                keys[name] = text
    return keys


def _read_key(path: Path) -> str | None:
    """The text of a key's file; None when there is no such file. Raises PrivateFileError."""
    try:
        return files.read_private(path, follow=False)
    except FileNotFoundError:
        return None


def _add_secret(folder: Path, before: Mapping[str, str], keys: Mapping[str, str]) -> None:
    """Add the backup's secret keys, so that the file opens the secrets of both databases during the restore."""
    if SECRET in keys and keys[SECRET] != before.get(SECRET):
        lines = dict.fromkeys(keys[SECRET].split() + before.get(SECRET, "").split())
        files.write_private(folder / SECRET, "".join(f"{line}\n" for line in lines))


def _put_keys(folder: Path, before: Mapping[str, str], keys: Mapping[str, str], stamp: str) -> tuple[str, ...]:
    """Replace the keys that differ from the backup's, and keep the old ones. Returns the replaced files' names."""
    replaced = tuple(name for name in KEYS if name in keys and keys[name] != before.get(name))
    for name in replaced:
        if name in before:
            files.write_private(_unused(folder / f"{name}.replaced-{stamp}"), before[name])
        files.write_private(folder / name, keys[name])
    return replaced
