"""The guard's supervision of the agent: starting it, the channel to it, and its restart when it dies or is silent."""

from __future__ import annotations

import logging
import os
import select
import signal
import site
import socket
import sys
from typing import Final

from zsched.model.limits import AGENT_STOPS_MAX, AGENT_WELL_MS
from zsched.worker.channel import Channel, ChannelClosedError
from zsched.worker.messages import Alive, FromAgent, Message
from zsched.worker.watchdog import Watchdog, is_stopped

# The delay of the first, second … restart. The first is at once; agents that die in a row must not use up the host.
_RESTART_MS: Final = (0, 100, 200, 500, 1_000, 2_000, 5_000)
# The time until a new agent's first message: Python starts, and Hello may be long.
_FIRST_MESSAGE_MS: Final = 30_000
# How often a new agent is checked until then.
_CHECK_MS: Final = 5_000
# After this long an agent's death is not counted with those before it.
_WELL_MS: Final = 10_000

log = logging.getLogger(__name__)


class Supervisor:
    """One agent at a time. The guard calls on_exit when a child with `pid` has ended, and on_tick by deadline_ms."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self._channel: Channel[FromAgent] | None = None
        self._events = 0
        self._deaths = 0
        self._started_ms = 0
        self._start_at_ms: int | None = 0
        # Of the running agent; None while none runs, or it has been killed.
        self._watchdog: Watchdog | None = None
        self._heard = False
        # Agents in a row that were stopped by a signal.
        self._stops = 0
        self.pid: int | None = None

    @property
    def stopped_too_often(self) -> bool:
        """Whether agents in a row were stopped by a signal."""
        return self._stops >= AGENT_STOPS_MAX

    def deadline_ms(self) -> int | None:
        """When on_tick has something to do; None when no agent is to be started."""
        return self._start_at_ms if self._watchdog is None else self._watchdog.deadline_ms()

    def on_tick(self, mono_ms: int) -> bool:
        """Start an agent when it is time. Returns True if one was started: send it Hello."""
        self._end_silent(mono_ms)
        if self._start_at_ms is None or mono_ms < self._start_at_ms:
            return False
        try:
            ours = self._spawn_connected()
        # The host is out of memory, descriptors or processes. That passes, and the jobs continue meanwhile.
        except OSError as error:
            log.error("the agent can't be started: %s", error.strerror)
            self._start_at_ms = mono_ms + _RESTART_MS[-1]
            return False
        self._start_at_ms = None
        self._started_ms = mono_ms
        self._watchdog = Watchdog(_CHECK_MS, mono_ms)
        self._heard = False
        self._channel = Channel(ours, FromAgent)
        self._events = select.EPOLLIN
        self._epoll.register(ours.fileno(), self._events)
        return True

    def _end_silent(self, mono_ms: int) -> None:
        """Kill an agent that is silent for too long: it hangs or is stopped, and the next one takes over."""
        if self._watchdog is None or not self._watchdog.expired(mono_ms):
            return
        stopped = self.pid is not None and is_stopped(self.pid)
        if not (stopped or self._heard) and mono_ms - self._started_ms < _FIRST_MESSAGE_MS:
            self._watchdog = Watchdog(_CHECK_MS, mono_ms)
            return
        why = "was stopped by a signal" if stopped else "was silent for too long"
        log.error("agent process %s %s: killed", self.pid, why)
        if not stopped or mono_ms - self._started_ms >= AGENT_WELL_MS:
            self._stops = 0
        self._stops += stopped
        self._watchdog = None
        self.kill()

    def _spawn_connected(self) -> socket.socket:
        """Start an agent. Returns our end of the channel to it. Raises OSError, and then nothing is left open."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            try:
                self.pid = _spawn(theirs)
            except OSError:
                ours.close()
                raise
        return ours

    def owns(self, fd: int) -> bool:
        return self._channel is not None and fd == self._channel.fileno()

    def receive(self) -> list[FromAgent]:
        """The agent's messages. An agent that closed its end is killed; its exit follows."""
        if self._channel is None:
            return []
        try:
            received = self._channel.receive()
        except ChannelClosedError:
            self._hang_up()
            self.kill()
            return []
        if self._watchdog is not None:
            self._heard = self._heard or bool(received)
            for message in received:
                self._watchdog.feed(message.within_ms if isinstance(message, Alive) else None)
        return received

    @property
    def backed_up(self) -> bool:
        """Whether queued messages wait for the agent to read."""
        return self._channel is not None and self._channel.backed_up

    def put(self, message: Message) -> None:
        """Queue a message. Dropped while no agent runs: Hello tells the next one everything."""
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

    def kill(self) -> None:
        """Kill the agent. Safe at any moment: the guard has all its state for the next one."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)

    def on_exit(self, mono_ms: int, again: bool) -> list[FromAgent]:
        """The agent has been reaped. Returns its last messages. The next one starts soon if `again`."""
        pid, self.pid = self.pid, None
        self._watchdog = None
        received = []
        while self._channel is not None:
            received += self.receive()
        if not again:
            self._start_at_ms = None
            return received
        self._deaths = 0 if mono_ms - self._started_ms >= _WELL_MS else self._deaths + 1
        delay_ms = _RESTART_MS[min(self._deaths, len(_RESTART_MS) - 1)]
        self._start_at_ms = mono_ms + delay_ms
        log.warning("agent process %s ended: the next one starts in %d ms", pid, delay_ms)
        return received

    def _hang_up(self) -> None:
        assert self._channel is not None
        self._epoll.unregister(self._channel.fileno())
        self._channel.close()
        self._channel = None


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
