"""The guard's side of the agent: starting it, talking to it, and starting it again when it dies."""

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
from zsched.worker.agent.pace import Patience
from zsched.worker.channel import Channel, ChannelClosedError
from zsched.worker.messages import Alive, FromAgent, Message
from zsched.worker.watchdog import is_stopped

# The first restart is at once, since one death says little; an agent that dies again and again must not eat the host.
_RESTART_MS: Final = (0, 100, 200, 500, 1_000, 2_000, 5_000)
# A new agent has this long until its first message: Python starts, and Hello may be long.
_FIRST_WORD_MS: Final = 30_000
# Until then it is looked at this often.
_LOOK_MS: Final = 5_000
# An agent that lived this long was well: its end has a new cause.
_WELL_MS: Final = 10_000

log = logging.getLogger(__name__)


class Supervisor:
    """One agent at a time. The guard calls on_exit when a child with `pid` has ended, and on_tick by deadline_ms."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self._channel: Channel[FromAgent] | None = None
        self._mask = 0
        self._deaths = 0
        self._started_ms = 0
        self._start_at_ms: int | None = 0
        # With the agent that runs; None while none does, or it has been killed.
        self._patience: Patience | None = None
        self._spoken = False
        # Agents in a row that were stopped by a signal.
        self._stops = 0
        self.pid: int | None = None

    @property
    def stopped_too_often(self) -> bool:
        """Whether something stops the agents again and again."""
        return self._stops >= AGENT_STOPS_MAX

    def deadline_ms(self) -> int | None:
        """When the next agent is to be started, or the one that runs must have spoken; None when none is wanted."""
        return self._start_at_ms if self._patience is None else self._patience.deadline_ms()

    def on_tick(self, mono_ms: int) -> bool:
        """Start an agent when it is time. True if one was started: it needs Hello."""
        self._judge(mono_ms)
        if self._start_at_ms is None or mono_ms < self._start_at_ms:
            return False
        try:
            ours = self._spawn_connected()
        # No memory, no descriptors or no processes left on this host: that passes, and the jobs go on meanwhile.
        except OSError as error:
            log.error("the agent can't be started: %s", error.strerror)
            self._start_at_ms = mono_ms + _RESTART_MS[-1]
            return False
        self._start_at_ms = None
        self._started_ms = mono_ms
        self._patience = Patience(_LOOK_MS, mono_ms)
        self._spoken = False
        self._channel = Channel(ours, FromAgent)
        self._mask = select.EPOLLIN
        self._epoll.register(ours.fileno(), self._mask)
        return True

    def _judge(self, mono_ms: int) -> None:
        """End an agent that does not speak: it hangs or is stopped, and the next one serves the jobs."""
        if self._patience is None or not self._patience.over(mono_ms):
            return
        stopped = self.pid is not None and is_stopped(self.pid)
        if not (stopped or self._spoken) and mono_ms - self._started_ms < _FIRST_WORD_MS:
            self._patience = Patience(_LOOK_MS, mono_ms)
            return
        why = "was stopped by a signal" if stopped else "has not spoken for too long"
        log.error("agent process %s %s: killed", self.pid, why)
        if not stopped or mono_ms - self._started_ms >= AGENT_WELL_MS:
            self._stops = 0
        self._stops += stopped
        self._patience = None
        self.kill()

    def _spawn_connected(self) -> socket.socket:
        """Start an agent; returns our end of the channel to it. Raises OSError, and then nothing is left open."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with its:
            try:
                self.pid = _spawn(its)
            except OSError:
                ours.close()
                raise
        return ours

    def owns(self, fd: int) -> bool:
        return self._channel is not None and fd == self._channel.fileno()

    def receive(self) -> list[FromAgent]:
        """What the agent says now. An agent that closed its end is killed: its exit follows."""
        if self._channel is None:
            return []
        try:
            words = self._channel.receive()
        except ChannelClosedError:
            self._hang_up()
            self.kill()
            return []
        if self._patience is not None:
            self._spoken = self._spoken or bool(words)
            for word in words:
                self._patience.hear(word.within_ms if isinstance(word, Alive) else None)
        return words

    @property
    def backed_up(self) -> bool:
        """Whether the agent has not taken yet what it was sent."""
        return self._channel is not None and self._channel.backed_up

    def put(self, message: Message) -> None:
        """Queue a message. Dropped while no agent runs: the next one gets all of it in Hello."""
        if self._channel is not None:
            self._channel.put(message)

    def flush(self) -> None:
        """Send what is queued, as far as it goes; the rest when the agent reads again."""
        if self._channel is None:
            return
        self._channel.flush()
        mask = select.EPOLLIN | (select.EPOLLOUT if self._channel.backed_up else 0)
        if mask != self._mask:
            self._mask = mask
            self._epoll.modify(self._channel.fileno(), mask)

    def kill(self) -> None:
        """End the agent at once; safe at any moment, since the next one gets all that it knew."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)

    def on_exit(self, mono_ms: int, again: bool) -> list[FromAgent]:
        """The agent has been reaped. Returns its last words; the next one starts soon if `again`."""
        pid, self.pid = self.pid, None
        self._patience = None
        words = []
        while self._channel is not None:
            words += self.receive()
        if not again:
            self._start_at_ms = None
            return words
        self._deaths = 0 if mono_ms - self._started_ms >= _WELL_MS else self._deaths + 1
        delay_ms = _RESTART_MS[min(self._deaths, len(_RESTART_MS) - 1)]
        self._start_at_ms = mono_ms + delay_ms
        log.warning("agent process %s ended: the next one starts in %d ms", pid, delay_ms)
        return words

    def _hang_up(self) -> None:
        assert self._channel is not None
        self._epoll.unregister(self._channel.fileno())
        self._channel.close()
        self._channel = None


def _spawn(its: socket.socket) -> int:
    """Start an agent with that end of the channel as its standard input."""
    return os.posix_spawn(
        sys.executable,
        (sys.executable, *_isolation(), "-m", "zsched.worker.agent.main"),
        _environment(),
        file_actions=((os.POSIX_SPAWN_DUP2, its.fileno(), 0),),
        # What a terminal or a service manager sends to all of us is the guard's to handle: blocked from birth on.
        setsigmask=(signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    )


def _isolation() -> tuple[str, ...]:
    """Options that keep Python from importing modules out of folders where jobs of the worker's own user may write.

    These are the working directory, where jobs start, and the folder of its user's own packages. The latter stays when
    the worker itself is installed there.
    """
    folder = site.getusersitepackages()
    needed = any(str(getattr(module, "__file__", "")).startswith(folder) for module in tuple(sys.modules.values()))
    return ("-P",) if needed else ("-P", "-s")


def _environment() -> dict[str, str]:
    """Our environment. An empty entry of PYTHONPATH means the working directory, and is mostly an accident."""
    environ = dict(os.environ)
    folders = [folder for folder in environ.pop("PYTHONPATH", "").split(os.pathsep) if folder]
    return {**environ, "PYTHONPATH": os.pathsep.join(folders)} if folders else environ
