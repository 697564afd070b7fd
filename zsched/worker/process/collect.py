"""Read the artifacts of a run, then remove its scratch folder: `python -I -S collect.py NAME UID GID BOUNDS FOLDER
PATTERN…`.

A program of its own, because a job decides what is in that folder: a million files, or a file system that hangs. It
takes the job's user first (an empty NAME: it stays as it is), so it can read and remove only what the job could. BOUNDS
(`files=256,bytes=…`) are `files`, `bytes`, `path_bytes`, `entries` and `seconds` of the search, and `remove`, the
seconds of the removal. The guard reads our stdout, and does not wait for the removal.

stdout gets the length of a header in four bytes (big-endian), the header (JSON: `files`, a list of [path, bytes, mode];
`left_out`, a number; `why`, sentences), and the contents one after another. Without patterns it gets nothing.

Each part of a path is opened without following a link. Only regular files of the job's user with one link are read.
This imports nothing of zsched, so that it starts fast and runs only this file's code as root.
"""

import contextlib
import fnmatch
import json
import os
import signal
import stat
import sys
import time

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
# A pipe without a writer must not block us, and a terminal must not become ours.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_WILD = frozenset("*?[")
_DEEP = "**"
# How many sentences say why files are left out, and how deep folders are entered.
_SENTENCES = 4
_LEVELS = 64
# Folders that one pass of the removal looks at.
_PASS = 1_000


class EnoughError(Exception):
    """A bound of the search is reached. What was found so far counts."""


class Collector:
    """Finds the files in a folder that match patterns, and reads them."""

    def __init__(self, top: int, bounds: dict[str, int]) -> None:
        self._files: list[tuple[str, int, int]] = []
        self._contents: list[bytes] = []
        self._left_out = 0
        self._why: list[str] = []
        self._top = top
        self._bounds = bounds
        self._device = os.fstat(top).st_dev
        self._uid = os.geteuid()
        self._room = bounds["bytes"]
        self._entries = 0
        self._end = time.monotonic() + bounds["seconds"]
        self._seen: set[str] = set()
        self._matches = 0

    def collect(self, patterns: list[str]) -> None:
        """Read what matches, in the order of the patterns, and of the names."""
        try:
            for pattern in patterns:
                before = self._matches
                self._walk(self._top, (), tuple(pattern.split("/")))
                if self._matches == before:
                    self._leave_out(f"no file matches {json.dumps(pattern)}")
        except EnoughError as error:
            self._leave_out(str(error))

    def write(self, out: int) -> None:
        """Write what was read. Raises OSError when nobody waits for it."""
        header = json.dumps({"files": self._files, "left_out": self._left_out, "why": self._why}).encode()
        data = memoryview(b"".join((len(header).to_bytes(4, "big"), header, *self._contents)))
        while data:
            data = data[os.write(out, data) :]

    def _leave_out(self, why: str) -> None:
        self._left_out += 1
        if len(self._why) < _SENTENCES:
            self._why.append(why)

    # --- the search ---

    def _walk(self, folder: int, path: tuple[str, ...], pattern: tuple[str, ...]) -> None:
        """Look for a pattern, given by its parts, in an open folder."""
        part, rest = pattern[0], pattern[1:]
        if part == _DEEP:
            self._walk(folder, path, rest or ("*",))
            for name in self._names(folder, "*"):
                self._enter(folder, path, name, pattern)
            return
        wild = bool(_WILD & set(part))
        for name in self._names(folder, part) if wild else [part]:
            if rest:
                self._enter(folder, path, name, rest)
            elif wild or not self._enter(folder, path, name, (_DEEP,)):
                # The name of a folder stands for all files in it.
                self._take(folder, (*path, name))

    def _names(self, folder: int, part: str) -> list[str]:
        """The names in a folder that match a part of a pattern, sorted. A wildcard matches no leading dot."""
        names = []
        with os.scandir(folder) as entries:
            for entry in entries:
                self._entries += 1
                if self._entries > self._bounds["entries"]:
                    raise EnoughError(f"more than {self._bounds['entries']} files were looked at")
                self._check_time()
                hidden = entry.name.startswith(".") and not part.startswith(".")
                if not hidden and fnmatch.fnmatchcase(entry.name, part):
                    names.append(entry.name)
        return sorted(names)

    def _check_time(self) -> None:
        if time.monotonic() > self._end:
            raise EnoughError(f"the search took more than {self._bounds['seconds']} s")

    def _enter(self, folder: int, path: tuple[str, ...], name: str, pattern: tuple[str, ...]) -> bool:
        """Look for the rest of a pattern in an inner folder. False: it is not a folder on the disk of the top one."""
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode) or status.st_dev != self._device or len(path) >= _LEVELS:
                return False
            inner = os.open(name, _FOLDER, dir_fd=folder)
        except OSError:
            return False
        try:
            if os.fstat(inner).st_dev == self._device:
                self._walk(inner, (*path, name), pattern)
        finally:
            os.close(inner)
        return True

    # --- the files ---

    def _take(self, folder: int, parts: tuple[str, ...]) -> None:
        """Read a file, unless it was read before."""
        self._check_time()
        path = "/".join(parts)
        try:
            status = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
        except OSError:
            return
        if stat.S_ISDIR(status.st_mode):
            return
        self._matches += 1
        if path in self._seen:
            return
        self._seen.add(path)
        why = self._why_not(path, status)
        if not why:
            try:
                why = self._read(folder, path, parts[-1])
            except OSError as error:
                why = error.strerror or "it can't be read"
        if why:
            self._leave_out(f"{json.dumps(path)}: {why}")

    def _why_not(self, path: str, status: os.stat_result) -> str:
        """Why a file is not kept; empty if it is."""
        if not stat.S_ISREG(status.st_mode):
            return "not a regular file"
        if status.st_uid != self._uid:
            return "not a file of the job's user"
        if status.st_nlink != 1 or status.st_dev != self._device:
            return "it has links elsewhere"
        try:
            size = len(path.encode())
        except UnicodeEncodeError:
            return "its path is not UTF-8"
        if size > self._bounds["path_bytes"]:
            return f"its path has {size} bytes, at most {self._bounds['path_bytes']} are kept"
        if status.st_size > self._room:
            most = self._bounds["bytes"]
            return f"{status.st_size} bytes, but at most {most} are kept of a run: put larger files on shared storage"
        if len(self._files) == self._bounds["files"]:
            return f"at most {self._bounds['files']} files of a run are kept: pack them into an archive"
        return ""

    def _read(self, folder: int, path: str, name: str) -> str:
        """Read a file. Returns why it is not kept, or nothing. It may have been replaced, and it may still grow."""
        opened = os.open(name, _FILE, dir_fd=folder)
        try:
            status = os.fstat(opened)
            if why := self._why_not(path, status):
                return why
            data = b""
            while len(data) < status.st_size and (part := os.read(opened, status.st_size - len(data))):
                data += part
        finally:
            os.close(opened)
        self._files.append((path, len(data), status.st_mode & 0o777))
        self._contents.append(data)
        self._room -= len(data)
        return ""


