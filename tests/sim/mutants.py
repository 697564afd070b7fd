"""The simulator's own test: zsched with one guard taken away, by name. The seeds must notice each.

A mutant is some edits (tests/anchors.py) of functions or SQL texts, in this process and for a while. What an edit
changes must be there: when the code changes, tests/unit/test_mutants.py names the mutants to update. By hand:
python -m tests.sim.mutants [--count] [NAME …]
"""

# ruff: noqa: E501  (what is replaced is as long as it is)
# ruff: noqa: T201  (stdout is the interface)
from __future__ import annotations
import __future__

import argparse
import importlib
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest.mock import patch

from tests.anchors import (
    Edit,
    always,
    in_row,
    locate,
    never,
    part,
    returns,
    without_call,
    without_condition,
    without_row,
)
from tests.sim.mutant import Mutant, mutant
from tests.sim.runner import STANDBYS, run_seed
from tests.sim.worker_mutants import ARTIFACTS, DISK, EFFECTS, EXCUSED, PROCESSES, ROWS, SEARCH

SEEDS_MAX: Final = 300
# What one process takes at a time when all seeds are run.
_CHUNK: Final = 25


_REGISTERS_TOO_EARLY: Final = (
    (
        "SessionState.lose",
        "self.move(SessionEvent.LOSE)",
        "self.move(SessionEvent.LOSE)\n        self.move(SessionEvent.WITHDRAW)\n        self._register_at_ms = 0",
    ),
    ("SessionState.on_withdrawn", "self.move(SessionEvent.WITHDRAW)", "pass"),
)


def life(state: str, cause: str, old: str, new: str) -> Edit:
    """`old` becomes `new` in one row of the table of a run's life."""
    return in_row("lifecycle.MOVES", f"State.{state}, Cause.{cause}", old, new)


def no_life(state: str, cause: str) -> Edit:
    """The table of a run's life lacks a row."""
    return without_row("lifecycle.MOVES", f"State.{state}, Cause.{cause}")


CANCELLED_TO_LOST: Final = (
    "State.CANCELLED, Reason.CANCELLED",
    "State.FAILED, Reason.WORKER_LOST, Cause.REQUEUE, attempt=True",
)

