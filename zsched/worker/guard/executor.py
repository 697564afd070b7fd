"""The guard's jobs from Start to Forget: the backlog, live runs, leases, results, and runs of other databases.

It has no clock, and decides nothing about which runs to take. It keeps the rules that must hold when the agent is dead:
nothing waits here for longer than a second, and at most `slots` runs live at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import structs

from zsched.model.limits import BACKLOG_WAIT_MS_MAX
from zsched.protocol import Held, RunOrder, RunResult
from zsched.worker import messages
from zsched.worker.guard.backlog import Backlog
from zsched.worker.guard.foreign import Foreign
from zsched.worker.guard.runs import Runs
from zsched.worker.guard.spool import Spool
from zsched.worker.guard.supervisor import Supervisor
from zsched.worker.guard.watches import Watches
from zsched.worker.lease import Leases
from zsched.worker.messages import FromAgent, Hello, Message

# While more runs wait for a slot, results are reported in batches: each message wakes both processes.
_BATCH_MS: Final = 20


class Executor:
    """`stopping`: the worker is to end, so nothing more is accepted."""

    def __init__(self, slots: int, runs: Runs, spool: Spool, agent: Supervisor) -> None:
        """`agent` takes the messages for the agent."""
        self.slots = slots
        self.stopping = False
        self._runs = runs
        self._spool = spool
        self._agent = agent
        self._backlog = Backlog()
        self._leases = Leases()
        self._watches = Watches(runs.captures)
        self._foreign = Foreign(runs, spool)
        # The last values that the agent was sent.
        self._disk_fails = spool.failing
        self._stuck: tuple[int, ...] = ()
        # Live runs that were dropped.
        self._dying: set[int] = set()
        # Live runs that were discarded for the scheduler of another database, before their own came back.
        self._doomed: set[int] = set()
        # Runs that the guard ended by itself, without results. They have run: each agent lists them until the goodbye.
        self._given_up: set[int] = set()
        self._batch = _Batch()

    @property
    def live(self) -> int:
        """The number of live runs."""
        return len(self._runs)

    @property
    def stuck(self) -> tuple[int, ...]:
        """Runs that can't be ended, as the agent knows them."""
        return self._stuck

    @property
    def has_lease(self) -> bool:
        """Whether any live run has a lease."""
        return bool(len(self._leases)) or self._foreign.leased

    def deadline_ms(self) -> int | None:
        """When on_tick has something to do, or None."""
        deadlines = (
            self._runs.deadline_ms(),
            self._leases.deadline_ms(),
            self._foreign.deadline_ms(),
            self._backlog.deadline_ms(),
            self._watches.deadline_ms(),
            self._spool.deadline_ms(),
            self._batch.due_ms,
        )
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def on_tick(self, now_ms: int) -> None:
        """Do what is due, and report what happened."""
        self._end_leases(now_ms)
        self._runs.on_tick(now_ms)
        self._check_disk(now_ms)
        self._foreign.on_tick(now_ms)
        if expired := self._backlog.expire(now_ms):
            self._agent.put(messages.Unstarted(expired))
        self._fill_slots(now_ms)
        self._report_output(now_ms)
        self._report_ended(now_ms)

    # --- runs --------------------------------------------------------------------------------------------------------

    def _fill_slots(self, now_ms: int) -> None:
        while self._backlog and len(self._runs) < self.slots:
            order = self._backlog.take()
            if order.lease_ms is None:
                self._runs.start(order, now_ms)
            elif self._leases.hold(order.lease_ms, now_ms):
                self._leases.add(order.run, order.lease_ms)
                self._runs.start(order, now_ms)
            else:
                self._agent.put(messages.Unstarted((order.run,)))

    def _end_leases(self, now_ms: int) -> None:
        self._foreign.end_leases(now_ms)
        for run in self._leases.take_ended(now_ms):
            # It may have ended in this turn.
            if run in self._runs:
                self._runs.stop(run, "lease_stop", now_ms)

    def kill_overdue(self, now_ms: int) -> None:
        """KILL to runs that must be dead by their leases."""
        self._foreign.kill_overdue(now_ms)
        for run in self._leases.take_overdue(now_ms):
            self._runs.stop(run, "lease_stop", now_ms)
            self._runs.kill(run, now_ms)

    def stop_all(self, now_ms: int) -> None:
        """End all runs without results: the scheduler runs their tasks elsewhere after our goodbye."""
        self.stopping = True
        self._backlog.withdraw()
        for run in self._runs.ids():
            self._runs.stop(run, "dropped", now_ms)

    def withdraw(self) -> tuple[int, ...]:
        """Forget all runs that wait for a slot, and return them."""
        return self._backlog.withdraw()

    # --- results -----------------------------------------------------------------------------------------------------

    def _report_ended(self, now_ms: int) -> None:
        """Keep the results of ended runs, and report them: at once when no run waits, else in batches."""
        self._take_happened(now_ms)
        if self._foreign.changed:
            self._stuck = self._runs.stuck()
            self._agent.put(messages.Foreign(self._spool.db, self._foreign.listed(), self._stuck))
        if self._batch.is_due(now_ms, at_once=not self._backlog):
            self._spool.write(now_ms)
            self._agent.put(messages.Ended(tuple(self._batch.results)))
            self._batch.clear()

    def _take_happened(self, now_ms: int) -> None:
        happened = self._runs.take()
        if happened.foreign:
            self._foreign.on_ends(happened.foreign, now_ms)
        for began in happened.began:
            self._agent.put(began)
        for run in (*happened.unstarted, *happened.dropped, *(result.run for result in happened.results)):
            self._leases.remove(run)
        if happened.unstarted:
            self._agent.put(messages.Unstarted(tuple(happened.unstarted), no_room=True))
        if happened.dropped:
            self._given_up.update(set(happened.dropped) - self._dying - self._doomed)
            self._dying.difference_update(happened.dropped)
            self._doomed.difference_update(happened.dropped)
            self._agent.put(messages.Gone(tuple(happened.dropped)))
        if (stuck := self._runs.stuck()) != self._stuck:
            self._stuck = stuck
            self._agent.put(messages.Stuck(stuck))
        for result in happened.results:
            self._spool.add(result)
        self._batch.results += happened.results

    def _report_spooled(self, runs: Iterable[int]) -> None:
        """Report the results of these runs that are on disk."""
        results = [self._spool.get(run) for run in runs]
        if spooled := tuple(result for result in results if result is not None):
            self._agent.put(messages.Spooled(self._spool.db, spooled))

    def _check_disk(self, now_ms: int) -> None:
        self._report_spooled(result.run for result in self._spool.on_tick(now_ms))
        if self._spool.failing != self._disk_fails:
            self._disk_fails = self._spool.failing
            self._agent.put(messages.DiskFails(self._disk_fails))

    def _report_output(self, now_ms: int) -> None:
        """Send the new output of watched runs. It is the first thing left out when the agent can't keep up."""
        for logged in self._watches.take(now_ms):
            if not self._agent.backed_up:
                self._agent.put(logged)

    # --- the agent ---------------------------------------------------------------------------------------------------

    def hello(self, identity: Hello, now_ms: int) -> Hello:
        """The first message to a new agent: `identity` with all that is held. Nothing waits for a slot: the backlog was
        withdrawn at the end of the agent before.
        """
        self._batch.clear()
        self._spool.write(now_ms)
        self._disk_fails = self._spool.failing
        results = self._spool.results()
        running = [Held(run, "running") for run in (*self._own_runs(), *sorted(self._given_up))]
        finished = [Held(result.run, "finished") for result in results]
        return structs.replace(
            identity,
            db=self._spool.db,
            stopping=self.stopping,
            held=(*running, *finished),
            results=results,
            dying=tuple(self._dying),
            doomed=tuple(self._doomed),
            stuck=self._stuck,
            leases=self._leases.lengths(),
            disk_fails=self._disk_fails,
            foreign=self._foreign.listed(),
        )

    def _own_runs(self) -> tuple[int, ...]:
        """The live runs of the current database."""
        return tuple(run for run in self._runs.ids() if run > 0)

    def on_message(self, message: FromAgent, now_ms: int) -> Message | None:
        """Handle a message of the agent. Returns the answer, if there is one at once."""
        match message:
            case messages.Alive():
                return messages.Alive()
            case messages.Start(orders, heard_ms):
                if now_ms - heard_ms >= BACKLOG_WAIT_MS_MAX:
                    return self._on_late_start(orders)
                return self._on_start(orders, now_ms)
            case messages.Lease(at_ms):
                self._leases.renew(at_ms)
            case messages.Forget(runs):
                self._spool.forget(runs, now_ms)
            case messages.Stop(runs):
                return self._on_stop(runs, now_ms)
            case messages.Drop(runs):
                return self._on_drop(runs, now_ms)
            case messages.Look():
                self._watches.add(message, now_ms)
            case messages.Withdraw():
                return messages.Unstarted(self._backlog.withdraw(), withdrawn=True)
            case messages.Database(db):
                self._on_database(db, now_ms)
            case messages.Discard(dbs):
                # What has ended in this turn has a result, which goes too.
                self._take_happened(now_ms)
                self._foreign.discard(dbs, now_ms)
        return None

    def _on_start(self, orders: tuple[RunOrder, ...], now_ms: int) -> Message | None:
        if self.stopping:
            return messages.Unstarted(tuple(order.run for order in orders))
        for order in orders:
            if order.run in self._runs or order.run in self._backlog or order.run in self._spool:
                continue
            # It starts only after all received messages are read: the agent may have withdrawn it, or may be dead.
            self._backlog.add(order, now_ms)
        return None

    def _on_late_start(self, orders: tuple[RunOrder, ...]) -> Message:
        """This process stalled, perhaps the agent too: its session may be over."""
        places = (self._runs, self._backlog, self._spool)
        return messages.Unstarted(tuple(order.run for order in orders if not any(order.run in it for it in places)))

    def _on_stop(self, runs: tuple[int, ...], now_ms: int) -> Message | None:
        unstarted = tuple(run for run in runs if self._backlog.remove(run))
        for run in runs:
            if run in self._runs:
                self._runs.stop(run, "cancelled", now_ms)
        return messages.Unstarted(unstarted) if unstarted else None

    def _on_drop(self, runs: tuple[int, ...], now_ms: int) -> Message | None:
        gone = []
        # The result of a run that has ended in this turn is dropped too.
        self._take_happened(now_ms)
        for run in runs:
            if run in self._runs:
                self._dying.add(run)
                self._runs.stop(run, "dropped", now_ms)
                continue
            self._backlog.remove(run)
            gone.append(run)
        self._spool.forget(gone, now_ms)
        self._batch.remove(gone)
        return messages.Gone(tuple(gone)) if gone else None

    def _on_database(self, db: str, now_ms: int) -> None:
        """Set the runs of the previous database aside, and take those of this one back; see Foreign."""
        self._take_happened(now_ms)
        self._backlog.withdraw()
        self._given_up.clear()
        self._watches = Watches(self._runs.captures)
        self._batch.clear()
        self._foreign.leave(self._spool.db, self._leases, self._dying | self._doomed)
        back = self._foreign.enter(db)
        self._leases, self._dying, self._doomed = back.leases, set(), back.doomed
        self._spool.change(db, now_ms)
        for result in back.unwritten:
            self._spool.add(result)
        self._spool.write(now_ms)
        self._stuck = self._runs.stuck()
        live, doomed = self._own_runs(), tuple(self._doomed)
        self._agent.put(messages.Foreign(db, self._foreign.listed(), self._stuck, live, doomed))
        self._agent.put(messages.Spooled(db, self._spool.results()))


class _Batch:
    """Results that are kept and not yet reported, and when they are due."""

    def __init__(self) -> None:
        self.results: list[RunResult] = []
        self.due_ms: int | None = None

    def is_due(self, now_ms: int, *, at_once: bool) -> bool:
        if not self.results:
            return False
        if self.due_ms is None:
            self.due_ms = now_ms + _BATCH_MS
        return at_once or now_ms >= self.due_ms

    def remove(self, runs: Iterable[int]) -> None:
        gone = set(runs)
        self.results = [result for result in self.results if result.run not in gone]
        if not self.results:
            self.due_ms = None

    def clear(self) -> None:
        self.results = []
        self.due_ms = None
