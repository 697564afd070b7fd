"""The guard's host as it is: Linux. Only the guard's own process creates one, and only one."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Collection
from typing import Final

from zsched.host import prctl
from zsched.host.clock import mono_ms
from zsched.model.limits import GUARD_EVENTS_MAX
from zsched.protocol import RunOrder
from zsched.worker.guard.agent_process import AgentProcess
from zsched.worker.guard.life import Exit
from zsched.worker.guard.signals import Signals
from zsched.worker.messages import FromAgent, Message
from zsched.worker.process.helpers import Helpers
from zsched.worker.process.notes import Notes
from zsched.worker.process.orphans import Children, session_of
from zsched.worker.process.scratch import Scratch
from zsched.worker.process.spawn import NoRoomError, Spawned, Spawner
from zsched.worker.process.sweep import mark_of, sweep
from zsched.worker.process.users import Users

# Bytes of one read: the default size of a pipe. A job that writes without end gets one read a turn, like all others.
_READ_BYTES: Final = 64 * 1024


class System:
    """The `Host` of host.py, which describes the methods. It becomes the subreaper of this process's orphans."""

    def __init__(
        self,
        worker: str,
        spool_id: str,
        users: Users | None = None,
        notes: Notes | None = None,
        folders: Scratch | None = None,
    ) -> None:
        """`spool_id`: the mark of this worker's processes. `folders`: None: jobs get no scratch folder."""
        self._spool_id = spool_id
        self._signals = Signals()
        prctl.become_subreaper()
        self._epoll = select.epoll()
        self._epoll.register(self._signals.fd, select.EPOLLIN)
        self._children = Children()
        users = users or Users()
        self._spawner = Spawner(worker, spool_id, users, notes, folders)
        self._helpers = Helpers(spool_id, users)
        for folder in folders.left() if folders is not None else ():
            self._helpers.remove(folder)
        self._agent = AgentProcess(self._epoll)
        self.signals_fd = self._signals.fd
        self.terminal = self._signals.terminal

    mono_ms = staticmethod(mono_ms)

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    # --- events ---

    def poll(self, wait_ms: int | None) -> list[tuple[int, int]]:
        return self._epoll.poll(None if wait_ms is None else wait_ms / 1000, GUARD_EVENTS_MAX)

    @property
    def agent_fd(self) -> int | None:
        return self._agent.fd

    def signals(self) -> list[int]:
        return self._signals.take()

    # --- jobs ---

    def spawn(self, order: RunOrder) -> Spawned:
        if order.has_scratch and self._helpers.full:
            raise NoRoomError("too many scratch folders are being removed")
        return self._spawner.spawn(order)

    def take_notes(self, spawned: Spawned) -> tuple[bytes, bytes]:
        report = b""
        if spawned.report is not None:
            report = self.read(spawned.report) or b""
            os.close(spawned.report)
        return report.removesuffix(b"\n"), self._spawner.take_message(spawned.message)

    def tidy(self, spawned: Spawned, order: RunOrder, *, collect: bool) -> int | None:
        return self._helpers.tidy(spawned.scratch, order, collect=collect) if spawned.scratch else None

    def end_helper(self, fd: int, *, kill: bool) -> None:
        self.close(fd)
        self._helpers.end(fd, kill=kill)

    def watch(self, fd: int) -> None:
        self._epoll.register(fd, select.EPOLLIN)

    def read(self, fd: int) -> bytes | None:
        try:
            return os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return None

    def close(self, fd: int) -> None:
        # Before the close: a child that is being spawned may hold the pipe for a moment, and its events would go on.
        self._epoll.unregister(fd)
        os.close(fd)

    def signal_group(self, pid: int, number: int) -> None:
        # Errors: only the zombie is left, or only processes of another user, which a job may start by setuid.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, number)

    def signal_main(self, pid: int, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)

    def kill(self, pid: int) -> None:
        # The run of an orphan that does not end is logged as stuck.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)

    def next_ended(self) -> Exit | None:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None
        if ended is None:
            return None
        if ended.si_code == os.CLD_EXITED:
            return Exit(ended.si_pid, ended.si_status, None)
        return Exit(ended.si_pid, None, ended.si_status)

    def reap(self, pid: int) -> None:
        os.waitpid(pid, 0)
        self._agent.on_reaped(pid)
        self._helpers.on_reaped(pid)

    def strays(self, mains: Collection[int]) -> list[int]:
        helpers = self._helpers.pids
        return self._children.strays({*mains, *helpers} if helpers else mains, self._agent.pid)

    def session(self, pid: int) -> int:
        return session_of(pid)

    def mark_of(self, pid: int) -> str | None:
        return mark_of(pid, self._spool_id)

    def sweep(self) -> None:
        sweep(self._spool_id)

    # --- the agent ---

    def spawn_agent(self) -> int:
        return self._agent.start()

    def agent_stopped(self) -> bool:
        return self._agent.stopped()

    def kill_agent(self) -> None:
        self._agent.kill()

    def put(self, message: Message) -> None:
        self._agent.put(message)

    def flush(self) -> None:
        self._agent.flush()

    @property
    def backed_up(self) -> bool:
        return self._agent.backed_up

    def receive(self) -> list[FromAgent] | None:
        return self._agent.receive()