_MUTANTS: Final = (
    *PROCESSES,
    *ARTIFACTS,
    *DISK,
    *EFFECTS,
    *ROWS,
    *SEARCH,
    # --- results and fencing ---
    mutant(
        "a result is stored without asking who owns the run",
        life("RUNNING", "SUCCEED", "fenced=True", "fenced=False"),
        life("RUNNING", "FAIL", "fenced=True", "fenced=False"),
    ),
    # --- standbys ---
    mutant(
        "a turn begins without reading the epoch",
        without_call("Session.begin", "self._demand_epoch"),
        first=STANDBYS,
    ),
    mutant(
        "a take-over leaves the epoch as it is",
        ("sql.TAKE_OVER", "epoch = epoch + 1", "epoch = epoch"),
        first=STANDBYS,
    ),
    mutant(
        "a scheduler that takes over does not remember its epoch",
        without_call("IdentityWriter.take_over", "self._engine.fence"),
        first=STANDBYS,
    ),
    mutant(
        "heartbeats of a failed turn are acked without reading the epoch",
        without_call("Loop._confirm", "self._store.confirm_epoch"),
        first=STANDBYS,
    ),
    mutant(
        "a scheduler that was replaced goes on as after a failed turn",
        (
            "Loop._turn",
            "except StoreDeposed:\n            # Found at the beginning of the turn, so no command was done.\n            self._depose()\n            raise\n        except",
            "except",
        ),
        without_call("Loop._confirm", "self._store.confirm_epoch"),
        first=STANDBYS,
    ),
    mutant(
        "callers that wait at a scheduler that was replaced get no answer",
        without_call("Loop._depose", "self._inbox.refuse"),
        first=STANDBYS,
    ),
    mutant(
        "a result is stored whatever the run's status is",
        *(
            without_condition(f"transitions.{name}", "status = 'running'")
            for name in ("SUCCEED", "SUCCEED_MANY", "FAIL", "FAIL_MANY")
        ),
    ),
    mutant(
        "of several results of a frame the last is not stored",
        (
            "EndsWriter._finish",
            "self._end_reported(cause, reported, ",
            "self._end_reported(cause, reported[: len(reported) // 2 + 1], ",
        ),
    ),
    mutant(
        "a claim moves other runs than it hands out",
        ("transitions.CLAIM", "r.priority DESC, r.run_id LIMIT", "r.priority DESC, r.run_id DESC LIMIT"),
    ),
    mutant(
        "a run that is lost has no successor",
        life("RUNNING", "LOSE", ", Cause.REQUEUE", ""),
        life("RUNNING", "CRASH", ", Cause.REQUEUE", ""),
    ),
    mutant(
        "a run that is lost is pending again under its own id",
        without_condition("losses.drop_run", "not run.started"),
        life("RUNNING", "RETURN", ", unstarted=True", ""),
    ),
    mutant(
        "a leaving worker's runs are pending again under their own ids",
        (
            "departures.leave",
            "losses.lose_run(store, session.name, run, _LEFT, now, losses.NO_BLAME)",
            "losses.drop_run(store, session.name, run, _LEFT, now, unstarted=True)",
        ),
    ),
    mutant(
        "an attempt is not counted",
        *(life("RUNNING", cause, ", attempt=True", "") for cause in ("LOSE", "CRASH", "FAIL", "LAPSE", "OVERDUE")),
    ),
    mutant(
        "what a worker returns is not put back",
        ("Returns.on_return", "for run_id in frame.runs:", "for run_id in ():"),
    ),
    mutant(
        "what could not be sent is not put back",
        never("Delivery.on_unreachable", "isinstance(frame, protocol.Dispatch)"),
    ),
    mutant(
        "a job's counters forget a lost run's successor",
        ("Lives._make", "for job_id, *_ in new], replaced, became", "for job_id, *_ in new], None, became"),
    ),
    # --- a restored database ---
    mutant(
        "a restore leaves the counters of ids as they are",
        ("IdentityWriter._replace_identity", "ID_GAPS.items()", "()"),
    ),
    mutant(
        "a restore leaves runs running", ("IdentityWriter.succeed", "for (run_id,) in running:", "for (run_id,) in ():")
    ),
    mutant(
        "a restored database does not wait for leases",
        ("IdentityWriter.succeed", "if lease_ms else ()", "if False else ()"),
    ),
    mutant(
        "a restore gives pending runs out again",
        ("IdentityWriter.succeed", "range(0, len(waiting), RESTORE_RUNS_MAX)", "()"),
    ),
    # --- reconcile ---
    mutant(
        "a heartbeat takes back what is still on its way",
        always("arrival.reconcile", "seen_n is None or run.handed_n <= seen_n"),
    ),
    mutant(
        "a heartbeat takes nothing back",
        without_condition("arrival.reconcile", "run.handed_n <= seen_n"),
    ),
    mutant(
        "a register takes nothing back",
        (
            "arrival.reconcile",
            "seen_n is None or run.handed_n <= seen_n",
            "seen_n is not None and run.handed_n <= seen_n",
        ),
    ),
    mutant("nothing is ever taken back", never("arrival.reconcile", "seen_n is None or run.handed_n <= seen_n")),
    mutant(
        "nobody kills what is not the worker's any more",
        ("Agent._drop", "if known := self._holdings.drop(runs):", "if self._holdings.drop(runs) and False:"),
    ),
    mutant(
        "a worker is not told what to kill",
        ("arrival.unwanted", "kill = [RunId(run.run) for run in listed", "kill = [RunId(run.run) for run in ()"),
    ),
    mutant(
        "a worker is not told what to go on with",
        ("arrival.adopt", "keep = [RunId(run.run) for run in held", "keep = [RunId(run.run) for run in ()"),
    ),
    mutant(
        "what runs unannounced is not noted as started",
        never("arrival.reconcile", 'phase == "running" and not run.started'),
    ),
    # --- names and sessions ---
    mutant(
        "a newcomer takes over without proof",
        always("arrival.may_take_over", "proof or worker.incarnation == frame.incarnation"),
    ),
    mutant(
        "the same boot is proof enough",
        without_condition("arrival.may_take_over", "worker.lock == frame.lock != (0, 0)"),
    ),
    mutant(
        "the same lock is proof enough",
        without_condition("arrival.may_take_over", 'worker.boot_id == frame.boot_id != ""'),
    ),
    mutant("a late register is taken", never("arrival.is_late", "0 < frame.sent_ms < old.sent_ms")),
    mutant(
        "a name is never refused",
        never("Registration._refuse_name", "old is not None and not arrival.may_take_over(old, frame)"),
    ),
    mutant(
        "a new start of a worker loses nothing",
        never("Registration._open_session", "old is not None and old.worker.incarnation != worker.incarnation"),
    ),
    mutant(
        "an unknown session is not answered",
        without_call(
            "Dispatcher.on_frame", 'self.outbox.reply(peer, error("E_SESSION", "no such session: register again"), now)'
        ),
    ),
    # --- silence ---
    mutant("nobody is ever judged silent", never("Dispatcher.on_tick", "drained")),
    mutant("silence is judged though frames wait", always("Loop._turn", "drained and not self._frames")),
    mutant("silence is judged though commands wait", ("Loop._turn", "drained = drained and not self._inbox", "pass")),
    mutant("a stall is not forgiven", without_call("Hearing.on_look", "self._sessions.forgive")),
    mutant("nobody gets time after a start", ("Dispatcher._await_workers", "heard_ms=now.mono_ms", "heard_ms=0")),
    mutant(
        "those who were active before a start are forgotten",
        ("Dispatcher._await_workers", "for worker in self._store.active_workers():", "for worker in ():"),
    ),
    mutant("what a worker says is no sign of life", without_call("Hearing.on_frame", "session.hear")),
    mutant(
        "a turn that fails is a word of every worker",
        (
            "Hearing.on_store_wait",
            "self._looked_ms += min(wait_ms, STORE_WAIT_MS_MAX)",
            "[setattr(one, 'heard_ms', self._looked_ms) for one in self._sessions]",
        ),
    ),
    mutant(
        "silence begins anew with each turn that fails",
        (
            "Hearing.on_store_wait",
            "self._looked_ms += min(wait_ms, STORE_WAIT_MS_MAX)",
            "[setattr(one, 'excused_ms', self._looked_ms) for one in self._sessions]",
        ),
    ),
    mutant(
        "a silent worker keeps its runs",
        ("departures.judge_silence", "losses.lose_worker(", "(lambda *a, **k: None)("),
    ),
    # --- blame ---
    mutant(
        "a crash is not counted",
        life("RUNNING", "CRASH", ", crash=True", ""),
    ),
    mutant("the crash limit is never reached", never("EndsWriter.fail_lost", "0 < crash_limit <= crashes + 1")),
    mutant(
        "a crash limit of never is one of none",
        ("EndsWriter.fail_lost", "0 < crash_limit <= crashes + 1", "crash_limit <= crashes + 1"),
    ),
    mutant(
        "all that a worker held are blamed",
        returns("losses.find_blamed", "{run.run_id for run in held}"),
    ),
    mutant(
        "those on probation are not blamed alone",
        ("losses.find_blamed", "    if suspects:\n", "    if False:\n"),
    ),
    mutant("each of several on probation is blamed", always("losses.find_blamed", "len(suspects) == 1")),
    mutant("nobody is suspect", ("losses.lose_worker", "bound if crash else 0", "0")),
    mutant(
        "a crash brings no probation",
        ("losses.lose_worker", "bound if crash else 0", "bound if crash and run.run_id not in blamed else 0"),
        without_condition("Lives._follow", "int(move.crash)"),
    ),
    mutant(
        "many runs are on probation at once",
        (
            "placement.probation_room",
            "min(demand.probation, held.together or demand.probation) - held.probation",
            "held.running + 9",
        ),
    ),
    mutant("one more run on probation beside another", ("placement.probation_room", "return min(", "return 1 + min(")),
    mutant(
        "a death on probation is like a first death",
        ("losses.lose_worker", "on_probation if run.probation else others", "others"),
    ),
    mutant(
        "suspects that died together are not divided", returns("losses.bound_of", "1 << max(0, died.bit_length() - 1)")
    ),
    mutant(
        "a group may grow again", ("Lives._probation_id", "min(together, demand.probation or together)", "together")
    ),
    mutant(
        "a suspect does not bind those that come after it",
        without_condition("placement.probation_room", "held.together"),
    ),
    mutant("nobody is ever cleared", never("losses.outlive", "store.clear_probation(run_id)")),
    mutant("everybody is cleared at once", always("losses.clear_suspects", "now.mono_ms - since_ms >= PROBATION_MS")),
    mutant("a clean goodbye is a crash", always("departures.on_bye", 'frame.reason == "guard_lost"')),
    mutant("a lost guard is a clean goodbye", never("departures.on_bye", 'frame.reason == "guard_lost"')),
    # --- announced ends ---
    mutant(
        "the silence of a worker that announced its end is a crash",
        ("departures.judge_silence", "crash=not session.leaving", "crash=True"),
    ),
    mutant(
        "a new start after an announced end is a crash",
        ("Registration._lose_earlier_start", "crash=not old.leaving", "crash=True"),
    ),
    mutant(
        "a lost guard after an announced end is a crash",
        ("departures.on_bye", "crash=not session.leaving", "crash=True"),
    ),
    mutant(
        "a silent worker is never a crash", ("departures.judge_silence", "crash=not session.leaving", "crash=False")
    ),
    mutant(
        "an announced end is not stored",
        ("sql.LEAVE", "SET leaving_ms = ?", "SET leaving_ms = nullif(?, last_seen_ms) * NULL"),
    ),
    mutant("an announced end is for ever", ("sql.REGISTER", ", leaving_ms = excluded.leaving_ms", "")),
    mutant("every worker that asks is about to end", always("Heartbeats.on_ready", "frame.leaving")),
    mutant(
        "no worker is heard to announce its end",
        never("Heartbeats.on_ready", "frame.leaving"),
    ),
    # --- cancel ---
    mutant(
        "a cancel is forgotten when the run is lost",
        life("CANCELLING", "LOSE", *CANCELLED_TO_LOST),
        life("CANCELLING", "CRASH", *CANCELLED_TO_LOST),
        life("CANCELLING", "LAST_CRASH", "State.CANCELLED, Reason.CANCELLED", "State.FAILED, Reason.CRASH_LIMIT"),
    ),
    mutant(
        "a cancelled run that comes back is pending again",
        life("CANCELLING", "RETURN", "State.CANCELLED, Reason.CANCELLED", "State.PENDING, Reason.RETURNED"),
        life("CANCELLING", "BOUNCE", "State.CANCELLED, Reason.CANCELLED", "State.PENDING, Reason.UNDELIVERED"),
    ),
    mutant(
        "a cancelled run ends as its worker says",
        life("CANCELLING", "SUCCEED", "State.CANCELLED, Reason.CANCELLED", "State.SUCCESS, GIVEN"),
        life("CANCELLING", "FAIL", "State.CANCELLED, Reason.CANCELLED", "State.FAILED, GIVEN"),
    ),
    mutant(
        "a cancel marks no running run",
        without_call("JobsWriter.cancel", "self._move"),
    ),
    mutant(
        "a job is stored without its owner",
        ("JobsWriter.submit", "self._numbers.owner_id(owner) if owner else None", "None"),
    ),
    mutant("nobody may act on its own job", without_condition("owners.may_act", "_owns(by, owner)")),
    mutant("a cancel marks a job that has ended", always("JobsWriter.cancel", "pending or running")),
    mutant(
        "a bulk cancel passes jobs over",
        (
            "bulk._act",
            "doing.cancel(target.job_id, command.by.actor, doing.now, command.reason)\n        return met",
            "'done'\n        return met",
        ),
    ),
    # --- the turn ---
    mutant(
        "frames are sent before the commit",
        ("Loop._turn", "self._store.commit()", "self._send()\n            self._store.commit()"),
    ),
    mutant(
        "callers are answered before the commit",
        (
            "Loop._turn",
            "            self._store.commit()",
            "            for future, answer in answers:\n                _resolve(future, answer)\n            answers = []\n            self._store.commit()",
        ),
    ),
    mutant("heartbeats of a turn that was given up are not acked", without_call("Loop._give_up", "self._ack_unstored")),
    mutant(
        "a jump of the clock in a turn that was given up is lost",
        (
            "WallClock.on_begin",
            "jump_ms = self._ahead_ms - self._stored_ahead_ms",
            "jump_ms = self._ahead_ms - self._stored_ahead_ms\n        self._stored_ahead_ms = self._ahead_ms",
        ),
    ),
    mutant("a turn that was given up leaves its frames", without_call("Dispatcher.on_rollback", "self.outbox.clear")),
    mutant(
        "a turn that was given up is not rolled back",
        ("Loop._give_up", "self._store.rollback()", "self._store._ledger.cut()"),
    ),
    mutant("a turn that was given up leaves its events", without_call("Core.rollback", "self._ledger.cut")),
    mutant(
        "sessions keep what a turn that was given up said",
        without_call("Dispatcher.on_rollback", "self._sessions.restore"),
    ),
    mutant(
        "callers of a turn that was given up are told it was done",
        ("Loop._give_up", "_resolve(future, error)", "_resolve(future, None)"),
    ),
    mutant(
        "what could not be sent is forgotten when the next turn is given up",
        (
            "Loop._report_unsent",
            "for peer, frame in self._unsent:",
            "unsent, self._unsent = self._unsent, []\n        for peer, frame in unsent:",
        ),
    ),
    # --- submits that are done once ---
    mutant("a key is never looked up", never("submission.on_submit", "before is not None")),
    mutant("a key is never stored", ("submission.on_submit", "store.idempotency.keep(", "(lambda *a: None)(")),
    mutant("a key answers any request", never("submission.on_submit", "before.digest != once.digest")),
    mutant(
        "a key is stored with the next submit",
        (
            "submission.on_submit",
            "store.idempotency.keep(once.caller, once.key, submitted, now.wall_ms)",
            "vars(store)['_late'] = (once.caller, once.key, submitted, now.wall_ms)",
        ),
        (
            "submission.on_submit",
            "once = command.once",
            "once, late = command.once, vars(store).pop('_late', None)\n    if late:\n        store.idempotency.keep(*late)",
        ),
    ),
    mutant(
        "a key outlives the turn that was given up",
        (
            "submission.on_submit",
            "        if before is not None:",
            "        before = before or vars(store).get('_kept', {}).get(once.key)\n        if before is not None:",
        ),
        (
            "submission.on_submit",
            "        store.idempotency.keep(",
            "        vars(store).setdefault('_kept', {})[once.key] = submitted\n        store.idempotency.keep(",
        ),
    ),
    mutant("keys are forgotten at once", ("Upkeep.forget_keys", "now.wall_ms - IDEMPOTENCY_MS", "now.wall_ms")),
    # --- capacity ---
    mutant(
        "a worker's load is not looked at again",
        without_call("Lives._record", "self._loads.leave"),
    ),
    mutant(
        "the window does not count",
        ("placement.free_slots", "min(session.worker.slots, session.window)", "session.worker.slots"),
    ),
    mutant(
        "what is ahead is not limited",
        ("placement.ahead_room", "min(session.worker.slots + session.ahead, session.window)", "session.window"),
    ),
    mutant("a back-off never ends", without_call("due.on_due", "store.release_due")),
    # --- folders, and signals before timeouts ---
    mutant("a run without its folder is tried again", never("ends._cause", "outcome.reason == Reason.CWD_MISSING")),
    mutant("a run without its folder has ended by itself", never("outcome.result_of", "order.cwd is not None")),
    mutant("a job's signal is not sent", never("Runs.on_spawned", "order.signal is not None")),
    mutant("a job's signal comes at its start", ("Runs.on_spawned", "now_ms + order.signal_ms", "now_ms")),
    mutant("a job's signal comes to a run that is stopped", always("Runs._warn", "run.phase is Phase.RUNNING")),
    # --- usage ---
    mutant(
        "a run that is followed by another one is not counted", without_call("Lives._follow", "self._ledger.usage.know")
    ),
    mutant("an end that was undone is counted", without_call("Ledger.cut", "self.usage.cut")),
    # --- retries that prefer another worker ---
    mutant("a retry prefers no other worker", never("Lives._follow", "avoids is not None")),
    mutant(
        "a retry prefers another worker for ever", ("sql.RELEASE_DUE", "ELSE blocked & ~16 END", "ELSE blocked END")
    ),
    mutant(
        "a retry waits though there is no other worker",
        ("Avoidance.begin", "if alone:", "if alone and not self._runs:"),
    ),
    mutant(
        "a retry is offered to no other worker",
        without_call("Avoidance.begin", "self._place"),
        without_call("Avoidance.end", "self._place"),
    ),
    mutant(
        "a retry is offered to the worker that failed it",
        always("Avoidance._others", "session.name != run.worker_id"),
    ),
    # --- jobs that wait for others ---
    mutant("a job does not wait for others", never("JobSpec.blocked_at", "self.after")),
    mutant(
        "a job starts when one of those that it waits for has ended",
        (
            "after.FREE",
            "AND NOT EXISTS (SELECT 1 FROM dependencies d WHERE d.child_id = runs.job_id AND d.judged = 0)",
            "",
        ),
    ),
    mutant("a job starts however the other has ended", returns("followers.why_unmet", "''")),
    mutant("any failure is one of a run", returns("DependenciesWriter._have_run", "set(failed)")),
    mutant("the end of a job that others wait for is not noted", never("Ledger.end_jobs", "linked")),
    mutant("a job that can't start any more waits on", without_call("FollowersWriter._judge", "self._move_list")),
    mutant("a free job is not made ready", ("after.FREE", "blocked & ~32", "blocked")),
    mutant(
        "parents that ended before the submit are not looked at",
        ("DependenciesWriter._await_parents", "if parent.ended is not None", "if False"),
    ),
    mutant(
        "what is left of a judgement waits for the next end", ("core.Dispatcher.on_tick", "or self._store.judging", "")
    ),
    mutant(
        "a start forgets what is left to judge", ("Ledger.__init__", "self.settling = True", "self.settling = False")
    ),
    mutant(
        "a rerun does not wait",
        ("JobsWriter.rerun", "Blocked.PARENTS if self._await_again(job_id, job.after) else 0", "0"),
    ),
    mutant(
        "a rerun leaves its dependents to be judged by its earlier end",
        without_call("DependenciesWriter._await_again", "self._engine.execute_list(after.UNSETTLE_JOBS, [(job_id,)])"),
    ),
    mutant("what a job waits for is removed", returns("RetentionWriter._needed", "set()")),
    mutant(
        "a restored job does not wait any more",
        ("Lives._follow", " | Blocked.PARENTS", ""),
    ),
    mutant("an array does not wait for others", without_condition("array_sql.STATES", "d.judged = 0")),
    mutant(
        "a task that others wait for is not noted",
        always("FollowersWriter._settle", "not (watched := self._watching())"),
    ),
    mutant(
        "tasks that ended before the submit are not looked at",
        never("DependenciesWriter._await_parents", "parent.some_ended"),
    ),
    mutant(
        "tasks start however the same task has ended",
        ("FollowersWriter._follow_tasks", "if end.status is RunStatus.SUCCESS", "if True"),
    ),
    mutant("tasks follow one of several arrays", never("FollowersWriter._follow_tasks", "other_id != parent_id")),
    mutant(
        "tasks that can't start any more wait on", without_call("FollowersWriter._follow_tasks", "self._end_unmade")
    ),
    mutant(
        "tasks that run again do not wait", without_call("DependenciesWriter._await_array_again", "self._follow_again")
    ),
    mutant("a start forgets which tasks others wait for", ("after.WATCHED", "dependents > 1", "dependents > 9")),
    # --- arrays ---
    mutant("a cap does not count", ("arrays._state", "read_array(text)", "TaskArray(read_array(text).parts)")),
    mutant(
        "a back-off keeps the place of its task",
        ("Lives._follow", "if of_array and blocked & ~_OPEN:", "if of_array and blocked & Blocked.HELD:"),
    ),
    mutant("a held task keeps its place", ("array_sql.LEAVE_PLACES", "blocked & 1 = 0", "blocked & 1 = 2")),
    mutant("a place is given to nobody", ("array_sql.GIVE_PLACES", "r.blocked IN (1, 5, 17)", "r.blocked IN (5, 17)")),
    mutant("a place that is given is not counted", ("TasksWriter._fill", "Shift(waiting=-placed)", "Shift()")),
    mutant("a run that leaves without a place is still counted", never("Lives._record", "len(moved[0]) > _PLACE")),
    mutant("made tasks stay unmade", without_call("TasksWriter._fill", "self._ranges.begin_later")),
    mutant(
        "a range of tasks loses one when some are made",
        ("TasksWriter._fill", "made[-1] + 1, span.last, 1)", "made[-1] + 2, span.last, 1)"),
    ),
    mutant("making stops at the bound of a turn for ever", without_call("TasksWriter.make_tasks", "self._arrays.stir")),
    mutant("a turn that has made tasks does not go on", ("Dispatcher.on_tick", " or crowded", "")),
    mutant("an array is forgotten by a restart", ("array_sql.LIVE_ARRAYS", "unmade > 0", "unmade > 99")),
    mutant("failures without end are allowed", ("arrays._state", "max_fails=max_fails", "max_fails=None")),
    mutant("too many failures spare unmade tasks", without_call("TasksWriter._give_up", "self._end_unmade")),
    mutant(
        "a cancel of an array spares unmade tasks", ("TasksWriter.cancel_tasks", "self._end_unmade(", "(lambda *_: 0)(")
    ),
    mutant("a cancel by index spares running runs", ("transitions.RUNNING_TASKS", "of_array = 1", "of_array = 2")),
    mutant(
        "a rerun of an array forgets cancelled tasks",
        ("RerunsWriter.rerun_array", "self._ranges.clear(job_id)", "pass"),
    ),
    mutant(
        "a rerun of tasks counts the old ends",
        ("RerunsWriter.rerun_tasks", "{str(status): -count", "{str(status): 0 * count"),
    ),
    mutant("a restore leaves the places of delayed runs", without_call("IdentityWriter.succeed", "self._ledger.shift")),
    # --- holds and reruns ---
    mutant("a hold leaves the job's runs ready", ("JobsWriter._hold", "acts.HOLD_RUNS", "acts.RELEASE_RUNS")),
    mutant("a hold leaves running runs alone", ("acts.HOLD_RUNS", "'pending', 'running'", "'pending'")),
    mutant(
        "a successor is not held",
        ("Lives._follow", "Blocked.HELD | ", ""),
    ),
    mutant("a release leaves the job's runs held", ("JobsWriter.release", "acts.RELEASE_RUNS", "acts.HOLD_RUNS")),
    mutant("a rerun is not held", ("transitions.RERUN", "CASE WHEN j.held_ms IS NULL THEN 0 ELSE 8 END", "0")),
    mutant("a live job runs again", never("JobsWriter.rerun", "not last or RunStatus(last[0][1]) not in TERMINAL")),
    mutant(
        "a rerun keeps the crashes",
        ("transitions.RERUN", "created_ms, expires_ms)", "created_ms, expires_ms, crashes)"),
        ("transitions.RERUN", "THEN j.deadline_ms END", "THEN j.deadline_ms END, r.crashes"),
    ),
    mutant(
        "a rerun begins with the first attempt",
        ("transitions.RERUN", "r.attempt + CASE WHEN r.started_ms IS NOT NULL THEN 1 ELSE 0 END", "1"),
    ),
    mutant("a rerun counts as a further task", ("JobsWriter.rerun", "replaced=RunStatus(status)", "replaced=None")),
    # --- start times and deadlines ---
    mutant("a start time is not waited for", returns("JobSpec.blocked_at", "0")),
    mutant(
        "the end of a delay is a date",
        ("JobSpec.blocked_at", "Blocked.DATE if self.delay_ms is None else Blocked.DUE", "Blocked.DATE"),
    ),
    mutant("a jump of the clock moves dates", without_condition("sql.SHIFT_DUE", "blocked & 18 <> 0")),
    mutant("a deadline ends no run", never("due.on_due", "store.expire(now.wall_ms, DUE_RUNS_MAX)")),
    mutant(
        "a claim does not look at deadlines", ("ClaimsWriter.claim", "run.expires_ms <= now_ms", "run.expires_ms < 0")
    ),
    mutant(
        "a successor has no deadline",
        *((f"transitions.{name}", "returns, ?, expires_ms, ?", "returns, ?, NULL, ?") for name in ("RETRY", "REQUEUE")),
    ),
    # --- priority, queues, limits ---
    mutant(
        "a successor has no priority",
        ("transitions.RETRY", "?, priority, 'pending'", "?, 0, 'pending'"),
        ("transitions.REQUEUE", "?, priority, 'pending'", "?, 0, 'pending'"),
    ),
    mutant(
        "the lowest priority is claimed first",
        ("sql.CLAIMABLE", "r.priority DESC", "r.priority"),
        ("sql.CLAIMABLE_AHEAD", "r.priority DESC", "r.priority"),
        ("transitions.CLAIM", "r.priority DESC", "r.priority"),
    ),
    mutant(
        "the youngest run with limits is claimed first",
        ("sql.CLAIMABLE_LIMITED", "r.run_id LIMIT", "r.run_id DESC LIMIT"),
    ),
    mutant("demands are handed out by age alone", ("OffersWriter._ready", "rank = -priority, ", "rank = 0, ")),
    mutant(
        "a claim takes lower priorities before those of other demands",
        ("placement._Placing._claim", "floor=floor", "floor=_LOWEST_PRIORITY"),
    ),
    mutant("a paused queue is handed out", without_condition("OffersWriter.ready", "demand.queue not in paused")),
    mutant("a worker gets runs of any queue", returns("demand.serves", "True")),
    mutant(
        "the queues of a worker are forgotten",
        (
            "Registration._open_session",
            "introduced(frame, now), key)",
            '__import__("msgspec").structs.replace(introduced(frame, now), queues=("default",)), key)',
        ),
    ),
    mutant(
        "a fair queue is not shared", ("JobsWriter._demand_for", 'owner if queue in self.queues.fair else ""', '""')
    ),
    mutant(
        "the runs of an owner are not counted",
        ("Tallies._add", "if demand.owner:", "if False:"),
    ),
    mutant(
        "the runs of other owners count for an owner",
        (
            "Tallies.share",
            "return self._shares[demand.queue, demand.owner]",
            "return sum(self._shares.values()) - self._shares[demand.queue, demand.owner]",
        ),
    ),
    mutant(
        "the owner with the most running runs comes first",
        ("OffersWriter._ready", "self._tallies.share(demand), run_id", "-self._tallies.share(demand), run_id"),
    ),
    mutant(
        "the first owner of a fair queue gets all room",
        ("placement._Placing._spread", "most = fair_count(islice(ranking.shares(), most + 1), most)", "pass"),
    ),
    mutant(
        "each kind of an owner's jobs has a share",
        ("ranking.Ranking.claimed", "= best.rank[2] + taken", "= best.rank[2]"),
    ),
    mutant(
        "an owner's jobs of lower priorities follow its high ones",
        ("placement._Placing._spread", "floor = best.priority", "pass"),
    ),
    mutant("a limit has one more place", ("Tallies.room", "most - self._taken[key]", "most + 1 - self._taken[key]")),
    mutant("the first of several limits counts alone", ("Tallies.room", "in demand.limits", "in demand.limits[:1]")),
    mutant(
        "a run with limits is ready like others",
        ("JobSpec.blocked_at", "Blocked.LIMITED if self.limits else 0", "0"),
    ),
    mutant(
        "a run that follows another one is ready whatever its limits",
        ("Lives._follow", "Blocked.LIMITED if demand.limits else 0", "0"),
    ),
    mutant(
        "a fire is ready whatever its limits",
        ("SchedulesWriter.fire", "Blocked.LIMITED if self._demand(DemandId(demand_id)).limits else 0", "0"),
    ),
    mutant("runs are not counted for their limits", without_call("Lives._record", "self._tally")),
    mutant("new runs are not counted for their limits", without_call("Lives._make", "self._tally")),
    mutant(
        "what was counted for limits survives an undo", without_call("store.core.Core._forget", "self._tallies.clear")
    ),
    mutant("what was counted for limits is not stored", never("Ledger.write", "self.tallied")),
    mutant("a unique key is anybody's", returns("queues.demand_free_keys", "")),
    mutant(
        "a unique key is never free again",
        ("sql.FIND_UNIQUE", "status IN ('pending', 'running')", "status IS NOT NULL"),
    ),
    mutant(
        "a job does not take its unique key",
        ("JobsWriter._add_parts", "self._engine.sendmany(sql.HOLD_UNIQUE, keys)", "pass"),
    ),
    # --- retention ---
    mutant(
        "jobs that changed lately are removed with the old ones",
        ("RetentionWriter.purge_jobs", "if row[2] < old.ended_ms and not row[7]", "if not row[7]"),
    ),
    mutant("jobs are removed whatever their status", ("removal.ENDED_JOBS", "status = ?", "status >= ?")),
    mutant("removed jobs stay in the totals", ("RetentionWriter._count", "if tasks:", "if False:")),
    mutant("a recurring job is removed", without_condition("RetentionWriter.purge_jobs", "not row[7]")),
    mutant(
        "failed jobs are kept as long as the others",
        ("Keep.limits", "FAILED: self.others_ms", "FAILED: self.success_ms"),
    ),
    # --- retries, and runs that may start once ---
    mutant("any failure is tried again", never("Lives._follow", "not is_retried(read_failures(retry_on), *end)")),
    mutant(
        "no failure is tried again that a job names",
        ("Lives._follow", "if not is_retried(", "if retry_on or not is_retried("),
    ),
    mutant(
        "the exit code of a failure is any",
        without_condition("failures._has", "int(codes[1]) <= exit_code <= int(codes[2] or codes[1])"),
    ),
    mutant(
        "a run that may start once has a successor when it is lost",
        ("Lives._follow", "if demand.once:", "if demand.once and not change.detail:"),
    ),
    mutant(
        "a run that may start once is lost when its worker does not list it",
        without_condition("losses.drop_run", "unstarted"),
    ),
    mutant(
        "a register of a new guard proves that a run that may start once has not started",
        (
            "losses.lose_worker",
            "        lose_run(store,",
            "        if run.once and why == 'started again' and not drop_run(store, worker_id, run, why, now, unstarted=True):\n            continue\n        lose_run(store,",
        ),
    ),
    mutant(
        "the silence of a worker proves that a run that may start once has not started",
        (
            "losses.lose_worker",
            "        lose_run(store,",
            "        if run.once and why.startswith('silent') and not drop_run(store, worker_id, run, why, now, unstarted=True):\n            continue\n        lose_run(store,",
        ),
    ),
    mutant(
        "a heartbeat proves that a run has not started that is still on its way",
        (
            "arrival.reconcile",
            "seen_n is None or run.handed_n <= seen_n",
            "run.once or seen_n is None or run.handed_n <= seen_n",
        ),
    ),
    mutant(
        "a guard does not say what it has not started",
        (
            "Core._on_session",
            "messages.Unstarted(self._withdraw(), withdrawn=True)",
            "messages.Unstarted(self._withdraw() and (), withdrawn=True)",
        ),
    ),
    mutant(
        "a guard starts what it has said not to have started",
        (
            "Core._on_session",
            "messages.Unstarted(self._withdraw(), withdrawn=True)",
            "messages.Unstarted(tuple(self._backlog._waiting), withdrawn=True)",
        ),
    ),
    mutant(
        "an agent registers before its guard has said what it has not started",
        *_REGISTERS_TOO_EARLY,
        ("Holdings.listed", "if not run.dropped", "if not run.dropped and run.phase != 'waiting'"),
    ),
    mutant(
        "a worker that leaves does not say what it holds",
        ("Agent._on_leave", 'reason="shutdown", runs=left', 'reason="shutdown"'),
    ),
    mutant(
        "a worker that leaves lists what it has not started",
        ("Agent._on_leave", ' if held.phase != "waiting"', ""),
    ),
    mutant("a task is tried again without end", never("Lives._follow", "failures >= retries")),
    mutant("a failure is not counted", life("RUNNING", "FAIL", ", failure=True", "")),
    mutant("a crash is forgotten by the retry", ("transitions.RETRY", "crashes, failures +", "0, failures +")),
    mutant("nothing is ever tried again", always("Lives._follow", "failures >= retries")),
    mutant(
        "a run that its lease has ended counts as a failure",
        never("ends._cause", "outcome.reason == Reason.LEASE_STOP"),
    ),
    mutant(
        "a run that its lease has ended has no successor",
        life("RUNNING", "LAPSE", ", Cause.REQUEUE", ""),
    ),
    mutant(
        "a run that may start once has a successor when its lease has ended",
        ("Lives._follow", "if demand.once:", "if demand.once and change.detail:"),
    ),
    # --- leases: the scheduler's side ---
    mutant(
        "a worker with leases is given up as soon as any other",
        ("departures.patience_ms", "return max(timeout_ms, lease_ms", "return max(timeout_ms, 0 * lease_ms"),
        ("departures.patience_ms", "lease_margin_ms(lease_ms)", "0"),
    ),
    mutant(
        "a lease ends at once when its length has passed",
        ("departures.patience_ms", " + lease_margin_ms(lease_ms)", ""),
    ),
    mutant(
        "a lease is as long as the timeout is now",
        (
            "departures.patience_ms",
            "lease_ms = store.load(session.name).lease_ms",
            "lease_ms = timeout_ms if store.load(session.name).lease_ms else 0",
        ),
    ),
    mutant("a lease is not stored", ("transitions.CLAIM", "lease_ms = ?", "lease_ms = 0 * ?")),
    mutant(
        "a run that stops at a disconnect goes to any worker",
        ("placement.fits", "not lacks(ready.demand, session.worker)", "True"),
    ),
    mutant(
        "a run that stops at a disconnect has no lease",
        ("placement._Placing._claim", "self._lease_ms if best.demand.leased else None", "None"),
    ),
    # --- leases: the worker's side ---
    mutant(
        "no lease ever ends",
        returns("lease.term_at_ms", "heard_ms + 10 ** 12"),
        returns("lease.kill_at_ms", "heard_ms + 10 ** 12"),
    ),
    mutant("a lease ends with it", returns("lease.term_at_ms", "heard_ms + lease_ms")),
    mutant(
        "a guard does not kill what outlives its lease",
        without_call("Core.kill_overdue", "self.runs.kill"),
    ),
    mutant(
        "a guard tells nothing to end when its lease does",
        without_call("Core.on_tick", "self.runs.stop"),
    ),
    mutant(
        "a run starts though its lease is over",
        always("Core._start", "self._here.leases.hold(order.lease_ms, now_ms)"),
    ),
    mutant(
        "a run that came back for its lease is asked for again at once",
        returns("Renewal.lapse", ""),
        (
            "Agent._on_unstarted",
            "if lease_over:\n                    self._heartbeat",
            "if False:\n                    self._heartbeat",
        ),
    ),
    mutant(
        "a lease counts from when the ack is read",
        (
            "Agent._on_session_frame",
            "self._renewal.on_ack(frame.seq)",
            "self._renewal.on_ack(frame.seq)\n                self._renewal._heard_ms = now.mono_ms",
        ),
    ),
    mutant(
        "a lease counts from when registered is read",
        (
            "Renewal.on_registered",
            "self._heard_ms = max(self._heard_ms or 0, self._registering_since_ms)",
            "self._heard_ms = mono_ms",
        ),
    ),
    mutant(
        "a lease counts from the last of several registers",
        always("Renewal.on_register", "self._registering_since_ms is None"),
    ),
    mutant(
        "a lease is not renewed",
        without_call("Agent._on_session_frame", "self._report_lease"),
    ),
    mutant(
        "the answer to a result renews a lease",
        (
            "Agent._on_result_ack",
            "for run, verdict in",
            "of = self._renewal\n        of._heard_ms = max(of._beats.values(), default=of._heard_ms)\n        self._report_lease()\n        for run, verdict in",
        ),
    ),
    mutant(
        "an agent with leases beats no faster",
        returns("Renewal.beat_ms", "gap_ms_max"),
        ("SessionState.add_lease", "self._heartbeat_at_ms = min(self._heartbeat_at_ms, now.mono_ms + gap_ms)", "pass"),
    ),
    mutant(
        "an agent with leases registers no faster",
        returns("Renewal.register_gap_ms", "gap_ms_max"),
    ),
    mutant(
        "a new agent knows nothing of leases",
        ("Core.snapshot", "leases=self._here.leases.lengths()", "leases=()"),
    ),
    mutant(
        "a killed guard's runs with a lease live on",
        never("Machine._on_guard_dead", "execution.order.lease_ms is not None"),
    ),
    # --- what can't be ended ---
    mutant(
        "a guard says nothing of what it can't end",
        ("Core._update_state", "stuck=tuple(", "stuck=() and tuple("),
    ),
    mutant(
        "an agent says nothing of what can't be ended",
        ("Holdings.on_state", "self.foreign, self.stuck = state.foreign, stuck", "self.foreign = state.foreign"),
    ),
    mutant(
        "a new agent knows nothing of what can't be ended",
        ("Core.snapshot", "self._reports.take_state()", "structs.replace(self._reports.take_state(), stuck=())"),
    ),
    mutant(
        "a worker that can't end its runs takes more",
        without_condition("FlowControl._amount", "held.any_stuck"),
    ),
    mutant(
        "what can't be ended is not noted",
        never("Heartbeats._mark_stuck", "self._store.mark_stuck(RunId(run_id), session.name, now.wall_ms)"),
    ),
    mutant(
        "what can't be ended has a successor when it is lost",
        *(
            life("STUCK", cause, "Reason.UNKILLABLE", "Reason.WORKER_LOST, Cause.REQUEUE, attempt=True")
            for cause in ("LOSE", "CRASH")
        ),
    ),
    # --- most are silent ---
    mutant(
        "most that are silent at once are given up at once",
        ("Sessions.silent", "self._most_are_quiet(now_ms)", "False"),
    ),
    mutant(
        "most are silent, and each is given up at its own timeout",
        ("Sessions.silent", " + (self._timeout_ms if waits else 0)", ""),
    ),
    # --- results of an earlier start ---
    mutant(
        "a new start of a worker loses what it had finished",
        always("losses.lose_worker", "run.run_id not in spared"),
    ),
    mutant(
        "a new start of a worker spares what it has not finished",
        always("arrival.finished", 'held.phase == "finished"'),
    ),
    mutant(
        "a new start of a worker does not say what it had finished",
        ("Core.snapshot", "for run in self._here.results() if run.result is not None", "for run in ()"),
    ),
    mutant(
        "a guard forgets the database whose runs it has",
        ("Spool.__init__", "self.db = journal.current", 'self.db = ""'),
    ),
    # --- another database ---
    mutant(
        "a scheduler ends the runs of every other database",
        always("foreign._to_discard", "held.db in decided.union(store.predecessors())"),
    ),
    mutant(
        "a worker with foreign runs gets work before a decision",
        without_condition("placement._Placing.fill", "not session.withheld"),
    ),
    mutant(
        "a predecessor's runs are those of any other database",
        ("foreign._to_discard", "decided.union(store.predecessors())", "decided"),
        without_condition("foreign._judge", "held.db in session.discard"),
    ),
    mutant(
        "a worker gets work while discarded runs are ending",
        without_condition("foreign._judge", "held.ending"),
    ),
    mutant("a database that returns does not know its runs", never("foreign.own", "held.db == store.identity")),
    mutant(
        "discarded runs that are ending count as gone when their database returns",
        ("foreign.own", "(*held.running, *held.ending)", "held.running"),
    ),
    mutant(
        "a run that was discarded is pending again",
        without_call("arrival.adopt", "store.start"),
    ),
    mutant(
        "results of foreign runs are not kept",
        without_call("Spool._write_aside", "self._journal.append_other"),
    ),
    mutant(
        "no lease of a foreign run ends",
        ("Core.on_tick", "in self._databases.values():", "in (self._here,):"),
        ("Core.kill_overdue", "in self._databases.values():", "in (self._here,):"),
        ("guard.core.Core.deadline_ms", "in self._databases.values()", "in (self._here,)"),
    ),
    mutant(
        "a new agent does not know what is foreign",
        ("Core.snapshot", "self._reports.take_state()", "structs.replace(self._reports.take_state(), foreign=())"),
    ),
    mutant(
        "a new guard does not know what waits for other databases",
        ("Shell.__init__", "spool.others()", "{}"),
    ),
    mutant(
        "a new database gets the results of the one before",
        ("Holdings.change_database", "for number in list(self._runs):", "for number in ():"),
    ),
    mutant(
        "what was said of runs of the database before is taken for new ones",
        never("Agent.on_guard", "self._holdings.unanswered and isinstance(message, messages.OF_RUNS)"),
    ),
    # --- REST ---
    mutant("a polling worker's lost answer is not given again", never("polling.next_run", "full and waiting")),
    mutant("a polling worker that asks keeps what it had", ("polling.next_run", "if full:", "if False:")),
    mutant(
        "a polling worker reports on anybody's run",
        never(
            "polling._run_meant",
            "run is not None and (run.job_id, run.worker_id) != (command.job_id, command.worker_id)",
        ),
        ("polling._ended", "store.finish(outcome, command.worker_id,", "store.finish(outcome, run.worker_id,"),
    ),
    mutant(
        "a polling worker's new start loses nothing",
        ("polling.register", "losses.lose_worker(", "(lambda *a, **k: None)("),
    ),
    # --- the worker's agent ---
    mutant(
        "an agent works for any session",
        ("Agent.on_frame", "elif terms is not None and frame.s == terms.token:", "else:"),
    ),
    mutant("an agent takes frames of an older session", without_condition("Agent.on_frame", "frame.s == terms.token")),
    mutant(
        "an agent forgets what is not acked",
        (
            "Agent.on_guard",
            "self._flow.on_results(results)",
            "self._flow.on_results(results)\n                    list(map(self._holdings.forget, [one.run for one in results]))",
        ),
    ),
    mutant(
        "an agent tells each result once",
        ("Reports._batches", "report.due_ms = mono_ms + report.delay.next_ms()", "report.due_ms = mono_ms + 10**9"),
    ),
    mutant(
        "an agent tells its results in no later session",
        without_call("Agent._on_registered", "self._send_results"),
        without_call("Agent.on_tick", "self._send_results"),
    ),
    mutant(
        "an agent keeps what waits when its session is lost",
        (
            "Agent._lose_session",
            "self._send_session(lost=True)",
            "self._session.move(SessionEvent.WITHDRAW)\n        self._session._register_at_ms = 0",
        ),
    ),
    mutant("an agent registers before it knows what had not started", *_REGISTERS_TOO_EARLY),
    mutant(
        "an agent never ends a session by itself",
        returns("SessionState.timeout_at_ms", "10 ** 15"),
    ),
    mutant(
        "an agent's session ends with its connection only",
        returns("SessionState.timeout_at_ms", "10 ** 15"),
        without_call("Agent._on_error", "self._lose_session"),
    ),
    mutant(
        "an agent keeps its session when the connection is cut",
        without_call("Agent.on_disconnected", "self._lose_session"),
    ),
    mutant(
        "an agent does not register again when it is told to",
        without_call("Agent._on_error", "self._lose_session"),
    ),
    mutant(
        "an agent reports what it was told to drop",
        without_condition("Holdings.finish", "not run.dropped"),
    ),
    mutant(
        "an agent does not kill what it is told to",
        without_call("Agent._drop", "self.to_guard.append"),
    ),
    mutant(
        "an agent does not kill what a new session does not name",
        ("Agent._on_registered", "unwanted |= self._holdings.unnamed(frame.keep)", "pass"),
    ),
    mutant(
        "an agent does not count the run frames", ("Agent._on_dispatch", "self._session.dispatch_n = frame.n", "pass")
    ),
    mutant(
        "an agent forgets what its guard dropped at the end",
        never("Holdings.on_gone", "run is not None and not (run.dropped or run.discarded)"),
    ),
    mutant(
        "an agent lists nothing",
        ("Holdings.listed", "for number, run in self._runs.items()", "for number, run in ()"),
    ),
    mutant("an agent takes the same order twice", always("Holdings.accept", "order.run not in self._runs")),
    mutant("an agent that stops asks for more", without_condition("FlowControl._amount", "self.stopping")),
    mutant(
        "an agent does not say what came back unstarted",
        without_call("Agent._on_unstarted", "self.to_scheduler.append"),
    ),
    mutant("an agent says nothing of probation's end", never("Agent._on_began", "run.probation")),
    # --- the worker's guard ---
    mutant(
        "a guard keeps what waits when its agent dies", without_call("Shell._on_agent_exit", "self.core.on_agent_exit")
    ),
    mutant(
        "a guard starts what it was asked to give back",
        (
            "Core._on_session",
            "messages.Unstarted(self._withdraw(), withdrawn=True)",
            "messages.Unstarted((), withdrawn=True)",
        ),
    ),
    mutant(
        "a guard that stood still starts what its agent had heard before",
        without_condition("Core._on_start", "late"),
    ),
    mutant("a guard starts the same run twice", always("Core._on_start", "order.run not in self._here.runs")),
    mutant("a guard that is to end starts more", without_condition("Core._on_start", "self._reports.state.stopping")),
    mutant(
        "a guard forgets its results when its agent dies",
        (
            "Core.on_agent_exit",
            "self._withdraw()",
            "self._withdraw()\n        for run in list(self._here.results()):\n            self._here.move(run, Event.FORGET)",
        ),
    ),
    mutant(
        "a guard tells results before they are written",
        ("Shell.turn", "self._write(now_ms)\n        self._send()", "self._send()\n        self._write(now_ms)"),
    ),
    mutant(
        "a guard tells a new agent of results before they are written",
        without_call("Core.snapshot", "self._reports.take_ended"),
    ),
    mutant("a guard does not sync what it has told", without_call("Shell.turn", "self._spool.sync")),
    mutant("a spool writes and does not sync", without_call("Spool.sync", "self._journal.sync")),
    mutant(
        "a spool's new file leaves out what is held",
        ("Spool._renew", "(self._pack(run) for run in self._results)", "(self._pack(run) for run in ())"),
    ),
    mutant(
        "a guard tells a new agent nothing of what runs",
        ("Core.snapshot", '*(Held(run.number, "running") for run in live),', ""),
    ),
    mutant(
        "a guard does not stop what is cancelled",
        without_call("Core._on_stop", "self.runs.stop"),
    ),
    # --- the table of a run's life: one for each row ---
    mutant(
        "a submit leaves no event", life("NEW", "SUBMIT", "Move(State.PENDING)", "Move(State.PENDING, silent=True)")
    ),
    mutant("a fire's run is taken for a successor", life("NEW", "FIRE", '"fire"', '"requeued"')),
    mutant("the successor of a lost run is taken for a retry", life("NEW", "REQUEUE", '"requeued"', '"retry"')),
    mutant("a retry is taken for the successor of a lost run", life("NEW", "RETRY", '"retry"', '"requeued"')),
    mutant(
        "a claim leaves no event", life("PENDING", "CLAIM", "Move(State.RUNNING)", "Move(State.RUNNING, silent=True)")
    ),
    mutant("a pending run that is cancelled fails", life("PENDING", "CANCEL", "State.CANCELLED", "State.FAILED")),
    mutant("a run whose array gives up fails", life("PENDING", "GIVE_UP", "State.CANCELLED", "State.FAILED")),
    mutant(
        "a run that can't start any more is cancelled", life("PENDING", "STRAND", "State.FAILED", "State.CANCELLED")
    ),
    mutant(
        "a pending run that can't be read has a successor",
        life("PENDING", "QUARANTINE", "QUARANTINED", "QUARANTINED, Cause.REQUEUE"),
    ),
    mutant("a pending run has no successor after a restore", life("PENDING", "RESTORE", ", Cause.REQUEUE", "")),
    mutant("a running run can't start", no_life("RUNNING", "START")),
    mutant("a running run stays on probation", no_life("RUNNING", "OUTLIVE")),
    mutant("a running run can't be cancelled", no_life("RUNNING", "CANCEL")),
    mutant("a running run can't become stuck", no_life("RUNNING", "HANG")),
    mutant("a running run can't be given back", no_life("RUNNING", "RETURN")),
    mutant("a run that could not be sent stays running", no_life("RUNNING", "BOUNCE")),
    mutant("a run that succeeds fails", life("RUNNING", "SUCCEED", "State.SUCCESS", "State.FAILED")),
    mutant("a run that fails has no retry", life("RUNNING", "FAIL", ", Cause.RETRY", "")),
    mutant(
        "a run that its lease ended is retried instead of requeued",
        life("RUNNING", "LAPSE", "Cause.REQUEUE", "Cause.RETRY"),
    ),
    mutant("a run that is lost counts no attempt", life("RUNNING", "LOSE", ", attempt=True", "")),
    mutant("a run that crashes is called unkillable", life("RUNNING", "CRASH", "WORKER_LOST", "UNKILLABLE")),
    mutant(
        "a task goes on at its crash limit",
        life("RUNNING", "LAST_CRASH", "CRASH_LIMIT", "WORKER_LOST, Cause.REQUEUE, attempt=True"),
    ),
    mutant("a run over its time has no retry", life("RUNNING", "OVERDUE", ", Cause.RETRY", "")),
    mutant("a claimed run whose secrets can't be read stays running", no_life("RUNNING", "QUARANTINE")),
    mutant("a stuck run can't start", no_life("STUCK", "START")),
    mutant("a stuck run stays on probation", no_life("STUCK", "OUTLIVE")),
    mutant("a stuck run can't be cancelled", no_life("STUCK", "CANCEL")),
    mutant("a stuck run's success is refused", no_life("STUCK", "SUCCEED")),
    mutant("a stuck run that fails after all has no retry", life("STUCK", "FAIL", ", Cause.RETRY", "")),
    mutant("a stuck run that its lease ended has no successor", life("STUCK", "LAPSE", ", Cause.REQUEUE", "")),
    mutant(
        "a stuck run that is lost has a successor",
        life("STUCK", "LOSE", "UNKILLABLE", "WORKER_LOST, Cause.REQUEUE, attempt=True"),
    ),
    mutant(
        "a stuck run that crashes has a successor",
        life("STUCK", "CRASH", "UNKILLABLE", "WORKER_LOST, Cause.REQUEUE, attempt=True"),
    ),
    mutant(
        "a stuck run at its crash limit has a successor",
        life("STUCK", "LAST_CRASH", "UNKILLABLE", "WORKER_LOST, Cause.REQUEUE, attempt=True"),
    ),
    mutant("a stuck run over its time has a retry", life("STUCK", "OVERDUE", "TIMEOUT", "TIMEOUT, Cause.RETRY")),
    mutant("a cancelling run can't start", no_life("CANCELLING", "START")),
    mutant("a cancelling run stays on probation", no_life("CANCELLING", "OUTLIVE")),
    mutant("a cancelling run can't be cancelled again", no_life("CANCELLING", "CANCEL")),
    mutant("a cancelling run can't become stuck", no_life("CANCELLING", "HANG")),
    mutant(
        "a cancelling run that is given back is pending again",
        life("CANCELLING", "RETURN", "State.CANCELLED, Reason.CANCELLED", "State.PENDING, Reason.RETURNED"),
    ),
    mutant(
        "a cancelling run that could not be sent is pending again",
        life("CANCELLING", "BOUNCE", "State.CANCELLED, Reason.CANCELLED", "State.PENDING, Reason.UNDELIVERED"),
    ),
    mutant(
        "a cancelling run succeeds",
        life("CANCELLING", "SUCCEED", "State.CANCELLED, Reason.CANCELLED", "State.SUCCESS, GIVEN"),
    ),
    mutant(
        "a cancelling run fails", life("CANCELLING", "FAIL", "State.CANCELLED, Reason.CANCELLED", "State.FAILED, GIVEN")
    ),
    mutant(
        "a cancelling run that its lease ended is lost",
        life("CANCELLING", "LAPSE", "State.CANCELLED, Reason.CANCELLED", "State.FAILED, GIVEN"),
    ),
    mutant("a cancelling run is lost", life("CANCELLING", "LOSE", *CANCELLED_TO_LOST)),
    mutant("a cancelling run crashes", life("CANCELLING", "CRASH", *CANCELLED_TO_LOST)),
    mutant(
        "a cancelling run meets its crash limit",
        life("CANCELLING", "LAST_CRASH", "State.CANCELLED, Reason.CANCELLED", "State.FAILED, Reason.CRASH_LIMIT"),
    ),
    mutant(
        "a cancelling run over its time fails",
        life("CANCELLING", "OVERDUE", "State.CANCELLED, Reason.CANCELLED", "State.FAILED, Reason.TIMEOUT"),
    ),
    mutant(
        "a cancelling run of a polling worker fails",
        life("CANCELLING", "WITHDRAW", "State.CANCELLED,", "State.FAILED,"),
    ),
    # --- the effects of a move ---
    mutant("a move leaves no event", never("Lives._record", "not move.silent")),
    mutant("a move is not counted", without_call("Lives._record", "self._ledger.count")),
    mutant("a claim is no load", without_call("Lives._record", "self._loads.enter")),
    mutant("a run off probation is still a load of that kind", without_call("Lives._record", "self._loads.drop")),
    mutant("no ended run has a successor", ("Lives._end_tasks", "if followed else {}", "if False else {}")),
    mutant("a new run is not counted", without_call("Lives._make", "self._ledger.count")),
    mutant("a new run leaves no event", never("Lives._make", "not move.silent")),
    mutant("a task that ends is not noticed", without_call("Lives._end_tasks", "self._ledger.note_ends")),
    mutant("a job that ends is not noticed", never("Ledger.end_jobs", "not live")),
    # --- schedules ---
    mutant("a paused schedule fires", ("sql.PAUSE_SCHEDULE", "next_fire_ms = NULL, ", "")),
    mutant("an ended schedule fires", ("sql.END_SCHEDULE", "next_fire_ms = NULL, ", "")),
    mutant(
        "an ended schedule can be resumed",
        ("sql.END_SCHEDULE", "paused_ms = NULL, ", ""),
        never("recurrence._demand_schedule", "job.ended_ms is not None"),
    ),
    mutant(
        "what waits too long is started all the same",
        always("Backlog.take_expired", "now_ms < run.since_ms + BACKLOG_WAIT_MS_MAX"),
        ("Backlog.deadline_ms", "return run.since_ms + BACKLOG_WAIT_MS_MAX", "return None"),
    ),
)
MUTANTS: Final = {one.name: one for one in _MUTANTS}

