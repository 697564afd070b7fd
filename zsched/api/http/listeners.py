"""The listening sockets of REST: TCP, and a Unix socket next to the database for programs of this host.

A client of `localhost` tries ::1 or 127.0.0.1 first. So a scheduler that listens on one of them listens on both:
otherwise another user of the host could listen on the other address, and get calls that are meant for us.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

from zsched.model.limits import BACKLOG_MAX, LISTEN_TRIES_MAX

log = logging.getLogger(__name__)

# The Unix socket, in the folder of the lock and the keys.
SOCKET_NAME: Final = "api.sock"

# Clients call the scheduler on this port by default, by TCP and by the link.
DEFAULT_PORT: Final = 8080
_LINK_NAME: Final = "default.sock"

# unix(7): the longest path that fits sun_path with its NUL.
_PATH_BYTES_MAX: Final = 107

# For each address of `localhost`, that of the other family.
_OTHER: Final = {"0.0.0.0": "::", "::": "0.0.0.0", "127.0.0.1": "::1", "::1": "127.0.0.1"}  # noqa: S104
# Errors of a host without IPv6, or without IPv6 on its loopback interface.
_ABSENT: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})


class ListenError(Exception):
    """A port or a socket can't be bound. The message names the setting."""


def listen(host: str, port: int) -> list[socket.socket]:
    """Listen on all addresses of a host name; for a loopback or wildcard address, also on the other family's.

    All have the same port; port 0 takes any that is free. At least one socket. Raises ListenError.
    """
    for _ in range(LISTEN_TRIES_MAX - 1):
        with suppress(_TakenError):
            return _listen(host, port)
    return _listen(host, port)


class _TakenError(ListenError):
    """The port that the kernel chose for the first address is in use on another one."""


def _listen(host: str, port: int) -> list[socket.socket]:
    try:
        # No host means all addresses of both families, as `*` does elsewhere.
        found = socket.getaddrinfo(
            None if host == "*" else host,
            port,
            type=socket.SOCK_STREAM,
            proto=socket.IPPROTO_TCP,
            flags=socket.AI_PASSIVE,
        )
    except (OSError, UnicodeError) as error:
        raise ListenError(f"can't listen for REST on {host}:{port} (host, port): {error}") from None
    named = list(dict.fromkeys((family, place) for family, _, _, _, place in found))
    absent: OSError | None = None
    with ExitStack() as held:
        opened: list[socket.socket] = []
        for family, place in dict.fromkeys([*named, *_implied(named, port)]):
            asked_for = (family, place) in named
            if not asked_for and not opened:
                break
            try:
                opened.append(held.enter_context(_bound(family, place, opened)))
            except OSError as error:
                if error.errno in _ABSENT and place[0] in _OTHER:
                    absent = absent or error
                    continue
                taken = port == 0 and opened and error.errno == errno.EADDRINUSE
                raise (_TakenError if taken else ListenError)(_sentence(place, error, asked_for)) from None
        if absent is not None and not opened:
            raise ListenError(_sentence(named[0][1], absent, True))
        held.pop_all()
        return opened


def _implied(named: list[tuple[Any, Any]], port: int) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """For each address of `localhost`, that of the other family."""
    for _, place in named:
        other = _OTHER.get(place[0])
        if other is not None:
            yield (socket.AF_INET6, (other, port, 0, 0)) if ":" in other else (socket.AF_INET, (other, port))


def _bound(family: int, place: tuple[Any, ...], before: list[socket.socket]) -> socket.socket:
    """A listening socket, on the same port as those before. Raises OSError."""
    if before:
        place = (place[0], before[0].getsockname()[1], *place[2:])
    with ExitStack() as held:
        listener = held.enter_context(socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC))
        # Lets a restarted scheduler bind a port with old connections.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(place)
        listener.listen(BACKLOG_MAX)
        listener.setblocking(False)
        held.pop_all()
        return listener


def _sentence(place: tuple[Any, ...], error: OSError, asked_for: bool) -> str:
    address = f"[{place[0]}]" if ":" in place[0] else place[0]
    why = f"can't listen for REST on {address}:{place[1]} (host, port): {error.strerror}"
    if not asked_for and error.errno == errno.EADDRINUSE:
        why += "; the program there would get calls to http://localhost: stop it, or choose another port"
    return why


