"""The dispatcher: a router from frames, commands and the tick to their handlers.

Called only by the loop thread, inside the turn's transaction. Handlers decide through the store. They return the frame
that answers a worker, or the reply to a caller; frames for other workers they put into the outbox. The loop sends the
outbox and the replies after the commit. No handler waits, and none asks the world anything: `now` and the tokens of new
sessions are given.
"""

from __future__ import annotations

from functools import partial
from typing import TypeVar, cast

from zsched import protocol
from zsched.model.limits import TICK_MS_MAX
from zsched.model.types import Now, WorkerId
from zsched.scheduler.dispatcher import (
    access,
    acts,
    bulk,
    departures,
    due,
    edits,
    foreign,
    losses,
    placement,
    polling,
    queues,
    recurrence,
    submission,
    tasks,
    watches,
)
from zsched.scheduler.dispatcher.answers import Deferred
from zsched.scheduler.dispatcher.avoidance import Avoidance
from zsched.scheduler.dispatcher.cancels import Cancels
from zsched.scheduler.dispatcher.clock import WallClock
from zsched.scheduler.dispatcher.commands import (
    AddToken,
    Beat,
    BindKey,
    Cancel,
    Command,
    DecideForeign,
    EditJob,
    EndSchedule,
    Look,
    Next,
    PauseSchedule,
    RefusedError,
    RegisterWorker,
    Report,
    ResumeSchedule,
    RevokeKey,
    RevokeToken,
    Submit,
    UseToken,
)
from zsched.scheduler.dispatcher.delivery import Delivery
from zsched.scheduler.dispatcher.hearing import Hearing
from zsched.scheduler.dispatcher.heartbeats import Heartbeats
from zsched.scheduler.dispatcher.outbox import Outbox, error
from zsched.scheduler.dispatcher.queues import PauseQueue, ResumeQueue, ShareQueue
from zsched.scheduler.dispatcher.registration import Registration
from zsched.scheduler.dispatcher.results import Results
from zsched.scheduler.dispatcher.retention import Purge, Retention
from zsched.scheduler.dispatcher.returns import Returns
from zsched.scheduler.dispatcher.session import Session, Sessions
from zsched.scheduler.dispatcher.settings import Settings
from zsched.scheduler.dispatcher.upkeep import Upkeep
from zsched.store.contract import Store

R = TypeVar("R")