# Guards that no seed misses, because another does the same, or because what they hold against can't happen here; each
# with the reason.
EQUIVALENT: Final[dict[str, str]] = {
    "a pending run that can't be read has a successor": "no row is damaged here. contract/test_lifecycle.py tests it",
    "a claimed run whose secrets can't be read stays running": "no secret is damaged here. contract/test_lifecycle.py tests it",
    "a stuck run can't start": "a run that is stuck has started, and its worker has said so. contract/test_lifecycle.py tests it",
    "a stuck run can't be cancelled": "a cancel must come while a run is stuck: too rare for these seeds, of which some"
    " notice it with other draws. contract/test_lifecycle.py tests it",
    "a stuck run stays on probation": "no run gets stuck on probation in these seeds. contract/test_lifecycle.py tests it",
    "a stuck run's success is refused": "its processes were killed. contract/test_lifecycle.py tests it",
    "a stuck run that its lease ended has no successor": "no run with a lease gets stuck in these seeds. contract/test_lifecycle.py tests it",
    "a stuck run at its crash limit has a successor": "no stuck run reaches its crash limit in these seeds. contract/test_lifecycle.py tests it",
    "a stuck run over its time has a retry": "a polling worker does not say that a run is stuck. contract/test_lifecycle.py tests it",
    "a cancelling run can't start": "it ends as cancelled, whether it has started or not. contract/test_lifecycle.py tests it",
    "a cancelling run stays on probation": "it is cancelled before that is long. contract/test_lifecycle.py tests it",
    "a cancelling run can't be cancelled again": "these callers do not ask again for what is acked. contract/test_lifecycle.py tests it",
    "a cancelling run can't become stuck": "it ends as cancelled, whether it is stuck or not. contract/test_lifecycle.py tests it",
    "a cancelling run that could not be sent is pending again": "a cancel must come in the turn after the claim whose frame does not leave. contract/test_lifecycle.py tests it",
    "a cancelling run over its time fails": "a cancel ends the runs of polling workers at once. contract/test_lifecycle.py tests it",
    "a run off probation is still a load of that kind": "other suspects only wait longer. contract/test_lifecycle.py tests it",
    "a task that ends is not noticed": "it wakes those who wait, and nobody waits here. contract/test_lifecycle.py tests it",
    "a job that ends is not noticed": "it wakes those who wait, and nobody waits here. contract/test_lifecycle.py tests it",
    **EXCUSED,
    "tasks follow one of several arrays": "no array follows several ones in these seeds. test_combinations.py tests it"
    " (array, dependency)",
    "a rerun leaves its dependents to be judged by its earlier end": "a job must run again in the turns between its end and"
    " the judgement of it: too rare for these seeds. test_combinations.py tests it (dependency, rerun)",
    "what could not be sent is forgotten when the next turn is given up": "a send must fail in the turn before one that"
    " can't be stored, and the worker must not register again: too rare for these seeds. system/test_loop.py tests it",
    "a register takes nothing back": "the first heartbeat does it, since a new session's numbers begin anew",
    "an agent registers before it knows what had not started": "its guard's answer comes a moment later, and the next"
    " heartbeat does not list what the guard has returned",
    "what was said of runs of the database before is taken for new ones": "a message must cross with a change of the"
    " database, and name a run of both: one or no seed of 300. test_agent_foreign.py tests it",
    "an agent's session ends with its connection only": "the scheduler has mostly said that the session is over, or the"
    " link is cut, before: one seed in 300 noticed it with other draws. test_agent.py tests it",
    "an agent never ends a session by itself": "the scheduler says that the session is over when it hears of the agent"
    " again, and its leases end by themselves: too rare for these seeds. test_agent.py tests it",
    "a guard that stood still starts what its agent had heard before": "its agent must stand still too, and its session"
    " end meanwhile: too rare for these seeds. test_guard_core.py tests it",
    "an agent takes frames of an older session": "what it has not read of an old connection comes before the answer to"
    " its next register, unless it is far behind. test_agent.py tests it",
    "an agent keeps its session when the connection is cut": "its first word over the next connection is answered: there"
    " the scheduler knows no such session. Until then it has its timeout",
    "an agent reports what it was told to drop": "a run that it is told to drop has ended for this scheduler, which finds"
    " its result stale. test_agent.py tests it",
    "an agent does not register again when it is told to": "without an ack for the timeout it ends its session by itself",
    "an agent does not say what came back unstarted": "the next heartbeat does not list it",
    "an agent takes the same order twice": "in one session a run is handed out again only when it came back, and then its"
    " agent has forgotten it; and its guard asks the same. test_agent.py tests it",
    "an agent forgets what its guard dropped at the end": "only a heartbeat between the end of its runs and the goodbye"
    " shows it: too rare for these seeds, of which some notice it with other draws. test_agent.py tests it",
    "a guard keeps what waits when its agent dies": "the next agent is there in a moment, and what waits goes back within"
    " a second: too rare for these seeds, of which some notice it with other draws. test_guard.py tests it",
    "a guard starts the same run twice": "its agent has asked the same before, and holds all that its guard has",
    "an agent says nothing of probation's end": "the next heartbeat says it a little later",
    "a guard tells a new agent of results before they are written": "nothing waits for a slot when an agent has ended, so"
    " the same turn writes what was held back for a batch, before there is a new one",
    "an unknown session is not answered": "without an ack for the timeout the worker ends its session by itself",
    "a worker that leaves lists what it has not started": "its guard has answered each order before it says that nothing is"
    " left, unless an order crosses with that word: too rare for these seeds. test_agent.py tests it",
    "what a worker returns is not put back": "the next heartbeat does not list it, which takes it back a little later",
    "a lease counts from the last of several registers": "a heartbeat follows `registered` at once, and its ack settles the"
    " matter before 0.7 of a lease has passed; and it takes a link that breaks just then. test_agent.py tests it",
    "a new start of a worker spares what it has not finished": "it holds nothing else of an earlier one: what runs then"
    " is swept before",
    "a run that was discarded is pending again": "a run that is discarded has mostly been said to have started."
    " test_dispatcher_foreign.py tests it",
    "a rerun is not held": "a held job must be cancelled and run again before it is released: too rare for these seeds."
    " contract/test_acts.py tests it",
    "an agent does not kill what a new session does not name": "what it had listed is named in `kill`, and the next"
    " heartbeat lists the rest",
}


