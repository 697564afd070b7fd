"""Backups of a scheduler's database and keys, and their way back. Used by `zsched db`, and by a scheduler that finds
its database deleted or replaced.

Each file is complete, synced and of mode 0600 before it gets its name. A restore that is interrupted leaves either the
old database or the new one under the database's name, and the same command completes it:

| step | what is under the database's name |
|---|---|
| a copy of the backup becomes a database of its own, under another name | the old database |
| secret.key gets the backup's keys in front of its own | the old database |
| the old database and its WAL get a second name, `.replaced-TIME` | the old database |
| the new file is renamed | the new one; a scheduler refuses the old WAL if that is still there |
| the old WAL is removed; the keys become those of the backup | the new one |
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
from zsched.store.sqlite.lock import BESIDE, Lock, hold_copy, read_head

# The files of a scheduler beside its database that a backup takes. Secrets of jobs can't be opened without the first;
# workers on other hosts know the scheduler by the second.
SECRET: Final = "secret.key"  # noqa: S105  (a file's name)
CURVE: Final = "curve.key"
KEYS: Final = (SECRET, CURVE)

log = logging.getLogger(__name__)


class TakenError(Exception):
    """The file that a backup would replace is not a backup."""


@dataclass(frozen=True, slots=True)
class Made:
    """A backup: its size in bytes, and the keys in it."""

    size: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Restored:
    """A restore: where the backup comes from (None: a plain copy), where the replaced database is (None: there was no
    database), how many runs were running in the backup, and the keys that were put back.
    """

    origin: Origin | None
    replaced: Path | None
    lost: int
    keys: tuple[str, ...]


def back_up(db: Path, target: Path, now_ms: int, *, keys: bool = True) -> Made:
    """Write a backup of a database into a file, beside a scheduler at work or without one. An older backup of that name
    is replaced; where a link has the name, the file that it leads to.

    Raises TakenError, PrivateFileError, InsecureError, StoreError, OSError.
    """
    db = files.resolve(db)
    _demand_backup_or_nothing(target)
    target = files.resolve(target)
    folder = db.with_name(f"{db.name}.d")
    before = _read_keys(folder) if keys else {}
    with _aside(target) as aside, copies.source(db) as engine:
        found: dict[str, str] = {}

        def content(identity: str) -> Content:
            # Read after the copy: a key is there before the first secret that it seals.
            found.update(_read_keys(folder) if keys else {})
            return Content(_origin(identity, db, now_ms), found)

        if not copies.make_backup(engine, aside, content):
            raise StoreCorrupt("the database is damaged: no backup was made")
        if any(found.get(name) != text for name, text in before.items()):
            raise StoreError(f"a key in {folder} changed meanwhile: make the backup again")
        size = aside.stat().st_size
        _publish(aside, target)
    return Made(size, tuple(found))


def rescue(engine: SqliteEngine, db: Path, now_ms: int, on_step: Callable[[], None]) -> tuple[Path, bool]:
    """Save an open database whose file was deleted, replaced or overwritten, as a backup. Returns the path, and whether
    the copy agrees with itself: pages of a file that was overwritten are lost. Tries several folders. A key that can't
    be read is not in the copy.

    Raises StoreError, OSError: it could not be saved in any of them.
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
                # A start looks there for it, and must not make an empty database. On a full disk a link has room.
                with suppress(OSError):
                    (db.parent / path.name).symlink_to(path)
            return path, sound and _agrees(path)
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
    """Put a backup, or a plain copy of a database, in the place of the database that `lock` holds, which is kept under
    another name.

    Raises PrivateFileError, StoreError, OSError.
    """
    db, stamp, before = lock.path, _stamp(now_ms), _read_keys(lock.folder)
    with _aside(db) as aside:
        with copies.source(backup, still=True) as engine:
            content = copies.read_content(engine)
            engine.copy_to(aside)
        made_ms = None if content.origin is None else content.origin.made_ms
        patience_ms = worker_timeout_ms + lease_margin_ms(worker_timeout_ms)
        detail = f"from {backup.name}"
        identity = secrets.token_hex(16)
        how = Restoration(identity, made_ms, now_ms, actor, detail, patience_ms, copies.lineage(db))
        lost = copies.make_successor(aside, how)
        _add_secret(lock.folder, before, content.keys)
        replaced = _keep_aside(db, stamp)
        _publish(aside, db)
    for suffix in BESIDE:
        db.with_name(db.name + suffix).unlink(missing_ok=True)
    files.sync_folder(db.parent)
    keys = _put_keys(lock.folder, before, content.keys, stamp)
    if backup.name.startswith(f"{db.name}.rescue-"):
        # It is no longer needed, and no scheduler starts beside a rescue copy. On other media it may keep its name.
        with suppress(OSError):
            backup.rename(_unused(backup.with_name(backup.name.replace(".rescue-", ".restored-"))))
        _remove_link(db.with_name(backup.name))
    return Restored(content.origin, replaced, lost, keys)


