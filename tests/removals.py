"""What the simulator can't take away: zsched without one mechanism of one promise, by name. Its tests must notice.

A removal is some edits of zsched's source (tests/anchors.py), made in a copy of this checkout. The tests that hold the
mechanism must pass before, and fail after it: by an assertion, not by a crash at import. What an edit changes must be
there: when the code changes, tests/unit/test_removals.py names the removals to update. By hand:
python -m tests.removals [NAME …]
"""

# ruff: noqa: E501  (what is replaced is as long as it is)
# ruff: noqa: T201  (stdout is the interface)
from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from tests.anchors import Edit, always, apply, excerpt, locate, never, returns, without_call, without_condition
from tests.system.process import children
from zsched.host.prctl import become_subreaper

ROOT: Final = Path(__file__).parents[1]
# What the tests need of a checkout.
_COPIED: Final = ("zsched", "tests", "bench", "bin", "conf", "docs", "pyproject.toml", "setup.cfg")
# A test that ends by one of these says that the edit makes no sense, not that something is missing.
_CRASHES: Final = (AttributeError, ImportError, NameError, SyntaxError, TypeError)


@dataclass(frozen=True, slots=True)
class Removal:
    """`promise` is its number in docs/promises.md. Each of the `tests`, under tests/, must fail without the mechanism."""

    promise: int
    name: str
    tests: tuple[str, ...]
    edits: tuple[Edit, ...]


def removal(promise: int, name: str, tests: str, *edits: Edit | tuple[str, str, str]) -> Removal:
    """`edits`: of tests/anchors.py; a tuple of three is an excerpt."""
    done = tuple(edit if isinstance(edit, Edit) else excerpt(*edit) for edit in edits)
    return Removal(promise, name, tuple(tests.split()), done)