# The sources of tables, each with the edits that are applied now.
_sources: dict[str, str] = {}


@contextmanager
def applied(one: Mutant) -> Iterator[None]:
    """zsched without that guard, while it lasts. Raises LookupError when an edit does not apply."""
    with ExitStack() as stack:
        # Statements are generated from a table, so tables are changed first.
        for edit in sorted(one.edits, key=lambda edit: not isinstance(_target(edit)[2], Mapping)):
            owner, name, now = _target(edit)
            if isinstance(now, Mapping):
                stack.enter_context(_changed_table(owner, name, now, edit))
                continue
            new = edit.change(now) if isinstance(now, str) else _edited(now, name, edit)
            stack.enter_context(patch.object(owner, name, new))
        yield


def _target(edit: Edit) -> tuple[Any, str, Any]:
    """The module or class that an edit changes, the name in it, and its present value."""
    location = locate(edit.place)
    path, _, name = location.qualname.rpartition(".")
    owner: Any = importlib.import_module(location.module)
    for step in filter(None, path.split(".")):
        owner = getattr(owner, step)
    return owner, name, inspect.getattr_static(owner, name)


@contextmanager
def _changed_table(owner: Any, name: str, table: Mapping[Any, Any], edit: Edit) -> Iterator[None]:
    """The table with one more edit, and what is generated from it."""
    location = locate(edit.place)
    if (before := _sources.get(edit.place)) is None:
        text = location.path.read_text("utf-8")
        before = text[slice(*part(text, location.qualname))]
    changed = edit.change(before)
    space = dict(vars(importlib.import_module(location.module)))
    exec(compile(changed, "<a changed table>", "exec", __future__.annotations.compiler_flag, True), space)
    new = space[name]
    # The table of a run's life is imported by others, by its name.
    swap = patch.dict(table, new, clear=True) if isinstance(table, dict) else patch.object(owner, name, new)
    with swap, patch.dict(_sources, {edit.place: changed}):
        _generate()
        yield
    _generate()