class Remover:
    """Removes all that is in an open folder, but not on other disks. Inner folders are moved to the top first, so that
    their depth takes neither descriptors nor memory.
    """

    def __init__(self, top: int) -> None:
        self._top = top
        self._device = os.fstat(top).st_dev
        self._moved = 0
        self._changed = False

    def remove(self) -> None:
        """Remove as much as possible."""
        self._changed = True
        while self._changed:
            self._changed = False
            for name in self._clear(self._top):
                self._remove_folder(name)

    def _remove_folder(self, name: str) -> None:
        try:
            self._open_up(self._top, name)
            folder = os.open(name, _FOLDER, dir_fd=self._top)
        except OSError:
            return
        try:
            self._clear(folder)
        finally:
            os.close(folder)
        try:
            os.rmdir(name, dir_fd=self._top)
        except OSError:
            return
        self._changed = True

    def _clear(self, folder: int) -> list[str]:
        """Unlink the files of a folder, and move its folders to the top. Returns the first folders of the top."""
        names: list[str] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                    if not stat.S_ISDIR(status.st_mode):
                        os.unlink(entry.name, dir_fd=folder)
                        self._changed = True
                    elif status.st_dev == self._device and folder != self._top:
                        self._move(folder, entry.name)
                    elif status.st_dev == self._device and len(names) < _PASS:
                        names.append(entry.name)
                except OSError:
                    continue
        return names

    def _move(self, folder: int, name: str) -> None:
        self._moved += 1
        self._open_up(folder, name)
        os.rename(name, f".zsched-{os.getpid()}-{self._moved}", src_dir_fd=folder, dst_dir_fd=self._top)
        self._changed = True

    @staticmethod
    def _open_up(folder: int, name: str) -> None:
        """Give us the rights to a folder, whose owner we are; root has them. A link that somebody puts in its place
        leads to a file of the same user at worst.
        """
        if os.geteuid() != 0:
            os.chmod(name, 0o700, dir_fd=folder)


def main(argv: list[str]) -> None:
    """Read and remove. Raises OSError."""
    name, uid, gid, folder, patterns = argv[1], int(argv[2]), int(argv[3]), argv[5], argv[6:]
    bounds = {key: int(value) for key, _, value in (bound.partition("=") for bound in argv[4].split(","))}
    if name:
        os.initgroups(name, gid)
        os.setresgid(gid, gid, gid)
        # When all three ids are not 0, the kernel clears all capabilities.
        os.setresuid(uid, uid, uid)
    top = os.open(folder, _FOLDER)
    if patterns:
        collector = Collector(top, bounds)
        collector.collect(patterns)
        # The guard may wait no longer.
        with contextlib.suppress(BrokenPipeError):
            collector.write(1)
    # So the guard's pipe ends. A number that is closed would be used again.
    os.dup2(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), 1)
    # Whoever started the worker may ignore it.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(bounds["remove"])
    if os.geteuid() != 0:
        os.fchmod(top, 0o700)
    Remover(top).remove()


if __name__ == "__main__":
    try:
        main(sys.argv)
    except OSError as error:
        sys.exit(f"collect.py: {error}")
