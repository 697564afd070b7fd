"""A scheduler's REST endpoint: its URL, and connections to servers that are proven to be the scheduler.

The client (http.py) and the worker (agent/enrol.py) connect only by this module. It checks each new connection before
the first byte is sent; a kept connection is not checked again.

- Unix socket: the kernel reports the user that listens (SO_PEERCRED); trust.py decides.
- http:// to an address of this host: the kernel reports the user that accepted (peer.py); trust.py decides.
- https://: the certificate is the proof; no user is checked.
- http:// to another host: nothing can be checked.
"""

from __future__ import annotations

import errno
import math
import os
import re
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from zsched.model.limits import CONNECT_STAGGER_S, SCHEDULERS_MAX, TLS_HANDSHAKE_S
from zsched.security.trust import RUN_FOLDER, SERVER_USERS, UntrustedError, demand_trusted, trusts_all

# Imported late: they are slow to import, and wrong usage does not need them.
if TYPE_CHECKING:
    from http.client import HTTPConnection

URL_DEFAULT: Final = "http://localhost:8080"

# Where an address of a list ends: at a comma with another address behind it. The path of a socket may contain commas.
_BETWEEN: Final = re.compile(r"\s*,\s*(?=(?:https?|tcp)://|unix:)", re.IGNORECASE)

# Errors of the default socket after which TCP is tried: it does not exist, is not accessible, or nothing listens on it.
_FALL_BACK: Final = frozenset({errno.ENOENT, errno.EACCES, errno.ECONNREFUSED})

# unix(7): sun_path has 108 bytes with the zero at its end.
_SOCKET_PATH_BYTES_MAX: Final = 107

# The pause between two checks whether a server has accepted a connection. There is no event for that.
_PAUSE_S_MIN: Final = 0.0002
_PAUSE_S_MAX: Final = 0.01
_PAUSE_FACTOR: Final = 1.5

# OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH.
_NAME_MISMATCH: Final = frozenset({62, 64})


class EndpointError(ValueError):
    """The text is not the URL of a scheduler. The message says how to write one."""


class Endpoint:
    """The address of a scheduler's REST.

    `url` is for people. `socket_path` is empty if only TCP is used; for the default endpoint it is the socket that is
    tried first. `base` is the prefix of each request's path.
    """

    # Written out, because NamedTuple and dataclasses take a command longer than everything else here.
    __slots__ = ("base", "host", "port", "scheme", "socket_path", "url")

    def __init__(
        self,
        url: str,
        scheme: str,
        host: str = "localhost",
        port: int | None = None,
        base: str = "",
        socket_path: str = "",
    ) -> None:
        self.url = url
        self.scheme = scheme
        self.host = host
        self.port = port
        self.base = base
        self.socket_path = socket_path

    def connect(self, timeout_s: float) -> HTTPConnection:
        """A new connection to a proven server; it does not reconnect by itself. `timeout_s` applies to each step of
        connecting, and later to each read and write.

        Raises OSError, UntrustedError; UnicodeError for a host name that can't be looked up.
        """
        from http.client import HTTPConnection

        if self.scheme == "https":
            return self._connect_tls(timeout_s)
        connection = HTTPConnection(self.host, self.port, timeout=timeout_s)
        # A reconnect would skip the check.
        connection.auto_open = 0
        connection.sock = self._connect_socket(timeout_s) or _Dialer(self).dial(timeout_s)
        return connection

    def _connect_socket(self, timeout_s: float) -> socket.socket | None:
        """A connection to the Unix socket. None if it can't be used and TCP is next."""
        if not self.socket_path:
            return None
        try:
            return _connect_unix(self, timeout_s)
        except OSError as error:
            if self.scheme == "unix":
                raise
            if error.errno in _FALL_BACK:
                return None
            raise OSError(error.errno, f"{self.socket_path}: {error.strerror or error}") from error

    def _connect_tls(self, timeout_s: float) -> HTTPConnection:
        import ssl
        from http.client import HTTPSConnection

        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        connection = HTTPSConnection(self.host, self.port, timeout=timeout_s, context=context)
        connection.auto_open = 0
        plain = socket.create_connection((self.host, connection.port), timeout_s)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.settimeout(min(timeout_s, TLS_HANDSHAKE_S))
            connection.sock = context.wrap_socket(plain, server_hostname=self.host)
            connection.sock.settimeout(timeout_s)
        except ssl.SSLCertVerificationError as error:
            remedy = "call it by the name in its certificate"
            if error.verify_code not in _NAME_MISMATCH:
                remedy = "name the file of its issuer's certificate in SSL_CERT_FILE"
            raise UntrustedError(
                f"invalid certificate of {self.url}: {error.verify_message}; nothing was sent; {remedy}"
            ) from error
        except OSError as error:
            raise UntrustedError(f"TLS handshake with {self.url} failed: is this plain http?") from error
        finally:
            # A TLS socket has taken over the descriptor.
            plain.close()
        return connection


