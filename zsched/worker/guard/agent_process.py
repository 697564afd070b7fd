"""The agent's process and the guard's end of the channel to it. Used by `system` alone."""

from __future__ import annotations

import os
import select
import signal
import site
import socket
import sys

from zsched.worker.channel import Channel, ChannelClosedError
from zsched.worker.messages import FromAgent, Message
from zsched.worker.stopped import is_stopped


class AgentProcess:
    """One agent at a time. `pid` is None before its start and after `on_reaped`."""

    def __init__(self, epoll: select.epoll) -> None:
        self.pid: int | None = None
        self._epoll = epoll
        self._channel: Channel[FromAgent] | None = None
        self._events = 0

    @property
    def fd(self) -> int | None:
        """The channel's descriptor, in the epoll; None without a channel."""
        return None if self._channel is None else self._channel.fileno()

    def start(self) -> int:
        """Start an agent with a new channel. Returns its process id. Raises OSError, and then nothing is left open."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            try:
                self.pid = _spawn(theirs)
            except OSError:
                ours.close()
                raise
        self._channel = Channel(ours, FromAgent)
        self._events = select.EPOLLIN
        self._epoll.register(ours.fileno(), self._events)
        return self.pid

    def stopped(self) -> bool:
        """Whether a signal has stopped the agent."""
        return self.pid is not None and is_stopped(self.pid)

    def kill(self) -> None:
        """Kill the agent. Safe at any moment: the guard has all its state for the next one."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)

    def on_reaped(self, pid: int) -> None:
        """A child has been reaped: its number may be another process's from now on."""
        if pid == self.pid:
            self.pid = None

    def receive(self) -> list[FromAgent] | None:
        """The agent's messages so far; None when it has closed its end: the channel is closed by then."""
        if self._channel is None:
            return None
        try:
            return self._channel.receive()
        except ChannelClosedError:
            self._epoll.unregister(self._channel.fileno())
            self._channel.close()
            self._channel = None
            return None

    @property
    def backed_up(self) -> bool:
        """Whether queued messages wait for the agent to read."""
        return self._channel is not None and self._channel.backed_up

    def put(self, message: Message) -> None:
        """Queue a message. Dropped without a channel: Hello has everything for the next agent."""
        if self._channel is not None:
            self._channel.put(message)

    def flush(self) -> None:
        """Send queued messages as far as the channel takes them; the rest when the agent reads again."""
        if self._channel is None:
            return
        self._channel.flush()
        events = select.EPOLLIN | (select.EPOLLOUT if self._channel.backed_up else 0)
        if events != self._events:
            self._events = events
            self._epoll.modify(self._channel.fileno(), events)


def _spawn(channel: socket.socket) -> int:
    """Start an agent with that end of the channel as its standard input. Returns its process id."""
    return os.posix_spawn(
        sys.executable,
        (sys.executable, *_isolation(), "-m", "zsched.worker.agent.main"),
        _environment(),
        file_actions=((os.POSIX_SPAWN_DUP2, channel.fileno(), 0),),
        # The guard handles what a terminal or a service manager sends to the whole group: blocked from the start.
        setsigmask=(signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    )


def _isolation() -> tuple[str, ...]:
    """Options that keep Python from importing modules from folders where jobs of the worker's own user may write.

    These are the working directory, where jobs start, and the user's site-packages. The latter stays when the worker
    itself is installed there.
    """
    folder = site.getusersitepackages()
    needed = any(str(getattr(module, "__file__", "")).startswith(folder) for module in tuple(sys.modules.values()))
    return ("-P",) if needed else ("-P", "-s")


def _environment() -> dict[str, str]:
    """Our environment, without empty entries of PYTHONPATH: these mean the working directory, mostly by accident."""
    environ = dict(os.environ)
    folders = [folder for folder in environ.pop("PYTHONPATH", "").split(os.pathsep) if folder]
    return {**environ, "PYTHONPATH": os.pathsep.join(folders)} if folders else environ
