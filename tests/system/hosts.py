"""Several hosts on this one: network namespaces by ip(8), a scheduler in one and callers and workers in the others."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.system.session import SCHEDULER, Scheduler, environment

COMMAND = (sys.executable, "-P", "-m", "zsched.commands.zsched")
# For documentation, so nobody's (RFC 5737): the scheduler's host has the first of each.
LINKS: Final = {"b": ("192.0.2.1", "192.0.2.2"), "c": ("198.51.100.1", "198.51.100.2")}
PORT, ZMQ_PORT = 8080, 5555
_CLONE_NEWNET: Final = 0x40000000

needs_hosts = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="only root can make network namespaces, by ip(8)"
)


class Hosts:
    """`a`, and a link from it to each of the others: the addresses of its two ends, by the other's name."""

    def __init__(self, links: Mapping[str, tuple[str, str]] = LINKS) -> None:
        self.links = links
        self._mark = f"zs{os.getpid()}"
        self._made: list[str] = []
        try:
            for host in ("a", *links):
                ip("netns", "add", self.name(host))
                self._made.append(host)
                self.ip(host, "link", "set", "lo", "up")
            for host, (near, far) in links.items():
                ends = {"a": (f"to-{host}", near), host: ("to-a", far)}
                (one, _), (other, _) = ends.values()
                peer = ("peer", "name", other, "netns", self.name(host))
                ip("link", "add", one, "netns", self.name("a"), "type", "veth", *peer)
                for place, (end, address) in ends.items():
                    self.ip(place, "address", "add", f"{address}/24", "dev", end)
                    self.ip(place, "link", "set", end, "up")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for host in self._made:
            ip("netns", "delete", self.name(host))

    def name(self, host: str) -> str:
        return f"{self._mark}{host}"

    def at(self, host: str) -> tuple[str, ...]:
        """The command that runs what follows on that host."""
        return ("ip", "netns", "exec", self.name(host))

    def ip(self, host: str, *words: str) -> None:
        ip("-n", self.name(host), *words)

    @contextmanager
    def inside(self, host: str) -> Iterator[None]:
        """Sockets that this thread makes meanwhile are that host's."""
        with (
            Path("/proc/thread-self/ns/net").open("rb") as home,
            Path("/run/netns", self.name(host)).open("rb") as away,
        ):
            _enter(away.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())


def _enter(fd: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(fd, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=20)


class FarScheduler(Scheduler):
    """The scheduler of host `a`; a test asks it there."""

    def __init__(self, folder: Path, hosts: Hosts, *flags: str, under: Sequence[str] = ()) -> None:
        """`under`: a program that becomes the scheduler, with its arguments."""
        super().__init__(folder)
        self.port, self.zmq_port = PORT, ZMQ_PORT
        self._argv = [*hosts.at("a"), *under, *SCHEDULER, *flags]
        self._hosts = hosts

    def ask(self, method: str, path: str, value: object = None) -> tuple[int, Any]:
        with self._hosts.inside("a"):
            return super().ask(method, path, value)


def command(scheduler: FarScheduler, prefix: Sequence[str], *words: str) -> str:
    """What `zsched` prints, as it runs on a host."""
    done = subprocess.run(
        [*prefix, *COMMAND, *words],
        cwd=scheduler.folder,
        env=environment(scheduler.folder),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def access_file(scheduler: FarScheduler, hosts: Hosts, name: str, host: str) -> Path:
    path = scheduler.folder / f"{name}.access"
    path.touch(0o600)
    endpoint = f"tcp://{hosts.links[host][0]}:{ZMQ_PORT}"
    path.write_text(command(scheduler, hosts.at("a"), "access", "new", name, "--endpoint", endpoint), "ascii")
    return path
