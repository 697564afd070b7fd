"""The guard: the process that bin/worker becomes. It starts jobs, watches them, ends them and keeps their results.

One thread around one epoll, beside one for the log when stderr takes no lines (logs.py). It imports neither ZeroMQ nor
a database: all that concerns the scheduler is the agent's, its child, which may crash and be started again at any
moment while jobs and results stay here. Decides nothing about which runs to take; keeps only the rules that must hold
when the agent is dead: nothing waits here for longer than a second, and at most `slots` runs live at a time.
"""

from __future__ import annotations

import logging
import os
import select
import signal
from collections.abc import Iterable
from typing import Final

from zsched.config.settings import WorkerConfig
from zsched.host import prctl
from zsched.host.clock import mono_ms as _mono_ms
from zsched.host.cpus import usable_cpus
from zsched.host.notify import Notify
from zsched.model.limits import BACKLOG_WAIT_MS_MAX, GUARD_EVENTS_MAX, GUARD_POLL_MS_MAX, LEASE_POLL_MS_MAX
from zsched.model.units import counted
from zsched.protocol import Held, RunOrder, RunResult
from zsched.worker import messages
from zsched.worker.guard import timeslice
from zsched.worker.guard.backlog import Backlog
from zsched.worker.guard.descriptors import make_room
from zsched.worker.guard.foreign import Foreign
from zsched.worker.guard.runs import Runs, wall_ms
from zsched.worker.guard.signals import Signals
from zsched.worker.guard.spool import Spool, open_spool
from zsched.worker.guard.supervisor import Supervisor
from zsched.worker.guard.watches import Watches
from zsched.worker.lease import Leases
from zsched.worker.messages import FromAgent, Message
from zsched.worker.process import rlimits
from zsched.worker.process.orphans import Orphans, become_subreaper
from zsched.worker.process.spawn import Spawner, keep_standard_fds
from zsched.worker.process.sweep import sweep
from zsched.worker.process.users import Users, UsersError
from zsched.worker.state import State, StateError, StateLockedError, boot_id, open_state

# As for a wrong setting: users or limits that can't be had here.
EXIT_SETTING: Final = 2
# BSD's sysexits.h: EX_TEMPFAIL, another worker has the state directory; EX_CANTCREAT, it can't be used.
EXIT_LOCKED: Final = 75
EXIT_STATE: Final = 73
# EX_SOFTWARE; jobs stop its agents again and again.
EXIT_STOPPED: Final = 70

# While more runs wait for a slot, results are sent together: each message costs both processes a wake-up.
_TELL_WITHIN_MS: Final = 20
# After the last run: how long results may wait for the scheduler's answer, and the agent may take to say goodbye.
_DELIVERY_MS: Final = 5_000
_GOODBYE_MS: Final = 2_000

log = logging.getLogger(__name__)