def parse(text: str | None) -> Endpoint:
    """The endpoint of a URL: `unix:/PATH`, `http://…` or `https://…`; the default one for None and for an empty text.

    The default is the socket of a scheduler on this host, then http://localhost:8080. Raises EndpointError.
    """
    if not text:
        return Endpoint(URL_DEFAULT, "http", "localhost", 8080, socket_path=default_socket(os.environ))
    if text.startswith("unix:"):
        path = socket_path(text)
        return Endpoint(f"unix:{path}", "unix", socket_path=path)
    from urllib.parse import urlsplit

    url = text.rstrip("/")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise EndpointError(f"invalid URL {url!r}: write it like {URL_DEFAULT}") from None
    # A comma: of a list in which an address lacks its scheme.
    if parts.scheme not in ("http", "https") or not host or "," in host:
        raise EndpointError(f"invalid scheduler URL {url!r}: write it like {URL_DEFAULT} or unix:/PATH")
    return Endpoint(url, parts.scheme, host, port, parts.path)


def parse_all(text: str | Sequence[str] | None) -> tuple[Endpoint, ...]:
    """The endpoints of a list of schedulers, in order and each once: URLs, or one text with commas between them. The
    default endpoint for None and for an empty text. Raises EndpointError.
    """
    if not text and (text is None or isinstance(text, str)):
        return (parse(None),)
    urls = [url for item in ([text] if isinstance(text, str) else text) for url in split(item)]
    if not all(urls) or not urls:
        raise EndpointError(f"invalid list of schedulers: one is empty; write each like {URL_DEFAULT}")
    found = {endpoint.url: endpoint for endpoint in map(parse, urls)}
    if len(found) > SCHEDULERS_MAX:
        raise EndpointError(f"too many schedulers in a list: {len(found)}; give at most {SCHEDULERS_MAX}")
    return tuple(found.values())


def split(text: str) -> list[str]:
    """The addresses in a text with commas between them, as written; an address may be tcp://, too."""
    return _BETWEEN.split(text)


def socket_path(url: str) -> str:
    """The path in a URL `unix:/PATH` or `unix:///PATH`, taken as written. Raises EndpointError."""
    path = url.removeprefix("unix:")
    path = path[2:] if path.startswith("///") else path
    if not path.startswith("/") or path.startswith("//") or not path.isprintable():
        raise EndpointError(f"invalid scheduler socket {url!r}: write it like unix:/PATH, with an absolute path")
    return path


def default_socket(environ: Mapping[str, str]) -> str:
    """The link to the socket of a scheduler on port 8080, for programs of its user. Empty if there is no place for it.

    XDG_RUNTIME_DIR must be a folder of our own user: su(1) keeps another user's.
    """
    folder = environ.get("XDG_RUNTIME_DIR", "")
    if folder:
        ours = os.path.isabs(folder) and _owner(folder) == os.geteuid()
        return f"{folder.rstrip('/')}/zsched/default.sock" if ours else ""
    return f"{RUN_FOLDER}/default.sock" if os.geteuid() == 0 else ""


def _owner(folder: str) -> int | None:
    try:
        return os.stat(folder).st_uid
    except OSError:
        return None


# --- Unix sockets -----------------------------------------------------------------------------------------------------