class LocalSocket:
    """The Unix socket of one scheduler, mode 0600, and the link to it for clients that are given no address."""

    def __init__(self, folder: Path, required: bool = False) -> None:
        """Listen in the database's folder (0700), whose lock the caller holds: a socket file there is a dead
        scheduler's. `listener` is None, with a warning, on a file system that has no sockets.

        Raises ListenError: for any other file of that name, and for whatever fails where the socket is `required`.
        """
        self.path = folder / SOCKET_NAME
        self.listener: socket.socket | None = None
        self._link: _Link | None = None
        try:
            with suppress(FileNotFoundError):
                if not stat.S_ISSOCK(self.path.lstat().st_mode):
                    raise ListenError(f"can't listen on {self.path}: the file there is not a socket; move it away")
                self.path.unlink()
            self.listener = _bound_at(self.path)
        except OSError as error:
            why = f"can't listen on {self.path}: {error.strerror}"
            if required:
                raise ListenError(f"{why}; local_trust = socket needs it") from None
            log.warning("%s; programs on this host are served over TCP", why)

    def keep(self) -> socket.socket | None:
        """Listen again if the socket's file was removed. Returns the new listener; the caller closes
        the earlier one. None: the file is there, or there never was one. Raises OSError.
        """
        if self.listener is None or os.path.lexists(self.path):
            return None
        self.listener = _bound_at(self.path)
        return self.listener

    def keep_link(self, environ: Mapping[str, str]) -> None:
        """Create or replace the link for clients, until `close`. If that is impossible, there is no link."""
        folder = _link_folder(environ)
        if self.listener is None or folder is None:
            log.debug("no link to %s: XDG_RUNTIME_DIR is not set, or there is no socket", self.path)
            return
        try:
            self._link = _Link(folder, self.path)
        except OSError as error:
            log.debug("no link to %s in %s: %s", self.path, folder, error.strerror)

    def close(self) -> None:
        """Remove the socket, and the link if it still leads here. The caller holds the lock. Idempotent."""
        if self._link is not None:
            self._link.remove()
        if self.listener is not None:
            self.listener.close()
            with suppress(OSError):
                self.path.unlink()
        self._link = self.listener = None


def _bound_at(path: Path) -> socket.socket:
    """A Unix socket that listens at a path. Raises OSError."""
    with ExitStack() as held:
        one = held.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC))
        # The file gets its socket's mode, so there is no moment at which it has a wider one.
        os.fchmod(one.fileno(), 0o600)
        _bind(one, path)
        one.listen(BACKLOG_MAX)
        one.setblocking(False)
        held.pop_all()
        return one


def _bind(listener: socket.socket, path: Path) -> None:
    """As bind(2), and for paths that are too long for it."""
    if len(os.fsencode(path)) <= _PATH_BYTES_MAX:
        listener.bind(os.fsencode(path))
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def _link_folder(environ: Mapping[str, str]) -> Path | None:
    """Where the link is; None where this user has no folder for such things."""
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime:
        return Path(runtime) / "zsched" if os.path.isabs(runtime) else None
    return Path("/run/zsched") if os.geteuid() == 0 else None


class _Link:
    """A symbolic link in a folder that is ours alone."""

    def __init__(self, folder: Path, target: Path) -> None:
        """Make the folder (0700) and the link in it, in place of another. Raises OSError."""
        self._target = str(target)
        above = os.open(folder.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _demand_ours(above, folder.parent)
            with suppress(FileExistsError):
                os.mkdir(folder.name, 0o700, dir_fd=above)
            self._folder = os.open(
                folder.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above
            )
        finally:
            os.close(above)
        try:
            _demand_ours(self._folder, folder)
            os.fchmod(self._folder, 0o700)
            aside = f"{_LINK_NAME}.{secrets.token_hex(4)}"
            os.symlink(self._target, aside, dir_fd=self._folder)
            try:
                os.rename(aside, _LINK_NAME, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            except OSError:
                os.unlink(aside, dir_fd=self._folder)
                raise
        except OSError:
            os.close(self._folder)
            raise

    def remove(self) -> None:
        with suppress(OSError):
            if os.readlink(_LINK_NAME, dir_fd=self._folder) == self._target:
                os.unlink(_LINK_NAME, dir_fd=self._folder)
        os.close(self._folder)


def _demand_ours(folder: int, path: Path) -> None:
    """Raises PermissionError unless the folder is our own user's, and nobody else may write in it."""
    found = os.fstat(folder)
    if found.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, f"{path} belongs to user {found.st_uid}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(errno.EPERM, f"others than its owner can write in {path}")