def run(config: WorkerConfig) -> int:
    """Be the guard until the worker ends.

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
            "worker %s: jobs run as root: name the users that they may run as in `users`, or be another user", config.id
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
    """All of the worker's state that outlives the agent."""

    def __init__(
        self, config: WorkerConfig, state: State, spool: Spool, notify: Notify, users: Users | None = None
    ) -> None:
        self._config = config
        self._notify = notify
        self._state = state
        self._slots = config.slots or usable_cpus()
        self._incarnation = os.urandom(16).hex()
        self._signals = Signals()
        become_subreaper()
        self._epoll = select.epoll()
        self._epoll.register(self._signals.fd, select.EPOLLIN)
        self._strays = Orphans(state.spool_id)
        self._runs = Runs(Spawner(config.id, state.spool_id, users), self._strays, self._epoll, wall_ms)
        self._backlog = Backlog()
        self._leases = Leases()
        self._watches = Watches(self._runs.captures)
        self._spool = spool
        self._foreign = Foreign(self._runs, spool)
        # As the agent knows it.
        self._disk_fails = spool.failing
        # Live runs that were dropped.
        self._dying: set[int] = set()
        # Live runs that were discarded for the scheduler of another database, before this one came back.
        self._doomed: set[int] = set()
        # Those that can't be ended, as the agent knows them.
        self._stuck: tuple[int, ...] = ()
        # Runs that it ended by itself, without a result. They have run, so each agent lists them until the goodbye.
        self._given_up: set[int] = set()
        self._keeper = Supervisor(self._epoll)
        # Results that are kept and not yet sent to the agent, and when they have to be.
        self._untold: list[RunResult] = []
        self._tell_at_ms: int | None = None
        self._ending = _Ending()

    def run(self) -> int:
        """Turn until the end."""
        # What is ours is made by now. From here on umask and rights are those of the jobs, which inherit them.
        os.umask(self._config.umask)
        if self._config.no_new_privs:
            prctl.gain_nothing()
        prctl.close_to_others()
        timeslice.shorten()
        folder = self._state.folder
        self._slots = make_room(self._slots)
        slots = counted(self._slots, "slot")
        log.info("worker %s: process %d, %s, state in %s", self._config.id, os.getpid(), slots, folder)
        if held := len(self._spool):
            log.info("worker %s: has %s of an earlier start to deliver", self._config.id, counted(held, "result"))
        self._notify.ready(slots)
        while not self._ending.done:
            self._turn()
        log.info("worker %s: ended", self._config.id)
        return self._ending.exit_code

    def _turn(self) -> None:
        ready = self._epoll.poll(self._wait_s(), GUARD_EVENTS_MAX)
        # Who stood still for so long does this before anything else.
        self._kill_overdue()
        for fd, _ in ready:
            if self._runs.on_readable(fd):
                continue
            if fd == self._signals.fd:
                self._on_signals()
            elif self._keeper.owns(fd):
                self._on_messages(self._keeper.receive())
        if self._runs.maybe_over:
            self._reap()
        now_ms = _mono_ms()
        self._end_leases(now_ms)
        self._runs.on_tick(now_ms)
        self._mind_the_disk(now_ms)
        self._foreign.on_tick(now_ms)
        if late := self._backlog.expire(now_ms):
            self._keeper.put(messages.Unstarted(late))
        self._fill_slots(now_ms)
        self._tell_output(now_ms)
        self._collect(now_ms)
        self._on_ending(now_ms)
        if self._keeper.on_tick(now_ms):
            self._on_agent_started()
        self._keeper.flush()
        # The scheduler hears of a result while the disk is busy with it. What a power cut takes before this has ended
        # would be lost as well had the job ended a moment later.
        self._spool.sync(now_ms)
        self._notify.alive(now_ms)
        if self._keeper.stopped_too_often:
            self._crash()

    def _wait_s(self) -> float | None:
        deadlines = (
            self._runs.deadline_ms(),
            self._leases.deadline_ms(),
            self._foreign.deadline_ms(),
            self._backlog.deadline_ms(),
            self._watches.deadline_ms(),
            self._keeper.deadline_ms(),
            self._notify.deadline_ms(),
            self._spool.deadline_ms(),
            self._tell_at_ms,
            self._ending.deadline_ms,
        )
        due_ms = min((deadline for deadline in deadlines if deadline is not None), default=None)
        most_ms = LEASE_POLL_MS_MAX if len(self._leases) or self._foreign.leased else GUARD_POLL_MS_MAX
        return None if due_ms is None else min(max(0, due_ms - _mono_ms()), most_ms) / 1000

    # --- runs --------------------------------------------------------------------------------------------------------

    def _fill_slots(self, now_ms: int) -> None:
        while self._backlog and len(self._runs) < self._slots:
            order = self._backlog.take()
            if order.lease_ms is None:
                self._runs.start(order, now_ms)
            elif self._leases.hold(order.lease_ms, now_ms):
                self._leases.add(order.run, order.lease_ms)
                self._runs.start(order, now_ms)
            else:
                self._keeper.put(messages.Unstarted((order.run,)))

    def _end_leases(self, now_ms: int) -> None:
        self._foreign.end_leases(now_ms)
        for run in self._leases.take_ended(now_ms):
            # It may have ended in this turn.
            if run in self._runs:
                self._runs.stop(run, "lease_stop", now_ms)

    def _kill_overdue(self) -> None:
        now_ms = _mono_ms()
        self._foreign.kill_overdue(now_ms)
        for run in self._leases.take_overdue(now_ms):
            self._runs.stop(run, "lease_stop", now_ms)
            self._runs.kill(run, now_ms)

    def _collect(self, now_ms: int) -> None:
        """Keep what ended, and tell the agent: at once when nothing more waits here, otherwise in batches."""
        self._take_happened()
        if self._foreign.changed:
            self._stuck = self._runs.stuck()
            self._keeper.put(messages.Foreign(self._spool.db, self._foreign.told(), self._stuck))
        if not self._untold:
            return
        if self._tell_at_ms is None:
            self._tell_at_ms = now_ms + _TELL_WITHIN_MS
        if not self._backlog or now_ms >= self._tell_at_ms:
            self._spool.write(now_ms)
            self._keeper.put(messages.Ended(tuple(self._untold)))
            self._forget_untold()

    def _take_happened(self) -> None:
        happened = self._runs.take()
        if happened.foreign:
            self._foreign.on_ends(happened.foreign, _mono_ms())
        for began in happened.began:
            self._keeper.put(began)
        for run in (*happened.unstarted, *happened.dropped, *(result.run for result in happened.results)):
            self._leases.remove(run)
        if happened.unstarted:
            self._keeper.put(messages.Unstarted(tuple(happened.unstarted), no_room=True))
        if happened.dropped:
            self._given_up.update(set(happened.dropped) - self._dying - self._doomed)
            self._dying.difference_update(happened.dropped)
            self._doomed.difference_update(happened.dropped)
            self._keeper.put(messages.Gone(tuple(happened.dropped)))
        if (stuck := self._runs.stuck()) != self._stuck:
            self._stuck = stuck
            self._keeper.put(messages.Stuck(stuck))
        for result in happened.results:
            self._spool.add(result)
        self._untold += happened.results

    def _tell_spooled(self, runs: Iterable[int]) -> None:
        """Those of these runs whose results are on disk."""
        results = [self._spool.get(run) for run in runs]
        if found := tuple(result for result in results if result is not None):
            self._keeper.put(messages.Spooled(self._spool.db, found))

    def _mind_the_disk(self, now_ms: int) -> None:
        self._tell_spooled(result.run for result in self._spool.on_tick(now_ms))
        if self._spool.failing != self._disk_fails:
            self._disk_fails = self._spool.failing
            self._keeper.put(messages.DiskFails(self._disk_fails))

    def _tell_output(self, now_ms: int) -> None:
        """What watched runs write. The first thing that is left out when the agent can't keep up."""
        for logged in self._watches.take(now_ms):
            if not self._keeper.backed_up:
                self._keeper.put(logged)

    def _forget_untold(self) -> None:
        self._untold = []
        self._tell_at_ms = None

    # --- the agent ---------------------------------------------------------------------------------------------------

    def _on_agent_started(self) -> None:
        """A new agent knows nothing.

        What waited for a slot was dropped when the old one ended; all results are in Hello.
        """
        self._strays.spared = {self._keeper.pid} if self._keeper.pid is not None else set()
        self._forget_untold()
        self._spool.write(_mono_ms())
        self._disk_fails = self._spool.failing
        results = self._spool.results()
        running = [Held(run, "running") for run in (*self._own_runs(), *sorted(self._given_up))]
        finished = [Held(result.run, "finished") for result in results]
        self._keeper.put(
            messages.Hello(
                worker=self._config.id,
                scheduler=self._config.scheduler,
                slots=self._slots,
                heartbeat_ms=self._config.heartbeat_interval_ms,
                poll_ms=self._config.poll_interval_ms,
                log_level=self._config.log_level,
                incarnation=self._incarnation,
                boot_id=boot_id(),
                lock=self._state.lock,
                state_dir=str(self._state.folder),
                spool_id=self._state.spool_id,
                db=self._spool.db,
                stopping=self._ending.begun,
                held=(*running, *finished),
                dying=tuple(self._dying),
                doomed=tuple(self._doomed),
                stuck=self._stuck,
                leases=self._leases.lengths(),
                access=str(self._config.access or ""),
                token_file=str(self._config.token_file or ""),
                results=results,
                disk_fails=self._disk_fails,
                foreign=self._foreign.told(),
            )
        )

    def _own_runs(self) -> tuple[int, ...]:
        """The live runs of the current database."""
        return tuple(run for run in self._runs.ids() if run > 0)

    def _on_agent_exit(self) -> None:
        self._strays.spared = set()
        again = not self._ending.leaving and not self._ending.exit_code
        self._on_messages(self._keeper.on_exit(_mono_ms(), again))
        self._backlog.withdraw()

    def _on_messages(self, received: list[FromAgent]) -> None:
        for message in received:
            answer = self._on_message(message)
            if answer is not None:
                self._keeper.put(answer)

    def _on_message(self, message: FromAgent) -> Message | None:
        match message:
            case messages.Alive():
                return messages.Alive()
            case messages.Start(orders, heard_ms):
                if _mono_ms() - heard_ms >= BACKLOG_WAIT_MS_MAX:
                    return self._on_start_late(orders)
                return self._on_start(orders)
            case messages.Lease(at_ms):
                self._leases.renew(at_ms)
            case messages.Forget(runs):
                self._spool.forget(runs, _mono_ms())
            case messages.Stop(runs):
                return self._on_stop(runs)
            case messages.Drop(runs):
                return self._on_drop(runs)
            case messages.Look():
                self._watches.add(message, _mono_ms())
            case messages.Withdraw():
                return messages.Unstarted(self._backlog.withdraw(), withdrawn=True)
            case messages.Database(db):
                self._on_database(db)
            case messages.Discard(dbs):
                self._foreign.discard(dbs, _mono_ms())
            case messages.Refused(exit_code):
                self._ending.exit_code = exit_code
                self._stop_all()
        return None

    def _on_start(self, orders: tuple[RunOrder, ...]) -> Message | None:
        if self._ending.begun:
            return messages.Unstarted(tuple(order.run for order in orders))
        now_ms = _mono_ms()
        for order in orders:
            if order.run in self._runs or order.run in self._backlog or order.run in self._spool:
                continue
            # Started only when all that has come is read: the agent may have withdrawn it, or may be dead by now.
            self._backlog.add(order, now_ms)
        return None

    def _on_start_late(self, orders: tuple[RunOrder, ...]) -> Message:
        """We stood still, and the agent may do so too: its session may have ended."""
        held = (self._runs, self._backlog, self._spool)
        return messages.Unstarted(tuple(order.run for order in orders if not any(order.run in one for one in held)))

    def _on_stop(self, runs: tuple[int, ...]) -> Message | None:
        unstarted = tuple(run for run in runs if self._backlog.remove(run))
        for run in runs:
            if run in self._runs:
                self._runs.stop(run, "cancelled", _mono_ms())
        return messages.Unstarted(unstarted) if unstarted else None

    def _on_drop(self, runs: tuple[int, ...]) -> Message | None:
        gone = []
        # What has ended in this turn has a result, which goes too.
        self._take_happened()
        for run in runs:
            if run in self._runs:
                self._dying.add(run)
                self._runs.stop(run, "dropped", _mono_ms())
                continue
            self._backlog.remove(run)
            gone.append(run)
        self._spool.forget(gone, _mono_ms())
        self._untold = [result for result in self._untold if result.run not in gone]
        return messages.Gone(tuple(gone)) if gone else None

    def _on_database(self, db: str) -> None:
        """The runs of the database before are set aside, and those of this one come back; see Foreign."""
        now_ms = _mono_ms()
        self._take_happened()
        self._backlog.withdraw()
        self._given_up.clear()
        self._watches = Watches(self._runs.captures)
        self._forget_untold()
        self._foreign.leave(self._spool.db, self._leases, self._dying | self._doomed)
        back = self._foreign.enter(db)
        self._leases, self._dying, self._doomed = back.leases, set(), back.doomed
        self._spool.change(db, now_ms)
        for result in back.unwritten:
            self._spool.add(result)
        self._spool.write(now_ms)
        self._stuck = self._runs.stuck()
        live, doomed = self._own_runs(), tuple(self._doomed)
        self._keeper.put(messages.Foreign(db, self._foreign.told(), self._stuck, live, doomed))
        self._keeper.put(messages.Spooled(db, self._spool.results()))

    # --- signals -----------------------------------------------------------------------------------------------------

    def _on_signals(self) -> None:
        caught = self._signals.take()
        if signal.SIGCHLD in caught:
            self._reap()
        for number in caught:
            if number in (signal.SIGTERM, signal.SIGINT) or (number == signal.SIGHUP and self._signals.terminal):
                self._on_end_wanted(signal.Signals(number).name)
            elif number == signal.SIGHUP:
                log.info("worker %s: SIGHUP, the agent is restarted", self._config.id)
                self._keeper.kill()

    def _reap(self) -> None:
        if self._keeper.pid in self._runs.reap(_mono_ms()):
            self._on_agent_exit()

    # --- the end -----------------------------------------------------------------------------------------------------

    def _on_end_wanted(self, name: str) -> None:
        runs = counted(len(self._runs), "run")
        if self._ending.begun:
            log.info("worker %s: %s again, stopping %s", self._config.id, name, runs)
            self._stop_all()
            return
        log.info("worker %s: %s, finishing %s", self._config.id, name, runs)
        self._ending.begun = True
        self._notify.stopping(f"finishing {runs}")
        self._ending.deadline_ms = _mono_ms() + self._config.shutdown_grace_ms
        self._keeper.put(messages.Stopping())
        if unstarted := self._backlog.withdraw():
            self._keeper.put(messages.Unstarted(unstarted))

    def _stop_all(self) -> None:
        """End all runs without results: the scheduler lets them run again elsewhere once we have said goodbye."""
        self._ending.begun = self._ending.stopped = True
        self._ending.deadline_ms = None
        self._backlog.withdraw()
        for run in self._runs.ids():
            self._runs.stop(run, "dropped", _mono_ms())

    def _on_ending(self, now_ms: int) -> None:
        ending = self._ending
        if not ending.begun:
            return
        late = ending.deadline_ms is not None and now_ms >= ending.deadline_ms
        # A run that can't be ended can't be waited for either. The scheduler knows of it.
        if len(self._runs) > (len(self._stuck) if ending.stopped else 0):
            if late and not ending.stopped:
                log.info("worker %s: %s did not finish in time", self._config.id, counted(len(self._runs), "run"))
                self._stop_all()
        elif ending.leaving:
            self._on_leaving(late)
        elif not ending.delivering:
            ending.delivering = True
            ending.deadline_ms = now_ms + _DELIVERY_MS
            self._on_ending(now_ms)
        elif late or ending.exit_code or not len(self._spool):
            if self._stuck:
                log.error("worker %s: runs %s are left behind: they do not end", self._config.id, self._stuck)
            if len(self._spool):
                self._log_undelivered()
            ending.leaving = True
            ending.deadline_ms = now_ms + _GOODBYE_MS
            self._keeper.put(messages.Leave())
            self._on_leaving(late=False)

    def _crash(self) -> None:
        """One of the jobs stops every agent: end as if killed, so that the scheduler finds out which one it is."""
        log.error("worker %s: agents are stopped by a signal again and again: ending with all jobs", self._config.id)
        self._keeper.kill()
        sweep(self._state.spool_id)
        self._ending.exit_code = EXIT_STOPPED
        self._ending.done = True

    def _log_undelivered(self) -> None:
        fate = "lost: the disk fails" if self._spool.failing else "kept on disk for the next start"
        results = counted(len(self._spool), "result")
        log.warning("worker %s: did not deliver %s: %s", self._config.id, results, fate)

    def _on_leaving(self, late: bool) -> None:
        if late:
            self._keeper.kill()
            self._ending.deadline_ms = None
        self._ending.done = self._keeper.pid is None


class _Ending:
    """How far the end has come. Each of its steps has a deadline, so that a worker always ends."""

    def __init__(self) -> None:
        self.begun = False
        self.stopped = False
        self.delivering = False
        self.leaving = False
        self.done = False
        self.exit_code = 0
        self.deadline_ms: int | None = None
