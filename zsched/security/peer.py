"""The user at the other end of a connection on this host, and whether that user is trusted without a token.

For a TCP connection over loopback the kernel is asked by `sock_diag`, or by the tables under /proc/net where a sandbox
forbids that. Only a socket that a process still has open has a user. For a closed one the kernel reports user 0, so a
caller that sends and closes would look like root; such a socket has no inode.

The rule of trust is one pure function, `trusted`, for the scheduler, its clients and its workers.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Collection
from contextlib import suppress
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_NETLINK_SOCK_DIAG: Final = 4
_NO_COOKIE: Final = b"\xff" * 8
_TCP_STATES_ALL: Final = 0xFFFFFFFF
# linux/netlink.h, inet_diag.h: the head of a message; of a question; of an answer, whose last words are uid and inode.
_HEAD: Final = struct.Struct("=IHHII")
_QUESTION: Final = struct.Struct("=BBBxI")
_ANSWER: Final = struct.Struct("=4B48xIIIII")
_TIMEOUT_S: Final = 1.0
# linux/rtnetlink.h: the head of a question or an answer about a route, whose last byte before the flags is its type;
# the head of an attribute.
_RTM_GETROUTE: Final = 26
_RTM_NEWROUTE: Final = 24
_ROUTE: Final = struct.Struct("=8BI")
_ATTRIBUTE: Final = struct.Struct("=HH")
_RTA_DST: Final = 1
_RTN_LOCAL: Final = 2
# linux/tcp_states.h. A socket that is still connecting (SYN_SENT) is not the end of an accepted connection: it may have
# reused the port of a caller that is gone.
_CONNECTED: Final = frozenset({1, 4, 5, 8, 9, 11})  # ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING
_ALIVE: Final = frozenset({1, 8})  # ESTABLISHED, CLOSE_WAIT
# unix(7), SO_PEERCRED: pid, uid, gid.
_CREDENTIALS: Final = struct.Struct("=iII")

_UID_MAP: Final = "/proc/self/uid_map"
_OVERFLOW_UID: Final = "/proc/sys/kernel/overflowuid"
# linux/highuid.h: DEFAULT_OVERFLOWUID, where the file can't be read.
_OVERFLOW_UID_DEFAULT: Final = 65_534


class End(NamedTuple):
    """An address and a port."""

    address: IPv4Address | IPv6Address
    port: int


def end(address: str, port: int) -> End:
    """One end of a connection. An IPv4-mapped IPv6 address becomes the IPv4 address. Raises ValueError."""
    parsed = ip_address(address)
    return End(getattr(parsed, "ipv4_mapped", None) or parsed, port)


def trusted(uid: int | None, own: int, extra: Collection[int] = (), ambiguous: int | None = None) -> bool:
    """Whether user `uid` is trusted without a token by a program of user `own`: it is root, `own`, or one of `extra`.

    `uid` None means unknown. `ambiguous` is `ambiguous_uid()`: a number that several users share is never trusted, not
    even where it is `own` or one of `extra`.
    """
    return uid is not None and uid != ambiguous and (uid in (0, own) or uid in extra)


def _read(path: str) -> str:
    # Not by pathlib, whose import takes longer than everything else here.
    with open(path, encoding="ascii") as file:
        return file.read()


def covers_all_users(uid_map: str) -> bool:
    """Whether a user namespace with this content of /proc/self/uid_map maps each user to the same number."""
    return uid_map.split() == ["0", "0", "4294967295"]


@cache
def overflow_is_ambiguous() -> bool:
    """Whether this process is in a user namespace without the full map, where the overflow uid stands for many users.

    A map that can't be read counts as such. Read once: a process can't leave its namespace without a new program.
    """
    try:
        return not covers_all_users(_read(_UID_MAP))
    except FileNotFoundError:
        # A kernel without user namespaces has no such file. Without /proc nothing is known.
        return not os.path.exists(os.path.dirname(_UID_MAP))
    except OSError:
        return True


@cache
def ambiguous_uid() -> int | None:
    """The overflow uid, where it may be any user that this namespace does not map; else None."""
    if not overflow_is_ambiguous():
        return None
    try:
        return int(_read(_OVERFLOW_UID))
    except (OSError, ValueError):
        return _OVERFLOW_UID_DEFAULT


def home(address: str) -> bytes:
    """The origin of a TCP caller: its IPv4 address, its IPv6 /64 network, or empty for this host."""
    parsed = ip_address(address)
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    if parsed.is_loopback:
        return b""
    return parsed.packed if parsed.version == 4 else parsed.packed[:8]


def of_this_host(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address belongs to this host: the kernel has a local route to it.

    If the kernel may not be asked, only loopback addresses count.
    """
    if address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    bits = 8 * len(address.packed)
    body = _ROUTE.pack(family, bits, 0, 0, 0, 0, 0, 0, 0) + _ATTRIBUTE.pack(4 + bits // 8, _RTA_DST) + address.packed
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
            kernel.settimeout(_TIMEOUT_S)
            kernel.send(_HEAD.pack(_HEAD.size + len(body), _RTM_GETROUTE, _NLM_F_REQUEST, 1, 0) + body)
            answer = kernel.recv(4096)
    except OSError:
        return False
    _, kind, *_ = _HEAD.unpack_from(answer)
    return bool(kind == _RTM_NEWROUTE and _ROUTE.unpack_from(answer, _HEAD.size)[7] == _RTN_LOCAL)


def uid_of(caller: End, ours: End, kernel: SockDiag | None = None) -> int | None:
    """The user of the process that holds the caller's end of a TCP connection. None if unknown.

    `kernel` saves opening a descriptor. The answer is about the two addresses: call `connected` afterwards, to check
    that our connection still has them.
    """
    try:
        return _by_netlink(caller, ours) if kernel is None else kernel.uid_of(caller, ours)
    except OSError:
        return _by_table(caller, ours)


def connected(ours: socket.socket) -> bool:
    """Whether our end of a TCP connection is still ESTABLISHED or CLOSE_WAIT, so that it still has its addresses.

    After a reset another program can get the caller's port.
    """
    try:
        return ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _ALIVE
    except OSError:
        return False


def credentials(accepted: socket.socket) -> int:
    """The user that connected to a Unix socket, as of that moment. Raises OSError."""
    _, uid, _ = _CREDENTIALS.unpack(accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)


class SockDiag:
    """A netlink socket to the kernel's table of connections. Thread-safe. A context: leaving it closes the socket.

    Keep one open to look up users when no descriptor is left.
    """

    def __init__(self) -> None:
        """Raises OSError if the kernel may not be asked."""
        self._kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
        self._kernel.settimeout(_TIMEOUT_S)
        self._lock = threading.Lock()
        self._asked = 0

    def __enter__(self) -> SockDiag:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._kernel.close()

    def uid_of(self, caller: End, ours: End) -> int | None:
        """As the function uid_of. Raises OSError if the kernel may not be asked, or does not answer."""
        family = socket.AF_INET if caller.address.version == 4 else socket.AF_INET6
        name = struct.pack("!HH16s16s", caller.port, ours.port, caller.address.packed, ours.address.packed)
        body = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, _TCP_STATES_ALL) + name + bytes(4) + _NO_COOKIE
        kind, answer = self._ask(body)
        if kind != _SOCK_DIAG_BY_FAMILY:
            (code,) = struct.unpack_from("=i", answer)
            if -code == errno.ENOENT:
                return None
            raise OSError(-code, os.strerror(-code))
        _, state, *_, uid, inode = _ANSWER.unpack_from(answer)
        return int(uid) if inode and state in _CONNECTED else None

    def _ask(self, body: bytes) -> tuple[int, bytes]:
        """Ask the kernel. Returns the kind of the answer, and its body."""
        with self._lock:
            self._asked = number = (self._asked + 1) & 0xFFFFFFFF
            self._kernel.send(
                _HEAD.pack(_HEAD.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, number, 0) + body
            )
            while True:
                answer = self._kernel.recv(4096)
                _, kind, _, answers, _ = _HEAD.unpack_from(answer)
                # Skip the answer to an earlier question that timed out.
                if answers == number:
                    return kind, answer[_HEAD.size :]


def _by_netlink(caller: End, ours: End) -> int | None:
    """Ask the kernel for this socket. Raises OSError if that is not allowed."""
    with SockDiag() as kernel:
        return kernel.uid_of(caller, ours)


def _by_table(caller: End, ours: End) -> int | None:
    """Find the socket in /proc/net, which has a line for each connection of the host."""
    table = "/proc/net/tcp" if caller.address.version == 4 else "/proc/net/tcp6"
    ends = [_table_text(caller), _table_text(ours)]
    with suppress(OSError), open(table, "rb") as lines:
        for line in lines:
            fields = line.split()
            if fields[1:3] == ends:
                return int(fields[7]) if fields[9] != b"0" and int(fields[3], 16) in _CONNECTED else None
    return None


def _table_text(end: End) -> bytes:
    """An end as in the tables: 32-bit words of the address in native byte order, and the port, in hexadecimal."""
    words = struct.unpack(f"={len(end.address.packed) // 4}I", end.address.packed)
    return f"{''.join(f'{word:08X}' for word in words)}:{end.port:04X}".encode()