def _remove_link(path: Path) -> None:
    """Remove the link to a rescue copy that has another name now."""
    if path.is_symlink() and not path.exists():
        path.unlink()


def _agrees(path: Path) -> bool:
    with closing(SqliteEngine(path, read_only=True)) as engine:
        return check(engine).count == 0


# --- files ---


def _origin(identity: str, db: Path, now_ms: int) -> Origin:
    return Origin(identity, now_ms, str(db), socket.gethostname(), __version__)


def _stamp(now_ms: int) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_ms / 1000))


def _unused(path: Path) -> Path:
    """The path, or the first of path-2, path-3 … that is no file yet."""
    tried, number = path, 1
    while os.path.lexists(tried):
        number += 1
        tried = path.with_name(f"{path.name}-{number}")
    return tried


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """An empty file (0600) in a target's folder, removed in the end unless it was published. First removes what killed
    commands left there.
    """
    _remove_left(target)
    path, descriptor = _make_aside(target)
    try:
        yield path
    finally:
        _remove_aside(path)
        # Last: closing a descriptor of a file drops the locks that SQLite holds on it.
        os.close(descriptor)


def _make_aside(target: Path) -> tuple[Path, int]:
    """Returns the path, and the descriptor that holds the lock on it."""
    while True:
        path = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        # Until it is locked, another command may take it for a leftover, and remove it.
        if hold_copy(descriptor) and os.fstat(descriptor).st_nlink:
            return path, descriptor
        os.close(descriptor)


def _remove_left(target: Path) -> None:
    """Remove the asides of a target that no command has locked: they are whole copies of a database, keys included."""
    for path in target.parent.glob(f".{glob.escape(target.name)}.{'[0-9a-f]' * 8}"):
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if os.fstat(descriptor).st_uid == os.geteuid() and hold_copy(descriptor):
                    _remove_aside(path)
            finally:
                os.close(descriptor)


def _remove_aside(path: Path) -> None:
    # The file goes last: by its name the others are found, should this be interrupted.
    for suffix in (*BESIDE, ""):
        with suppress(OSError):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _publish(aside: Path, target: Path) -> None:
    """Give a complete file its name, so that a power cut leaves the one that had the name before, or this one."""
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    aside.rename(target)
    files.sync_folder(target.parent)


def _demand_backup_or_nothing(target: Path) -> None:
    try:
        # A FIFO would wait for a writer.
        descriptor = os.open(target, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    with open(descriptor, "rb") as file:
        head = read_head(file.fileno())
    if head is None or head.application_id != BACKUP_ID:
        raise TakenError(f"{target} exists and is no backup: name another file")


def _keep_aside(db: Path, stamp: str) -> Path | None:
    """Give a database and its WAL a second name, under which they remain a database; None if there is no database."""
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
            # A file system without hard links.
            name.rename(second)
    return kept


# --- keys ---


def _read_keys(folder: Path) -> dict[str, str]:
    """The keys in a folder by the names of their files. Raises PrivateFileError."""
    return {name: text for name in KEYS if (text := _read_key(folder / name)) is not None}


def _readable_keys(folder: Path) -> dict[str, str]:
    """As _read_keys. Keys that can't be read are left out, with a line in the log: a database matters more."""
    found = {}
    for name in KEYS:
        try:
            text = _read_key(folder / name)
        except files.PrivateFileError as error:
            log.error("the copy of the database has no %s: %s", name, error)
        else:
            if text is not None:
                found[name] = text
    return found


def _read_key(path: Path) -> str | None:
    """The text of a key's file; None when there is no such file. Raises PrivateFileError."""
    try:
        return files.read_private(path, follow=False)
    except FileNotFoundError:
        return None


def _add_secret(folder: Path, before: Mapping[str, str], keys: Mapping[str, str]) -> None:
    """Put the backup's keys before ours, so that the file opens the secrets of both databases until the restore is
    complete.
    """
    if SECRET in keys and keys[SECRET] != before.get(SECRET):
        lines = dict.fromkeys(keys[SECRET].split() + before.get(SECRET, "").split())
        files.write_private(folder / SECRET, "".join(f"{line}\n" for line in lines))


def _put_keys(folder: Path, before: Mapping[str, str], keys: Mapping[str, str], stamp: str) -> tuple[str, ...]:
    """Put the backup's keys in the place of those that differ, which are kept. Returns the names of those put."""
    put = tuple(name for name in KEYS if name in keys and keys[name] != before.get(name))
    for name in put:
        if name in before:
            files.write_private(_unused(folder / f"{name}.replaced-{stamp}"), before[name])
        files.write_private(folder / name, keys[name])
    return put
