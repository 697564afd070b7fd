"""The guard's loop: it carries events from the host to the core, and obeys what the core decides.

One turn: wait; KILL overdue runs; handle what happened; let the core decide; start runs; then *write* results, *send*
messages and *sync* the disk. The sync comes after the send, so that the scheduler hears of results while the disk
writes them. Results that a power cut takes before the end of this sync would be lost as well if their jobs had ended a
moment later. The core and the supervisor are pure, and `host` is all of the operating system, so a simulator runs this
module too.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterable
from typing import Final

from msgspec import structs

from zsched.host.notify import Notify
from zsched.model.limits import GUARD_POLL_MS_MAX, LEASE_POLL_MS_MAX
from zsched.worker.guard.core import Core
from zsched.worker.guard.effects import Orphan
from zsched.worker.guard.host import Host
from zsched.worker.guard.life import Fate, Run
from zsched.worker.guard.pipes import Pipes
from zsched.worker.guard.shutdown import Shutdown
from zsched.worker.guard.spool import Spool
from zsched.worker.guard.supervisor import Supervisor
from zsched.worker.messages import FromAgent, Hello, Refused
from zsched.worker.process.spawn import NoRoomError, SpawnError

# EX_SOFTWARE; jobs stop its agents again and again.
EXIT_STOPPED: Final = 70

log = logging.getLogger(__name__)


class Shell:
    """`done`: the guard must exit with `exit_code`. Call `turn` until then."""

    def __init__(self, identity: Hello, shutdown_grace_ms: int, host: Host, spool: Spool, notify: Notify) -> None:
        """`identity`: Hello without the snapshot."""
        self._identity = identity
        self._host = host
        self._spool = spool
        self._notify = notify
        self._pipes = Pipes(host)
        self.core = Core(identity.slots, spool.db, spool.results(), spool.others())
        self.supervisor = Supervisor()
        self.shutdown = Shutdown(identity.worker, shutdown_grace_ms, self.core, self.supervisor)
        # The last start failed for lack of room, which is logged already.
        self._no_room = False

    def turn(self) -> None:
        """Wait for events, handle them, and do what is due."""
        host, core = self._host, self.core
        ready = host.poll(self.wait_ms())
        # After a stall of this process this comes before anything else.
        core.kill_overdue(host.mono_ms())
        self._signal()
        for fd, _ in ready:
            if self._pipes.on_readable(fd):
                continue
            if fd == host.signals_fd:
                self._on_signals()
            elif fd == host.agent_fd:
                self._receive()
        if self._pipes.any_closed:
            self._reap()
        now_ms = host.mono_ms()
        if found := self._spool.on_tick(now_ms):
            core.on_read(found)
        core.on_tick(now_ms)
        self._signal()
        self._scan(now_ms)
        self._finish_collected()
        self._start_runs(now_ms)
        self.shutdown.on_tick(now_ms)
        self._signal()
        core.report(now_ms, backed_up=host.backed_up)
        self._tend_agent(now_ms)
        self._write(now_ms)
        self._send()
        self._spool.sync(now_ms)
        core.on_disk(fails=self._spool.failing)
        if core.effects.send:
            # A sync has failed: no run is to be asked for until the next turn.
            self._send()
        self._notify.alive(now_ms)
        if self.supervisor.stopped_too_often:
            self._crash()

    def wait_ms(self) -> int | None:
        """How long the next turn may wait for events."""
        deadlines = (
            self.core.deadline_ms(),
            self.supervisor.deadline_ms(),
            self._spool.deadline_ms(),
            self._notify.deadline_ms(),
            self.shutdown.deadline_ms,
        )
        due_ms = min((deadline for deadline in deadlines if deadline is not None), default=None)
        wait_ms_max = LEASE_POLL_MS_MAX if self.core.has_lease else GUARD_POLL_MS_MAX
        return None if due_ms is None else min(max(0, due_ms - self._host.mono_ms()), wait_ms_max)

    # --- obeying the core --------------------------------------------------------------------------------------------

    def _signal(self) -> None:
        """Send signals before anything is reaped: until then no other process gets the number of a group."""
        effects = self.core.effects
        if effects.warnings:
            for pid, number in effects.warnings:
                self._host.signal_main(pid, number)
            effects.warnings.clear()
        if effects.signals:
            for pid, number in effects.signals:
                self._host.signal_group(pid, number)
            effects.signals.clear()

    def _start_runs(self, now_ms: int) -> None:
        effects = self.core.effects
        for run in effects.starts:
            self._start(run, now_ms)
        effects.starts.clear()

    def _start(self, run: Run, now_ms: int) -> None:
        order = run.order
        assert order is not None
        wall_ms = self._host.wall_ms()
        try:
            spawned = self._host.spawn(order)
        except SpawnError as error:
            log.info("run %d of job %d can't start: %s", order.run, order.job, error)
            self.core.on_spawn_error(run, str(error), wall_ms)
        except NoRoomError as error:
            if not self._no_room:
                log.warning("run %d of job %d is returned: no process can be started: %s", order.run, order.job, error)
            self._no_room = True
            self.core.on_no_room(run)
        else:
            self._no_room = False
            process = self.core.on_spawned(run, spawned.pid, spawned.mark, wall_ms, now_ms)
            self._pipes.watch(process, spawned)

    def _write(self, now_ms: int) -> None:
        """Write what is to be reported, so that it survives this process."""
        effects, spool = self.core.effects, self._spool
        if effects.forget:
            spool.forget(effects.forget, now_ms)
            effects.forget.clear()
        if effects.write:
            spool.write(effects.write, now_ms)
            effects.write.clear()
        if effects.aside:
            spool.write_aside(effects.aside, now_ms)
            effects.aside.clear()
        if effects.discard:
            spool.discard(effects.discard)
            effects.discard.clear()
        self.core.on_disk(fails=spool.failing)

    def _send(self) -> None:
        effects = self.core.effects
        for message in effects.send:
            self._host.put(message)
        effects.send.clear()
        self._host.flush()

    # --- reaping -----------------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        """Reap all children that have ended. The group of a main process is killed before that."""
        host, core = self._host, self.core
        self._signal()
        now_ms = host.mono_ms()
        agent_ended = False
        while (ended := host.next_ended()) is not None:
            if ended.pid in core.runs.mains:
                host.signal_group(ended.pid, signal.SIGKILL)
            host.reap(ended.pid)
            if ended.pid == self.supervisor.pid:
                agent_ended = True
            else:
                core.on_exit(ended, host.wall_ms(), now_ms)
        core.runs.on_reaped()
        self._scan(now_ms)
        self._pipes.any_closed = False
        if agent_ended:
            self._on_agent_exit()

    def _scan(self, now_ms: int) -> None:
        """Kill the orphans of runs that have ended, and finish the runs of which none is left."""
        host, core = self._host, self.core
        if not core.runs.scan_due:
            return
        orphans = []
        for pid in host.strays(core.runs.mains):
            session = host.session(pid)
            mark = host.mark_of(pid) if core.runs.is_unknown(pid, session) else None
            orphans.append(Orphan(pid, session, mark))
        over = core.on_orphans(orphans, now_ms)
        for pid in core.effects.kills:
            host.kill(pid)
        core.effects.kills.clear()
        for run in over:
            if self._pipes.finish(run, wanted=run.fate is Fate.WANTED):
                core.on_collecting(run, now_ms)
            else:
                core.on_over(run)

    def _finish_collected(self) -> None:
        """Finish the runs whose artifacts are read, and those whose artifacts come too late."""
        for run in self.core.effects.late:
            self._pipes.give_up(run)
        self.core.effects.late.clear()
        for run in self._pipes.take_collected():
            self.core.on_over(run)

    def _on_signals(self) -> None:
        caught = self._host.signals()
        if signal.SIGCHLD in caught:
            self._reap()
        for number in caught:
            if number in (signal.SIGTERM, signal.SIGINT) or (number == signal.SIGHUP and self._host.terminal):
                self.shutdown.request(signal.Signals(number).name, self._host.mono_ms())
            elif number == signal.SIGHUP:
                log.info("worker %s: SIGHUP, restarting the agent", self._identity.worker)
                self._host.kill_agent()

    # --- the agent ---------------------------------------------------------------------------------------------------

    def _receive(self) -> bool:
        """Handle the agent's messages. An agent that closed its end is killed; its exit follows. False: it has."""
        received = self._host.receive()
        if received is None:
            self._host.kill_agent()
            return False
        self.supervisor.on_received(received)
        self._on_messages(received)
        return True

    def _on_messages(self, received: Iterable[FromAgent]) -> None:
        core, effects = self.core, self.core.effects
        for message in received:
            now_ms = self._host.mono_ms()
            if isinstance(message, Refused):
                self.shutdown.refuse(message.exit_code, now_ms)
                continue
            core.on_message(message, now_ms)
            if effects.enter is not None:
                # The results of the previous database belong to its own file.
                self._write(now_ms)
                core.on_entered(self._spool.enter(effects.enter, now_ms))
                effects.enter = None
        self._signal()

    def _tend_agent(self, now_ms: int) -> None:
        """Replace an agent that hangs, and start one that is due."""
        supervisor, host = self.supervisor, self._host
        if self.core.effects.kill_agent or (
            supervisor.silent(now_ms) and supervisor.on_silent(now_ms, stopped=host.agent_stopped())
        ):
            self.core.effects.kill_agent = False
            host.kill_agent()
        if self.core.effects.stopping:
            self._notify.stopping(self.core.effects.stopping)
            self.core.effects.stopping = ""
        if not supervisor.start_due(now_ms):
            return
        try:
            pid = host.spawn_agent()
        except OSError as error:
            supervisor.on_start_failed(str(error.strerror), now_ms)
            return
        supervisor.on_started(pid, now_ms)
        # Earlier messages were for the agent before.
        self.core.effects.send[:] = [structs.replace(self._identity, snapshot=self.core.snapshot())]

    def _on_agent_exit(self) -> None:
        while self._host.agent_fd is not None and self._receive():
            pass
        again = not self.shutdown.leaving and not self.shutdown.exit_code
        self.supervisor.on_exit(self._host.mono_ms(), again=again)
        self.core.on_agent_exit()

    def _crash(self) -> None:
        """A job stops every agent: end as if killed, so that the scheduler finds out which job it is."""
        log.error(
            "worker %s: agents are stopped by a signal again and again: ending with all jobs", self._identity.worker
        )
        self._host.kill_agent()
        self._host.sweep()
        self.shutdown.crash(EXIT_STOPPED)