def _generate() -> None:
    """Make the statements of the table of a run's life as it is now."""
    for module in ("moves", "sql", "transitions"):
        importlib.reload(importlib.import_module(f"zsched.store.{module}"))


def _edited(function: Any, name: str, edit: Edit) -> Any:
    """The function from its changed source, in its own module's namespace."""
    source = edit.change(getattr(function, "_source", None) or inspect.getsource(function))
    method = source.startswith(" ")
    space: dict[str, Any] = {}
    code = compile(
        f"class _:\n{source}" if method else source,
        f"<{name} without a guard>",
        "exec",
        flags=__future__.annotations.compiler_flag,
        dont_inherit=True,
    )
    exec(code, function.__globals__, space)
    changed = inspect.getattr_static(space["_"], name) if method else space[name]
    changed._source = source
    return changed


def caught_by(one: Mutant, seeds: range) -> tuple[int, str] | None:
    """The first seed that notices it, and what that says; None when all are content."""
    with applied(one):
        for seed in seeds:
            failure, _ = run_seed(seed)
            if failure is not None:
                return seed, failure
    return None


def caught(name: str, seeds: range) -> tuple[int, ...]:
    """Those of the seeds that notice it, which count from the mutant's first one."""
    first = MUTANTS[name].first
    with applied(MUTANTS[name]):
        return tuple(first + seed for seed in seeds if run_seed(first + seed)[0] is not None)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.mutants", description="Take guards away, one by one.")
    parser.add_argument("--count", action="store_true", help="how many of all the seeds notice, not only the first")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a mutant's name; without any all of them")
    asked = parser.parse_args()
    names = asked.names or list(MUTANTS)
    unexpected = _count(names) if asked.count else _find(names)
    return 1 if unexpected else 0


