"""The guard: the process that bin/worker becomes. It starts jobs, watches them, ends them and keeps their results.

One thread around one epoll, besides one for the log while stderr takes no lines (logs.py). It imports neither ZeroMQ
nor a database: the agent, its child, speaks to the scheduler. The agent may crash and restart at any moment; jobs and
results stay here. This module puts the parts together: `core` decides about jobs, `supervisor` about the agent,
`shutdown` about the orderly end; `shell` carries events to them and obeys, over the host `system`.
"""

from __future__ import annotations

import logging
import os
from typing import Final

from zsched.config.settings import WorkerConfig
from zsched.host import prctl
from zsched.host.clock import mono_ms
from zsched.host.cpus import usable_cpus
from zsched.host.notify import Notify
from zsched.model.units import counted
from zsched.worker.guard import timeslice
from zsched.worker.guard.descriptors import make_room
from zsched.worker.guard.shell import Shell
from zsched.worker.guard.spool import Spool, open_spool
from zsched.worker.guard.system import System
from zsched.worker.messages import Hello
from zsched.worker.process import rlimits
from zsched.worker.process.notes import Notes
from zsched.worker.process.scratch import Scratch
from zsched.worker.process.spawn import keep_standard_fds
from zsched.worker.process.sweep import sweep
from zsched.worker.process.users import Users, UsersError
from zsched.worker.state import State, StateError, StateLockedError, boot_id, open_state

# As for a wrong setting: users or limits that are not possible here.
EXIT_SETTING: Final = 2
# BSD's sysexits.h: EX_TEMPFAIL, another worker has the state directory; EX_CANTCREAT, it can't be used.
EXIT_LOCKED: Final = 75
EXIT_STATE: Final = 73

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
        spool = open_spool(state.folder, mono_ms())
    except StateLockedError as error:
        log.error("%s", error)
        return EXIT_LOCKED
    except StateError as error:
        log.error("%s", error)
        return EXIT_STATE
    left = sweep(state.spool_id)
    if left:
        log.warning("worker %s: killed %s that an earlier start had left", config.id, counted(left, "process"))
    return _Guard(config, state, spool, notify, users).run()


class _Guard:
    """The guard's own process: its rights, its limits, and the loop."""

    def __init__(self, config: WorkerConfig, state: State, spool: Spool, notify: Notify, users: Users) -> None:
        self._config = config
        self._state = state
        self._spool = spool
        self._notify = notify
        # Before the limit of descriptors is raised, which jobs do not get, and before /proc is closed.
        self._notes = Notes(state.folder)
        self._folders = Scratch(state.folder)
        self._host = System(config.id, state.spool_id, users, self._notes, self._folders)

    def run(self) -> int:
        """Loop until the end. Returns the exit code."""
        config = self._config
        # Our own files exist by now. From here on umask and privileges are those of the jobs, which inherit them.
        os.umask(config.umask)
        if config.no_new_privs:
            prctl.gain_nothing()
        prctl.close_to_others()
        timeslice.shorten()
        identity = self._identity(make_room(config.slots or usable_cpus()))
        slots = counted(identity.slots, "slot")
        log.info("worker %s: process %d, %s, state in %s", config.id, os.getpid(), slots, self._state.folder)
        if held := len(self._spool):
            log.info("worker %s: has %s of an earlier start to deliver", config.id, counted(held, "result"))
        self._notify.ready(slots)
        shell = Shell(identity, config.shutdown_grace_ms, self._host, self._spool, self._notify)
        while not shell.shutdown.done:
            shell.turn()
        self._notes.close()
        self._folders.close()
        log.info("worker %s: ended", config.id)
        return shell.shutdown.exit_code

    def _identity(self, slots: int) -> Hello:
        config, state = self._config, self._state
        return Hello(
            worker=config.id,
            schedulers=config.scheduler,
            slots=slots,
            heartbeat_ms=config.heartbeat_interval_ms,
            poll_ms=config.poll_interval_ms,
            log_level=config.log_level,
            incarnation=os.urandom(16).hex(),
            boot_id=boot_id(),
            lock=state.lock,
            state_dir=str(state.folder),
            spool_id=state.spool_id,
            access=str(config.access or ""),
            token_file=str(config.token_file or ""),
            queues=config.queues,
            labels=dict(config.labels),
        )
