"""The listening sockets of the workers' port: at first on loopback alone, and on all addresses as soon as a worker of
another host has a key.

They are made here and given to ZeroMQ (ZMQ_USE_FD), because ZeroMQ can't add `0.0.0.0` to `127.0.0.1`: the kernel
refuses a second listening socket whose address covers the first, and closing the first would end its connections. The
kernel allows both when both have SO_REUSEPORT, so they get it for that moment.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

LOOPBACK: Final = ("127.0.0.1", "::1")
EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104  (only keys that are known get through)

_BACKLOG: Final = 1_024
# What a host without IPv6 says to it.
_NO_IPV6: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
# Port 0 is any port that is free on the first address. When it is taken on the next address, another is tried.
_TRIES: Final = 16

# asm-generic/socket.h
_SO_ATTACH_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27
# linux/filter.h: struct sock_filter, struct sock_fprog, and BPF_RET | BPF_K, which keeps 0 bytes of each packet.
_INSTRUCTION: Final = struct.Struct("=HBBI")
_PROGRAM: Final = struct.Struct("@HP")
_DROP_ALL: Final = _INSTRUCTION.pack(0x06, 0, 0, 0)


def addresses(host: str) -> Sequence[str]:
    """The addresses that a `zmq_host` means: empty is loopback, 0.0.0.0 and * are all, a name what it stands for.

    Raises OSError when the name is not known.
    """
    if not host:
        return LOOPBACK
    if host in ("*", *EVERYWHERE):
        return EVERYWHERE
    resolved = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(str(address[0]) for *_, address in resolved))


def listen(hosts: Sequence[str], port: int, others: Sequence[socket.socket] = ()) -> list[socket.socket]:
    """A listening socket on each of the addresses, all with one port number; 0 takes any free one.

    `others`: our own sockets on that port, which stay open. An IPv6 address is left out where the host has no IPv6, if
    there is another address. Raises OSError, and no socket is left open then.
    """
    for last in (*[False] * (_TRIES - 1), True):
        try:
            return _listen(hosts, port, others)
        except OSError as error:
            if port or last or error.errno != errno.EADDRINUSE:
                raise
    raise AssertionError


def name(listener: socket.socket) -> str:
    """The address of a socket as an endpoint writes it: `127.0.0.1:5555`, `[::1]:5555`."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listen(hosts: Sequence[str], port: int, others: Sequence[socket.socket]) -> list[socket.socket]:
    opened: list[socket.socket] = []
    try:
        for listener in others:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for host in hosts:
            try:
                opened.append(_bound(host, port, reuse=bool(others)))
            except OSError as error:
                if ":" not in host or error.errno not in _NO_IPV6 or len(hosts) == 1:
                    raise
            else:
                port = opened[-1].getsockname()[1]
    except OSError:
        for listener in opened:
            listener.close()
        raise
    finally:
        for listener in (*others, *opened):
            if listener.fileno() >= 0:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
    return opened


def _bound(host: str, port: int, *, reuse: bool) -> socket.socket:
    resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICHOST)
    family, kind, protocol, _, address = resolved[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # A port that a scheduler had until now can be bound while the kernel still remembers its connections.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(reuse))
        if family == socket.AF_INET6:
            # Each address has a socket of its own, IPv4 too.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def hold(listening: socket.socket, on: bool) -> None:
    """Let new connections to a listening socket wait, or let them in again. Open ones go on.

    A filter on the socket drops what comes to it (socket(7)), so the other end tries again: TCP does after 1, 3, 7 s.
    Where filters are not allowed nothing is held.
    """
    with suppress(OSError):
        if on:
            program = ctypes.create_string_buffer(_DROP_ALL)
            filters = _PROGRAM.pack(len(_DROP_ALL) // _INSTRUCTION.size, ctypes.addressof(program))
            listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filters)
        else:
            listening.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
