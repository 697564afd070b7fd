"""The dispatcher: what the scheduler does with each frame, each command, and the passing of time.

Called only by the loop thread, inside the turn's transaction. It decides through the store and puts frames for workers
into the outbox, which the loop sends after the commit. It never waits, and has no clock or source of random numbers:
`now` and the tokens of new sessions are given.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from zsched import protocol
from zsched.model import schedule
from zsched.model.limits import (
    ACK_RUNS_MAX,
    ERROR_INTERVAL_MS,
    ERROR_PEERS_MAX,
    FORGET_INTERVAL_MS,
    FORGET_KEYS_MAX,
    IDEMPOTENCY_MS,
    JUMP_MS,
    LINE_INTERVAL_MS,
    PENDING_RUNS_MAX,
    REGISTER_GAP_MS,
    REGISTERS_MAX,
    SEEN_MS_MAX,
    SEEN_MS_MIN,
    SESSIONS_MAX,
    STALE_FRAME_GAP_MS,
    STALE_FRAMES_MAX,
    TICK_MS_MAX,
    WATCH_MS,
    WINDOW_MAX,
    WINDOW_PER_SLOT_MAX,
)
from zsched.model.rate import Rate, Throttled
from zsched.model.types import JobId, Now, Outcome, Reason, RunId, RunStatus, WorkerId, lease_margin_ms
from zsched.model.units import counted, some
from zsched.scheduler.dispatcher import (
    access,
    answers,
    arrival,
    bulk,
    cancels,
    foreign,
    losses,
    owners,
    placement,
    polling,
    recurrence,
    retries,
)
from zsched.scheduler.dispatcher.commands import (
    AddToken,
    Beat,
    BindKey,
    Bulk,
    Cancel,
    Command,
    ConflictError,
    DecideForeign,
    EditJob,
    EndSchedule,
    FullError,
    Look,
    Made,
    Next,
    PauseSchedule,
    RegisterWorker,
    Reply,
    Report,
    ResumeSchedule,
    ReusedError,
    RevokeKey,
    RevokeToken,
    Submit,
    TooManyError,
    UseToken,
)
from zsched.scheduler.dispatcher.hearing import Hearing
from zsched.scheduler.dispatcher.orders import Unseal, introduced, moment, order, outcome
from zsched.scheduler.dispatcher.returns import Returns
from zsched.scheduler.dispatcher.session import Session, Sessions
from zsched.store.contract import Claimed, Store, Submitted

log = logging.getLogger(__name__)


class Dispatcher:
    """The scheduler's decisions on one store. `outbox` holds (peer, frame) in order of sending; the loop empties it."""

    def __init__(
        self,
        store: Store,
        *,
        epoch: int,
        timeout_ms: int,
        new_token: Callable[[], str],
        now: Now,
        pending_max: int = PENDING_RUNS_MAX,
        keyed: bool = False,
        unseal: Unseal | None = None,
    ) -> None:
        """`keyed`: workers authenticate by a key; a frame without a key, or with another worker's, is refused. `unseal`
        opens jobs' secrets; None: none can be opened.
        """
        self.outbox: list[tuple[bytes, protocol.SchedulerFrame]] = []
        # New output of running runs that callers look at; the loop passes it on.
        self.output: list[protocol.Log] = []
        self._store = store
        self._epoch = epoch
        self._timeout_ms = timeout_ms
        self._pending_max = pending_max
        self._new_token = new_token
        self._keyed = keyed
        self._unseal = unseal or _closed
        self._sessions = Sessions(timeout_ms)
        # Signs of life. The loop reports each frame and command that it reads, stored or not.
        self.hearing = Hearing(self._sessions, now)
        # How much the wall clock is ahead of the steady one, in this turn and in the last that was stored.
        self._wall_ahead_ms = self._stored_wall_ahead_ms = now.wall_ms - now.mono_ms
        # The jump of it that this turn has seen, 0 for none.
        self._jump_ms = 0
        self._scolded: dict[tuple[bytes, str], int] = {}
        self._registers = Rate(REGISTERS_MAX, REGISTER_GAP_MS)
        self._stale_frames = Rate(STALE_FRAMES_MAX, STALE_FRAME_GAP_MS)
        self._returns = Returns()
        # Lines that a peer can cause with each of its frames.
        self._refusals, self._rivals, self._results, self._unreachable = (
            Throttled(log, level, LINE_INTERVAL_MS)
            for level in (logging.WARNING, logging.WARNING, logging.INFO, logging.WARNING)
        )
        self._forget_at_ms = now.mono_ms
        # When the moments at which workers were last heard were last stored.
        self._seen_stored_ms = now.mono_ms
        # Whether as many runs are pending as may be, at the end of the last turn.
        self.full = False
        # Whether a revoked token may have jobs that are still to be ended.
        self._ending = True
        self._await_workers(now)

    def _await_workers(self, now: Now) -> None:
        """Give each worker that was active before this start one full timeout to register."""
        for worker in self._store.active_workers():
            session = Session(worker=worker, token="", peer=None, heard_ms=now.mono_ms, seen_ms=worker.last_seen_ms)
            self._sessions.open(session)
        self._sessions.keep()

    # --- the turn ----------------------------------------------------------------------------------------------------

    def on_begin(self, now: Now) -> None:
        """A turn's transaction has begun. A jump of the wall clock is handled before anything is timed by it."""
        self._wall_ahead_ms = now.wall_ms - now.mono_ms
        jump_ms = self._wall_ahead_ms - self._stored_wall_ahead_ms
        self._jump_ms = jump_ms if abs(jump_ms) > JUMP_MS else 0
        if self._jump_ms:
            self._store.shift(jump_ms, now.wall_ms)

    def on_commit(self) -> None:
        """The turn is stored."""
        self._sessions.keep()
        self._stored_wall_ahead_ms = self._wall_ahead_ms
        if self._jump_ms:
            log.warning("the wall clock jumped by %d ms", self._jump_ms)

    def on_rollback(self) -> None:
        """The turn's transaction was rolled back: nothing of it is sent, and the sessions are those from before it."""
        self.outbox.clear()
        self.output.clear()
        self._sessions.restore()
        self._ending = True

    # --- frames ------------------------------------------------------------------------------------------------------

    def on_frame(self, peer: bytes, frame: protocol.WorkerFrame, now: Now, key: str = "") -> None:
        """Handle a worker's frame. `key`: the public key that its connection has proved to own, if any."""
        if isinstance(frame, protocol.Register):
            self._on_register(peer, frame, now, key)
            return
        session = self._sessions.of_frame(frame.s, peer, key)
        if session is None:
            self._reply_error_throttled(peer, "E_SESSION", "no such session: register again", now)
            return
        if session.suspects:
            losses.clear_suspects(self._store, session, now)
        match frame:
            case protocol.Result():
                self._on_result(session, frame, now)
            case protocol.Heartbeat():
                self._on_heartbeat(session, frame, now)
            case protocol.Ready():
                self._on_asking(session, frame, now)
            case protocol.Started():
                self._on_started(session, frame.run, frame.at_ms, now)
            case protocol.Log():
                if session.watched.get(RunId(frame.run), 0) >= now.mono_ms:
                    self.output.append(frame)
            case protocol.Return():
                self._on_return(session, frame, now)
            case protocol.WorkerBye():
                self._on_bye(session, frame, now)

    def on_garbage(self, peer: bytes, why: str, now: Now) -> None:
        """A peer sent something that is not a frame. It changes nothing."""
        self._reply_error_throttled(peer, "E_BAD", why, now)

    def on_unreachable(self, peer: bytes, frame: protocol.SchedulerFrame, now: Now) -> None:
        """A frame was certainly not sent: its runs are pending again, and the worker gets none until its next frame."""
        for session in self._sessions:
            if session.peer == peer:
                session.window = 0
                session.load = None
                if isinstance(frame, protocol.Run):
                    runs = [RunId(order.run) for order in frame.runs]
                    requeue = self._store.requeue_unstarted
                    back = sum(requeue(run, session.name, Reason.UNDELIVERED, now.wall_ms) for run in runs)
                    # A worker that reads nothing and asks for more would else get them again and again.
                    self._give_back(session, back, now)
                line = "worker %s can't be reached: a frame could not be sent"
                self._unreachable.write(now.mono_ms, line, session.name)

    def _on_register(self, peer: bytes, frame: protocol.Register, now: Now, key: str) -> None:
        if self._keyed and (wrong := access.wrong_key(self._store, WorkerId(frame.worker), key)) is not None:
            self._refusals.write(now.mono_ms, "worker %s is refused: %s", frame.worker, wrong)
            self._reply_error_throttled(peer, "E_KEY", wrong, now, fatal=True)
            return
        if protocol.VERSION not in frame.versions:
            sentence = f"this scheduler speaks version {protocol.VERSION} of the protocol"
            self._reply_error_throttled(peer, "E_VERSION", sentence, now, fatal=True)
            return
        name = WorkerId(frame.worker)
        old = self._sessions.of_worker(name)
        if old is None and len(self._sessions) >= SESSIONS_MAX:
            self._reply_error_throttled(peer, "E_BUSY", f"the scheduler serves at most {SESSIONS_MAX} workers", now)
            return
        if old is not None and arrival.is_late(old, frame):
            self._rivals.write(now.mono_ms, "worker %s: a register from before its session is ignored", name)
            self._reply_error_throttled(peer, "E_SESSION", "your worker has registered since then", now)
            return
        if old is not None and not arrival.may_take_over(old, frame):
            fatal, sentence = arrival.on_rival(old, frame.incarnation, now)
            self._rivals.write(now.mono_ms, "worker %s: another worker asks for the same name", name)
            self._refuse(peer, "E_DUP", sentence, fatal=fatal)
            return
        if not self._registers.take(name, now.mono_ms):
            self._reply_error_throttled(peer, "E_BUSY", f"worker {name} registers too often", now)
            return
        if foreign.must_wait(self._store, frame, now):
            self._reply_error_throttled(peer, "E_BUSY", foreign.why_wait(name), now)
            return
        self._open_session(peer, frame, old, now, key)

    def _open_session(self, peer: bytes, frame: protocol.Register, old: Session | None, now: Now, key: str) -> None:
        """Admit a worker that may have its name, in place of its `old` session, and reconcile what it holds."""
        name = WorkerId(frame.worker)
        worker = access.within_slots(self._store, introduced(frame, now), key)
        same_start = old is not None and old.worker.incarnation == worker.incarnation
        if old is not None and not same_start:
            spooled = arrival.finished(self._store, frame)
            self._returns.count(name, len(self._store.held_by(name)), now.mono_ms)
            losses.lose_worker(self._store, name, "started anew", now, crash=not old.leaving, spared=spooled)
        self._store.register(worker, now.wall_ms)
        session = Session(
            worker=worker,
            token=self._new_token(),
            peer=peer,
            heard_ms=now.mono_ms,
            seen_ms=now.wall_ms,
            key=key,
            sent_ms=frame.sent_ms,
            window_max=WINDOW_PER_SLOT_MAX * worker.slots if worker.slots < frame.slots else WINDOW_MAX,
            survived=old.survived if old is not None and same_start else 0,
        )
        self._sessions.open(session)
        if frame.leaving:
            arrival.announce_end(self._store, self._sessions, session, now)
        keep, kill, missing = arrival.adopt(self._store, session, frame, now)
        foreign.note(self._store, session, foreign.others(self._store, frame), now)
        self._give_back(session, missing, now)
        holds = counted(len(keep), "run")
        log.info("worker %s registered: %s, holds %s", name, counted(worker.slots, "slot"), holds)
        if kill:
            log.warning("worker %s must kill %s that it no longer owns", name, counted(len(kill), "run"))
        self._send(
            session,
            protocol.Registered(
                s=session.token,
                ep=self._epoch,
                db=self._store.identity,
                heartbeat_ms=min(frame.heartbeat_ms or self._timeout_ms, self._timeout_ms // 3),
                timeout_ms=self._timeout_ms,
                keep=tuple(keep),
                kill=tuple(kill),
                discard=session.discard,
            ),
        )

    def _on_heartbeat(self, session: Session, frame: protocol.Heartbeat, now: Now) -> None:
        stuck = []
        for run_id in frame.stuck:
            if self._store.mark_stuck(RunId(run_id), session.name, now.wall_ms):
                stuck.append(run_id)
        if stuck:
            runs = counted(len(stuck), "run")
            log.error("worker %s can't end the processes of %s: %s", session.name, runs, some(stuck))
        self._on_asking(session, frame, now)
        foreign.note(self._store, session, frame.foreign, now)
        kill, cancel, missing = arrival.reconcile(self._store, session, frame.runs, frame.n, now)
        self._give_back(session, missing, now)
        self._ack(session, frame, kill, cancel)

    def _ack(self, session: Session, frame: protocol.Heartbeat, kill: list[RunId], cancel: list[RunId]) -> None:
        ack = protocol.HeartbeatAck(
            s=session.token,
            ep=self._epoch,
            seq=frame.seq,
            kill=tuple(kill[:ACK_RUNS_MAX]),
            cancel=tuple(cancel[:ACK_RUNS_MAX]),
            discard=session.discard,
        )
        self._send(session, ack)

    def ack_unstored(self, peer: bytes, frame: protocol.Heartbeat, key: str) -> None:
        """Ack a heartbeat of a turn that was rolled back, by what the store says now. Its worker is alive, and no lease
        may end because of the disk. The next heartbeat repeats what this one could not store.
        """
        session = self._sessions.of_frame(frame.s, peer, key)
        if session is None:
            return
        held = self._store.held_by(session.name)
        known = {run.run_id for run in held if run.stuck}
        # An ack says that stuck runs are stored as such.
        if known.issuperset(RunId(run) for run in frame.stuck):
            self._ack(session, frame, *arrival.unwanted(held, frame.runs))

    def _on_asking(self, session: Session, frame: protocol.Ready | protocol.Heartbeat, now: Now) -> None:
        session.ask(frame.window, frame.ahead)
        if frame.leaving:
            arrival.announce_end(self._store, self._sessions, session, now)

    def _on_started(self, session: Session, run_id: int, at_ms: int, now: Now) -> None:
        if (
            self._store.start(RunId(run_id), session.name, moment(at_ms, now))
            and placement.load(self._store, session).probation
        ):
            session.suspects.setdefault(RunId(run_id), now.mono_ms)

    def _on_result(self, session: Session, frame: protocol.Result, now: Now) -> None:
        verdicts: dict[int, protocol.Verdict] = {}
        refused: dict[int, Outcome] = {}
        for result in frame.results:
            if result.run in verdicts:
                continue
            ended = outcome(result, now)
            losses.outlive(self._store, session, ended.run_id)
            verdict = verdicts[result.run] = self._store.finish(ended, session.name, now.wall_ms)
            if verdict == "stored":
                if result.status == "failed":
                    retries.follow(self._store, RunId(result.run), now)
                log.debug("run %d: %s (%s), says worker %s", result.run, result.status, result.reason, session.name)
            else:
                refused[result.run] = ended
        if refused:
            self._on_refused(session, refused, verdicts, now)
        session.load = None
        if verdicts:
            self._send(session, protocol.ResultAck(s=session.token, ep=self._epoch, verdicts=tuple(verdicts.items())))

    def _on_refused(
        self, session: Session, refused: dict[int, Outcome], verdicts: dict[int, protocol.Verdict], now: Now
    ) -> None:
        """Some results of a frame were not stored: one log line and one event for all of them. Stale ones that may not
        leave an event now are taken out of the verdicts, so that the worker sends them again.
        """
        why = ", ".join(sorted({verdicts[run] for run in refused}))
        line = "worker %s: %s not stored (%s), of runs %d to %d"
        results = counted(len(refused), "result")
        self._results.write(now.mono_ms, line, session.name, results, why, min(refused), max(refused))
        stale = [ended for run, ended in refused.items() if verdicts[run] == "stale"]
        if not stale:
            return
        if self._stale_frames.take(session.name, now.mono_ms):
            self._store.note_stale(stale, session.name, now.wall_ms)
            return
        for ended in stale:
            del verdicts[ended.run_id]

    def _on_return(self, session: Session, frame: protocol.Return, now: Now) -> None:
        returned = 0
        for run_id in frame.runs:
            returned += self._store.requeue_unstarted(RunId(run_id), session.name, Reason.RETURNED, now.wall_ms)
            session.suspects.pop(RunId(run_id), None)
        session.load = None
        self._give_back(session, returned, now)

    def _give_back(self, session: Session, runs: int, now: Now) -> None:
        """A worker did not keep this many runs that it was handed. When they are many, it gets none for a while."""
        self._returns.count(session.name, runs, now.mono_ms)
        session.paused_until_ms = self._returns.paused_until_ms(session.name)

    def _on_bye(self, session: Session, frame: protocol.WorkerBye, now: Now) -> None:
        log.info("worker %s says goodbye: %s", session.name, frame.reason)
        if frame.reason == "guard_lost":
            losses.lose_worker(self._store, session.name, "lost its guard", now, crash=not session.leaving)
        else:
            self._returns.count(session.name, arrival.leave(self._store, session, frame, now), now.mono_ms)
        foreign.forget_processes(self._store, session.name, now)
        self._retire(session, frame.reason, now)

    # --- commands ----------------------------------------------------------------------------------------------------

    def on_command(self, command: Command, now: Now) -> Reply:
        """Do what a caller asks and return the reply, which `complete` fills. Raises RefusedError, having changed
        nothing; one that has left an event is the reply.
        """
        match command:
            case Submit():
                return self._on_submit(command, now)
            case Cancel():
                self._on_cancel(command, now)
            case PauseSchedule() | ResumeSchedule() | EndSchedule() | EditJob():
                job = owners.find_job(self._store, command.job_id, command.by)
                recurrence.change(self._store, job, command, now)
                if isinstance(command, EndSchedule) and command.cancel:
                    self._cancel(job.job_id, command.by.actor, now)
            case Bulk():
                return bulk.step(self._store, command, self._cancel, now)
            case Look():
                self._on_look(command, now)
            case RegisterWorker():
                polling.register(self._store, self._sessions, command, now)
            case Beat():
                polling.beat(self._store, self._sessions, command.worker_id, now)
            case Next():
                session = polling.beat(self._store, self._sessions, command.worker_id, now)
                return polling.next_run(self._store, session, self._timeout_ms, now)
            case Report():
                return polling.report(self._store, self._sessions, command, now)
            case AddToken():
                access.add_token(self._store, command)
            case RevokeToken():
                access.revoke_token(self._store, command, now)
                self._ending = True
            case UseToken():
                self._store.access.use_token(command.token_id, now.wall_ms)
            case BindKey():
                return access.bind_key(self._store, self._sessions, command, now)
            case RevokeKey():
                ended = access.revoke_key(self._store, self._sessions, command, now)
                if ended is not None and ended.peer is not None:
                    self._refuse(ended.peer, "E_KEY", "this key was revoked", fatal=True)
            case DecideForeign():
                self._on_decide_foreign(command, now)
        return None

    def complete(self, command: Command, reply: Reply) -> Reply:
        """The reply with the rows that the turn has written, read after its tick and before its commit."""
        return answers.complete(self._store.reads, command, reply)

    def _on_submit(self, command: Submit, now: Now) -> Made | Submitted:
        token = owners.find_token(self._store, command.by)
        once = command.once
        if once is not None:
            before = self._store.idempotency.find(once.caller, once.key, now.wall_ms - IDEMPOTENCY_MS)
            if before is not None:
                if before.digest != once.digest:
                    raise ReusedError
                return before
        if len(command.specs) > self._pending_max:
            raise TooManyError(len(command.specs), self._pending_max)
        if self._store.pending_tasks() + len(command.specs) > self._pending_max:
            raise FullError
        specs = command.specs if token is None else owners.admit(self._store, token, command.specs)
        fires = [None if spec.schedule is None else schedule.next_fire_ms(spec.schedule, now.wall_ms) for spec in specs]
        metered = token is not None and token.pending_max is not None
        made = self._store.submit(specs, fires, command.by.actor, now.wall_ms, owner=command.by.owner, metered=metered)
        if once is not None:
            submitted = Submitted(once.digest, made[0], made[-1], len(made))
            self._store.idempotency.keep(once.caller, once.key, submitted, now.wall_ms)
        log.debug("jobs %d to %d submitted by %s", made[0], made[-1], command.by.actor)
        return Made(made, specs, fires, command.by.owner, now.wall_ms)

    def _on_cancel(self, command: Cancel, now: Now) -> None:
        job = owners.find_job(self._store, command.job_id, command.by)
        if not self._cancel(job.job_id, command.by.actor, now):
            sentence = f"Nothing of job {job.job_id} is pending or running"
            if job.schedule is not None and job.ended_ms is None:
                remedy = f"`zsched end {job.job_id}` (DELETE /jobs/{job.job_id})"
                sentence += f" now; its schedule goes on: end it with {remedy}"
            raise ConflictError("finished", sentence)

    def _cancel(self, job_id: JobId, actor: str, now: Now) -> cancels.Met | None:
        """Cancel what is live of a job; None: nothing is."""

        def tell(session: Session, run_id: RunId) -> None:
            self._send(session, protocol.Cancel(s=session.token, ep=self._epoch, runs=(run_id,)))

        return cancels.cancel(self._store, self._sessions, job_id, actor, now, tell)

    def _on_decide_foreign(self, command: DecideForeign, now: Now) -> None:
        session = self._sessions.of_worker(command.worker_id)
        foreign.decide(self._store, session, command, now)
        if session is not None and session.discard:
            # Repeated in each heartbeat_ack until they are gone.
            self._send(session, protocol.Cancel(s=session.token, ep=self._epoch, runs=(), discard=session.discard))

    def _on_look(self, command: Look, now: Now) -> None:
        run = self._store.run(command.run_id)
        if run is None or run.status is not RunStatus.RUNNING or run.worker_id is None:
            return
        session = self._sessions.of_worker(run.worker_id)
        if session is None or session.peer is None:
            return
        for old in [old for old, until_ms in session.watched.items() if until_ms < now.mono_ms]:
            del session.watched[old]
        session.watched[command.run_id] = now.mono_ms + 2 * WATCH_MS
        watch = protocol.Watch(
            s=session.token,
            ep=self._epoch,
            run=command.run_id,
            stdout=command.stdout,
            stderr=command.stderr,
            for_ms=WATCH_MS,
        )
        self._send(session, watch)

    # --- time --------------------------------------------------------------------------------------------------------

    def on_tick(self, now: Now, *, drained: bool) -> int:
        """Do what is due, hand out runs, and return the moment of the next tick by the steady clock, in ms.

        `drained`: every frame that had arrived was read in this turn. Otherwise no worker is judged silent.
        """
        due_ms = self._store.next_due_ms()
        if due_ms is not None and due_ms <= now.wall_ms:
            self._on_due(now)
            due_ms = self._store.next_due_ms()
        if now.mono_ms >= self._forget_at_ms:
            self._forget_keys(now)
        if self._ending:
            self._ending = owners.end_jobs(self._store, self._cancel, now)
        if drained:
            self._judge(now)
        more = placement.place(self._store, self._sessions, self._timeout_ms, now, partial(self._hand, now))
        self.full = self._store.pending_tasks() >= self._pending_max
        self._store.flush_counters(now.wall_ms)
        self._note_seen(now)
        moments = [now.mono_ms if self._ending or more else now.mono_ms + TICK_MS_MAX]
        if due_ms is not None:
            moments.append(now.mono_ms + max(0, due_ms - now.wall_ms))
        if self._sessions.judge_at_ms is not None:
            moments.append(max(now.mono_ms, self._sessions.judge_at_ms))
        return min(moments)

    def on_stop(self, now: Now) -> None:
        """The scheduler stops: say goodbye to every worker. They keep their runs."""
        for session in self._sessions:
            self._send(session, protocol.SchedulerBye(s=session.token, ep=self._epoch, reason="stop"))

    def seen_ms(self, worker_id: WorkerId) -> int | None:
        """When a worker was last heard, by the wall clock; None without a session: then the store knows. For any
        thread.
        """
        session = self._sessions.of_worker(worker_id)
        return None if session is None else session.seen_ms

    def _note_seen(self, now: Now) -> None:
        """Store when workers were last heard: now and then with a turn that writes anyway, else rarely. For readers
        after a crash; until then they ask `seen_ms`.
        """
        every_ms = SEEN_MS_MIN if self._store.rows_changed else SEEN_MS_MAX
        if now.mono_ms - self._seen_stored_ms >= every_ms:
            # Also when the turn fails: it must not be this that makes the next one fail.
            self._seen_stored_ms = now.mono_ms
            self.store_seen()

    def store_seen(self) -> None:
        """Store when each worker was last heard. Within a transaction."""
        self._store.note_seen({session.name: session.seen_ms for session in self._sessions})

    def _on_due(self, now: Now) -> None:
        for worker_id, run_id in self._store.end_overdue(now.wall_ms):
            log.info("run %d: its time is over, and worker %s had not said how it ended", run_id, worker_id)
            retries.follow(self._store, run_id, now)
            session = self._sessions.of_worker(worker_id)
            if session is not None:
                session.load = None
        self._store.release_due(now.wall_ms)
        recurrence.fire_due(self._store, now)

    def _forget_keys(self, now: Now) -> None:
        """Drop the keys of submits that have expired. When there may be more, the next turn goes on."""
        forgotten = self._store.idempotency.forget(now.wall_ms - IDEMPOTENCY_MS, FORGET_KEYS_MAX)
        more = forgotten == FORGET_KEYS_MAX
        self._forget_at_ms = now.mono_ms + (0 if more else FORGET_INTERVAL_MS)

    def _judge(self, now: Now) -> None:
        for session in self._sessions.silent(now.mono_ms, self._patience_ms):
            silence_ms = now.mono_ms - session.heard_ms
            log.warning("worker %s is inactive: silent for %d ms", session.name, silence_ms)
            why = f"silent for {silence_ms} ms"
            losses.lose_worker(self._store, session.name, why, now, crash=not session.leaving)
            self._retire(session, "silent", now)

    def _patience_ms(self, session: Session) -> int:
        """How long a worker may be silent: until the last lease of its runs is over by any clock, if it has any."""
        lease_ms = placement.load(self._store, session).lease_ms
        return max(self._timeout_ms, lease_ms + lease_margin_ms(lease_ms) if lease_ms else 0)

    def _retire(self, session: Session, why: str, now: Now) -> None:
        self._store.note_seen({session.name: session.seen_ms})
        self._store.deactivate(session.name, why, now.wall_ms)
        self._sessions.close(session.name)

    # --- the outbox --------------------------------------------------------------------------------------------------

    def _hand(self, now: Now, session: Session, claimed: Sequence[Claimed]) -> None:
        orders = []
        for run in claimed:
            try:
                orders.append(order(run, self._unseal))
            except ValueError as error:
                self._quarantine(session, run, str(error), now)
            else:
                log.debug("run %d of job %d: handed to worker %s", run.run_id, run.job_id, session.name)
        self._send(session, protocol.Run(s=session.token, ep=self._epoch, n=session.n, runs=tuple(orders)))

    def _quarantine(self, session: Session, run: Claimed, why: str, now: Now) -> None:
        """No worker can run it: its secrets can't be read."""
        log.error("run %d of job %d fails: %s", run.run_id, run.job_id, why)
        ended = Outcome(
            run_id=run.run_id,
            status=RunStatus.FAILED,
            reason=Reason.QUARANTINED,
            detail=why,
            finished_ms=now.wall_ms,
        )
        self._store.finish(ended, session.name, now.wall_ms)
        session.load = None

    def _send(self, session: Session, frame: protocol.SchedulerFrame) -> None:
        if session.peer is not None:
            self.outbox.append((session.peer, frame))

    def _refuse(self, peer: bytes, code: protocol.ErrorCode, sentence: str, *, fatal: bool) -> None:
        self.outbox.append((peer, protocol.Error(code=code, fatal=fatal, detail=sentence)))

    def _reply_error_throttled(
        self, peer: bytes, code: protocol.ErrorCode, sentence: str, now: Now, *, fatal: bool = False
    ) -> None:
        """Answer what is refused, with each code at most once in ERROR_INTERVAL_MS to each peer."""
        last_ms = self._scolded.get((peer, code))
        if last_ms is not None and now.mono_ms - last_ms < ERROR_INTERVAL_MS:
            return
        if len(self._scolded) >= ERROR_PEERS_MAX:
            self._scolded.clear()
        self._scolded[peer, code] = now.mono_ms
        self._refuse(peer, code, sentence[:1000], fatal=fatal)


def _closed(name: str, _sealed: str) -> str:
    raise ValueError(f"this scheduler has no key for the secret {name}")
