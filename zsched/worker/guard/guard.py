"""The guard: the process that bin/worker becomes. It starts jobs, watches them, ends them and keeps their results.

One thread around one epoll, besides one for the log while stderr takes no lines (logs.py). It imports neither ZeroMQ
nor a database: the agent, its child, speaks to the scheduler. The agent may crash and restart at any moment; jobs and
results stay here. `executor` has the jobs, `supervisor` the agent, `shutdown` the orderly end.
"""

from __future__ import annotations

import logging
import os
import select
import signal
from typing import Final

from zsched.config.settings import WorkerConfig
from zsched.host import prctl
from zsched.host.clock import mono_ms as _mono_ms
from zsched.host.cpus import usable_cpus
from zsched.host.notify import Notify
from zsched.model.limits import GUARD_EVENTS_MAX, GUARD_POLL_MS_MAX, LEASE_POLL_MS_MAX
from zsched.model.units import counted
from zsched.worker import messages
from zsched.worker.guard import timeslice
from zsched.worker.guard.descriptors import make_room
from zsched.worker.guard.executor import Executor
from zsched.worker.guard.runs import Runs, wall_ms
from zsched.worker.guard.shutdown import Shutdown
from zsched.worker.guard.signals import Signals
from zsched.worker.guard.spool import Spool, open_spool
from zsched.worker.guard.supervisor import Supervisor
from zsched.worker.messages import FromAgent
from zsched.worker.process import rlimits
from zsched.worker.process.orphans import Orphans
from zsched.worker.process.spawn import Spawner, keep_standard_fds
from zsched.worker.process.sweep import sweep
from zsched.worker.process.users import Users, UsersError
from zsched.worker.state import State, StateError, StateLockedError, boot_id, open_state

# As for a wrong setting: users or limits that are not possible here.
EXIT_SETTING: Final = 2
# BSD's sysexits.h: EX_TEMPFAIL, another worker has the state directory; EX_CANTCREAT, it can't be used.
EXIT_LOCKED: Final = 75
EXIT_STATE: Final = 73
# EX_SOFTWARE; jobs stop its agents again and again.
EXIT_STOPPED: Final = 70


log = logging.getLogger(__name__)


def run(config: WorkerConfig) -> int:
    """Run the guard until its end.

    Returns the exit code: 0; 2 (users, limits); 70 (agents are stopped again and again); 73, 75 (state directory); 77
    (the scheduler refuses us).
    """
    keep_standard_fds()
    notify = Notify(os.environ)
    os.umask(0o077)
    try:
        limits = rlimits.limits_of({"nofile": config.job_nofile, "nproc": config.job_nproc, "core": config.job_core})
        users = Users(config.users, no_new_privs=config.no_new_privs, limits=limits)
    except (UsersError, rlimits.LimitsError) as error:
        log.error("worker %s: %s", config.id, error)
        return EXIT_SETTING
    if users.as_root:
        log.warning(
            "worker %s: jobs run as root: set `users` to the users they may run as, or start it as another user",
            config.id,
        )
    try:
        state = open_state(config.state_dir)
        spool = open_spool(state.folder, _mono_ms())
    except StateLockedError as error:
        log.error("%s", error)
        return EXIT_LOCKED
    except StateError as error:
        log.error("%s", error)
        return EXIT_STATE
    left = sweep(state.spool_id)
    if left:
        log.warning("worker %s: killed %s that an earlier start had left", config.id, counted(left, "process"))
    return Guard(config, state, spool, notify, users).run()