class Dispatcher:
    """The scheduler's decisions over one store. `full`: as many tasks are pending as may be, as of the last turn.

    The loop reports each frame and command that it reads to `hearing`, whether or not the turn is stored.
    """

    def __init__(self, store: Store, settings: Settings, now: Now) -> None:
        self._store = store
        self._settings = settings
        self._sessions = Sessions(settings.timeout_ms)
        self.outbox = Outbox(settings.epoch)
        self.hearing = Hearing(self._sessions, now)
        self.full = False
        self._returns = Returns()
        self._registration = Registration(store, self._sessions, self._returns, settings)
        self._heartbeats = Heartbeats(store, self._sessions, self._returns, settings.epoch)
        self._results = Results(store, settings.epoch)
        self._delivery = Delivery(store, self._sessions, self._returns, self.outbox, settings.unseal)
        self._cancels = Cancels(store, self._sessions, self.outbox)
        self._clock = WallClock(now)
        self._upkeep = Upkeep(store, self._sessions, now)
        self._avoidance = Avoidance(store, self._sessions)
        self._retention = Retention(store, settings.keep, now)
        self._await_workers(now)

    def _await_workers(self, now: Now) -> None:
        """Give each worker that was active before this start one full timeout to register."""
        for worker in self._store.active_workers():
            session = Session(worker=worker, token="", peer=None, heard_ms=now.mono_ms, seen_ms=worker.last_seen_ms)
            self._sessions.open(session)
        self._sessions.keep()

    # --- the turn ----------------------------------------------------------------------------------------------------

    def on_begin(self, now: Now) -> None:
        """A turn's transaction has begun."""
        self._clock.on_begin(self._store, now)

    def on_commit(self) -> None:
        """The turn is stored."""
        self._sessions.keep()
        self._clock.on_commit()

    def on_rollback(self) -> None:
        """The turn's transaction was rolled back: nothing of it is sent, and the sessions are those from before it."""
        self.outbox.clear()
        self._sessions.restore()
        self._upkeep.ending = True
        self._retention.on_rollback()

    # --- frames ------------------------------------------------------------------------------------------------------

    def on_frame(self, peer: bytes, frame: protocol.WorkerFrame, now: Now, key: str = "") -> None:
        """Handle a worker's frame. `key`: the public key that its connection has proved to own, if any."""
        if isinstance(frame, protocol.Register):
            self.outbox.reply(peer, self._registration.on_register(peer, frame, now, key), now)
            return
        session = self._sessions.of_frame(frame.s, peer, key)
        if session is None:
            self.outbox.reply(peer, error("E_SESSION", "no such session: register again"), now)
            return
        losses.clear_suspects(self._store, session, now)
        match frame:
            case protocol.Result():
                ack = self._results.on_result(session, frame, now)
                if ack is not None:
                    self.outbox.send(session, ack)
            case protocol.Artifacts():
                self._results.on_artifacts(frame)
            case protocol.Heartbeat():
                self.outbox.send(session, self._heartbeats.on_heartbeat(session, frame, now))
            case protocol.Ready():
                self._heartbeats.on_ready(session, frame, now)
            case protocol.Started():
                self._results.on_started(session, frame, now)
            case protocol.Log():
                watches.on_log(session, self.outbox, frame, now)
            case protocol.Return():
                self._returns.on_return(self._store, session, frame, now)
            case protocol.WorkerBye():
                departures.on_bye(self._store, self._sessions, self._returns, session, frame, now)

    def on_garbage(self, peer: bytes, why: str, now: Now) -> None:
        """A peer sent bytes that are not a frame. They change nothing."""
        self.outbox.reply(peer, error("E_BAD", why), now)

    def on_unreachable(self, peer: bytes, frame: protocol.SchedulerFrame, now: Now) -> None:
        """A frame did not leave: runs in it are pending again, and the worker gets none until it sends something."""
        self._delivery.on_unreachable(peer, frame, now)

    def ack_unstored(self, peer: bytes, frame: protocol.Heartbeat, key: str) -> None:
        """Ack a heartbeat of a turn that was rolled back, by what the store says now."""
        answer = self._heartbeats.ack_unstored(peer, frame, key)
        if answer is not None:
            self.outbox.send(*answer)

    # --- commands ----------------------------------------------------------------------------------------------------

    def on_command(self, command: Command[R], now: Now) -> R | Deferred[R] | RefusedError:
        """Do what a caller asks. Raises RefusedError, having changed nothing; a refusal that has left an event is
        returned. A Deferred reply is for `complete`.
        """
        # mypy narrows the command in each case, but not R: `_reply` compares them, and this cast has nothing to hide.
        return cast("R | Deferred[R] | RefusedError", self._route(command, now))

    def _route(self, command: Command[R], now: Now) -> object:
        store, sessions = self._store, self._sessions
        match command:
            case Submit():
                return _reply(command, submission.on_submit(store, command, self._settings.pending_max, now))
            case Cancel():
                return _reply(command, self._cancels.on_cancel(command, now))
            case EditJob():
                return _reply(command, edits.on_edit(store, command, now))
            case PauseSchedule() | ResumeSchedule() | EndSchedule():
                return _reply(command, recurrence.on_change(store, command, self._cancels.cancel, now))
            case acts.Hold() | acts.Release() | acts.Rerun() | acts.Delete():
                return _reply(command, acts.on_act(store, command, self._doing(now)))
            case tasks.RerunTasks():
                return _reply(command, tasks.rerun_tasks(store, command, self._settings.pending_max, now))
            case bulk.Bulk():
                return _reply(command, bulk.step(store, command, self._doing(now)))
            case Purge():
                return _reply(command, self._retention.on_purge(command, now))
            case PauseQueue() | ResumeQueue() | ShareQueue():
                return _reply(command, queues.on_change(store, command, now))
            case Look():
                watches.on_look(store, sessions, self.outbox, command, now)
            case RegisterWorker():
                return _reply(command, polling.register(store, sessions, command, now))
            case Beat():
                polling.beat(store, sessions, command.worker_id, now)
            case Next():
                timeout_ms, avoidance = self._settings.timeout_ms, self._avoidance
                return _reply(command, polling.next_run(store, sessions, avoidance, command.worker_id, timeout_ms, now))
            case Report():
                return _reply(command, polling.report(store, sessions, command, now))
            case AddToken():
                return access.add_token(store, command, now)
            case RevokeToken():
                self._upkeep.ending = True
                return _reply(command, access.revoke_token(store, command, now))
            case UseToken():
                store.access.use_token(command.token_id, now.wall_ms)
            case BindKey():
                return _reply(command, access.bind_key(store, sessions, command, now))
            case RevokeKey():
                return _reply(command, access.revoke_key(store, sessions, self.outbox, command, now))
            case departures.RemoveWorker():
                return _reply(command, departures.remove_worker(store, sessions, command, now))
            case DecideForeign():
                return _reply(command, foreign.on_decide(store, sessions, self.outbox, command, now))
        return None

    def _doing(self, now: Now) -> acts.Doing:
        return acts.Doing(self._cancels.cancel, self._retention, self._settings.pending_max, now)

    def complete(self, reply: R | Deferred[R]) -> R:
        """The reply with the rows that the turn has written. Called after its tick and before its commit."""
        return reply.read(self._store.reads) if isinstance(reply, Deferred) else reply

    # --- time --------------------------------------------------------------------------------------------------------

    def on_tick(self, now: Now, *, drained: bool) -> int:
        """Do what is due, hand out runs, and return the moment of the next tick by the steady clock, in ms.

        `drained`: every frame that had arrived was read in this turn. Otherwise no worker is judged silent.
        """
        due_ms = due.on_due(self._store, now)
        self._upkeep.forget_keys(now)
        self._upkeep.end_token_jobs(self._cancels.cancel, now)
        if drained:
            departures.judge_silence(self._store, self._sessions, self._settings.timeout_ms, now)
        self._store.end_jobs(now.wall_ms)
        self._store.judge(now.wall_ms, self._settings.judge_max)
        # After the judgement, so that arrays which need not wait any more start in this turn.
        crowded = self._store.make_tasks(now.wall_ms, self._settings.turn_tasks_max)
        self._store.end_jobs(now.wall_ms)
        send_runs = partial(self._delivery.send_runs, now)
        self._avoidance.begin(self._settings.timeout_ms, now, send_runs)
        more = placement.place(self._store, self._sessions, self._settings.timeout_ms, now, send_runs)
        self._avoidance.end(self._settings.timeout_ms, now, send_runs)
        more |= self._store.tasks_short() or crowded
        self.full = self._store.pending_tasks() >= self._settings.pending_max
        self._retention.on_tick(now)
        self._store.flush_counters(now.wall_ms)
        self._upkeep.note_seen(now)
        return self._next_tick_ms(due_ms, now, at_once=self._upkeep.ending or more or self._store.judging)

    def _next_tick_ms(self, due_ms: int | None, now: Now, *, at_once: bool) -> int:
        moments = [now.mono_ms if at_once else now.mono_ms + TICK_MS_MAX]
        if due_ms is not None:
            moments.append(now.mono_ms + max(0, due_ms - now.wall_ms))
        if self._retention.due_ms is not None:
            moments.append(max(now.mono_ms, self._retention.due_ms))
        if self._sessions.judge_at_ms is not None:
            moments.append(max(now.mono_ms, self._sessions.judge_at_ms))
        return min(moments)

    def on_stop(self) -> None:
        """The scheduler stops: say goodbye to every worker. They keep their runs."""
        for session in self._sessions:
            self.outbox.send(session, protocol.SchedulerBye(s=session.token, ep=self._settings.epoch, reason="stop"))

    def seen_ms(self, worker_id: WorkerId) -> int | None:
        """When a worker was last heard, by the wall clock; None without a session: then the store knows. For any
        thread.
        """
        session = self._sessions.of_worker(worker_id)
        return None if session is None else session.seen_ms

    def store_seen(self) -> None:
        """Store when each worker was last heard. Within a transaction."""
        self._upkeep.store_seen()


def _reply(_command: Command[R], reply: R | Deferred[R] | RefusedError) -> object:
    """The reply, which has the type that its command names: mypy compares them."""
    return reply
