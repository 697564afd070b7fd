"""Private files: written atomically and durably, and checked so that no file of another user is trusted.

A file is written aside, synced and renamed, and its folder is synced. Before a file or folder is trusted, its owner,
permissions and the links that lead to it are checked: in a folder where others may write, any name may be theirs.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from pathlib import Path
from typing import Final

# read_private reads at most this many bytes: keys, tokens and access files are far shorter.
FILE_BYTES_MAX: Final = 16 * 1024

# As many as the kernel follows for one path (path_resolution(7)).
_LINKS_MAX: Final = 40


class PrivateFileError(Exception):
    """A private file can't be used. The message names it and the remedy."""


class InsecureError(PrivateFileError):
    """Another user of this host may have made a file, or can read or change it."""


def resolve(path: Path) -> Path:
    """The absolute path without links; names that are not there stay as they are. Raises InsecureError, OSError.

    Refuses a link in a folder where everybody may write, unless the link is ours or root's.
    """
    found, names, links = Path("/"), list(path.absolute().parts[:0:-1]), 0
    while names:
        name = names.pop()
        if name == "..":
            found = found.parent
            continue
        step = found / name
        try:
            target = os.readlink(step)
        except FileNotFoundError:
            return step.joinpath(*reversed(names))
        except OSError as error:
            # Not a link.
            if error.errno != errno.EINVAL:
                raise
            found = step
            continue
        _demand_own_link(step)
        links += 1
        if links > _LINKS_MAX:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        found = Path("/") if target.startswith("/") else found
        names += [part for part in reversed(Path(target).parts) if part != "/"]
    return found


def _demand_own_link(link: Path) -> None:
    owner = link.lstat().st_uid
    if owner not in (0, os.geteuid()) and link.parent.stat().st_mode & stat.S_IWOTH:
        raise InsecureError(
            f"insecure link {link} (of user {owner}): everybody may write in its folder; give the path without the link"
        )


def demand_own(path: Path, found: os.stat_result) -> None:
    """Raises InsecureError when a file or folder, of which `found` is known, belongs to another user."""
    if found.st_uid != os.geteuid():
        raise InsecureError(
            f"insecure owner of {path} (user {found.st_uid}): that user can read and change it;"
            f" name another place, move it away, or run this as user {found.st_uid}"
        )


def demand_private(path: Path, found: os.stat_result) -> None:
    """Raises InsecureError unless a file or folder is ours, and nobody else can get at it."""
    demand_own(path, found)
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        private = "700" if stat.S_ISDIR(found.st_mode) else "600"
        raise InsecureError(
            f"insecure permissions on {path} (mode {stat.S_IMODE(found.st_mode):o}): others can get at it;"
            f" run chmod {private} {path}"
        )


def demand_unwritable(folder: Path) -> None:
    """Raises InsecureError when another user can put a file into a folder, or another folder in its place; OSError.

    The folder is ours. No link of another user leads to it, and others may remove nothing from the folders above it.
    """
    place, found = resolve(folder), folder.stat()
    demand_own(folder, found)
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InsecureError(
            f"insecure permissions on {folder} (mode {stat.S_IMODE(found.st_mode):o}): others can write in it;"
            f" run chmod go-w {folder}, or name another folder"
        )
    for above in place.parents:
        mode = above.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise InsecureError(
                f"insecure permissions on {above} (mode {stat.S_IMODE(mode):o}): everybody can replace {folder};"
                " name another folder"
            )


def open_lock(folder: Path) -> int:
    """A descriptor of the file `lock` in a private folder, made (0600) if there is none. Raises InsecureError, OSError.

    What stands in that file may be overwritten: it is ours, and known by no other name.
    """
    path = folder / "lock"
    within = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        demand_private(folder, os.fstat(within))
        lock = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=within)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InsecureError(f"insecure lock {path}: it is a link; remove it") from None
        raise
    finally:
        os.close(within)
    try:
        found = os.fstat(lock)
        demand_own(path, found)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            raise InsecureError(f"insecure lock {path}: it is another file too (a hard link), or no file; remove it")
    except InsecureError:
        os.close(lock)
        raise
    return lock


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take the flock(2) of an open file. False while another process holds it. Raises OSError."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_private(path: Path, *, follow: bool = True) -> str:
    """The text of a file that only its owner, this user or root, can read. Raises FileNotFoundError, PrivateFileError.

    `follow`: the path may be a link, unless another user made it in a folder where everybody may write.
    """
    try:
        if follow:
            resolve(path)
        # Opened by its name: a file in /dev/fd has no other path.
        # Opening another user's named pipe must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
        with open(descriptor, "rb") as file:
            _demand_secret(path, os.fstat(descriptor))
            os.set_blocking(descriptor, True)
            return file.read(FILE_BYTES_MAX).decode("ascii")
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            raise InsecureError(f"insecure file {path}: it is a link; put the file itself there") from None
        raise PrivateFileError(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PrivateFileError(f"invalid file {path}: not ASCII; put the right file there") from None


def _demand_secret(path: Path, found: os.stat_result) -> None:
    """Raises InsecureError when other users can read a file with a secret, or one of them owns it. Root may own it."""
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InsecureError(
            f"insecure permissions on {path} (mode {stat.S_IMODE(found.st_mode):o}): others can read the secret in it;"
            f" run chmod 600 {path}, and replace the secret if others may have read it"
        )
    if found.st_uid not in (os.geteuid(), 0):
        raise InsecureError(f"insecure owner of {path} (user {found.st_uid}): it must belong to this user or root")


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all. Raises PrivateFileError."""
    try:
        replace_file(path, text)
    except OSError as error:
        raise PrivateFileError(f"{path} can't be written: {error.strerror}") from None


def replace_file(path: Path, text: str) -> None:
    """Create a file (0600) or replace it, whole or not at all. Raises OSError."""
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
        sync_folder(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


def make_folder(folder: Path) -> None:
    """Make it if there is none, and what is missing above it, so that a power cut doesn't take it. Raises OSError."""
    if not folder.parent.is_dir():
        make_folder(folder.parent)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Sync a folder: files created or renamed in it are on the disk. Raises OSError."""
    # A folder may be writable without being readable.
    with contextlib.suppress(PermissionError):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