_REMOVALS: Final = (
    # --- queues, labels, limits, unique keys ---
    removal(
        29,
        "a worker's own name and host are labels that it can set",
        "unit/test_matching.py::test_worker_takes_runs_that_ask_for_its_labels",
        excerpt("demand.label", "if name == WORKER_LABEL:", "if False:"),
    ),
    removal(
        29,
        "labels are no part of the demand",
        "unit/test_dispatcher_labels.py::test_run_goes_to_a_worker_with_all_its_labels",
        excerpt("JobsWriter._demand_for", "requires=requires, ", ""),
    ),
    removal(
        29,
        "a job with labels looks at each worker",
        "unit/test_dispatcher_labels.py::test_job_with_labels_looks_only_at_workers_that_have_them",
        excerpt("Openings.with_labels", "if not labels:", "if True:"),
    ),
    removal(
        29,
        "a claim of runs with limits takes what it is asked for",
        "contract/test_queues.py::test_no_more_runs_than_the_limit_are_claimed",
        (
            "ClaimsWriter._claimable",
            "min(wanted.count, self._tallies.room(demand))",
            "wanted.count",
        ),
    ),
    removal(
        29,
        "a run with limits waits ahead of a free slot",
        "unit/test_dispatcher_queues.py::test_run_with_limits_never_waits_ahead_of_a_free_slot",
        without_condition("Demand.plain", "self.limits"),
    ),
    removal(
        29,
        "the share of an owner grows with its kinds of jobs",
        "unit/test_dispatcher_queues.py::test_share_of_an_owner_does_not_grow_with_its_kinds_of_jobs",
        ("ranking.Ranking.claimed", "= best.rank[2] + taken", "= best.rank[2]"),
    ),
    removal(
        29,
        "lower priorities of an owner follow its high ones",
        "unit/test_dispatcher_queues.py::test_lower_priorities_of_an_owner_do_not_follow_its_high_ones",
        ("placement._Placing._spread", "floor = best.priority", "pass"),
    ),
    removal(
        29,
        "limits and keys of all callers are the same",
        "unit/test_dispatcher_queues.py::test_keys_of_an_owner_are_not_those_of_others"
        " unit/test_dispatcher_queues.py::test_unique_keys_are_those_of_the_owner",
        returns("queues.with_own_keys", "specs"),
    ),
    removal(
        29,
        "a removed job leaves its unique key",
        "contract/test_queues.py::test_removed_job_leaves_no_key",
        never("RetentionWriter._remove", "row[8] is not None"),
    ),
    removal(
        15,
        "any number of kinds of jobs may be live",
        "unit/test_dispatcher_queues.py::test_number_of_live_demands_is_bounded",
        returns("queues.demand_few_kinds", ""),
    ),
    removal(
        15,
        "any number of queues may be paused",
        "unit/test_dispatcher_queues.py::test_number_of_paused_queues_is_bounded",
        without_condition("queues.on_change", "queues.count() >= QUEUES_MAX"),
    ),
    removal(
        29,
        "a queue is paused without an event",
        "contract/test_queues.py::test_runs_of_a_paused_queue_are_not_ready",
        without_call("QueuesWriter.pause", "self._note"),
    ),
    removal(
        29,
        "miscounted demands are not found",
        "contract/test_queues.py::test_check_finds_miscounted_demands",
        without_call("check.check", "_check_demands"),
    ),
    # --- a list of schedulers ---
    removal(
        2,
        "a submit whose answer is lost is sent to no other scheduler",
        "system/test_client_schedulers.py::test_submit_goes_on_with_its_key_when_the_answer_is_lost",
        without_condition("schedulers._passes_on", "again"),
    ),
    removal(
        3,
        "a write that may have been done goes to the next scheduler",
        "system/test_client_schedulers.py::test_write_that_may_have_been_done_is_not_sent_again",
        ("schedulers._passes_on", "return error.unsent or again", "return True"),
    ),
    removal(
        16,
        "a call waits for a scheduler that gives no sign of life",
        "system/test_client_schedulers.py::test_silent_scheduler_is_left_soon"
        " system/test_client_schedulers.py::test_large_submit_to_a_hung_scheduler_goes_to_the_next",
        never("Watched._move", "not self._alive()"),
    ),
    removal(
        16,
        "a slow answer is taken for a hung scheduler",
        "system/test_client_schedulers.py::test_slow_answer_of_a_living_scheduler_is_awaited",
        always("Watched._move", "not self._alive()"),
    ),
    removal(
        16,
        "a scheduler that hung is asked in each round",
        "system/test_client_schedulers.py::test_hung_scheduler_is_left_out_while_another_stands_by",
        returns("Schedulers._hangs", "False"),
    ),
    removal(
        9,
        "a worker waits for its silent scheduler until the session ends",
        "system/test_worker_schedulers.py::test_worker_leaves_a_silent_scheduler_for_one_that_takes_it"
        " unit/test_session_state.py::test_silence_begins_when_the_answer_to_a_heartbeat_is_late",
        returns("SessionState.silent_at_ms", "None"),
    ),
    removal(
        8,
        "a worker's state folder is that of the first scheduler in its list",
        "unit/test_config.py::test_state_folder_does_not_depend_on_the_order_of_a_list"
        " unit/test_config.py::test_state_folder_stays_when_a_list_grows",
        (
            "config._state_folder",
            "return next((folder for folder in folders if folder.exists()), folders[0])",
            'return base / _place((schedulers or [""])[0], environ) / worker',
        ),
    ),
    # --- several schedulers on one database ---
    removal(
        27,
        "the lock of a scheduler that stands still is kept",
        "contract/test_leader.py::test_lock_of_a_living_scheduler_is_kept_and_of_a_stopped_one_lost",
        ("leader._SETTINGS", 'f"SET idle_session_timeout = {LOCK_IDLE_MS}"', '"SET idle_session_timeout = 0"'),
    ),
    removal(
        27,
        "the session of the lock is not pinged",
        "contract/test_leader.py::test_lock_of_a_living_scheduler_is_kept_and_of_a_stopped_one_lost",
        ("Candidate._ping", "while not self._ending.wait(LOCK_PING_S):", "while not self._ending.wait():"),
    ),
    removal(
        27,
        "a lost lock is not taken again",
        "contract/test_leader.py::test_lock_is_taken_again_by_a_new_session",
        without_condition("Candidate._ping", "not self._take()"),
    ),
    removal(
        27,
        "a scheduler without the lock says that it is active",
        "contract/test_leader.py::test_lock_that_another_has_taken_is_not_taken_again",
        ("Candidate._announce", "role = own.role if self._held else Role.STANDBY", "role = own.role"),
    ),
    removal(
        27,
        "a scheduler that was killed stays listed as active",
        "contract/test_leader.py::test_schedulers_list_themselves",
        without_call("Candidate._announce", "self._ask(_SUCCEED, (own.instance,))"),
    ),
    removal(
        27,
        "a turn that may be stored counts as undone after a take-over",
        "contract/test_postgres.py::test_a_commit_before_a_takeover_is_unknown",
        (
            "outcome.resolve",
            'raise StoreUnsure(f"it is unknown whether the turn is stored ({why}): another',
            'raise StoreError(f"it is unknown whether the turn is stored ({why}): another',
        ),
    ),
    removal(
        27,
        "callers of a turn that may be stored get no answer",
        "system/test_loop.py::test_callers_of_a_turn_that_may_be_stored_learn_that_it_is_unknown",
        ("Loop._turn", "future.set_exception(TimeoutError())", "pass"),
    ),
    removal(
        27,
        "callers that wait for a turn that never comes get no answer",
        "system/test_loop.py::test_callers_of_a_turn_that_may_be_stored_learn_that_it_is_unknown",
        without_call("Loop._turn", "self._inbox.refuse"),
    ),
    removal(
        27,
        "a scheduler that can't reach the database stays active",
        "system/test_loop.py::test_loop_ends_when_it_can_not_read_for_long_whether_it_still_leads",
        never("Loop._confirm", "self.turns.clock().mono_ms - self._confirmed_ms > UNCONFIRMED_MS"),
    ),
    removal(
        27,
        "a scheduler with another secret.key stands by",
        "system/test_standbys.py::test_scheduler_with_another_key_does_not_stand_by",
        without_call("Process._look_around", "demand_key"),
    ),
    removal(
        27,
        "a standby passes writes on to its loop",
        "unit/test_rest_standby.py::test_standby_answers_reads_and_refuses_the_rest",
        returns("Standby._writes", "False"),
    ),
    removal(
        27,
        "callers that wait at a standby never look again",
        "system/test_standbys.py::test_caller_at_a_standby_sees_the_end_of_a_job",
        without_call("Process._stand_by", "parts.live.wake_all"),
    ),
    removal(
        27,
        "a message shows the password of a database",
        "unit/test_config.py::test_database_url_is_shown_without_its_password"
        " system/test_standbys.py::test_password_of_the_url_is_not_logged",
        returns("PostgresUrl.__str__", "self.conninfo"),
    ),
    # --- what is acked is stored ---
    removal(
        1,
        "a commit is not synced",
        "contract/test_power_cut.py::test_what_was_acked_is_in_the_database_after_a_power_cut"
        " contract/test_sqlite.py::test_a_commit_is_one_sync_of_the_wal",
        ("SqliteEngine._prepare", '("synchronous", "FULL")', '("synchronous", "NORMAL")'),
    ),
    removal(
        2,
        "all callers share their keys",
        "unit/test_rest_idempotency.py::test_a_token_has_keys_of_its_own_from_wherever_it_calls",
        ("idempotency._caller", "    return account\n", '    return ""\n'),
    ),
    removal(
        3,
        "an answer is read by its caller's thread, after the commit",
        "unit/test_rest_answers.py::test_changes_of_a_job_are_answered_with_the_job",
        (
            "JobAct.on_post",
            "        answer_state(resp, self._context.inbox.call(self._act(job_id(job), caller(req), reason(given))))\n",
            "        self._context.inbox.call(self._act(job_id(job), caller(req), reason(given)))\n        from zsched.api.jobs import JobItem\n        found = self._context.reader.job(job_id(job))\n        assert found is not None\n        answer_state(resp, JobItem(self._context)._state(found))\n",
        ),
    ),
    removal(
        6,
        "heartbeats of a turn that fails are not acked",
        "system/test_loop.py::test_a_heartbeat_is_acked_though_its_turn_fails",
        without_call("Loop._give_up", "self._ack_unstored"),
    ),
    removal(
        10,
        "a turn that fails is a word of every worker",
        "unit/test_dispatcher_outage.py::test_silence_is_judged_although_every_other_turn_fails"
        " unit/test_dispatcher_outage.py::test_a_rebooted_worker_gets_its_name_when_turns_have_failed",
        (
            "Hearing.on_store_wait",
            "        self._looked_ms += min(wait_ms, STORE_WAIT_MS_MAX)\n",
            "        for one in self._sessions:\n            one.heard_ms = self._looked_ms\n",
        ),
    ),
    removal(
        10,
        "a heartbeat is heard only when its turn is stored",
        "unit/test_dispatcher_outage.py::test_a_worker_is_not_lost_when_all_it_says_comes_in_turns_that_fail"
        " unit/test_dispatcher_outage.py::test_worker_that_can_only_register_is_not_lost_while_the_store_fails",
        returns("Session.hear", ""),
    ),
    removal(
        15,
        "each heartbeat is written",
        "unit/test_dispatcher_outage.py::test_a_heartbeat_that_says_nothing_new_is_acked_without_a_write"
        " system/test_idle.py::test_an_idle_fleet_is_heard_and_writes_nothing",
        (
            "Heartbeats._mark_stuck",
            "        stuck = []\n",
            "        stuck = []\n        self._store.note_seen({session.name: now.wall_ms})\n",
        ),
    ),
    removal(
        17,
        "a jump of the clock in a turn that fails is lost",
        "unit/test_dispatcher_outage.py::test_a_jump_of_the_clock_in_a_turn_that_fails_is_made_good_in_the_next",
        (
            "WallClock.on_begin",
            "        jump_ms = self._ahead_ms - self._stored_ahead_ms\n",
            "        jump_ms = self._ahead_ms - self._stored_ahead_ms\n        self._stored_ahead_ms += jump_ms\n",
        ),
    ),
    removal(
        18,
        "waiting for the store is standing still",
        "unit/test_dispatcher_outage.py::test_wait_for_a_locked_store_does_not_count_as_a_stall",
        returns("Hearing.on_store_wait", ""),
    ),
    removal(
        3,
        "a failed sync is an error like any other",
        "contract/test_sqlite.py::test_a_failed_sync_is_unsure_and_not_a_mere_error system/test_loop.py::test_a_failed_sync_ends_the_loop",
        never("errors.raise_store_error", "isinstance(error, apsw.IOError) and is_sync_error(error)"),
    ),
    removal(
        3,
        "a checkpoint is a part of the commit",
        "contract/test_sqlite.py::test_a_checkpoint_that_fails_takes_no_commit_back",
        (
            "SqliteEngine._checkpoint",
            'log.warning("checkpoint failed, the next commit tries again: %s", error)',
            "raise_store_error(error)",
        ),
    ),
    removal(
        4,
        "the engine lets any change of a run pass",
        "contract/test_runs.py::test_the_engine_itself_refuses_any_change_of_a_run_that_ended"
        " contract/test_runs.py::test_the_engine_allows_the_transitions_of_the_table_and_no_other",
        (
            "store/sqlite/schema/0001_start.sql",
            "WHEN OLD.status IN ('success', 'failed', 'cancelled') OR (OLD.status = 'pending' AND NEW.status = 'success')",
            "WHEN 0",
        ),
        without_call("sqlite.migrations.migrate", "_demand_trigger"),
        (
            "store/postgres/schema/0001_start.sql",
            "WHEN (OLD.status IN ('success', 'failed', 'cancelled') OR (OLD.status = 'pending' AND NEW.status = 'success'))",
            "WHEN (false)",
        ),
        without_call("postgres.migrations.migrate", "_demand_trigger"),
    ),
    # --- PostgreSQL ---
    removal(
        3,
        "a turn of PostgreSQL that was not confirmed counts as not stored",
        "contract/test_postgres.py::test_a_commit_without_an_answer_is_found_to_be_stored_or_not",
        (
            "PostgresEngine.commit",
            "            self._resolve(mark, str(error))\n            return\n",
            "            raise\n",
        ),
    ),
    removal(
        1,
        "a turn of PostgreSQL that was not confirmed counts as stored",
        "contract/test_postgres.py::test_a_commit_without_an_answer_is_found_to_be_stored_or_not",
        never("outcome.resolve", "found != mark"),
        always("outcome.resolve", "found == mark and _confirm(session)"),
    ),
    removal(
        1,
        "a takeover hides whether a turn is stored",
        "contract/test_postgres.py::test_a_commit_before_a_takeover_is_unknown",
        never("outcome.resolve", "epoch is not None and stored != epoch"),
    ),
    removal(
        1,
        "a replica need not confirm a turn",
        "contract/test_postgres.py::test_a_cancelled_wait_for_a_replica_is_not_a_confirmation",
        ("PostgresEngine.commit", "        if session.warnings:\n", "        if False:\n"),
    ),
    removal(
        3,
        "a COMMIT has the timeout of any statement",
        "contract/test_postgres.py::test_a_commit_has_no_timeout",
        ("PostgresEngine.commit", "session.wait(None)", "session.wait(300)"),
    ),
    removal(
        20,
        "a deposed scheduler writes on",
        "contract/test_postgres.py::test_a_turn_of_a_deposed_scheduler_can_not_begin",
        without_call("PostgresEngine._begin", "self._demand_epoch"),
    ),
    removal(
        20,
        "a takeover does not wait for the turn under way",
        "contract/test_postgres.py::test_a_takeover_waits_for_the_turn_under_way",
        ("postgres.engine._BEGIN", " FOR SHARE OF epoch", ""),
    ),
    removal(
        20,
        "two sessions may have a turn at once",
        "contract/test_postgres.py::test_a_second_writer_is_busy",
        ("postgres.engine._BEGIN", " FOR NO KEY UPDATE OF turn", ""),
    ),
    removal(
        20,
        "a turn that pauses keeps its locks",
        "contract/test_postgres.py::test_a_turn_that_pauses_too_long_is_ended_by_the_server",
        ("Session.wait", "        self.post_end()\n", "        self._connection.send_flush_request()\n"),
    ),
    removal(
        3,
        "a lost session is not replaced",
        "contract/test_postgres.py::test_a_session_that_was_lost_between_two_turns_is_replaced",
        ("PostgresEngine.begin", "            self._reconnect()\n            self._begin()\n", "            raise\n"),
    ),
    removal(
        22,
        "any database may take the place of ours",
        "contract/test_postgres.py::test_another_database_in_the_place_of_ours_is_refused",
        never("PostgresEngine._reconnect", "found != self._identity"),
    ),
    removal(
        3,
        "a late error undoes the part that is under way",
        "contract/test_postgres.py::test_a_late_error_undoes_the_turn_and_later_turns_are_careful",
        never(
            "PostgresEngine._demand_success", "isinstance(error, StoreConstraint) and failed.scope != self._turn.part"
        ),
    ),
    removal(
        3,
        "no turn waits for late errors",
        "contract/test_postgres.py::test_a_late_error_undoes_the_turn_and_later_turns_are_careful",
        never("PostgresEngine.release", "self._careful"),
    ),
    removal(
        5,
        "ids of a part that was undone are not given out again",
        "contract/test_postgres.py::test_ids_have_no_gap_after_what_was_undone",
        ("_Turn.cut", "        self.ids = self._before\n", ""),
    ),
    removal(
        15,
        "a turn without a change writes into the log of PostgreSQL",
        "contract/test_postgres.py::test_a_turn_without_a_change_writes_nothing",
        never("PostgresEngine.commit", "not self._turn.wrote"),
    ),
    removal(
        15,
        "PostgreSQL reads all runs in each turn",
        "contract/test_postgres.py::test_what_each_turn_reads_does_not_grow_with_the_waiting_runs",
        ("postgres.connection.SETTINGS", '    "SET enable_hashjoin = off",\n', ""),
    ),
    removal(
        15,
        "PostgreSQL looks for a run among all of its status",
        "contract/test_postgres.py::test_runs_are_found_by_the_name_that_a_statement_has",
        returns("dialect._by_name", "statement"),
    ),
    removal(
        15,
        "each frame waits for PostgreSQL",
        "contract/test_round_trips.py::test_a_turn_waits_as_often_for_many_jobs_as_for_one",
        always("PostgresEngine.release", "self._careful"),
    ),
    removal(
        24,
        "what was read ahead of a run outlives its move",
        "contract/test_history.py::test_events_and_counters_tell_the_state_of_every_run_after_any_history",
        without_call("Lives._follow_up", "self._ahead.reported.note"),
    ),
    removal(
        24,
        "what was read ahead outlives an undo",
        "contract/test_turns.py::test_what_was_read_ahead_is_forgotten_with_what_was_undone",
        without_call("store.core.Core._forget", "self._ahead.clear"),
    ),
    removal(
        22,
        "a changed trigger of PostgreSQL is not noticed",
        "contract/test_postgres.py::test_a_trigger_that_was_changed_is_found_at_the_start",
        without_call("postgres.migrations.migrate", "_demand_trigger"),
    ),
    # --- runs that may start only once ---
    removal(
        7,
        "a run that may start once is lost when its worker does not list it",
        "unit/test_dispatcher_retries.py::test_run_once_job_is_pending_again_when_a_register_lacks_it"
        " unit/test_dispatcher_retries.py::test_run_once_job_is_pending_again_when_a_heartbeat_lacks_it"
        " system/test_once.py::test_a_job_that_never_started_runs_once_when_its_session_is_lost",
        without_condition("losses.drop_run", "unstarted"),
    ),
    removal(
        7,
        "a register for another database proves that a run has not started",
        "unit/test_dispatcher_retries.py::test_register_of_a_new_guard_or_database_proves_no_unstarted_run",
        ("arrival.adopt", "now, knows=ours)", "now)"),
    ),
    removal(
        7,
        "a full list proves that a run has not started",
        "unit/test_dispatcher_retries.py::test_a_list_that_is_full_does_not_prove_that_a_run_never_started",
        without_condition("arrival.proves_absence", "len(listed) < FRAME_LIST_MAX"),
    ),
    removal(
        7,
        "a late register proves that a run has not started",
        "unit/test_dispatcher_retries.py::test_register_that_may_be_late_does_not_prove_an_unstarted_run",
        returns("arrival.proves_absence", "len(listed) < FRAME_LIST_MAX"),
    ),
    removal(
        7,
        "a run that has ended is unstarted when a later list lacks it",
        "unit/test_dispatcher_retries.py::test_run_listed_as_finished_is_not_unstarted_in_a_later_list",
        without_condition("arrival.reconcile", "run.run_id not in session.finished"),
    ),
    removal(
        7,
        "a worker that leaves does not say what it holds",
        "unit/test_agent.py::test_the_goodbye_lists_all_that_is_held_but_what_never_starts",
        ("Agent._on_leave", 'reason="shutdown", runs=left', 'reason="shutdown"'),
    ),
    removal(
        7,
        "two registers may have the same time",
        "unit/test_agent.py::test_each_register_has_a_later_time_than_the_one_before",
        ("SessionState.on_register", "max(now.mono_ms, self._sent_ms + 1)", "now.mono_ms"),
    ),
    removal(
        15,
        "the WAL beside readers only grows",
        "contract/test_wal.py::test_wal_is_bounded_while_readers_never_pause",
        ("SqliteEngine._checkpoint", "                emptied = self._restart_wal()\n", "                pass\n"),
    ),
    removal(
        15,
        "the WAL keeps the most that it ever took",
        "contract/test_wal.py::test_wal_gives_its_space_back_when_a_long_reader_has_left",
        without_call("SqliteEngine._prepare", 'self._connection.pragma("journal_size_limit", WAL_BYTES_KEPT)'),
    ),
    removal(
        16,
        "each commit waits for a reader that stays",
        "contract/test_wal.py::test_reader_that_stays_is_waited_for_once_in_a_while",
        (
            "SqliteEngine._checkpoint",
            "                self._restart_at_pages = self._wal_pages + CHECKPOINT_PAGES\n",
            "",
        ),
    ),
    removal(
        16,
        "two threads may use a shape first",
        "unit/test_rest_bodies.py::test_first_uses_of_a_shape_by_several_threads_do_no_harm",
        without_call("body.convert", "_prepare"),
    ),
    # --- moves ---
    removal(
        28,
        "a moved database is used",
        "unit/test_move.py::test_source_names_where_it_went",
        returns("transfer.demand_unmarked", ""),
    ),
    removal(
        28,
        "the source of a move stays in use",
        "unit/test_move.py::test_source_names_where_it_went",
        without_call("move.move", "transfer.set_mark(old.engine, Mark(State.MOVED, identity, target.name, now_ms))"),
    ),
    removal(
        28,
        "an unfinished copy is used",
        "unit/test_move.py::test_copy_that_differs_is_not_used",
        without_call(
            "move.move", "transfer.set_mark(new.engine, Mark(State.UNFINISHED, identity, source.name, now_ms))"
        ),
    ),
    removal(
        28,
        "a copy is used without its check",
        "unit/test_move.py::test_copy_that_differs_is_not_used",
        never("move.move", "read != copied"),
    ),
    removal(
        28,
        "a copy gives ids of deleted rows out again",
        "unit/test_move.py::test_ids_go_on_behind_those_of_deleted_rows",
        without_call("transfer.load", "target.raise_ids"),
    ),
    removal(
        28,
        "a copy replaces what its target has",
        "unit/test_move.py::test_database_in_use_is_refused_as_a_target",
        never("move._demand_sides", "not transfer.is_new(new.engine)"),
    ),
    removal(
        28,
        "a database that was moved elsewhere goes on with an older copy",
        "unit/test_move.py::test_moved_database_does_not_go_on_with_an_older_copy",
        (
            "move._demand_sides",
            "(moved.state, moved.place) == (State.MOVED, target.name)",
            "moved.state is State.MOVED",
        ),
    ),
    removal(
        28,
        "a copy leaves the keys behind",
        "unit/test_move.py::test_keys_are_copied_for_their_owner_only",
        without_call("move.move", "files.write_private"),
    ),
    removal(
        28,
        "an earlier scheduler writes into a moved database",
        "unit/test_move.py::test_writer_that_lost_its_lock_stores_nothing_in_a_moved_database",
        without_call("move.leading", "take_over"),
    ),
    removal(
        19,
        "a NUL in what a worker says costs its frame",
        "contract/test_postgres.py::test_nul_in_what_a_worker_says_costs_no_result",
        returns("dialect._text", "value.encode()"),
    ),
    removal(
        22,
        "a second restore gives ids out again",
        "system/test_database_file.py::test_second_restore_of_a_backup_gives_no_id_out_again",
        ("backup.restore", "            replaced=copies.lineage(db),\n", ""),
    ),
    removal(
        22,
        "a restore believes the settings alone",
        "unit/test_backup.py::test_lease_that_was_given_counts_more_than_a_setting",
        never("IdentityWriter.succeed", "lease_ms and given_ms"),
    ),
    removal(
        22,
        "a rescue copy elsewhere is forgotten",
        "unit/test_backup.py::test_rescue_copy_elsewhere_stands_in_the_way_of_a_start_too",
        without_call("backup.rescue", "(db.parent / path.name).symlink_to"),
    ),
    removal(
        22,
        "keys that are removed stay so",
        "system/test_database_file.py::test_folder_that_is_removed_is_made_again",
        ("FileWatch.look", "            if names := self._recreate_files():", "            if names := []:"),
    ),
    removal(
        22,
        "a lock that is removed stays so",
        "system/test_database_file.py::test_folder_that_is_removed_is_made_again",
        (
            "parts.recreate_files",
            "    if parts.hold.keep():",
            "    parts.hold.folder.mkdir(mode=0o700, exist_ok=True)\n    if False:",
        ),
    ),
    removal(
        22,
        "a socket that is removed stays so",
        "system/test_database_file.py::test_folder_that_is_removed_is_made_again",
        without_call("parts.recreate_files", "rest.replace_socket"),
    ),
    removal(
        22,
        "a failure to write keys again is logged each second",
        "unit/test_file_watch.py::test_lasting_failure_is_logged_once_and_its_end",
        without_condition("FileWatch.look", "failure != self._failure"),
    ),
    removal(
        22,
        "a backup takes the place of a link",
        "unit/test_backup.py::test_backup_onto_a_link_is_written_where_that_leads",
        ("backup.back_up", "    target = files.resolve(target)\n", ""),
    ),
    removal(
        22,
        "fires after a backup are made again",
        "unit/test_backup.py::test_fire_that_may_have_been_made_is_not_made_again",
        without_call("IdentityWriter.succeed", "self._put_off_fires"),
    ),
    removal(
        26,
        "what a guard says before it reads of another database is of the new one",
        "unit/test_agent.py::test_result_read_before_the_guard_changed_databases_is_of_no_new_run",
        never("Agent.on_guard", "self._holdings.unanswered and isinstance(message, messages.OF_RUNS)"),
    ),
    # --- what a job does to its worker ---
    removal(
        12,
        "a guard that is stopped stays so",
        "unit/test_watchdog.py::test_stopped_guard_is_woken_after_its_time"
        " system/test_stopped.py::test_job_that_stops_its_guard_once_does_no_harm",
        without_call("GuardWatchdog.check", "self._send(signal.SIGCONT)"),
    ),
    removal(
        12,
        "a guard that is stopped again and again is woken each time",
        "unit/test_watchdog.py::test_guard_that_is_stopped_again_and_again_is_killed",
        never("GuardWatchdog.check", "self._wakes == GUARD_WAKES_MAX"),
    ),
    removal(
        12,
        "agents are stopped again and again",
        "system/test_stopped.py::test_job_that_stops_its_agents_ends_crash_limit",
        never("Shell.turn", "self.supervisor.stopped_too_often"),
    ),
    removal(
        14,
        "a killed `up` leaves its processes",
        "system/test_orphans.py::test_killed_up_leaves_no_process"
        " system/test_orphans.py::test_killed_up_ends_what_it_is_starting"
        " system/test_orphans.py::test_killed_demo_leaves_no_process",
        without_call("prctl.die_with", "_prctl"),
    ),
    removal(
        16,
        "whoever logs waits for stderr",
        "system/test_full_stderr.py::test_scheduler_serves_while_its_log_has_no_reader"
        " system/test_full_stderr.py::test_worker_runs_jobs_while_its_log_has_no_reader",
        (
            "Writer.emit",
            "            self._report_lost()\n            self._put(line)\n",
            "            _write(self._descriptor, line)\n",
        ),
    ),
    removal(
        16,
        "lost log lines are not counted",
        "unit/test_logs.py::test_full_pipe_blocks_no_logger_and_lost_lines_are_counted"
        " unit/test_logs.py::test_lost_lines_are_counted_where_they_are_missing",
        ("Writer.emit", "                self._lost += 1\n", ""),
    ),
    # --- leases ---
    removal(
        6,
        "a run that is stopped gets no TERM",
        "system/test_lease.py::test_a_scheduler_that_is_gone",
        without_call("runs.Runs.stop", "self._effects.signals.append"),
    ),
    removal(
        6,
        "a run that does not end gets no KILL",
        "system/test_lease.py::test_a_scheduler_that_is_gone",
        without_call("runs.Runs.kill", "self._effects.signals.append"),
        without_call("runs.Runs._kill_again", "self._effects.signals.append"),
    ),
    removal(
        6,
        "a job with a lease outlives its guard",
        "system/test_lease.py::test_leased_runs_die_with_the_guard_without_any_other_process",
        ("become.main", "    if guard:\n", "    if False:\n"),
    ),
    removal(
        6,
        "a job with a lease begins after its guard's end",
        "system/test_lease.py::test_job_whose_guard_ended_before_it_began_does_not_begin",
        never("become._die_with", "os.getppid() != guard"),
    ),
    # --- results ---
    removal(
        8,
        "a result that is appended is not synced",
        "contract/test_power_cut.py::test_reported_result_is_in_the_spool_after_a_power_cut",
        without_call("Journal.sync", "os.fdatasync"),
    ),
    removal(
        26,
        "a scheduler on another database ends what workers run",
        "system/test_foreign.py::test_jobs_survive_a_scheduler_on_an_empty_database",
        (
            "foreign._to_discard",
            "if held.db in decided.union(store.predecessors()))",
            "if held.running or held.db in decided)",
        ),
    ),
    removal(
        26,
        "a worker with foreign runs gets work before a decision",
        "system/test_foreign.py::test_jobs_survive_a_scheduler_on_an_empty_database"
        " unit/test_dispatcher_foreign.py::test_foreign_runs_are_neither_kept_nor_killed_and_block_their_worker",
        without_condition("_Placing.fill", "not session.withheld"),
    ),
    removal(
        26,
        "a run is found by its number in any database",
        "unit/test_guard_core.py::test_runs_of_two_databases_with_one_number_have_their_own_results"
        " unit/test_guard_core.py::test_stop_and_drop_name_runs_of_the_current_database_alone",
        ("guard.core.Core._leave", "self._databases.setdefault(db, Database(db))", "self._here"),
    ),
    removal(
        26,
        "results of foreign runs are not written",
        "system/test_foreign.py::test_results_wait_for_the_database_that_comes_back",
        without_call("Spool._write_aside", "self._journal.append_other"),
    ),
    removal(
        26,
        "results of foreign runs are not synced",
        "unit/test_spool.py::test_a_result_that_was_added_for_another_database_is_synced",
        without_call("Journal.append_other", "os.fdatasync"),
    ),
    removal(
        26,
        "what the guard said before a change of the database counts",
        "unit/test_agent_foreign.py::test_guard_messages_from_before_a_change_are_not_about_new_runs",
        never("Agent.on_guard", "self._holdings.unanswered and isinstance(message, messages.OF_RUNS)"),
    ),
    removal(
        26,
        "after a failed turn a worker holds nothing foreign",
        "unit/test_dispatcher_foreign.py::test_decision_between_a_failed_turn_and_a_heartbeat_dispatches_nothing",
        without_condition("dispatcher.foreign.on_decide", "session.foreign is not None"),
    ),
    removal(
        6,
        "a discarded run that is ending counts as gone",
        "unit/test_dispatcher_foreign.py::test_a_discarded_run_that_is_ending_is_held_until_it_is_gone",
        ("foreign.own", "(*held.running, *held.ending)]", "held.running]"),
    ),
    removal(
        5,
        "a discarded run is pending again under its own id",
        "unit/test_dispatcher_foreign.py::test_discarded_run_of_the_old_database_is_lost_and_never_pending_again",
        without_call("arrival.adopt", "store.start"),
    ),
    removal(
        26,
        "an answer to a register from before a change of the database counts",
        "unit/test_agent_foreign.py::test_answer_to_a_register_before_a_change_of_database_is_refused",
        never("Agent._on_registered", "self._session.terms is not None and frame.db != self._holdings.db"),
    ),
    removal(
        26,
        "the lease of a foreign run is renewed",
        "unit/test_guard_core.py::test_lease_of_a_foreign_run_is_not_renewed",
        (
            "guard.core.Core._on_session",
            "            self._here.leases.renew(session.heard_ms)",
            "            for database in self._databases.values():\n                database.leases.renew(session.heard_ms)",
        ),
    ),
    removal(
        26,
        "a decision after a failed turn forgets what the worker holds",
        "unit/test_dispatcher_foreign.py::test_a_decision_after_a_failed_turn_waits_for_the_workers_next_list",
        without_condition("foreign.on_decide", "session.foreign is not None"),
    ),
    removal(
        26,
        "runs of a predecessor are asked about",
        "system/test_foreign.py::test_a_restored_database_ends_the_runs_of_its_predecessor_first"
        " unit/test_dispatcher_foreign.py::test_a_predecessors_runs_are_discarded_before_anything_is_dispatched",
        ("foreign._to_discard", "decided.union(store.predecessors())", "decided"),
    ),
    removal(
        8,
        "a new file of the spool is not synced",
        "contract/test_power_cut.py::test_reported_result_is_in_the_spool_after_a_power_cut",
        without_call("Journal._put_aside", "os.fsync"),
    ),
    removal(
        8,
        "a new file's name is not synced",
        "contract/test_power_cut.py::test_reported_result_is_in_the_spool_after_a_power_cut",
        without_call("Journal._put_aside", "sync_folder"),
    ),
    removal(
        8,
        "a new folder's name is not synced",
        "unit/test_spool.py::test_folders_that_are_made_are_there_after_a_power_cut",
        without_call("files.make_folder", "sync_folder"),
    ),
    removal(
        8,
        "a result that was told is forgotten at the next start",
        "system/test_spool.py::test_results_outlive_guard_and_agent_while_no_scheduler_answers",
        ("Spool._read", "        self._results = read | self._results\n", ""),
    ),
    # --- the ends of programs ---
    removal(
        10,
        "two workers may have one state directory",
        "system/test_guard.py::test_a_second_worker_of_one_state_directory_is_refused",
        never("state.lock", "not files.try_lock(fd)"),
    ),
    removal(
        11,
        "an agent that stands still is kept",
        "system/test_guard.py::test_an_agent_that_is_stopped_is_replaced_and_the_jobs_are_kept",
        never("Supervisor.silent", "self._watchdog is not None and self._watchdog.expired(now_ms)"),
    ),
    removal(
        11,
        "what waits is started though its agent has died",
        "system/test_guard.py::test_waiting_runs_of_a_dead_agent_do_not_start_for_the_next_one",
        without_call("guard.core.Core.on_agent_exit", "self._withdraw"),
    ),
    removal(
        14,
        "a process without a mark is nobody's",
        "system/test_guard.py::test_of_the_processes_without_a_mark_those_of_the_group_go",
        without_call("Shell._reap", "host.signal_group"),
        ("runs.Runs.on_orphans", " or self._of_session.get(orphan.session)", ""),
    ),
    removal(
        14,
        "the mark of a run is its number",
        "system/test_guard.py::test_process_that_forges_its_mark_does_not_outlive_its_run",
        ("Spawner.spawn", "mark = os.urandom(_MARK_BYTES).hex()", "mark = str(order.run)"),
    ),
    removal(
        14,
        "a forged mark is as good as none",
        "system/test_guard.py::test_process_that_forges_its_mark_does_not_outlive_its_run",
        without_condition("runs.Runs.on_orphans", "mark is None"),
    ),
    removal(
        14,
        "a killed orphan has no run before it is reaped",
        "unit/test_guard_core.py::test_killed_orphan_holds_its_run_until_it_is_reaped",
        without_condition("runs.Runs.on_orphans", "self._killed_marks.get(orphan.pid)"),
    ),
    removal(
        14,
        "strays are not looked for",
        "system/test_guard.py::test_a_daemon_of_a_run_goes_and_that_of_another_stays",
        returns("Children.strays", "[]"),
    ),
    removal(
        14,
        "the guard is no subreaper",
        "system/test_guard.py::test_nothing_is_left_of_a_run_and_nothing_delays_its_end",
        without_call("System.__init__", "prctl.become_subreaper"),
    ),
    removal(
        14,
        "nothing is swept before the start",
        "system/test_guard.py::test_what_an_earlier_start_left_is_swept_before_registering",
        ("guard.run", "left = sweep(state.spool_id)", "left = 0"),
    ),
    removal(
        14,
        "an agent without its guard sweeps nothing",
        "system/test_guard.py::test_the_death_of_the_guard_ends_all_its_processes",
        ("Link._on_guard_lost", "killed = sweep(self._hello.spool_id)", "killed = 0"),
    ),
    removal(
        14,
        "the outputs of a run that ended stay open",
        "system/test_guard.py::test_after_many_runs_no_descriptor_and_no_zombie_is_left",
        without_call("System.close", "os.close"),
    ),
    # --- bounds ---
    removal(
        15,
        "the body of a request has no bound",
        "unit/test_rest_bodies.py::test_a_body_has_a_bound",
        never("body.read_bytes", "length > bytes_max"),
    ),
    removal(
        15,
        "an array of jobs has no bound",
        "unit/test_rest_jobs.py::test_an_array_has_at_most_ten_thousand_jobs",
        ("rest.JOBS_PER_SUBMIT_MAX", "JOBS_PER_SUBMIT_MAX = 10_000", "JOBS_PER_SUBMIT_MAX = 1_000_000"),
    ),
    removal(
        15,
        "a frame has no bound",
        "system/test_loop.py::test_frame_too_large_costs_only_its_sender_the_connection",
        without_call("Port._set_up", "router.setsockopt(zmq.MAXMSGSIZE, FRAME_FROM_WORKER_BYTES_MAX)"),
    ),
    removal(
        15,
        "a frame has any number of values",
        "unit/test_protocol.py::test_a_frame_of_very_many_values_is_refused_before_any_of_them_is_made",
        never("codec._decode", "len(body) > FRAME_VALUES_MAX and _values_exceed(body, FRAME_VALUES_MAX)"),
    ),
    removal(
        15,
        "a foreign database that is listed twice makes a turn fail",
        "unit/test_protocol.py::test_a_frame_lists_each_foreign_database_once",
        never("frames._demand_distinct", "len(set(named)) < len(named) or (db and db in named)"),
    ),
    removal(
        15,
        "any number of frames waits unread",
        "system/test_loop.py::test_a_peer_that_talks_faster_than_it_is_listened_to_has_to_wait",
        ("Port._set_up", "zmq.RCVHWM, UNREAD_FRAMES_MAX", "zmq.RCVHWM, 0"),
    ),
    removal(
        15,
        "any number of strangers may be in a handshake",
        "system/test_port_crowd.py::test_silent_connections_are_bounded unit/test_connections.py::test_unheard_connections_are_bounded",
        without_condition("Limits.on_accepted", "self._unheard_count > UNHEARD_CONNECTIONS_MAX"),
    ),
    removal(
        15,
        "a key may have any number of connections",
        "unit/test_connections.py::test_connections_of_one_key_are_bounded_and_the_newest_stay",
        ("Limits.on_heard", "excess = list(same.values())[:-CONNECTIONS_PER_KEY_MAX]", "excess: list[Connection] = []"),
    ),
    removal(
        15,
        "a key may connect as often as it likes",
        "system/test_port_crowd.py::test_connections_of_one_key_are_bounded",
        never("Port._verdict", "not self._handshakes.take(key.decode(), _mono_ms())"),
    ),
    removal(
        15,
        "a connection is ended by its descriptor's number alone",
        "system/test_port_crowd.py::test_descriptor_that_was_reused_is_left_alone",
        always("Sockets.end", "_cookie(held) == connection.identity.cookie"),
    ),
    removal(
        15,
        "connections of workers leave no files for REST",
        "unit/test_shares.py::test_open_files_are_left_for_everything_else",
        ("shares.shares", "max(files_max - FILES_RESERVED, min(files_max // _WORKERS_PART, left // 2))", "files_max"),
    ),
    removal(
        15,
        "callers of REST take the last open file",
        "system/test_few_files.py::test_idle_callers_leave_files_for_others",
        ("parts.bind_rest", "ConnectionLimiter(connections.tcp, connections.socket)", "ConnectionLimiter()"),
    ),
    removal(
        15,
        "a failed look at one connection ends the bounds of all",
        "system/test_port_crowd.py::test_connections_stay_bounded_when_looks_at_their_bytes_fail",
        ("ConnectionMonitor._logged", "        except Exception:\n", "        except ():\n"),
    ),
    removal(
        15,
        "workers without a place come again and again",
        "system/test_port_crowd.py::test_newcomers_wait_in_the_kernel_until_a_place_is_free",
        without_call("ConnectionMonitor._hold", "listeners.hold"),
    ),
    removal(
        15,
        "callers that wait take the threads of short calls",
        "system/test_server.py::test_short_calls_are_served_while_more_callers_wait_than_threads",
        never("Server.keep_threads_free", "count > self._threads_started"),
    ),
    removal(
        15,
        "any number of callers waits",
        "unit/test_live.py::test_caller_without_a_place_is_answered_at_once",
        never("Live._begin_waiting", "self._waiting >= self._waiters_max"),
    ),
    removal(
        15,
        "a turn wakes all callers that wait",
        "unit/test_live.py::test_only_those_look_again_whose_topic_has_changed",
        always("Live.wake", "waiter.topic(changes)"),
    ),
    removal(
        15,
        "a frame without runs is sent",
        "unit/test_dispatcher_variables.py::test_no_frame_is_sent_when_no_secret_of_a_claim_can_be_opened",
        ("Delivery.send_runs", "        if orders:", "        if True:"),
    ),
    removal(
        15,
        "a worker leaves an event with each stale result",
        "unit/test_dispatcher_churn.py::test_stale_result_frames_are_bounded_and_acked_only_with_an_event",
        always("Results._note_unstored", "self._stale_frames.take(session.name, now.mono_ms)"),
    ),
    removal(
        15,
        "a worker registers as often as it likes",
        "unit/test_dispatcher_churn.py::test_registers_of_one_name_are_bounded",
        never("Registration._refuse_name", "not self._registers.take(name, now.mono_ms)"),
    ),
    removal(
        15,
        "a worker that gives back all it gets is given more at once",
        "unit/test_dispatcher_churn.py::test_worker_that_gives_back_all_it_gets_is_paused",
        always("_Placing.fill", "session.paused_until_ms <= self._now.mono_ms"),
    ),
    removal(
        15,
        "frames with many runs wait without bound",
        "system/test_loop.py::test_frames_that_wait_for_their_turn_are_bounded_by_what_they_cost",
        without_condition("Loop._receive", "frames.entries < most.entries_max"),
    ),
    removal(
        25,
        "the workers' port is open to other hosts before one has a key",
        "system/test_outward.py::test_worker_of_this_host_does_not_open_the_port",
        ("listeners.addresses", "        return LOOPBACK\n", "        return EVERYWHERE\n"),
    ),
    removal(
        25,
        "any key replaces that of a worker who is away",
        "unit/test_dispatcher_access.py::test_key_of_an_absent_worker_is_replaced_by_origin",
        never("access.bind_key", "before is not None and before.origin not in _REPLACES[command.origin]"),
    ),
    removal(
        25,
        "a token over loopback replaces the key of a worker of this host",
        "unit/test_rest_workers.py::test_enrolling_with_a_token_ends_no_worker_of_this_host",
        without_condition("workers._origin", "req.context.principal.token is None"),
    ),
    removal(
        25,
        "a caller that knows a public key changes its bound of slots",
        "unit/test_rest_workers.py::test_token_that_did_not_bind_a_key_changes_no_bound_of_it",
        without_condition("access.bind_key", "_may_limit(command.caller, known)"),
    ),
    removal(
        25,
        "access files go into a folder in which others can write",
        "unit/test_rotation.py::test_folder_that_others_can_write_in_gets_no_access_file",
        without_call("rotation._make_folder", "files.demand_unwritable"),
    ),
    removal(
        25,
        "a client follows another user's link to a token",
        "unit/test_client.py::test_token_file_by_a_foreign_link_in_a_shared_folder_is_refused",
        without_call("http._private", "_demand_trusted_links"),
    ),
    removal(
        25,
        "a worker over REST takes the name of one on ZeroMQ",
        "unit/test_dispatcher_access.py::test_rest_worker_gets_no_name_that_has_a_key",
        never("polling.register", "store.access.key_of(command.worker_id) is not None"),
    ),
    removal(
        15,
        "any number of workers has a session",
        "unit/test_dispatcher_sessions.py::test_a_worker_too_many_waits_and_those_there_go_on",
        never("Registration._refuse_name", "old is None and len(self._sessions) >= SESSIONS_MAX"),
    ),
    removal(
        15,
        "all output is kept in memory",
        "system/test_guard.py::test_of_long_output_the_ends_are_kept_and_the_rest_is_counted",
        never("Capture.feed", "self._tail_bytes - len(self._tail[0]) >= self._tail_max"),
    ),
    removal(
        15,
        "a worker's output is stored as long as it comes",
        "unit/test_dispatcher_runs.py::test_output_is_cut_to_the_bound_whatever_a_worker_sends",
        returns("translation._kept", "Stream(head=output.head, tail=output.tail, total=output.total)"),
    ),
    removal(
        15,
        "any number of runs is watched",
        "unit/test_live.py::test_the_run_looked_at_longest_ago_makes_room",
        never("Live.look", "len(self._runs) > WATCHED_RUNS_MAX"),
    ),
    removal(
        15,
        "the file of the spool only grows",
        "unit/test_spool.py::test_file_with_held_results_is_at_most_twice_as_long_and_some",
        without_condition("Spool.write", "self._journal.size > 2 * self._kept_bytes + SLACK_BYTES"),
    ),
    removal(
        15,
        "the WAL only grows",
        "contract/test_sqlite.py::test_the_wal_is_moved_into_the_database_and_does_not_grow_for_ever",
        never("SqliteEngine.commit", "self._wal_pages >= CHECKPOINT_PAGES"),
    ),
    removal(
        15,
        "a crowd keeps others out",
        "system/test_crowd.py::test_idle_crowd_keeps_nothing_out_and_its_oldest_connections_go",
        never("ConnectionLimiter.thin", "excess > 0"),
    ),
    removal(
        15,
        "a crowd over TCP counts for the socket",
        "system/test_crowd.py::test_crowd_over_tcp_takes_no_place_of_the_socket",
        (
            "ConnectionLimiter.thin",
            "            excess = len(ours) - self._room(by_socket)",
            "            excess = len(self._all()) - self._room(by_socket)",
        ),
    ),
    removal(
        15,
        "requests sent ahead are read at once",
        "system/test_server.py::test_requests_sent_ahead_wait_unread",
        returns("Channel.parser_class", "Parser(adjustments)"),
    ),
    removal(
        15,
        "each request that waits for a thread has a line in the log",
        "system/test_server.py::test_requests_sent_ahead_wait_unread",
        without_call("Server.__init__", 'logging.getLogger("waitress.queue").setLevel'),
    ),
    removal(
        15,
        "unfinished bodies have no bound",
        "system/test_crowd.py::test_unfinished_bodies_cost_a_bounded_amount_together"
        " system/test_crowd.py::test_requests_that_wait_for_a_thread_count_and_the_served_one_goes_on",
        ("ConnectionLimiter._cut_holders", "_excess(sizes, costs, UNFINISHED_BYTES_MAX)", "()"),
    ),
    removal(
        15,
        "a body has any number of chunks",
        "system/test_server.py::test_body_of_too_many_chunks_is_refused_before_its_end",
        never("received.Chunks", "self._lines > CHUNKS_MAX + len(self.buf) // KIB"),
    ),
    removal(
        15,
        "a body of lines is received whatever its reader does",
        "system/test_upload.py::test_a_slow_reader_holds_the_connection_and_little_memory",
        returns("Upload.has_room", "True"),
    ),
    removal(
        15,
        "bytes after a broken body are a request",
        "system/test_upload.py::test_nothing_after_a_broken_body_is_a_request",
        ("Channel.received", "before.error is not None", "False"),
    ),
    removal(
        15,
        "a caller that kept its body may go on",
        "system/test_upload.py::test_a_caller_that_waits_sends_its_body_only_after_the_word_to_go_on",
        never("Task.build_response_header", "upload is not None and (upload.is_kept_back or upload.is_broken)"),
    ),
    removal(
        15,
        "a line has any length",
        "unit/test_ndjson.py::test_a_line_without_end_is_refused_before_it_is_in_memory",
        never("ndjson._lines", "len(rest) > bytes_max"),
    ),
    removal(
        15,
        "a body of lines may have any number of empty lines",
        "unit/test_ndjson.py::test_empty_lines_take_little_memory",
        never("ndjson._lines", "number > LINES_MAX"),
    ),
    removal(
        34,
        "an entry may be inside quotes",
        "unit/test_template.py::test_a_place_inside_quotes_is_refused_with_the_remedy",
        never("template._demand_outside", "inside in _INSIDE"),
    ),
    removal(
        15,
        "a large body goes by a temporary file",
        "system/test_server.py::test_large_bodies_take_no_descriptors",
        ("Parser.parse_header", "            self.body_rcv.buf = body", "            pass"),
    ),
    removal(
        15,
        "answers that nobody takes have no bound",
        "system/test_crowd.py::test_answers_without_readers_cost_a_bounded_amount_together"
        " system/test_crowd.py::test_connection_that_owes_most_for_the_longest_time_goes_first",
        ("ConnectionLimiter._cut_debtors", "_excess(sizes, costs, UNSENT_BYTES_MAX)", "()"),
    ),
    removal(
        15,
        "a page has no bound of bytes",
        "unit/test_rest_pages.py::test_a_list_of_the_largest_jobs_is_pages_of_eight_mebibytes"
        " unit/test_rest_pages.py::test_the_answer_to_an_array_ends_early_and_leads_to_all_of_its_jobs"
        " unit/test_rest_pages.py::test_workers_tokens_and_keys",
        never("Pages.fill", "rows and before + len(piece) + 1 > PAGE_BYTES_MAX"),
    ),
    removal(
        15,
        "a page that ends early has no link",
        "unit/test_rest_pages.py::test_a_list_of_the_largest_jobs_is_pages_of_eight_mebibytes"
        " unit/test_rest_pages.py::test_events unit/test_rest_pages.py::test_runs_of_a_job",
        never("pages.answer_page", "page.more"),
    ),
    removal(
        15,
        "the values of a body are not counted",
        "unit/test_rest_bodies.py::test_as_many_values_as_may_be_are_read",
        never("body.parse", "_too_many_values(body)"),
    ),
    removal(
        15,
        "what stands in strings counts as values",
        "unit/test_rest_bodies.py::test_commas_and_brackets_inside_strings_are_not_counted_as_values"
        " unit/test_rest_bodies.py::test_values_are_counted_exactly_whatever_their_strings_hold",
        ("body._too_many_values", 'b"".join(parts[inside::2])', 'b"".join(parts)'),
    ),
    removal(
        15,
        "large bodies are all read at once",
        "unit/test_rest_bodies.py::test_large_bodies_beyond_their_room_get_503_and_small_ones_are_read",
        without_call("body.read_bytes", "req.context.admission.admit"),
    ),
    removal(
        15,
        "the room of a large body is not given back",
        "unit/test_rest_bodies.py::test_room_is_given_back_whatever_came_of_the_request",
        without_call("Admission.process_response", "room.give_back"),
    ),
    removal(
        15,
        "a refused body stays in memory until Python looks for cycles",
        "unit/test_rest_bodies.py::test_a_body_that_was_refused_is_kept_by_nothing",
        ("problem.on_problem", "    problem.__traceback__ = problem.__context__ = None\n", ""),
    ),
    removal(
        15,
        "a request may come by drops for ever",
        "system/test_crowd.py::test_a_request_that_comes_by_drops_is_cut_off_when_its_time_is_over",
        ("crowd._limit_s", "    return REQUEST_S if connection.begun else IDLE_CONNECTION_S", "    return 1e9"),
    ),
    # --- back-pressure ---
    removal(
        16,
        "the cap is asked only within the turn",
        "unit/test_rest_idempotency.py::test_a_full_scheduler_answers_what_it_has_done_and_takes_nothing_new",
        never(
            "jobs.submit",
            "context.inbox.full and not (key and idempotency.known(req, key, context.reader))",
        ),
    ),
    removal(
        16,
        "the cap is asked only before the turn",
        "unit/test_rest_methods.py::test_submit_beyond_the_pending_runs_allowed_is_429_and_stores_nothing",
        never("submission.on_submit", "store.pending_tasks() + tasks > pending_max"),
    ),
    removal(
        16,
        "a refusal does not say when to come again",
        "unit/test_rest_methods.py::test_submit_beyond_the_pending_runs_allowed_is_429_and_stores_nothing",
        ("problem._on_command_error", 'status, headers = 429, {"Retry-After": "1"}', "status, headers = 429, {}"),
    ),
    removal(
        16,
        "one turn does all that has come",
        "system/test_loop.py::test_a_turn_that_has_changed_enough_leaves_what_has_come_to_later_ones",
        without_condition("Loop._full", "self._store.rows_changed >= self.turns.rows_max"),
    ),
    removal(
        16,
        "one turn reads all that the frames of it ask for",
        "system/test_loop.py::test_runs_that_frames_make_a_turn_read_are_bounded",
        without_condition("Loop._full", "self._store.held_read >= self.turns.held_max"),
    ),
    removal(
        16,
        "one turn hands out any number of bytes",
        "unit/test_dispatcher_churn.py::test_turn_dispatches_a_bounded_number_of_bytes_and_the_next_follows",
        never("_Placing.is_full", "self._bytes >= CLAIM_BYTES_MAX"),
    ),
    removal(
        15,
        "a message of many parts may be of any length",
        "system/test_port_hostile.py::test_message_that_never_ends_costs_the_connection"
        " unit/test_connections.py::test_connection_that_brings_much_and_no_frame_is_cut",
        ("Limits.on_traffic", "<= UNREAD_BYTES_MAX", ">= 0"),
    ),
    removal(
        15,
        "frames wait for a worker, however long they are",
        "system/test_port_hostile.py::test_frames_that_wait_for_a_worker_are_bounded_by_their_bytes",
        never("Port.send", "not self._monitor.may_send(peer)"),
    ),
    removal(
        15,
        "a worker's labels may have any length",
        "unit/test_rest_workers.py::test_what_a_worker_says_of_itself_is_bounded_in_bytes",
        never("Register.on_post", "size > WORKER_FACTS_BYTES_MAX"),
    ),
    removal(
        16,
        "commands are done before frames",
        "system/test_loop.py::test_a_turn_that_has_changed_enough_leaves_what_has_come_to_later_ones",
        without_call("Loop._turn", "self._handle_frames"),
        (
            "Loop._turn",
            "            self._next_tick_ms = self._dispatcher.on_tick(",
            "            self._handle_frames(now)\n            self._next_tick_ms = self._dispatcher.on_tick(",
        ),
    ),
    # --- blame ---
    removal(
        12,
        "several on probation are each to blame",
        "unit/test_dispatcher_blame.py::test_group_on_probation_is_not_blamed_and_is_tried_in_quarters"
        " unit/test_dispatcher_blame.py::test_poison_among_many_is_found_after_few_deaths_and_the_rest_survive",
        always("losses.find_blamed", "len(suspects) == 1"),
    ),
    removal(
        12,
        "suspects that died together are tried together",
        "unit/test_dispatcher_blame.py::test_pair_is_distinguished_run_by_run",
        returns("losses.bound_of", "1 << max(0, died.bit_length() - 1)"),
    ),
    removal(
        12,
        "a group that died on probation is tried in halves",
        "unit/test_dispatcher_blame.py::test_group_on_probation_is_not_blamed_and_is_tried_in_quarters",
        ("losses.lose_worker", "bound_of(suspects, _GROUPS)", "bound_of(suspects, _GROUPS_FIRST)"),
    ),
    removal(
        12,
        "small groups of suspects are divided after a first death",
        "unit/test_dispatcher_blame.py::test_suspects_of_small_workers_are_tried_in_bulk_on_a_large_worker",
        (
            "losses.lose_worker",
            "max(bound_of(len(held) - suspects, _GROUPS_FIRST), PROBATION_RUNS_MIN)",
            "bound_of(len(held) - suspects, _GROUPS_FIRST)",
        ),
    ),
    removal(
        12,
        "suspects of a first death are tried in groups of one size",
        "unit/test_dispatcher_blame.py::test_first_death_is_followed_by_groups_of_half_or_of_64",
        (
            "losses.lose_worker",
            "max(bound_of(len(held) - suspects, _GROUPS_FIRST), PROBATION_RUNS_MIN)",
            "PROBATION_RUNS_MIN",
        ),
    ),
    removal(
        12,
        "a run is blamed whatever its age",
        "unit/test_dispatcher_blame.py::test_an_established_run_is_spared_once_if_a_younger_one_was_there",
        (
            "losses.find_blamed",
            "    spares = not all(_is_established(run, now) for run in held)\n",
            "    spares = False\n",
        ),
    ),
    removal(
        12,
        "an established run is never blamed",
        "unit/test_dispatcher_blame.py::test_an_established_run_is_spared_once_if_a_younger_one_was_there",
        without_condition("losses.find_blamed", "run.suspected"),
    ),
    removal(
        12,
        "established runs are spared although none was younger",
        "unit/test_dispatcher_blame.py::test_established_runs_are_blamed_when_none_was_younger",
        without_condition("losses.find_blamed", "spares"),
    ),
    removal(
        12,
        "an announced end is not stored",
        "unit/test_dispatcher_blame.py::test_an_announced_end_outlives_the_scheduler"
        " contract/test_turns.py::test_an_announced_end_is_kept_until_the_next_registration",
        ("sql.LEAVE", "UPDATE workers SET leaving_ms = ? WHERE", "UPDATE workers SET leaving_ms = ? WHERE 0 AND"),
    ),
    removal(
        12,
        "an announcement of a turn that was given up counts",
        "unit/test_dispatcher_blame.py::test_an_announced_end_of_a_turn_that_was_given_up_is_heard_again",
        (
            "Sessions.restore",
            "            session.worker = replace(session.worker, leaving_ms=None)\n",
            "            pass\n",
        ),
    ),
    removal(
        12,
        "an agent that starts anew takes the announced end back",
        "unit/test_dispatcher_blame.py::test_restarted_agent_announces_the_end_of_its_worker_again",
        never("Registration._open_session", "frame.leaving"),
    ),
    removal(
        12,
        "a worker does not announce its end",
        "unit/test_agent.py::test_the_end_is_announced_at_once_and_in_each_heartbeat_and_register"
        " system/test_recovery.py::test_worker_that_is_killed_after_sigterm_causes_no_blame",
        ("FlowControl.on_state", "self.stopping = state.stopping", "pass"),
    ),
    # --- clocks ---
    removal(
        17,
        "a jump of the wall clock is ignored",
        "unit/test_dispatcher_clock.py::test_a_day_forward_ends_no_run_before_its_time"
        " unit/test_dispatcher_clock.py::test_a_day_back_holds_back_no_run_for_longer",
        without_call("WallClock.on_begin", "store.shift"),
    ),
    removal(
        17,
        "a wall clock that was set back while no scheduler ran is believed",
        "contract/test_runs.py::test_wall_clock_set_back_while_no_scheduler_ran_delays_nothing",
        without_call("epoch.begin_epoch", "store.shift"),
    ),
    removal(
        17,
        "silence is judged by the wall clock",
        "unit/test_dispatcher_sessions.py::test_the_wall_clock_decides_no_liveness",
        (
            "departures.judge_silence",
            "sessions.silent(now.mono_ms, ",
            "sessions.silent(now.wall_ms - vars(store).setdefault('first_ms', now.wall_ms - now.mono_ms), ",
        ),
    ),
    removal(
        17,
        "a worker's clock stands while its host is suspended",
        "unit/test_worker_clock.py::test_it_is_the_one_that_counts_the_time_of_a_suspended_host",
        returns("clock.mono_ms", "time.monotonic_ns() // 1000000"),
    ),
    # --- schedules that were stopped ---
    removal(
        17,
        "a paused schedule keeps its next fire",
        "unit/test_dispatcher_schedules.py::test_a_paused_job_does_not_fire"
        " contract/test_schedules.py::test_a_paused_job_is_never_due_until_it_is_resumed",
        ("sql.PAUSE_SCHEDULE", "SET paused_ms = ?, next_fire_ms = NULL, updated_ms", "SET paused_ms = ?, updated_ms"),
    ),
    removal(
        17,
        "an ended schedule keeps its next fire",
        "unit/test_dispatcher_schedules.py::test_an_ended_job_does_not_fire"
        " contract/test_schedules.py::test_an_ended_job_is_never_due_and_can_not_be_resumed",
        ("sql.END_SCHEDULE", "paused_ms = NULL, next_fire_ms = NULL, updated_ms", "paused_ms = NULL, updated_ms"),
    ),
    removal(
        17,
        "an edit sets the next fire of a paused job",
        "unit/test_dispatcher_schedules.py::test_a_changed_schedule_of_a_paused_job_fires_only_after_its_resume",
        without_condition("edits.on_edit", "job.paused_ms is None"),
    ),
    removal(
        13,
        "a schedule ends while its last fire is live",
        "unit/test_dispatcher_schedules.py::test_a_schedule_is_not_ended_while_its_last_fire_is_live"
        " unit/test_rest_schedules.py::test_a_live_job_is_ended_only_with_cancel",
        never("recurrence._end", "not command.cancel and store.last_fire_lives(job.job_id)"),
    ),
    removal(
        13,
        "an ended job that never fired stays pending",
        "contract/test_schedules.py::test_ended_schedule_has_the_status_of_its_last_fire_or_cancelled"
        " unit/test_rest_schedules.py::test_ended_schedule_stays_visible_and_is_cancelled_when_it_never_fired",
        (
            "store/sqlite/schema/0009_schedules.sql",
            "WHEN ended_ms IS NOT NULL THEN 'cancelled'",
            "WHEN ended_ms IS NOT NULL THEN 'pending'",
        ),
    ),
    removal(
        25,
        "an operator changes what another owner's job runs",
        "unit/test_dispatcher_schedules.py::test_an_operator_can_not_change_what_another_owners_job_runs",
        without_call("edits._check", "owners.demand_command"),
    ),
    # --- holds, reruns, retries and usage ---
    removal(
        30,
        "a run that follows one of a held job is ready",
        "contract/test_acts.py::test_running_run_of_a_held_job_goes_on_and_what_follows_it_is_held",
        ("Lives._follow", "Blocked.HELD | ", ""),
    ),
    removal(
        33,
        "a job does not wait for others",
        "contract/test_dependencies.py::test_job_waits_for_all_jobs_that_it_names",
        never("JobSpec.blocked_at", "self.after"),
    ),
    removal(
        33,
        "a job that others wait for is removed",
        "contract/test_dependencies.py::test_parents_stay_while_a_dependent_lives",
        returns("RetentionWriter._needed", "set()"),
    ),
    removal(
        33,
        "an array starts although it waits for a job",
        "contract/test_dependencies.py::test_array_waits_as_a_whole_and_its_dependent_for_all_tasks",
        (
            "array_sql.STATES",
            "OR NOT EXISTS (SELECT 1 FROM dependencies d WHERE d.child_id = jobs.job_id AND d.judged = 0)",
            "OR 1 = 1",
        ),
    ),
    removal(
        33,
        "a task starts before the task that it follows has succeeded",
        "contract/test_dependencies.py::test_each_task_waits_for_the_same_task",
        ("TasksWriter._add_tasks", "ranges.WAITS if follows else ranges.UNMADE", "ranges.UNMADE"),
    ),
    removal(
        33,
        "a rerun forgets the tasks of an array that ended and do not run again",
        "contract/test_dependencies.py::test_tasks_that_ended_before_a_rerun_of_others_still_count",
        ("after.UNSETTLE_JOBS", " AND first_task = -1", ""),
    ),
    removal(
        33,
        "a failed array has run if a task of it has failed before",
        "contract/test_dependencies.py::test_an_earlier_failure_of_a_task_does_not_say_that_an_array_has_run",
        returns("DependenciesWriter._have_run", "set(failed)"),
    ),
    removal(
        30,
        "tasks without runs have no deadline",
        "contract/test_arrays.py::test_tasks_that_were_not_made_at_the_deadline_expire_at_once",
        returns("TasksWriter._is_late", "False"),
    ),
    removal(
        30,
        "a restore takes tasks without runs for new",
        "contract/test_arrays.py::test_restored_tasks_without_runs_that_may_start_only_once_fail",
        without_call("IdentityWriter.succeed", "self._restore_tasks"),
    ),
    removal(
        33,
        "the end of a task for which others wait is not noted",
        "contract/test_dependencies.py::test_job_waits_for_one_task_of_an_array",
        without_call("Lives._end_tasks", "self._settle"),
    ),
    removal(
        30,
        "a live job runs again",
        "contract/test_acts.py::test_live_job_does_not_run_again",
        never("JobsWriter.rerun", "not last or RunStatus(last[0][1]) not in TERMINAL"),
    ),
    removal(
        31,
        "any failure is tried again",
        "contract/test_failures.py::test_a_failure_that_is_not_named_ends_its_job",
        returns("failures.is_retried", "True"),
    ),
    removal(
        31,
        "one turn offers all retries to other workers",
        "contract/test_avoidance.py::test_runs_that_avoid_are_offered_oldest_first_up_to_a_number",
        ("sql.AVOIDING", "LIMIT ?", "LIMIT 9 + ?"),
    ),
    removal(
        30,
        "a hold leaves no event",
        "contract/test_acts.py::test_held_job_does_not_start_until_it_is_released",
        without_call("JobsWriter._hold", "self._ledger.note"),
    ),
    removal(
        32,
        "usage counts what was undone",
        "contract/test_usage.py::test_ends_that_are_undone_do_not_count",
        without_call("Ledger.cut", "self.usage.cut"),
    ),
    removal(
        32,
        "a job is removed with counters of the turn before",
        "contract/test_acts.py::test_job_that_this_turn_has_changed_is_not_removed",
        without_condition("RetentionWriter.remove", "job_id in self._ledger.counting"),
    ),
    # --- garbage ---
    removal(
        19,
        "a message may have many parts",
        "system/test_port_hostile.py::test_message_of_several_parts_costs_the_connection"
        " system/test_loop.py::test_message_of_several_parts_costs_only_its_sender_the_connection",
        without_call("Port.receive", "self._monitor.on_parts"),
    ),
    removal(
        19,
        "a map may have a key twice",
        "unit/test_protocol.py::test_invalid_frame_is_refused",
        never("codec._unique_keys", "len(members) != len(pairs)"),
    ),
    removal(
        19,
        "a frame may have what msgpack has and we don't",
        "unit/test_protocol.py::test_invalid_frame_is_refused",
        returns("codec._no_extensions", "_data"),
    ),
    removal(
        19,
        "a JSON object may have a key twice",
        "unit/test_rest_bodies.py::test_invalid_job_is_refused_with_its_place",
        never("body._unique_keys", "name in found"),
    ),
    removal(
        19,
        "what neither store nor shell can carry is taken",
        "unit/test_rest_bodies.py::test_invalid_job_is_refused_with_its_place",
        without_call("body.parse", "_check"),
    ),
    removal(
        19,
        "all garbage is answered",
        "unit/test_dispatcher_runs.py::test_garbage_is_answered_at_most_once_a_second_and_changes_nothing",
        never("Outbox._reply_error_throttled", "last_ms is not None and now.mono_ms - last_ms < ERROR_INTERVAL_MS"),
    ),
    # --- the file ---
    removal(
        20,
        "the lock is not asked for",
        "contract/test_sqlite.py::test_second_scheduler_is_refused_and_names_the_first",
        never("folder._hold", "not files.try_lock(lock)"),
    ),
    removal(
        20,
        "each name of a database has a lock",
        "contract/test_sqlite.py::test_a_database_has_one_lock_whichever_name_leads_to_it",
        ("Lock.__init__", "            self.path = files.resolve(db)", "            self.path = db.absolute()"),
    ),
    removal(
        20,
        "the inode of a database has no lock",
        "contract/test_file.py::test_lock_holds_by_a_hard_link_and_without_the_folder"
        " system/test_database_file.py::test_second_scheduler_by_another_name_is_refused"
        " system/test_database_file.py::test_second_scheduler_by_a_bind_mount_is_refused",
        without_call("Lock._lock_file", "fcntl.fcntl"),
    ),
    removal(
        20,
        "the locks of SQLite are dropped",
        "contract/test_file.py::test_locks_of_sqlite_stay_when_another_connection_is_opened",
        (
            "engine._make_own",
            "os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW",
            "os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW",
        ),
    ),
    removal(
        22,
        "a WAL is replayed over any file",
        "contract/test_file.py::test_copy_put_over_a_database_with_a_wal_is_refused"
        " contract/test_file.py::test_wal_without_its_file_is_refused_and_kept"
        " system/test_database_file.py::test_copy_over_a_live_wal_is_refused_with_the_command",
        without_call("sqlite.engine.open_engine", "demand_sound"),
    ),
    removal(
        22,
        "a new WAL has the generation of the one before",
        "contract/test_file.py::test_copy_of_a_stopped_database_put_over_a_later_one_is_refused",
        never("SqliteEngine._checkpoint", "self._marks"),
    ),
    removal(
        22,
        "a copy by SQLite is taken for the file",
        "contract/test_file.py::test_copy_put_over_a_database_with_a_wal_is_refused",
        without_condition("head.belongs", "0 <= together.cookie - file.cookie <= _COOKIE_LAG_MAX"),
    ),
    removal(
        22,
        "a displaced database is not noticed",
        "system/test_database_file.py::test_file_that_is_displaced_ends_the_scheduler_and_loses_nothing",
        without_call("Process._after_turn", "watch.look"),
    ),
    removal(
        22,
        "a displaced database is not noticed at the end",
        "system/test_database_file.py::test_file_that_is_displaced_shortly_before_the_end_is_noticed",
        without_call("Process._turn", "tenure.store.verify"),
    ),
    removal(
        22,
        "a displaced database that is found damaged is not saved",
        "system/test_database_file.py::test_overwritten_file_is_rescued_though_it_is_first_found_damaged",
        (
            "displacement.find",
            "    if isinstance(error, StoreMisplaced):\n        return error\n",
            "    if True:\n        return error if isinstance(error, StoreMisplaced) else None\n",
        ),
    ),
    removal(
        22,
        "the WAL is moved into whatever file has the name",
        "contract/test_file.py::test_nothing_is_written_into_a_file_that_was_put_in_place",
        ("SqliteEngine._checkpoint", "        if self._displaced() is not None:\n            return\n", ""),
    ),
    removal(
        22,
        "no rescue copy without all keys",
        "unit/test_backup.py::test_rescue_goes_without_a_key_that_can_not_be_read",
        ("backup.rescue", "_rescue_folders(db), _readable_keys(", "_rescue_folders(db), read_keys("),
    ),
    removal(
        22,
        "a rescue copy is forgotten",
        "unit/test_backup.py::test_rescue_copy_stands_in_the_way_of_a_start_until_it_is_restored",
        without_call("Lock._lock_file", "self._demand_no_remains"),
    ),
    removal(
        22,
        "a backup by a hard link lacks what is in the WAL",
        "system/test_database_file.py::test_backup_by_another_name_than_that_of_the_scheduler_is_refused",
        without_call("copies.source", "demand_name"),
    ),
    removal(
        22,
        "what killed backups left stays for ever",
        "unit/test_backup.py::test_what_a_killed_backup_left_is_removed_by_the_next",
        without_call("backup._aside", "_remove_left"),
    ),
    removal(
        22,
        "a backup removes what another one still writes",
        "unit/test_backup.py::test_what_a_killed_backup_left_is_removed_by_the_next",
        always("backup._remove_left", "os.fstat(descriptor).st_uid == os.geteuid() and hold_copy(descriptor)"),
    ),
    removal(
        22,
        "a restore leaves the old WAL",
        "unit/test_backup.py::test_replaced_database_is_kept_with_its_wal",
        without_call("backup.restore", "db.with_name(db.name + suffix).unlink"),
    ),
    removal(
        21,
        "a newer schema is taken for ours",
        "contract/test_sqlite.py::test_a_newer_schema_is_refused_and_left_alone",
        never("sqlite.migrations.migrate", "head.schema > len(steps)"),
    ),
    removal(
        21,
        "a migration is no transaction",
        "contract/test_sqlite.py::test_a_migration_that_fails_leaves_the_database_as_it_was",
        (
            "sqlite.migrations.migrate",
            "        engine.begin()\n        try:\n            engine.execute(steps[number - 1])\n",
            "        engine.execute(steps[number - 1])\n        engine.begin()\n        try:\n",
        ),
    ),
    removal(
        21,
        "a port in use has the exit code of a bug",
        "system/test_shutdown.py::test_port_in_use_ends_the_start_with_exit_code_71",
        ("scheduler.EXIT_CODES", "    ListenError: os.EX_OSERR,", "    ListenError: os.EX_SOFTWARE,"),
    ),
    removal(
        21,
        "all that keeps it from starting is one exit code",
        "system/test_shutdown.py::test_unusable_database_is_an_exit_code_and_stays_unchanged",
        (
            "scheduler.main",
            "        return next(code for kind, code in",
            "        return next(os.EX_IOERR for kind, code in",
        ),
    ),
    removal(
        22,
        "the file is not checked at the start",
        "contract/test_sqlite.py::test_a_damaged_database_is_found_when_it_is_opened",
        never("SqliteEngine.check", 'result != "ok"'),
    ),
    removal(
        22,
        "a damaged row is let through",
        "contract/test_claim.py::test_damaged_job_fails_alone"
        " unit/test_dispatcher_runs.py::test_damaged_job_fails_with_its_reason_and_stops_nothing_else",
        never("claims._claimed", "not order.command"),
    ),
    removal(
        22,
        "a row that can't be read stops all",
        "contract/test_claim.py::test_damaged_job_fails_alone",
        ("ClaimsWriter._claimable", "        except _DAMAGE:\n", "        except IndexError:\n"),
    ),
    removal(
        22,
        "what a damaged demand asks for is asked of nobody",
        "unit/test_dispatcher_runs.py::test_demand_that_cannot_be_read_stops_nothing_else",
        without_call("OffersWriter.ready", "self._quarantine_all"),
    ),
    # --- truth ---
    removal(
        23,
        "the middle is left out without a count",
        "system/test_guard.py::test_of_long_output_the_ends_are_kept_and_the_rest_is_counted",
        (
            "Capture.output",
            "tail[max(0, len(tail) - self._tail_max) :], self._total)",
            "(end := tail[max(0, len(tail) - self._tail_max) :]), len(self._head) + len(end))",
        ),
    ),
    removal(
        23,
        "a gap is shown without a mark",
        "unit/test_rest_workers.py::test_long_logs_are_shown_by_head_and_tail_and_say_where_the_rest_is"
        " unit/test_rest_workers.py::test_logs_longer_than_what_is_kept_keep_head_tail_and_the_true_count",
        ("views.kept", 'if shown.cut else b""', 'if False else b""'),
    ),
    removal(
        23,
        "a signal is told as an exit code",
        "system/test_guard.py::test_exit_codes_and_signals_are_reported_unchanged",
        (
            "System.next_ended",
            "Exit(ended.si_pid, None, ended.si_status)",
            "Exit(ended.si_pid, 128 + ended.si_status, None)",
        ),
    ),
    removal(
        23,
        "a watch goes on in the next session",
        "unit/test_guard_core.py::test_watch_ends_with_the_session_that_asked_for_it",
        excerpt("guard.core.Core._on_session", "self._watches = Watches(self._captures)", "pass"),
    ),
    removal(
        23,
        "what is left in the pipe at the end is lost",
        "system/test_guard.py::test_after_many_runs_no_descriptor_and_no_zombie_is_left",
        never(
            "Pipes.finish",
            "self._open.get(fd) is output and drained < _DRAIN_BYTES_MAX and (count := self._read(fd, output))",
        ),
    ),
    removal(
        24,
        "what happens is not written down",
        "contract/test_check.py::test_what_the_store_wrote_agrees contract/test_history.py::test_events_and_counters_tell_the_state_of_every_run_after_any_history",
        ("Ledger.write", "            engine.sendmany(sql.ADD_EVENT,", "            list("),
    ),
    removal(
        24,
        "a result that is refused leaves no event",
        "contract/test_runs.py::test_a_result_from_a_lost_run_is_stale_and_leaves_an_event",
        returns("EndsWriter.note_stale", ""),
    ),
    # --- lists and retention ---
    removal(
        15,
        "a search goes on until it has seen all",
        "unit/test_list_search.py::test_a_search_stops_after_its_time_and_the_next_goes_on_there",
        excerpt(
            "Search.rows",
            "while self.unfinished and (now_s - begin_s) * 1000 < SEARCH_MS_MAX:",
            "while self.unfinished:",
        ),
    ),
    removal(
        15,
        "a page of a search that stopped early looks like the last one",
        "unit/test_rest_lists.py::test_search_that_ends_early_goes_on_by_its_link",
        returns("Search.finish", "page"),
    ),
    removal(
        32,
        "one turn removes all old jobs",
        "unit/test_dispatcher_retention.py::test_a_turn_removes_only_some_and_the_next_comes_soon",
        excerpt("Retention._remove_jobs", "PURGE_JOBS_MAX", "1_000_000"),
    ),
    removal(
        32,
        "a round of retention goes on behind a step that was undone",
        "unit/test_dispatcher_retention.py::test_a_step_that_was_undone_is_done_again",
        without_call("Dispatcher.on_rollback", "self._retention.on_rollback()"),
    ),
    removal(
        15,
        "a removal for a caller begins the round of retention again",
        "unit/test_dispatcher_retention.py::test_removals_by_callers_do_not_stop_a_round",
        excerpt("Retention.on_removed", "self._asked = True", "self._asked, self._round = True, None"),
    ),
    removal(
        15,
        "a job of a clock that was set back ends each round of retention",
        "contract/test_retention.py::test_jobs_of_a_clock_that_was_set_back_end_no_round",
        excerpt("RetentionWriter.purge_jobs", "if not old.ended_ms <= row[1] <= now_ms", "if row[1] < old.ended_ms"),
    ),
    removal(
        15,
        "each refused command makes the scheduler count all live demands again",
        "contract/test_queues.py::test_refusal_that_changed_nothing_forgets_nothing",
        excerpt("store.core.Core.savepoint", "forget=self._engine.changes() != before", "forget=True"),
    ),
    removal(
        25,
        "a token runs any number of ended jobs again in one turn",
        "unit/test_dispatcher_owners.py::test_the_bound_of_pending_jobs_holds_for_reruns_of_one_turn",
        excerpt("JobsWriter.count_metered", "counted + self._ledger.revived_of(owner)", "counted"),
    ),
    removal(
        32,
        "jobs that changed lately are removed with the old ones",
        "contract/test_retention.py::test_live_recurring_and_young_jobs_stay",
        excerpt("RetentionWriter.purge_jobs", "if row[2] < old.ended_ms and not row[7]", "if not row[7]"),
    ),
    removal(
        32,
        "removed jobs stay in the totals",
        "contract/test_retention.py::test_only_jobs_of_the_status_are_removed_and_totals_follow",
        excerpt("RetentionWriter._count", "(-tasks, status)", "(0, status)"),
    ),
    removal(
        32,
        "a job that the turn has changed is removed by its row from before",
        "contract/test_retention.py::test_a_job_that_the_turn_has_changed_stays",
        excerpt("RetentionWriter.purge_jobs", " and row[0] not in changing", ""),
    ),
    removal(
        32,
        "the last fires of a recurring job are removed",
        "contract/test_retention.py::test_the_last_fires_of_a_recurring_job_stay_however_old",
        excerpt("RetentionWriter.purge_fires", "FIRES_KEPT - 1", "1"),
    ),
    removal(
        32,
        "the name of a removed token is free again",
        "contract/test_access.py::test_old_tokens_are_removed_and_their_names_stay_taken unit/test_dispatcher_access.py::test_a_new_token_can_not_have_the_name_of_a_removed_one",
        excerpt(
            "RetentionWriter.purge_tokens",
            'self._engine.send(sql.ADD_OWNER, (owner_id, f"token:{name}"), rows=1)',
            "pass",
        ),
    ),
    removal(
        32,
        "events of removed fires stay",
        "contract/test_retention.py::test_the_last_fires_of_a_recurring_job_stay_however_old",
        excerpt("RetentionWriter._of_removed", "there = first in runs_there", "there = True"),
    ),
    # --- who gets in ---
    removal(
        25,
        "a caller from another host is local",
        "unit/test_rest_gate.py::test_caller_that_is_not_local_is_refused_everywhere_and_stores_nothing",
        never("gate.why_foreign", "not _by_socket(req) and not all(map(is_loopback_address, both))"),
    ),
    removal(
        25,
        "a call that a proxy forwarded is local",
        "unit/test_rest_gate.py::test_caller_that_is_not_local_is_refused_everywhere_and_stores_nothing",
        never("gate.why_foreign", "any(name.startswith(_FORWARDING) for name in req.env)"),
    ),
    removal(
        25,
        "headers of content networks and containers' relays count for nothing",
        "unit/test_rest_gate.py::test_caller_that_is_not_local_is_refused_everywhere_and_stores_nothing",
        ("zsched.api.gate", '    "HTTP_CF_",\n', ""),
    ),
    removal(
        25,
        "uids count for TCP in a partial user namespace",
        "system/test_user_namespace.py::test_default_in_a_partial_user_namespace_is_the_socket",
        always("parts.trust_of", "ambiguous is None"),
    ),
    removal(
        25,
        "any user of this host is ours",
        "unit/test_rest_tokens.py::test_another_user_of_this_host_is_not_served",
        never(
            "Gate._local", "uid is None or not peer.trusted(uid, os.geteuid(), self._trust.uids, self._trust.ambiguous)"
        ),
    ),
    removal(
        25,
        "a caller who has left is root",
        "system/test_peer.py::test_caller_that_sends_and_leaves_has_no_uid"
        " system/test_peer.py::test_caller_uid_is_known_while_it_holds_its_end",
        (
            "SockDiag.uid_of",
            "        return int(uid) if inode and state in _CONNECTED else None",
            "        return int(uid)",
        ),
    ),
    removal(
        25,
        "a connection that was reset is its port's next owner's",
        "system/test_server.py::test_reset_connection_is_not_served_as_another_socket_on_its_port",
        ("TcpCaller.uid", "(uid if peer.connected(self._connection) else None,)", "(uid,)"),
    ),
    removal(
        25,
        "a socket that still connects is a caller's",
        "system/test_peer.py::test_socket_that_still_connects_is_nobodys_end",
        without_condition("SockDiag.uid_of", "state in _CONNECTED"),
    ),
    removal(
        25,
        "a user of many faces is trusted",
        "unit/test_peer.py::test_ambiguous_uid_is_never_trusted",
        without_condition("peer.trusted", "uid != ambiguous"),
    ),
    removal(
        25,
        "any Host is ours",
        "unit/test_rest_gate.py::test_caller_that_is_not_local_is_refused_everywhere_and_stores_nothing",
        never("gate.why_foreign", '_name(req.get_header("Host") or "") not in _LOCAL_NAMES'),
    ),
    removal(
        25,
        "a page of any origin may call",
        "unit/test_rest_gate.py::test_caller_that_is_not_local_is_refused_everywhere_and_stores_nothing"
        " unit/test_rest_tokens.py::test_another_sites_page_is_refused_whatever_it_shows",
        never(
            "gate._refuse_pages",
            "origin is not None and origin not in [f\"{scheme}://{req.get_header('Host')}\" for scheme in schemes]",
        ),
    ),
    removal(
        25,
        "a page of any site may call",
        "unit/test_rest_gate.py::test_caller_that_is_not_local_is_refused_everywhere_and_stores_nothing"
        " unit/test_rest_tokens.py::test_another_sites_page_is_refused_whatever_it_shows",
        never("gate._refuse_pages", 'req.get_header("Sec-Fetch-Site") in ("cross-site", "same-site")'),
    ),
    removal(
        25,
        "who comes through a proxy is local",
        "unit/test_rest_gate.py::test_caller_that_is_not_local_is_refused_everywhere_and_stores_nothing"
        " system/test_server.py::test_the_servers_own_handling_of_proxies_hides_none",
        never("gate.why_foreign", "any(name.startswith(_FORWARDING) for name in req.env)"),
    ),
    removal(
        25,
        "a bad token is none",
        "unit/test_rest_tokens.py::test_invalid_token_is_401_for_every_caller",
        (
            "Gate._bearer",
            "        if self._attempts.too_many(",
            "        if foreign(req) is None:\n            return self._local(req)\n        if self._attempts.too_many(",
        ),
    ),
    removal(
        25,
        "a token is good by its id alone",
        "unit/test_tokens.py::test_only_the_right_secret_of_the_right_id_is_good unit/test_rest_tokens.py::test_invalid_token_is_401_for_every_caller",
        without_condition("tokens.good", "same"),
    ),
    removal(
        25,
        "a token never expires",
        "unit/test_tokens.py::test_it_is_good_until_the_very_millisecond_of_its_end",
        always("tokens.good", "kept.expires_ms is None or now_ms < kept.expires_ms"),
    ),
    removal(
        25,
        "a revoked token is good",
        "unit/test_tokens.py::test_a_revoked_one_is_never_good_again",
        without_condition("tokens.good", "kept.revoked_ms is not None"),
    ),
    removal(
        25,
        "bad tokens may be tried for ever",
        "unit/test_rest_tokens.py::test_the_count_holds_over_all_paths_and_methods",
        never("Attempts.too_many", "count >= ATTEMPTS_MAX"),
    ),
    removal(
        25,
        "a token does all, whatever its scopes",
        "unit/test_rest_tokens.py::test_each_scope_does_what_is_its_own_and_nothing_else",
        always("Gate.process_resource", "needed is None or principal is None or principal.may(*needed)"),
    ),
    removal(
        25,
        "a token acts on everybody's jobs",
        "unit/test_rest_owners.py::test_action_on_a_job_needs_its_owner_or_an_operator"
        " unit/test_dispatcher_owners.py::test_own_jobs_can_be_cancelled_and_others_can_not",
        never("owners.find_job", "not may_act(by, job.owner)"),
    ),
    removal(
        25,
        "a job without an owner belongs to callers without one",
        "unit/test_dispatcher_owners.py::test_a_job_without_owner_is_nobodys_own",
        without_condition("owners._owns", "bool(owner)"),
    ),
    removal(
        25,
        "a token that was revoked meanwhile submits",
        "unit/test_dispatcher_owners.py::test_a_token_revoked_since_it_was_looked_at_submits_nothing"
        " unit/test_rest_owners.py::test_a_token_revoked_between_the_gate_and_the_turn_submits_nothing",
        without_condition("owners.find_token", "token.revoked_ms is not None"),
    ),
    removal(
        25,
        "a token's jobs choose their user",
        "unit/test_dispatcher_owners.py::test_jobs_of_a_token_with_run_as_run_as_that_user",
        never("owners.admit", "spec.user not in (None, token.run_as)"),
    ),
    removal(
        25,
        "a token has as many pending jobs as it likes",
        "unit/test_dispatcher_owners.py::test_pending_jobs_of_a_token_are_bounded"
        " unit/test_dispatcher_owners.py::test_the_bound_of_pending_jobs_holds_within_one_turn",
        never("owners.admit", "store.count_metered(token.owner, token.pending_max) + len(specs) > token.pending_max"),
    ),
    removal(
        25,
        "a token has as many schedules as it likes",
        "unit/test_dispatcher_owners.py::test_recurring_jobs_of_a_token_are_bounded",
        never("owners.admit", "token.schedules_max is not None and recurring"),
    ),
    removal(
        25,
        "jobs of a token have any priority",
        "unit/test_dispatcher_owners.py::test_priority_of_a_tokens_jobs_is_bounded",
        without_call("owners.admit", "demand_priority"),
    ),
    removal(
        25,
        "an edit gives any priority, whatever the token allows",
        "unit/test_dispatcher_owners.py::test_edits_and_reruns_keep_to_the_priority_of_their_token",
        without_call("edits._check", "owners.demand_priority"),
    ),
    removal(
        25,
        "a rerun has any priority, whatever the token allows",
        "unit/test_dispatcher_owners.py::test_edits_and_reruns_keep_to_the_priority_of_their_token",
        without_call("tasks.admit_rerun", "owners.demand_priority"),
    ),
    removal(
        25,
        "schedules outlive the end of a token's jobs",
        "unit/test_dispatcher_owners.py::test_token_revoked_with_its_jobs_ends_those_jobs_only",
        without_call("owners.end_jobs", "store.end_schedule"),
    ),
    removal(
        25,
        "the end of a token's jobs is forgotten by a restart",
        "unit/test_dispatcher_owners.py::test_the_end_of_jobs_survives",
        ("Upkeep.__init__", "        self.ending = True\n", "        self.ending = False\n"),
    ),
    removal(
        25,
        "what ended in the turn of a cancel is marked as cancelled",
        "unit/test_dispatcher_bulk.py::test_a_job_that_ends_in_the_turn_of_a_bulk_cancel_keeps_its_end"
        " contract/test_owners.py::test_a_cancel_of_a_job_that_has_ended_changes_nothing",
        always("JobsWriter.cancel", "pending or running"),
    ),
    removal(
        25,
        "jobs submitted in the turn of a revocation outlive it",
        "unit/test_dispatcher_owners.py::test_jobs_submitted_in_the_turn_of_a_revocation_are_ended",
        without_call("owners.end_jobs", "store.flush_counters"),
    ),
    removal(
        24,
        "what is due is read before the turn's counters are written",
        "unit/test_dispatcher_recurring.py::test_a_result_in_the_very_turn_of_the_slot_lets_it_fire",
        without_call("recurrence.fire_due", "store.flush_counters"),
    ),
    removal(
        15,
        "each claimed run's job is read by itself",
        "contract/test_claim.py::test_claim_is_two_statements_however_many_runs",
        (
            "ClaimsWriter._claimable",
            "            return [_claimed(row, probation, wanted.lease_ms) for row in self._execute(statement, chosen)], []\n",
            "            raise ValueError\n",
        ),
    ),
    removal(
        15,
        "each result of a frame is a statement",
        "contract/test_claim.py::test_results_of_one_frame_are_one_statement",
        (
            "EndsWriter._finish",
            "            ended |= self._end_reported(cause, reported, ",
            "            for each in reported:\n                ended |= self._end_reported(cause, [each], ",
        ),
    ),
    removal(
        15,
        "a worker's load is kept although its runs have changed",
        "contract/test_history.py::test_events_and_counters_tell_the_state_of_every_run_after_any_history",
        without_call("Lives._record", "self._loads.leave"),
    ),
    removal(
        15,
        "a worker's load is kept although a turn was undone",
        "contract/test_history.py::test_events_and_counters_tell_the_state_of_every_run_after_any_history",
        without_call("store.core.Core._forget", "self._loads.clear"),
    ),
    removal(
        15,
        "a worker's load is kept although a probation has ended",
        "contract/test_runs.py::test_a_crash_is_counted_on_the_run_and_its_successor_is_on_probation",
        without_call("Lives._record", "self._loads.drop"),
    ),
    removal(
        25,
        "a bulk call acts on everybody's jobs",
        "unit/test_dispatcher_bulk.py::test_bulk_cancel_leaves_jobs_of_other_owners_alone"
        " unit/test_rest_many.py::test_bulk_of_a_submit_token_is_for_its_own_jobs",
        never("bulk._act", "not owners.may_act(command.by, target.owner)"),
    ),
    removal(
        25,
        "a token with submit selects the jobs of all owners",
        "unit/test_rest_many.py::test_selecting_other_owners_needs_operate",
        never("Bulk.on_post", "selection.ids is None and others and not principal.may(Scope.OPERATE)"),
    ),
    removal(
        3,
        "a constraint that a frame or command breaks fails the turn",
        "system/test_loop.py::test_frame_that_breaks_a_constraint_undoes_that_frame_alone"
        " system/test_loop.py::test_command_that_breaks_a_constraint_fails_for_its_caller_alone",
        without_condition("loop._ends_turn", "not isinstance(error, StoreConstraint)"),
    ),
    removal(
        3,
        "a command that fails in the middle is half done",
        "system/test_loop.py::test_a_bug_in_the_middle_of_a_command_undoes_all_of_it",
        ("Loop._do", "            with self._store.savepoint():\n", "            if True:\n"),
    ),
    removal(
        15,
        "a bulk call takes a turn as long as its jobs",
        "unit/test_dispatcher_bulk.py::test_one_turn_looks_at_a_bounded_number_of_jobs",
        ("dispatcher.bulk", "from zsched.model.limits import BULK_JOBS_MAX", "BULK_JOBS_MAX = 1_000_000"),
    ),
    removal(
        3,
        "a bulk call that fails later says nothing of what was done",
        "unit/test_rest_many.py::test_bulk_call_answers_what_was_done_when_a_later_step_fails",
        (
            "Bulk.on_post",
            "            except (Problem, ClosedError, StoreError, TimeoutError):",
            "            except ():",
        ),
    ),
    removal(
        15,
        "every bulk call has a step in each turn",
        "unit/test_rest_many.py::test_bulk_calls_take_turns",
        ("Context.__init__", "        self.steps = Room(1, ", "        self.steps = Room(100, "),
    ),
    removal(
        15,
        "a waiting call reads all its jobs at each look",
        "unit/test_rest_many.py::test_a_look_reads_what_has_happened_and_not_what_is_waited_for",
        ("Wait.on_post.look", "            roll.follow(context.reader)", "            roll.read(context.reader)"),
    ),
    removal(
        24,
        "a job that ends while all are read is missed",
        "unit/test_rest_many.py::test_a_job_that_ends_while_all_are_read_is_not_missed",
        ("Roll.read", "        self.next = reader.last_event()\n", ""),
        (
            "Roll.read",
            "                    self._codes[begin + job_id - first] = _CODES[status]\n",
            "                    self._codes[begin + job_id - first] = _CODES[status]\n        self.next = reader.last_event()\n",
        ),
    ),
    removal(
        25,
        "a name of a token is used again",
        "unit/test_dispatcher_owners.py::test_a_name_is_never_used_again",
        never("access.add_token", "store.access.token_named(name) is not None"),
    ),
    removal(
        25,
        "a bound token speaks for every worker",
        "unit/test_rest_owners.py::test_a_token_bound_to_workers_speaks_for_no_other_on_any_call",
        never("context.worker_name", "token is not None and not tokens.speaks_for(token, name)"),
    ),
    removal(
        25,
        "a worker has as many slots as it announces",
        "unit/test_dispatcher_owners.py::test_a_worker_gets_no_more_slots_than_its_key_allows",
        always("access.within_slots", "known is None or known.slots_max is None or worker.slots <= known.slots_max"),
    ),
    removal(
        25,
        "a worker with few slots holds as many runs as it asks for",
        "unit/test_dispatcher_owners.py::test_a_worker_gets_no_more_slots_than_its_key_allows",
        (
            "Registration._open_session",
            "WINDOW_PER_SLOT_MAX * worker.slots if worker.slots < frame.slots else WINDOW_MAX",
            "WINDOW_MAX",
        ),
    ),
    removal(
        25,
        "tokens are good for ever unless they are told otherwise",
        "unit/test_rest_owners.py::test_a_token_expires_unless_it_is_made_for_ever",
        ("access._life_ms", "return TOKEN_LIFE_MS_DEFAULT", "return None"),
    ),
    removal(
        25,
        "the use of a token is written at every call",
        "unit/test_rest_owners.py::test_the_last_use_is_stored_once_in_a_while",
        never("Gate._note_use", "abs(now_ms - token.last_used_ms) < TOKEN_USED_MS"),
        always("Gate._note_use", "noted_s is None or (now_s - noted_s) * 1000 >= TOKEN_USED_MS"),
    ),
    removal(
        25,
        "refused calls leave no trace",
        "unit/test_rest_requests.py::test_refused_calls_are_logged_and_counted_by_kind"
        " system/test_refusals.py::test_burst_of_bad_tokens_is_logged_to_its_last_one_in_few_lines",
        never("Requests.process_response", "problem is not None and is_refusal(problem)"),
    ),
    removal(
        25,
        "the end of a burst of refused calls is not logged",
        "system/test_refusals.py::test_burst_of_bad_tokens_is_logged_to_its_last_one_in_few_lines",
        without_call("Process._after_turn", "self._parts.policy.refusals.flush"),
    ),
    removal(
        25,
        "each refused call makes a log line",
        "unit/test_rest_requests.py::test_flood_of_refused_calls_makes_few_lines_and_is_counted",
        without_condition("Throttled.flush", "now_ms < self._quiet_until_ms"),
    ),
    removal(
        25,
        "the log of refused calls shows any path",
        "unit/test_rest_requests.py::test_refusal_line_has_nothing_that_the_caller_may_have_written",
        ("Requests._template", '        return "(unknown path)"', "        return path"),
    ),
    removal(
        25,
        "an error's id is found nowhere else",
        "unit/test_rest_requests.py::test_request_id_of_the_caller_is_taken_over system/test_refusals.py::test_id_in_an_error_is_found_in_the_log",
        ("problem.render", "request_id=request_id,", "request_id=request_id[::-1],"),
    ),
    removal(
        25,
        "every caller is a trusted proxy",
        "unit/test_forwarded.py::test_header_of_a_peer_that_is_not_a_trusted_proxy_is_ignored"
        " unit/test_rest_requests.py::test_forged_address_of_a_peer_that_is_not_a_proxy_is_ignored",
        without_condition("Proxies.caller", "not self._trusts(hop)"),
    ),
    removal(
        25,
        "a chain of proxies is read from its left end",
        "unit/test_forwarded.py::test_x_forwarded_for_is_read_from_its_right_end"
        " unit/test_rest_requests.py::test_bad_tokens_count_for_the_caller_behind_the_proxy",
        ("Proxies._walk", "        for node in reversed(chain):", "        for node in chain:"),
    ),
    removal(
        25,
        "a key that nobody knows comes in",
        "system/test_port.py::test_nothing_of_a_stranger_comes_in",
        never("Port._verdict", "not self._keys.knows(key.decode())"),
    ),
    removal(
        25,
        "where nobody is asked everybody comes in",
        "system/test_port.py::test_port_without_a_zap_handler_admits_no_peer",
        (
            "Port._set_up",
            "            router.setsockopt(zmq.ZAP_DOMAIN, _ZAP_DOMAIN)\n            router.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)\n",
            "",
        ),
    ),
    removal(
        25,
        "a worker needs no key",
        "unit/test_dispatcher_access.py::test_free_name_is_not_bound_by_the_first_caller",
        never(
            "Registration._refuse_peer",
            "self._settings.keyed and (wrong := access.wrong_key(self._store, WorkerId(frame.worker), key)) is not None",
        ),
    ),
    removal(
        25,
        "a name is anybody's who has a key",
        "unit/test_dispatcher_access.py::test_a_name_is_only_its_keys",
        never("access.wrong_key", "known.worker_id != name"),
    ),
    removal(
        25,
        "a revoked key speaks for its worker",
        "unit/test_dispatcher_access.py::test_a_revoked_key_gets_no_session",
        never("access.wrong_key", "known.revoked_ms is not None"),
    ),
    removal(
        25,
        "a session is anybody's who has its token",
        "unit/test_dispatcher_access.py::test_every_later_frame_by_another_key_is_refused"
        " unit/test_dispatcher_access.py::test_frame_by_another_key_does_not_count_as_heard",
        without_condition("Sessions.of_frame", "session.key == key"),
    ),
    removal(
        25,
        "a name that is taken gets a new key",
        "unit/test_dispatcher_access.py::test_a_name_keeps_its_key_while_its_worker_lives",
        never("access.bind_key", "session is not None and (session.polls or before is not None)"),
    ),
    removal(
        25,
        "a worker trusts whoever has its scheduler's port",
        "system/test_peer.py::test_worker_says_nothing_to_another_user_on_the_port_of_its_scheduler"
        " system/test_impostor.py::test_worker_sends_nothing_to_another_user_on_the_schedulers_port"
        " system/test_impostor.py::test_client_sends_nothing_to_another_user_on_the_schedulers_port",
        without_call("_Attempt.proven", "demand_trusted"),
    ),
    removal(
        25,
        "a second address of this host is taken for another host",
        "system/test_impostor.py::test_server_on_this_host_that_does_not_accept_is_waited_for",
        without_condition("_Attempt.proven", "peer.of_this_host(theirs.address)"),
    ),
    removal(
        25,
        "a client trusts whoever listens on a scheduler's socket",
        "system/test_endpoint.py::test_client_sends_nothing_to_another_user_on_a_socket",
        without_call("endpoint._connect_unix", "demand_trusted"),
    ),
    removal(
        25,
        "a server that is not trusted ends the search for the scheduler",
        "system/test_impostor.py::test_client_passes_over_another_user_on_the_first_address"
        " system/test_impostor.py::test_worker_with_a_token_finds_its_scheduler_behind_another_user",
        (
            "_Dialer._first_proven",
            "            except (OSError, UntrustedError) as error:",
            "            except OSError as error:",
        ),
    ),
    removal(
        25,
        "a server that does not accept holds up the next address",
        "system/test_impostor.py::test_client_passes_over_another_user_on_the_first_address",
        without_condition("_Dialer.dial", "now_s >= next_s"),
    ),
    removal(
        25,
        "any failure of the default socket is left for TCP",
        "system/test_endpoint.py::test_other_failures_of_the_default_socket_are_reported",
        always("Endpoint._connect_socket", "error.errno in _FALL_BACK"),
    ),
    removal(
        25,
        "a folder that others can make says whom to trust",
        "unit/test_endpoint.py::test_owner_of_a_folder_that_others_can_make_is_not_appointed",
        always("trust.appointed_user", "above.st_uid == 0 and not above.st_mode & 0o022"),
    ),
    removal(
        25,
        "a key may be read by others",
        "unit/test_keys.py::test_a_file_that_others_can_touch_is_refused_and_left_as_it_is",
        without_call("files.read_private", "_demand_secret"),
    ),
    removal(
        25,
        "a database may be read by others",
        "contract/test_sqlite.py::test_what_others_can_get_at_is_refused",
        never("files.demand_private", "found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)"),
    ),
    removal(
        25,
        "a database may be another user's",
        "contract/test_sqlite.py::test_file_of_another_user_is_refused"
        " system/test_shared_folder.py::test_lock_that_is_a_link_of_another_user_is_not_followed"
        " system/test_shared_folder.py::test_database_of_another_user_is_not_served",
        never("files.demand_own", "found.st_uid != os.geteuid()"),
    ),
    removal(
        25,
        "links are anybody's",
        "contract/test_sqlite.py::test_link_of_another_user_in_an_open_folder_is_refused"
        " system/test_shared_folder.py::test_link_of_another_user_is_not_followed",
        without_call("files.resolve", "_demand_own_link"),
    ),
    removal(
        25,
        "a lock may be another file",
        "contract/test_sqlite.py::test_lock_that_is_another_file_is_left_as_it_is",
        (
            "files.open_lock",
            "os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC",
            "os.O_RDWR | os.O_CREAT | os.O_CLOEXEC",
        ),
        without_condition("files.open_lock", "found.st_nlink > 1"),
    ),
    removal(
        25,
        "the socket's caller is whoever may open it",
        "system/test_socket.py::test_peer_credentials_decide_where_the_modes_were_widened",
        ("peer.credentials", "    return int(uid)\n", "    return os.geteuid()\n"),
    ),
    removal(
        25,
        "the socket has the mode of any other",
        "system/test_socket.py::test_socket_of_another_user_can_not_be_opened",
        without_call("listeners._bound_at", "os.fchmod"),
    ),
    removal(
        25,
        "the link is made in whatever folder there is",
        "system/test_socket.py::test_link_is_not_made_in_a_folder_of_another_user",
        never("listeners._demand_ours", "found.st_uid != os.geteuid()"),
    ),
    removal(
        25,
        "local_trust = socket is as uid",
        "system/test_socket.py::test_local_trust_decides_for_tcp_and_socket",
        never("Gate._local", 'why is None and self._trust.local == "socket" and not _by_socket(req)'),
    ),
    removal(
        25,
        "the other loopback address is anybody's",
        "system/test_socket.py::test_both_loopback_addresses_are_ours_at_one_port"
        " system/test_socket.py::test_port_held_on_the_other_loopback_address_is_an_error",
        never("listeners._implied", "other is not None"),
    ),
    removal(
        25,
        "a path has many spellings",
        "system/test_smuggling.py::test_path_with_a_second_spelling_is_refused",
        without_condition("Parser.parse_header", '_ALIAS.search(target["path"] or "")'),
    ),
    removal(
        25,
        "a length and chunks are both believed",
        "system/test_smuggling.py::test_a_length_and_chunks_exclude_each_other",
        never("Parser.parse_header", 'codings and "CONTENT_LENGTH" in self.headers'),
    ),
    removal(
        25,
        "a transfer coding is what Waitress takes for one",
        "system/test_smuggling.py::test_transfer_coding_is_exactly_chunked",
        never("Parser.parse_header", 'codings and (codings != [b"chunked"] or self.version != "1.1")'),
    ),
    removal(
        25,
        "a request line and its Host may differ",
        "system/test_smuggling.py::test_a_head_that_can_be_read_in_two_ways_is_refused",
        never("Parser.parse_header", 'self.proxy_netloc and self.proxy_netloc != self.headers.get("HOST")'),
    ),
    removal(
        25,
        "a secret is stored as it is",
        "system/test_jobs_rights.py::test_a_secret_is_nowhere_but_in_its_job",
        ("Vault.seal", '        return b64encode(nonce + sealed).decode("ascii")', "        return value"),
        returns("Vault.open", "sealed"),
    ),
    removal(
        25,
        "a secret is opened under any name",
        "unit/test_vault.py::test_what_is_sealed_opens_by_the_same_key_and_the_same_name_only",
        ("Vault.seal", "encrypt(nonce, value.encode(), name.encode())", 'encrypt(nonce, value.encode(), b"")'),
        ("Vault.open", "kept[_NONCE_BYTES:], name.encode())", 'kept[_NONCE_BYTES:], b"")'),
    ),
    removal(
        25,
        "the old key of secrets is dropped before they are sealed anew",
        "unit/test_rotation.py::test_interrupted_rotation_of_secrets_goes_on_from_any_step",
        (
            "rotation.rotate_secret",
            "    resealed = reseal(engine, vault.reseal)\n    vault.drop_old_keys()\n",
            "    vault.drop_old_keys()\n    resealed = reseal(engine, vault.reseal)\n",
        ),
    ),
    removal(
        25,
        "an interrupted rotation is forgotten",
        "unit/test_rotation.py::test_files_of_an_interrupted_rotation_are_kept",
        never(
            "rotation._issued", "(present.server_key, present.endpoint) == (server_key, issue.endpoint) and not revoked"
        ),
    ),
    removal(
        25,
        "lines of a secret are not looked for",
        "unit/test_mask.py::test_lines_of_a_secret_are_masked_one_by_one",
        ("redact.patterns", "    return [*whole, *long[:SECRET_LINES_MAX]]", "    return [*whole]"),
    ),
    removal(
        25,
        "a secret stands in what its job writes",
        "system/test_jobs_rights.py::test_secrets_are_masked_in_the_output_of_a_job",
        ("CapturedOutput.__init__", "Redactor(patterns(secrets)) if secrets else None", "None"),
    ),
    removal(
        25,
        "a secret that comes in two reads is shown",
        "unit/test_mask.py::test_secret_between_two_reads_is_found_and_nothing_waits_without_need"
        " unit/test_mask.py::test_it_does_not_matter_in_which_pieces_it_comes",
        (
            "Redactor._redact",
            "        safe = len(data) if ended else self._safe_length(data)",
            "        safe = len(data)",
        ),
    ),
    removal(
        25,
        "a job may get more rights by running a program",
        "system/test_jobs_rights.py::test_files_of_a_job_belong_to_its_user_and_no_program_adds_rights",
        without_call("_Guard.run", "prctl.gain_nothing"),
    ),
    removal(
        25,
        "a job may look into its worker",
        "system/test_jobs_rights.py::test_a_job_can_look_into_neither_guard_nor_agent",
        without_call("_Guard.run", "prctl.close_to_others"),
    ),
    removal(
        25,
        "an agent imports modules from its working directory",
        "system/test_guard.py::test_agent_imports_nothing_that_a_job_planted",
        ("agent_process._isolation", 'return ("-P",) if needed else ("-P", "-s")', 'return ("-s",)'),
    ),
    removal(
        25,
        "an agent imports the packages that its user installed",
        "system/test_guard.py::test_agent_imports_nothing_that_a_job_planted",
        ("agent_process._isolation", 'return ("-P",) if needed else ("-P", "-s")', 'return ("-P",)'),
    ),
    removal(
        25,
        "a job may be any user",
        "system/test_jobs_rights.py::test_a_job_of_any_other_user_is_a_failed_run",
        (
            "Users.prefix",
            "        prefix = self._prefixes.get(self._own if name is None else name)",
            "        prefix = self._prefixes.get(name or self._own, self._own_prefix)",
        ),
    ),
    removal(
        23,
        "a command that begins with a sign is an option of its shell",
        "system/test_guard.py::test_command_that_begins_with_a_sign_is_not_an_option_of_sh",
        (
            "zsched.worker.process.program",
            '_SHELL: Final = ("/bin/sh", "-c", "--")',
            '_SHELL: Final = ("/bin/sh", "-c")',
        ),
    ),
    removal(
        23,
        "a folder is entered with the rights of the worker",
        "system/test_program.py::test_folder_is_entered_with_the_rights_of_the_job_s_user",
        ("program.words", '"/bin/sh", "-c", _PREPARE', '"/bin/sh", "-c", _PREPARE.replace("denied", "missing")'),
    ),
    removal(
        23,
        "a job without its folder is tried again",
        "system/test_program.py::test_missing_folder_fails_the_job_without_a_retry",
        never("ends._cause", "outcome.reason == Reason.CWD_MISSING"),
    ),
    removal(
        23,
        "a message file may be a link or a pipe",
        "system/test_program.py::test_message_of_a_job_is_the_detail_of_its_run",
        ("Notes.take", " | os.O_NONBLOCK", ""),
    ),
    removal(
        23,
        "a message shows the secrets of its job",
        "system/test_program.py::test_message_of_a_job_is_the_detail_of_its_run",
        ("outcome._message", "redactor.feed(message)", "message"),
    ),
    removal(
        23,
        "a message that is cut within a secret shows the part before",
        "unit/test_outcome.py::test_message_that_is_cut_within_a_secret_shows_nothing_of_it",
        ("outcome._message", "shown if len(message) == MESSAGE_BYTES_MAX else", ""),
    ),
    removal(
        23,
        "a killed guard leaves the message files of other users for good",
        "unit/test_notes.py::test_next_guard_removes_the_files_of_a_killed_one",
        ("_Shared._make", "self._link.symlink_to(self._path)", "pass"),
    ),
    removal(
        23,
        "a folder below one that the job's user may not enter counts as missing",
        "system/test_program.py::test_folder_is_entered_with_the_rights_of_the_job_s_user",
        (
            "zsched.worker.process.program",
            """if [ -d "$part" ] && ! [ -x "$part" ]; then echo denied""",
            "if false; then :",
        ),
    ),
    # --- files and artifacts ---
    removal(
        25,
        "an artifact may be a link that was put there at the last moment",
        "unit/test_collect.py::test_file_replaced_by_a_link_at_the_last_moment_is_not_read",
        ("zsched.worker.process.collect", "_FILE = os.O_RDONLY | os.O_NOFOLLOW", "_FILE = os.O_RDONLY"),
    ),
    removal(
        25,
        "a folder of artifacts may become a link at the last moment",
        "unit/test_collect.py::test_folder_replaced_by_a_link_at_the_last_moment_is_not_entered",
        (
            "zsched.worker.process.collect",
            "_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW",
            "_FOLDER = os.O_RDONLY | os.O_DIRECTORY",
        ),
    ),
    removal(
        25,
        "an artifact may have links elsewhere",
        "unit/test_collect.py::test_hard_links_are_left_out"
        " unit/test_collect.py::test_file_replaced_by_a_hard_link_at_the_last_moment_is_not_read",
        without_condition("Collector._why_not", "status.st_nlink != 1"),
    ),
    removal(
        25,
        "an artifact may be another user's file",
        "system/test_files.py::test_job_can_t_get_another_user_s_file",
        never("Collector._why_not", "status.st_uid != self._uid"),
        without_condition("Collector._why_not", "status.st_nlink != 1"),
    ),
    removal(
        25,
        "artifacts are read with the rights of the worker",
        "system/test_files.py::test_job_of_another_user_owns_its_folder",
        ("zsched.worker.process.collect.main", "    if name:", "    if False:"),
    ),
    removal(
        15,
        "an artifact that is opened may be a pipe, for which the helper waits",
        "unit/test_collect.py::test_file_replaced_by_a_pipe_at_the_last_moment_does_not_block",
        (
            "zsched.worker.process.collect",
            "_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK",
            "_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC",
        ),
    ),
    removal(
        15,
        "a file that grows is read without a bound",
        "unit/test_collect.py::test_file_that_grows_while_it_is_opened_is_bounded",
        ("Collector._read", "if why := self._why_not(path, status):", 'if why := "":'),
    ),
    removal(
        15,
        "the search for artifacts looks at any number of files",
        "unit/test_collect.py::test_search_among_too_many_files_ends",
        never("Collector._names", 'self._entries > self._bounds["entries"]'),
    ),
    removal(
        15,
        "the search for artifacts takes any time",
        "unit/test_collect.py::test_search_takes_a_bounded_time",
        never("Collector._check_time", "time.monotonic() > self._end"),
    ),
    removal(
        15,
        "the guard waits for a helper that hangs",
        "unit/test_guard_core.py::test_artifacts_that_come_too_late_are_given_up",
        ("Runs._on_due", "self._effects.late.append(run)", "pass"),
    ),
    removal(
        15,
        "the removal of a scratch folder has no end",
        "unit/test_collect.py::test_removal_takes_a_bounded_time",
        without_call("collect.main", "signal.alarm"),
    ),
    removal(
        15,
        "parts of artifacts fill the scheduler's memory",
        "unit/test_files.py::test_parts_in_memory_are_bounded",
        never("Parts.on_artifacts", "self._size > PARTS_BYTES_MAX"),
    ),
    removal(
        14,
        "a scratch folder stays",
        "system/test_files.py::test_files_are_in_the_folder_where_the_job_runs",
        without_call("Helpers.on_reaped", "os.rmdir"),
    ),
    removal(
        14,
        "scratch folders of a killed worker stay",
        "system/test_files.py::test_leftovers_of_a_killed_worker_are_removed_at_the_next_start",
        without_call("System.__init__", "self._helpers.remove"),
    ),
    removal(
        25,
        "a path may lead out of the scratch folder",
        "unit/test_files.py::test_path_outside_the_scratch_folder_is_refused",
        never("files.path_fault", 'any(part in ("", ".", "..") for part in parts)'),
    ),
    removal(
        25,
        "a browser shows an artifact",
        "unit/test_rest_files.py::test_browser_gets_a_download_that_it_may_not_run",
        ("zsched.api.artifacts", "frame-ancestors 'none'; sandbox", "frame-ancestors 'none'"),
    ),
    removal(
        25,
        "the name of an artifact changes a header",
        "unit/test_rest_files.py::test_hostile_name_changes_no_header",
        returns("names.plain_name", "name"),
    ),
    removal(
        25,
        "saved artifacts follow links",
        "system/test_files.py::test_saved_artifacts_follow_no_link",
        (
            "zsched.commands.artifacts.save",
            "os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW",
            "os.O_RDONLY | os.O_DIRECTORY",
        ),
    ),
    removal(
        8,
        "a result is acked though parts of its artifacts are missing",
        "unit/test_files.py::test_result_is_not_acked_until_its_artifacts_are_here",
        ("Results.on_result", "self._parts.take(frame.s, result)", "self._parts.take(frame.s, result) or ()"),
    ),
    removal(
        23,
        "the signal before a timeout goes to the whole group",
        "system/test_program.py::test_signal_comes_before_the_timeout_and_to_the_main_process",
        ("System.signal_main", "os.kill(pid, number)", "os.killpg(pid, number)"),
    ),
    removal(
        30,
        "a claim takes a run past its deadline",
        "contract/test_times.py::test_claim_fails_a_run_past_its_deadline_and_takes_the_others"
        " unit/test_dispatcher_times.py::test_no_worker_gets_a_run_at_its_deadline_whatever_else_is_due",
        ("ClaimsWriter.claim", "run.expires_ms <= now_ms", "run.expires_ms < 0"),
    ),
    removal(
        30,
        "one turn ends all runs whose deadlines have come",
        "contract/test_times.py::test_deadlines_of_many_runs_are_handled_in_pieces_the_oldest_first",
        ("transitions.EXPIRED", "ORDER BY expires_ms LIMIT ?", "ORDER BY expires_ms LIMIT 100 + ?"),
    ),
    removal(
        25,
        "a private worker inherits the identity of an installed one",
        "system/test_command_line.py::test_up_takes_no_identity_from_files_of_an_installed_worker",
        returns("up.identity", "{'id': worker}"),
    ),
    removal(
        25,
        "a second worker of a living worker's name enrols for ever",
        "unit/test_dispatcher_access.py::test_name_of_a_worker_heard_since_the_first_enrol_is_refused_for_good"
        " system/test_access.py::test_second_worker_of_a_name_ends_with_77_and_the_first_is_unharmed",
        ("access.bind_key", '"name_in_use" if alive else "name_taken"', '"name_taken"'),
    ),
    removal(
        25,
        "a job of another user keeps root's groups",
        "system/test_jobs_rights.py::test_a_job_becomes_the_user_that_it_names_with_all_that_is_his",
        ("users._setpriv", '"--init-groups"', '"--keep-groups"'),
    ),
    removal(
        25,
        "a job's variables count before its limits are set",
        "system/test_jobs_rights.py::test_library_that_a_job_preloads_runs_within_its_limits",
        ("Users.__init__", "            with_variables=_become(0, limits) if limits.text else (),\n", ""),
    ),
    removal(
        25,
        "a job finds what its worker had in its environment",
        "system/test_guard.py::test_a_job_sees_an_environment_made_from_nothing",
        ("Spawner._words", "            **self._environ,\n", "            **os.environ,\n"),
    ),
    removal(
        25,
        "a job finds open what its worker had open",
        "system/test_jobs_rights.py::test_what_the_worker_was_started_with_is_not_open_in_a_job",
        without_call("spawn.keep_standard_fds", "os.set_inheritable"),
    ),
)
REMOVALS: Final = {one.name: one for one in _REMOVALS}