def _connect_unix(endpoint: Endpoint, timeout_s: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # With a timeout of Python's socket, connect fails at once when the server's queue is full.
        whole_s, part_s = divmod(timeout_s, 1)
        limit = struct.pack("@ll", int(whole_s), int(part_s * 1_000_000))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        try:
            _connect_path(connection, endpoint.socket_path)
        except BlockingIOError:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None
        # struct ucred: pid, uid, gid of the process at the time of its listen().
        _, uid, _ = struct.unpack("=iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        demand_trusted(uid, endpoint.url, endpoint.socket_path)
        connection.settimeout(timeout_s)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_path(connection: socket.socket, path: str) -> None:
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES_MAX:
        connection.connect(path)
        return
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


# --- TCP --------------------------------------------------------------------------------------------------------------


class _Attempt:
    """An attempt to connect to one address: first it connects, then the user of the server becomes known."""

    def __init__(self, url: str, family: int, address: tuple[Any, ...]) -> None:
        """Starts to connect. Raises OSError."""
        self._url = url
        self.connected = False
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self.socket.setblocking(False)
            _demand(self.socket.connect_ex(address), 0, errno.EINPROGRESS)
        except BaseException:
            self.socket.close()
            raise

    def proven(self) -> bool:
        """Whether the server's user is known and trusted. False: not known yet. Raises OSError, UntrustedError."""
        if not self.connected:
            if not _wait_connected([self.socket], 0.0):
                return False
            _demand(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0)
            self.connected = True
        from zsched.security import peer

        ours, theirs = (peer.end(*name[:2]) for name in (self.socket.getsockname(), self.socket.getpeername()))
        # Look up the user after connecting: no other connection can have these two ends while ours is alive, and data
        # sent on a dead one is lost.
        uid = peer.uid_of(theirs, ours)
        if uid is None:
            # Not accepted yet, or on another host. On this host the addresses of the two ends may differ too.
            return trusts_all() or not (theirs.address == ours.address or peer.of_this_host(theirs.address))
        host = f"[{theirs.address}]" if theirs.address.version == 6 else str(theirs.address)
        demand_trusted(uid, self._url, f"{host}:{theirs.port}")
        return True


class _Dialer:
    """Finds the first address of a host with a trusted server.

    Attempts overlap, so a server that does not accept delays the next address only briefly.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        """Resolves the host name. Raises OSError, UnicodeError."""
        self._url = endpoint.url
        self._addresses = deque(socket.getaddrinfo(endpoint.host, endpoint.port or 80, type=socket.SOCK_STREAM))
        self._attempts: list[_Attempt] = []
        self._errors: list[OSError | UntrustedError] = []

    def dial(self, timeout_s: float) -> socket.socket:
        """The connection. Raises OSError, UntrustedError."""
        now_s = time.monotonic()
        until_s, next_s, pause_s = now_s + timeout_s, now_s, _PAUSE_S_MIN
        try:
            while (self._addresses or self._attempts) and now_s <= until_s:
                if self._addresses and (not self._attempts or now_s >= next_s):
                    next_s, pause_s = now_s + CONNECT_STAGGER_S, _PAUSE_S_MIN
                    self._begin()
                connection = self._first_proven()
                if connection is not None:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    connection.settimeout(timeout_s)
                    return connection
                if self._attempts:
                    self._pause(pause_s)
                    pause_s = min(pause_s * _PAUSE_FACTOR, _PAUSE_S_MAX)
                now_s = time.monotonic()
            raise self._failure(timeout_s)
        finally:
            for attempt in self._attempts:
                attempt.socket.close()

    def _begin(self) -> None:
        family, _, _, _, address = self._addresses.popleft()
        try:
            self._attempts.append(_Attempt(self._url, family, address))
        except OSError as error:
            self._errors.append(error)

    def _first_proven(self) -> socket.socket | None:
        """Return the connection of the first attempt with a proven server. Removes it, and failed attempts."""
        for attempt in list(self._attempts):
            try:
                if attempt.proven():
                    self._attempts.remove(attempt)
                    return attempt.socket
            except (OSError, UntrustedError) as error:
                self._errors.append(error)
                self._attempts.remove(attempt)
                attempt.socket.close()
        return None

    def _pause(self, pause_s: float) -> None:
        pending = [attempt.socket for attempt in self._attempts if not attempt.connected]
        if pending:
            _wait_connected(pending, pause_s)
        else:
            # There is no event for an accept by the server.
            time.sleep(pause_s)

    def _failure(self, timeout_s: float) -> OSError | UntrustedError:
        """The error to raise. An untrusted server is more important than an address where nothing listens."""
        for error in self._errors:
            if isinstance(error, UntrustedError):
                return error
        if any(attempt.connected for attempt in self._attempts):
            return TimeoutError(
                errno.ETIMEDOUT,
                f"no process of this host accepted the connection within {timeout_s:g} s, so its user is unknown;"
                f" where the port is a container's, set {SERVER_USERS}=any",
            )
        return self._errors[-1] if self._errors and not self._attempts else TimeoutError("timed out")


def _wait_connected(sockets: list[socket.socket], pause_s: float) -> bool:
    """Wait until one of the sockets has connected or failed, at most for the pause. Returns whether one has."""
    poll = select.poll()
    for connection in sockets:
        poll.register(connection, select.POLLOUT)
    return bool(poll.poll(math.ceil(pause_s * 1_000)))


def _demand(code: int, *allowed: int) -> None:
    if code not in allowed:
        raise OSError(code, os.strerror(code))