class Guard:
    """The guard's loop: one epoll over signals, the agent's channel and the outputs of jobs."""

    def __init__(
        self, config: WorkerConfig, state: State, spool: Spool, notify: Notify, users: Users | None = None
    ) -> None:
        self._config = config
        self._notify = notify
        self._state = state
        self._incarnation = os.urandom(16).hex()
        self._signals = Signals()
        prctl.become_subreaper()
        self._epoll = select.epoll()
        self._epoll.register(self._signals.fd, select.EPOLLIN)
        self._orphans = Orphans(state.spool_id)
        self._runs = Runs(Spawner(config.id, state.spool_id, users), self._orphans, self._epoll, wall_ms)
        self._spool = spool
        self._supervisor = Supervisor(self._epoll)
        self._executor = Executor(config.slots or usable_cpus(), self._runs, spool, self._supervisor)
        self._shutdown = Shutdown(config, self._executor, spool, self._supervisor, notify)

    def run(self) -> int:
        """Loop until the end. Returns the exit code."""
        # Our own files exist by now. From here on umask and privileges are those of the jobs, which inherit them.
        os.umask(self._config.umask)
        if self._config.no_new_privs:
            prctl.gain_nothing()
        prctl.close_to_others()
        timeslice.shorten()
        self._executor.slots = make_room(self._executor.slots)
        slots = counted(self._executor.slots, "slot")
        log.info("worker %s: process %d, %s, state in %s", self._config.id, os.getpid(), slots, self._state.folder)
        if held := len(self._spool):
            log.info("worker %s: has %s of an earlier start to deliver", self._config.id, counted(held, "result"))
        self._notify.ready(slots)
        while not self._shutdown.done:
            self._turn()
        log.info("worker %s: ended", self._config.id)
        return self._shutdown.exit_code

    def _turn(self) -> None:
        ready = self._epoll.poll(self._wait_s(), GUARD_EVENTS_MAX)
        # After a stall of this process this comes before anything else.
        self._executor.kill_overdue(_mono_ms())
        for fd, _ in ready:
            if self._runs.on_readable(fd):
                continue
            if fd == self._signals.fd:
                self._on_signals()
            elif self._supervisor.owns(fd):
                self._on_messages(self._supervisor.receive())
        if self._runs.maybe_over:
            self._reap()
        now_ms = _mono_ms()
        self._executor.on_tick(now_ms)
        self._shutdown.on_tick(now_ms)
        if self._supervisor.on_tick(now_ms):
            self._on_agent_started()
        self._supervisor.flush()
        # After the flush, so that the scheduler hears of results while the disk writes them. Results that a power cut
        # takes before the end of this sync would be lost as well if their jobs had ended a moment later.
        self._spool.sync(now_ms)
        self._notify.alive(now_ms)
        if self._supervisor.stopped_too_often:
            self._crash()

    def _wait_s(self) -> float | None:
        deadlines = (
            self._executor.deadline_ms(),
            self._supervisor.deadline_ms(),
            self._notify.deadline_ms(),
            self._shutdown.deadline_ms,
        )
        due_ms = min((deadline for deadline in deadlines if deadline is not None), default=None)
        wait_ms_max = LEASE_POLL_MS_MAX if self._executor.has_lease else GUARD_POLL_MS_MAX
        return None if due_ms is None else min(max(0, due_ms - _mono_ms()), wait_ms_max) / 1000

    # --- the agent ---------------------------------------------------------------------------------------------------

    def _on_agent_started(self) -> None:
        self._orphans.spared = {self._supervisor.pid} if self._supervisor.pid is not None else set()
        identity = messages.Hello(
            worker=self._config.id,
            scheduler=self._config.scheduler,
            slots=self._executor.slots,
            heartbeat_ms=self._config.heartbeat_interval_ms,
            poll_ms=self._config.poll_interval_ms,
            log_level=self._config.log_level,
            incarnation=self._incarnation,
            boot_id=boot_id(),
            lock=self._state.lock,
            state_dir=str(self._state.folder),
            spool_id=self._state.spool_id,
            access=str(self._config.access or ""),
            token_file=str(self._config.token_file or ""),
            # What it holds is the executor's to add.
            db="",
            stopping=False,
            held=(),
            results=(),
        )
        self._supervisor.put(self._executor.hello(identity, _mono_ms()))

    def _on_agent_exit(self) -> None:
        self._orphans.spared = set()
        again = not self._shutdown.leaving and not self._shutdown.exit_code
        self._on_messages(self._supervisor.on_exit(_mono_ms(), again))
        self._executor.withdraw()

    def _on_messages(self, received: list[FromAgent]) -> None:
        for message in received:
            now_ms = _mono_ms()
            if isinstance(message, messages.Refused):
                self._shutdown.refuse(message.exit_code, now_ms)
            elif (answer := self._executor.on_message(message, now_ms)) is not None:
                self._supervisor.put(answer)

    # --- signals -----------------------------------------------------------------------------------------------------

    def _on_signals(self) -> None:
        caught = self._signals.take()
        if signal.SIGCHLD in caught:
            self._reap()
        for number in caught:
            if number in (signal.SIGTERM, signal.SIGINT) or (number == signal.SIGHUP and self._signals.terminal):
                self._shutdown.request(signal.Signals(number).name, _mono_ms())
            elif number == signal.SIGHUP:
                log.info("worker %s: SIGHUP, restarting the agent", self._config.id)
                self._supervisor.kill()

    def _reap(self) -> None:
        if self._supervisor.pid in self._runs.reap(_mono_ms()):
            self._on_agent_exit()

    def _crash(self) -> None:
        """A job stops every agent: end as if killed, so that the scheduler finds out which job it is."""
        log.error("worker %s: agents are stopped by a signal again and again: ending with all jobs", self._config.id)
        self._supervisor.kill()
        sweep(self._state.spool_id)
        self._shutdown.crash(EXIT_STOPPED)