class UnclearError(Exception):
    """What the tests say is neither that all is well nor that something is missing. The sentence says what instead."""


class Copy:
    """The sources of this checkout in a folder of their own. `run` takes tests to what they say of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._report = folder / "report.xml"
        for name in _COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, folder)
        # Jobs of other users come here too.
        folder.chmod(0o755)

    @contextmanager
    def without(self, one: Removal) -> Iterator[None]:
        """The copy without that mechanism, for a while. Raises LookupError when an edit does not apply."""
        before: dict[Path, str] = {}
        try:
            for edit in one.edits:
                path = self._folder / locate(edit.place).path.relative_to(ROOT)
                text = path.read_text("utf-8")
                before.setdefault(path, text)
                path.write_text(apply(edit, text), "utf-8")
            yield
        finally:
            for path, text in before.items():
                path.write_text(text, "utf-8")

    def run(self, tests: Iterable[str]) -> list[Case]:
        """What these say, each as often as it has parameters. Raises UnclearError when they say nothing."""
        self._report.unlink(missing_ok=True)
        named = [f"tests/{test}" for test in tests]
        # Without what takes long to load and is not needed here.
        options = ["-q", "--tb=short", *(f"-pno:{plugin}" for plugin in ("cacheprovider", "schemathesis", "xdist"))]
        # Also what a test starts elsewhere imports the copy's zsched, not the one that the interpreter knows.
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        environ["PYTHONPATH"] = str(self._folder)
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "pytest", *options, f"--junitxml={self._report}", *named],
            cwd=self._folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        _end_children()
        if not self._report.exists() or ended.returncode not in (0, 1):
            raise UnclearError(f"the tests end with {ended.returncode}: {(ended.stdout + ended.stderr)[-300:]!r}")
        return [Case.of(element) for element in ElementTree.parse(self._report).iter("testcase")]


@dataclass(frozen=True, slots=True)
class Case:
    """What a test said: `passed`, `failed`, `crashed` (not by what it looks for), or `skipped`; and in which line."""

    test: str
    said: str
    line: str = ""

    @classmethod
    def of(cls, element: ElementTree.Element) -> Case:
        file = element.get("classname", "").removeprefix("tests.").replace(".", "/") + ".py"
        test = f"{file}::{element.get('name', '').partition('[')[0]}"
        for kind in ("error", "failure", "skipped"):
            if (found := element.find(kind)) is not None:
                why = found.get("message", "")
                if kind == "skipped":
                    return cls(test, "skipped", why)
                crashed = kind == "error" or why.startswith(tuple(f"{crash.__name__}:" for crash in _CRASHES))
                return cls(test, "crashed" if crashed else "failed", _line(file, found.text or why))
        return cls(test, "passed")


def _line(file: str, text: str) -> str:
    """Where in that file it failed, and what stands there, of pytest's short traceback."""
    places: list[tuple[str, str]] = re.findall(rf"^(tests/{file}:\d+): in .*\n +(.*)", text, re.MULTILINE)
    return ": ".join(places[-1]) if places else text.strip().partition("\n")[0]


