"""The user at the other end of a connection on this host, and whether that user is trusted without a token.

For a TCP connection over loopback the kernel is asked by `sock_diag`, or by the tables under /proc/net where a sandbox
forbids that. Only a socket that some process still has open has a user: for a socket that its owner has closed the
kernel reports user 0, which would make a caller that sends and leaves into root. Such a socket has no inode.

The rule of trust is one pure function, `trusted`, for the scheduler, its clients and its workers alike.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Collection
from contextlib import suppress
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
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

_UID_MAP: Final = Path("/proc/self/uid_map")
_OVERFLOW_UID: Final = Path("/proc/sys/kernel/overflowuid")
# linux/highuid.h: DEFAULT_OVERFLOWUID, where the file can't be read.
_OVERFLOW_UID_DEFAULT: Final = 65_534


class End(NamedTuple):
    """An address and a port."""

    address: IPv4Address | IPv6Address
    port: int


def end(address: str, port: int) -> End:
    """One end of a connection; an IPv4 address as IPv6 writes it becomes one again. Raises ValueError."""
    parsed = ip_address(address)
    return End(getattr(parsed, "ipv4_mapped", None) or parsed, port)


def trusted(uid: int | None, own: int, extra: Collection[int] = (), ambiguous: int | None = None) -> bool:
    """Whether user `uid` is trusted without a token by a program of user `own`: it is root, `own`, or one of `extra`.

    `uid` None means unknown. `ambiguous` is `ambiguous_uid()`: a number that several users share is never trusted, not
    even where it is `own` or one of `extra`.
    """
    return uid is not None and uid != ambiguous and (uid in (0, own) or uid in extra)


def covers_all_users(uid_map: str) -> bool:
    """Whether a user namespace with this content of /proc/self/uid_map maps each user to the same number."""
    return uid_map.split() == ["0", "0", "4294967295"]


@cache
def overflow_is_ambiguous() -> bool:
    """Whether this process is in a user namespace without the full map, where the overflow uid stands for many users.

    A map that can't be read counts as such. Read once: a process can't leave its namespace without a new program.
    """
    try:
        return not covers_all_users(_UID_MAP.read_text("ascii"))
    except FileNotFoundError:
        # A kernel without user namespaces has no such file; without /proc nothing is known.
        return not _UID_MAP.parent.exists()
    except OSError:
        return True


@cache
def ambiguous_uid() -> int | None:
    """The overflow uid, where it may be any user that this namespace does not map; else None."""
    if not overflow_is_ambiguous():
        return None
    try:
        return int(_OVERFLOW_UID.read_text("ascii"))
    except (OSError, ValueError):
        return _OVERFLOW_UID_DEFAULT


def uid_of(caller: End, ours: End) -> int | None:
    """The user whose process holds the caller's end; None when that can't be told."""
    try:
        return _by_netlink(caller, ours)
    except OSError:
        return _by_table(caller, ours)


def _by_netlink(caller: End, ours: End) -> int | None:
    """Ask the kernel for that very socket. Raises OSError where it may not be asked."""
    family = socket.AF_INET if caller.address.version == 4 else socket.AF_INET6
    name = struct.pack("!HH16s16s", caller.port, ours.port, caller.address.packed, ours.address.packed)
    body = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, _TCP_STATES_ALL) + name + bytes(4) + _NO_COOKIE
    head = _HEAD.pack(_HEAD.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_TIMEOUT_S)
        kernel.send(head + body)
        answer = kernel.recv(4096)
    _, kind, _, _, _ = _HEAD.unpack_from(answer)
    if kind != _SOCK_DIAG_BY_FAMILY:
        (code,) = struct.unpack_from("=i", answer, _HEAD.size)
        if -code == errno.ENOENT:
            return None
        raise OSError(-code, os.strerror(-code))
    *_, uid, inode = _ANSWER.unpack_from(answer, _HEAD.size)
    return int(uid) if inode else None


def _by_table(caller: End, ours: End) -> int | None:
    """Look for the socket in /proc/net: a line for each connection of the host."""
    table = Path("/proc/net/tcp" if caller.address.version == 4 else "/proc/net/tcp6")
    wanted = [_written(caller), _written(ours)]
    with suppress(OSError), table.open("rb") as lines:
        for line in lines:
            fields = line.split()
            if fields[1:3] == wanted:
                return int(fields[7]) if fields[9] != b"0" else None
    return None


def _written(one: End) -> bytes:
    """An end as the tables write it: the address's 32-bit words in this machine's order, the port, in hexadecimal."""
    words = struct.unpack(f"={len(one.address.packed) // 4}I", one.address.packed)
    return f"{''.join(f'{word:08X}' for word in words)}:{one.port:04X}".encode()
