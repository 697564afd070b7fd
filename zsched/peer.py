"""Which user of this host holds the other end of a connection over loopback. Linux alone knows: by `sock_diag`, or
where a sandbox forbids that, by the tables under /proc/net.

Only a socket that some process still has open tells its user. Of one that its owner has closed the kernel says user 0,
which would make a caller who sends and leaves into root; such a one has no inode.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import suppress
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


class End(NamedTuple):
    """An address and a port."""

    address: IPv4Address | IPv6Address
    port: int


def end(address: str, port: int) -> End:
    """One end of a connection; an IPv4 address as IPv6 writes it becomes one again. Raises ValueError."""
    parsed = ip_address(address)
    return End(getattr(parsed, "ipv4_mapped", None) or parsed, port)


def home(address: str) -> bytes:
    """Where a caller comes from: its IPv4 address, the network that a subscriber has in IPv6, or this host."""
    parsed = ip_address(address)
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    if parsed.is_loopback:
        return b""
    return parsed.packed if parsed.version == 4 else parsed.packed[:8]


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
