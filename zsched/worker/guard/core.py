"""The guard's decisions about runs, from the order to the ack of the result. Pure: no clock, epoll, signals or files.

It decides nothing about which runs to take. It keeps the rules that must hold when the agent is dead: nothing waits
here for longer than a second, and at most `slots` runs live at a time. The shell calls `on_<what happened>` with the
time, and obeys `effects`. A turn of the shell calls, in this order: kill_overdue; the events; on_tick; on_spawned and
the like for each of `effects.starts`; report.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping

from msgspec import structs

from zsched.model.limits import BACKLOG_WAIT_MS_MAX
from zsched.protocol import Held, RunOrder, RunResult
from zsched.worker import messages
from zsched.worker.guard.backlog import Backlog
from zsched.worker.guard.database import Database, listed
from zsched.worker.guard.effects import Effects, Orphan
from zsched.worker.guard.life import Event, Exit, Fate, Phase, Process, Run
from zsched.worker.guard.reports import Reports
from zsched.worker.guard.runs import Runs
from zsched.worker.guard.watches import Watches
from zsched.worker.messages import FromAgent, Snapshot
from zsched.worker.process.capture import Capture

log = logging.getLogger(__name__)


class Core:
    """`runs` are the live ones. `effects`: see there."""

    def __init__(self, slots: int, db: str, results: Iterable[RunResult], others: Mapping[str, Iterable[int]]) -> None:
        """`results`: those on disk for the current database `db`; `others`: the runs of those of other databases."""
        self.effects = Effects()
        self.slots = slots
        self.runs = Runs(self.effects)
        self._backlog = Backlog()
        self._here = Database(db)
        self._databases = {db: self._here}
        self._watches = Watches(self._captures)
        self._reports = Reports(self.effects, db)
        # Whether the foreign part of the state has to be listed again.
        self._foreign_changed = True
        self._here.enter(results)
        for name, numbers in others.items():
            database = self._databases[name] = Database(name)
            for number in numbers:
                database.add_aside(number)

    @property
    def db(self) -> str:
        """The current database."""
        return self._here.name

    def find(self, db: str, number: int) -> Run | None:
        """The record of a run, or None."""
        database = self._databases.get(db)
        return None if database is None else database.runs.get(number)

    @property
    def waiting(self) -> int:
        """The number of runs that wait for a slot."""
        return len(self._backlog)

    @property
    def undelivered(self) -> int:
        """The number of results of the current database that the scheduler has not acked."""
        return sum(1 for _ in self._here.results())

    @property
    def has_lease(self) -> bool:
        """Whether any live run has a lease."""
        return any(len(database.leases) for database in self._databases.values())

    @property
    def disk_fails(self) -> bool:
        """Whether the disk fails to keep results."""
        return self._reports.state.disk_fails

    def deadline_ms(self) -> int | None:
        """When on_tick or report has something to do, or None."""
        if self._backlog and len(self.runs) < self.slots:
            # A start failed, or a run was over, after the slots were filled: go on at once.
            return 0
        deadlines = [
            self.runs.deadline_ms(),
            self._backlog.deadline_ms(),
            self._watches.deadline_ms(),
            self._reports.deadline_ms(),
            *(database.leases.deadline_ms() for database in self._databases.values()),
        ]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    # --- time --------------------------------------------------------------------------------------------------------

    def kill_overdue(self, now_ms: int) -> None:
        """KILL to runs that must be dead by their leases. First in a turn: this process may have stalled."""
        for database in self._databases.values():
            for number in database.leases.take_overdue(now_ms):
                run = database.runs[number]
                self.runs.stop(run, "lease_stop", now_ms)
                self.runs.kill(run, now_ms)

    def on_tick(self, now_ms: int) -> None:
        """Do what is due, and fill the slots."""
        for database in self._databases.values():
            for number in database.leases.take_ended(now_ms):
                self.runs.stop(database.runs[number], "lease_stop", now_ms)
        self.runs.on_tick(now_ms)
        if expired := self._backlog.take_expired(now_ms):
            self._return(expired)
        while self._backlog and len(self.runs) + len(self.effects.starts) < self.slots:
            self._start(self._backlog.take(), now_ms)

    def report(self, now_ms: int, *, backed_up: bool) -> None:
        """Report what happened. `backed_up`: the agent can't keep up, so the output of watched runs is left out."""
        for run in self.runs.began:
            if run.process is not None and run.db == self.db:
                # The scheduler of a foreign run is not connected, and learns of the start from the next register.
                self.effects.send.append(messages.Began(run.number, run.process.pid, run.process.started_ms))
        self.runs.began.clear()
        output = self._watches.take(now_ms)
        if not backed_up:
            self.effects.send += output
        self._reports.send_ended(now_ms, at_once=not self._backlog)
        self._update_state()
        self._reports.send_state()

    # --- starting ----------------------------------------------------------------------------------------------------

    def _start(self, run: Run, now_ms: int) -> None:
        order = run.order
        assert order is not None
        if order.lease_ms is not None:
            if not self._here.leases.hold(order.lease_ms, now_ms):
                self._return([run])
                return
            self._here.leases.add(run.number, order.lease_ms)
        run.move(Event.START)
        self.effects.starts.append(run)

    def on_spawned(self, run: Run, pid: int, mark: str, started_ms: int, now_ms: int) -> Process:
        """The main process of a run exists. `started_ms`: the wall clock before its start.

        The shell feeds what it reads from the pipes to the `outputs` of the returned process.
        """
        return self.runs.on_spawned(run, pid, mark, started_ms, now_ms)

    def on_spawn_error(self, run: Run, why: str, wall_ms: int) -> None:
        """A run can start on no host: it has failed."""
        self._here.leases.remove(run.number)
        run.order = None
        run.result = RunResult(run.number, "failed", "spawn_error", finished_ms=wall_ms, detail=why[:1024])
        self._here.move(run, Event.SPAWN_ERROR)
        self._reports.add_ended(run)

    def on_no_room(self, run: Run) -> None:
        """This host has no room for a process: the run goes back."""
        self._here.leases.remove(run.number)
        self._here.move(run, Event.NO_ROOM)
        self._reports.add_no_room(run)

    # --- ending ------------------------------------------------------------------------------------------------------

    def on_exit(self, ended: Exit, wall_ms: int, now_ms: int) -> None:
        """A child other than the agent has been reaped. If it is in `runs.mains`, its group was killed before that."""
        self.runs.on_exit(ended, wall_ms, now_ms)

    def on_orphans(self, orphans: Iterable[Orphan], now_ms: int) -> list[Run]:
        """The children of the guard besides the agent and `runs.mains`, after `runs.scan_due`.

        Returns the runs of which no process is left: the shell reads the rest of their outputs, and calls on_over; or
        on_collecting before that, if it has to wait for their artifacts.
        """
        return self.runs.on_orphans(orphans, now_ms)

    def on_collecting(self, run: Run, now_ms: int) -> None:
        """No process of a run is left. A helper reads its artifacts: on_over follows, or `effects.late`."""
        self.runs.on_collecting(run, now_ms)

    def on_over(self, run: Run) -> None:
        """No process of a run is left, and its outputs and artifacts are complete."""
        database = self._databases[run.db]
        database.leases.remove(run.number)
        run.result = self.runs.remove(run)
        if database is not self._here:
            if (result := database.finish(run)) is not None:
                self.effects.aside.append((run.db, result))
            self._foreign_changed = True
        elif run.fate is Fate.WANTED:
            database.move(run, Event.RESULT)
            self._reports.add_ended(run)
        else:
            run.result = None
            database.move(run, Event.GIVE_UP if run.fate is Fate.GIVEN_UP else Event.VANISH)
            self._reports.add_gone(run)

    def stop_accepting(self) -> None:
        """The worker is to end: start nothing more."""
        self._reports.state = structs.replace(self._reports.state, stopping=True)
        # First, or the scheduler dispatches the same runs again at once.
        self._reports.send_state()
        if waiting := self._backlog.take_all():
            self._return(waiting)

    def say_leave(self) -> None:
        """Nothing is left to do: the agent says goodbye and exits."""
        self._reports.state = structs.replace(self._reports.state, leave=True)

    def stop_all(self, now_ms: int) -> None:
        """End all runs without results: the scheduler runs their tasks elsewhere after our goodbye."""
        self._reports.state = structs.replace(self._reports.state, stopping=True)
        self._withdraw()
        for database in self._databases.values():
            for run in database.live():
                run.fate = Fate.GIVEN_UP if run.fate is Fate.WANTED else run.fate
                self.runs.stop(run, None, now_ms)

    def _withdraw(self) -> tuple[int, ...]:
        """Forget all runs that wait for a slot, and return them."""
        runs = self._backlog.take_all()
        for run in runs:
            self._here.move(run, Event.RETURN)
        return tuple(run.number for run in runs)

    def _return(self, runs: list[Run]) -> None:
        for run in runs:
            self._here.move(run, Event.RETURN)
        self.effects.send.append(messages.Unstarted(tuple(run.number for run in runs)))

    # --- results -----------------------------------------------------------------------------------------------------

    def _forget(self, run: Run) -> None:
        self._here.move(run, Event.FORGET)
        self._reports.discard(run)
        self.effects.forget.append(run.number)

    def on_read(self, results: Iterable[RunResult]) -> None:
        """Results of the current database were found on disk, which could not be read before."""
        runs = [self._here.add_result(result) for result in results]
        if found := tuple(run.result for run in runs if run.phase is Phase.REPORTED and run.result is not None):
            self.effects.send.append(messages.Ended(found, found=True))

    def on_disk(self, *, fails: bool) -> None:
        """Whether the disk fails to keep results."""
        if fails != self.disk_fails:
            self._reports.state = structs.replace(self._reports.state, disk_fails=fails)
            self._reports.send_state()

    # --- the agent ---------------------------------------------------------------------------------------------------

    def on_message(self, message: FromAgent, now_ms: int) -> None:
        """Handle a message of the agent. The shell obeys `effects.enter` before it handles the next one."""
        match message:
            case messages.Alive():
                self.effects.send.append(messages.Alive())
            case messages.Start(orders, heard_ms):
                self._on_start(orders, now_ms, late=now_ms - heard_ms >= BACKLOG_WAIT_MS_MAX)
            case messages.Forget(numbers):
                for run in self._known(numbers):
                    if run.phase in (Phase.ENDED, Phase.REPORTED):
                        self._forget(run)
            case messages.Session():
                self._on_session(message, now_ms)
            case messages.Stop(numbers, drop):
                if drop:
                    self._on_drop(numbers, now_ms)
                else:
                    self._on_stop(numbers, now_ms)
            case messages.Look():
                self._watches.add(message, now_ms)

    def _known(self, numbers: Iterable[int]) -> Iterator[Run]:
        return (run for number in numbers if (run := self._here.runs.get(number)) is not None)

    def _on_start(self, orders: tuple[RunOrder, ...], now_ms: int, *, late: bool) -> None:
        """`late`: this process stalled, perhaps the agent too, so its session may be over."""
        new = [order for order in orders if order.run not in self._here.runs]
        if late or self._reports.state.stopping:
            if new:
                self.effects.send.append(messages.Unstarted(tuple(order.run for order in new)))
            return
        for order in new:
            # It starts only after all received messages are read: the agent may have withdrawn it, or may be dead.
            run = self._here.runs[order.run] = Run(self.db, order.run, order, now_ms)
            self._backlog.add(run)

    def _on_stop(self, numbers: Iterable[int], now_ms: int) -> None:
        waiting = []
        for run in self._known(numbers):
            if run.phase is Phase.WAITING:
                waiting.append(self._backlog.remove(run.number))
            elif run.live:
                self.runs.stop(run, "cancelled", now_ms)
        if waiting:
            self._return(waiting)

    def _on_drop(self, numbers: Iterable[int], now_ms: int) -> None:
        gone = []
        for number in numbers:
            run = self._here.runs.get(number)
            if run is not None and run.live:
                run.fate = Fate.DROPPED
                self.runs.stop(run, None, now_ms)
                continue
            gone.append(number)
            if run is not None and run.phase is Phase.WAITING:
                self._here.move(self._backlog.remove(number), Event.RETURN)
            elif run is not None and run.phase in (Phase.ENDED, Phase.REPORTED):
                self._forget(run)
        if gone:
            self.effects.send.append(messages.Ended(gone=tuple(gone)))

    def _on_session(self, session: messages.Session, now_ms: int) -> None:
        if session.db != self.db:
            self._leave(session.db)
        for name in session.discard:
            database = self._databases.get(name)
            if database is None or database is self._here or (live := database.discard()) is None:
                continue
            for run in live:
                self.runs.stop(run, None, now_ms)
            self.effects.discard.append(name)
            self._foreign_changed = True
        if session.heard_ms is not None:
            self._here.leases.renew(session.heard_ms)
        if session.lost:
            # Later reports would reach the next session, and its viewers would miss the output before them.
            self._watches = Watches(self._captures)
            self.effects.send.append(messages.Unstarted(self._withdraw(), withdrawn=True))

    # --- a change of the database ------------------------------------------------------------------------------------

    def _leave(self, db: str) -> None:
        """Set the runs of the current database aside, and those of this one back."""
        self._withdraw()
        self._watches = Watches(self._captures)
        self._reports.take_ended()
        self._reports.clear()
        self.runs.began.clear()
        self._here.leave()
        self._here = self._databases.setdefault(db, Database(db))
        self._foreign_changed = True
        self.effects.enter = db

    def on_entered(self, results: Iterable[RunResult]) -> None:
        """The shell has obeyed `effects.enter`: these are the results on disk for that database."""
        self._here.enter(results)
        for name in [name for name, database in self._databases.items() if not database.runs]:
            if name != self.db:
                del self._databases[name]
        self.effects.send.append(self.snapshot())

    def snapshot(self) -> Snapshot:
        """All that is held, for a new agent or after a change of the database. Nothing waits for a slot."""
        self._reports.take_ended()
        self._reports.clear()
        self._update_state()
        live = list(self._here.live())
        given_up = sorted(run.number for run in self._here.runs.values() if run.phase is Phase.GIVEN_UP)
        results = tuple(run.result for run in self._here.results() if run.result is not None)
        return Snapshot(
            state=self._reports.take_state(),
            held=(
                *(Held(run.number, "running") for run in live),
                *(Held(number, "running") for number in given_up),
                *(Held(result.run, "finished") for result in results),
            ),
            results=results,
            dropped=tuple(run.number for run in live if run.fate is Fate.DROPPED),
            discarded=tuple(run.number for run in live if run.fate is Fate.DISCARDED),
            leases=self._here.leases.lengths(),
        )

    def on_agent_exit(self) -> None:
        """The agent has ended. What it was to start may be void."""
        self._withdraw()

    # --- the state of the worker -------------------------------------------------------------------------------------

    def _update_state(self) -> None:
        if self.runs.take_stuck_changed() or self._foreign_changed:
            self._foreign_changed = False
            self._reports.state = structs.replace(
                self._reports.state,
                db=self.db,
                foreign=listed(database for database in self._databases.values() if database is not self._here),
                stuck=tuple(sorted(run.number for run in self.runs.stuck if run.db == self.db)),
            )

    def _captures(self, number: int) -> tuple[Capture, Capture] | None:
        """The captured outputs of a live run of the current database so far; None when it does not live."""
        run = self._here.runs.get(number)
        if run is None or run.process is None:
            return None
        stdout, stderr = run.process.outputs
        return stdout.capture, stderr.capture