def _end_children() -> None:
    """What is left of the tests, which may be much where nobody ends what is left of a run. Their orphans are ours."""
    while left := children(os.getpid()):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def noticed(copy: Copy, one: Removal, before: list[Case]) -> tuple[str, str]:
    """`red` when each of its tests fails; `skipped` when one can't be run here; `GREEN`. And what shows it. `before`:
    what all tests say of the copy as it is. Raises UnclearError when that proves nothing.
    """
    for test in one.tests:
        own = [case for case in before if case.test == test]
        if not own or any(case.said in ("failed", "crashed") for case in own):
            raise UnclearError(f"{test} does not pass as it is: {[case.line for case in own if case.line][:1]}")
        if all(case.said == "skipped" for case in own):
            return "skipped", f"{test}: {own[0].line}"
    with copy.without(one):
        cases = copy.run(one.tests)
    for test in one.tests:
        own = [case for case in cases if case.test == test]
        if not any(case.said == "failed" for case in own):
            if crashed := [case.line for case in own if case.said == "crashed"]:
                raise UnclearError(f"{test} crashes: {crashed[0]}")
            return "GREEN", test
    return "red", next(case.line for case in cases if case.said == "failed")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.removals", description="Take mechanisms away, one by one.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a removal's name; without any all of them")
    removals = [REMOVALS[name] for name in parser.parse_args().names or REMOVALS]
    become_subreaper()
    unseen = 0
    with tempfile.TemporaryDirectory(prefix="zsched-removals-") as folder:
        copy = Copy(Path(folder))
        before = copy.run(dict.fromkeys(test for one in removals for test in one.tests))
        for one in removals:
            began_s = time.monotonic()
            try:
                said, line = noticed(copy, one, before)
            except (UnclearError, LookupError) as error:
                said, line = "UNCLEAR", str(error)
            unseen += said in ("GREEN", "UNCLEAR")
            took_s = time.monotonic() - began_s
            print(f"{one.promise} | {one.name} | {' '.join(one.tests)} | {said} | {took_s:.1f} s | {line}", flush=True)
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())