def _find(names: list[str]) -> int:
    """The first seed that notices each. Returns how many survive without an excuse."""
    unexpected = 0
    for name in names:
        first = MUTANTS[name].first
        found = caught_by(MUTANTS[name], range(first, first + SEEDS_MAX))
        unexpected += found is None and name not in EQUIVALENT
        print(f"{name} | {_survives(name) if found is None else f'seed {found[0]} | {found[1][:110]}'}", flush=True)
    return unexpected


def _count(names: list[str]) -> int:
    """How many of the seeds notice each, on all processors. Returns how many survive without an excuse."""
    chunks = [range(first, first + _CHUNK) for first in range(0, SEEDS_MAX, _CHUNK)]
    unexpected = 0
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        found = {name: [processes.submit(caught, name, chunk) for chunk in chunks] for name in names}
        for name in names:
            seeds = [seed for part in found[name] for seed in part.result()]
            unexpected += not seeds and name not in EQUIVALENT
            end = f"first seed {seeds[0]}" if seeds else _survives(name)
            print(f"{name} | caught by {len(seeds)} of {SEEDS_MAX} seeds | {end}", flush=True)
    return unexpected


def _survives(name: str) -> str:
    return f"survives: {EQUIVALENT[name]}" if name in EQUIVALENT else "SURVIVES"


if __name__ == "__main__":
    sys.exit(main())
