"""The check of a database: what agrees is found to agree, and each thing that does not is named."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from tests.contract.base import Base
from zsched.commands import zsched
from zsched.model.access import KeyOrigin, Scope, Token
from zsched.model.types import JobSpec, Outcome, RunStatus, Worker, WorkerId, WorkerKind, WorkerStatus
from zsched.store.check import Findings, check
from zsched.store.contract import Claim
from zsched.store.sqlite.engine import SqliteEngine, open_writer
from zsched.store.writer import Writer

NOW = 1_700_000_000_000
W1 = WorkerId("w1")


def fill(store: Writer) -> None:
    """Store a bit of everything: runs in each state, a loss, a cancel, a recurring job, a token, keys."""
    worker = Worker(
        worker_id=W1, kind=WorkerKind.ZMQ, status=WorkerStatus.ACTIVE, slots=2, registered_ms=NOW, last_seen_ms=NOW
    )
    store.register(worker, NOW)
    store.submit([JobSpec(name="a", command="true")] * 5, [None] * 5, "test", NOW)
    recurring = JobSpec(name="r", command="true", schedule="* * * * *")
    (job_id,) = store.submit([recurring], [NOW], "test", NOW)
    ready = store.ready(NOW)[0]
    wanted = Claim(worker_id=W1, demand_id=ready.demand_id, count=4, floor=0, handed_n=1, ends=False)
    ended, failed, lost, cancelled = store.claim(wanted, NOW)
    for run, status in ((ended, RunStatus.SUCCESS), (failed, RunStatus.FAILED)):
        store.finish(Outcome(run_id=run.run_id, status=status, reason="exit", finished_ms=NOW), W1, NOW)
    store.fail_lost(lost.run_id, "gone", crash=True, together=1, due_ms=None, now_ms=NOW)
    store.cancel(cancelled.job_id, "test", NOW)
    store.end_cancelled(cancelled.run_id, NOW)
    store.fire(job_id, NOW + 60_000, "test", NOW)
    stopped = store.submit([recurring] * 2, [NOW] * 2, "test", NOW)
    for _ in range(2):
        store.pause_schedule(stopped[0], "test", NOW)
        store.resume_schedule(stopped[0], NOW, "test", NOW)
    store.pause_schedule(stopped[0], "test", NOW)
    store.end_schedule(stopped[1], "test", NOW)
    digest, scopes = b"d" * 32, frozenset({Scope.READ, Scope.ADMIN})
    store.access.add_token(
        Token(token_id="t1", digest=digest, scopes=scopes, note="", created_ms=NOW, created_by="test")
    )
    store.access.revoke_token("t1", "test", NOW)
    for key in ("1" * 40, "2" * 40):
        store.access.bind_key(W1, key, KeyOrigin.FILE, "test", NOW)
    store.access.revoke_key(W1, "test", NOW)
    store.flush_counters(NOW)
    store.commit()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of such a database."""
    path = tmp_path / "scheduler.db"
    with closing(open_writer(path, NOW)) as store:
        store.begin()
        fill(store)
    return path


def test_what_the_store_wrote_agrees(base: Base) -> None:
    fill(base.store)
    findings = check(base.engine)
    assert (findings.count, findings.sentences) == (0, [])
    assert (findings.runs, findings.events) == (7, len(base.rows("SELECT 1 FROM events")))
    base.store.begin()


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE runs SET reason = 'signal' WHERE reason = 'exit'", "run 1 is success (signal)"),
        ("UPDATE runs SET worker_id = 'w2' WHERE run_id = 2", "run 2 is failed (exit) on w2"),
        ("UPDATE runs SET status = 'running', worker_id = 'w1' WHERE status = 'pending'", "run 5 is running"),
        ("DELETE FROM runs WHERE run_id = 1", "run 1 has events but does not exist"),
        ("DELETE FROM runs WHERE run_id = 3", "run 3 has events but does not exist"),
        ("UPDATE jobs SET failed = failed + 1 WHERE job_id = 1", "job 1 counts {'success': 1, 'failed': 1}"),
        ("UPDATE jobs SET pending = 0 WHERE job_id = 5", "job 5 counts {}"),
        ("UPDATE totals SET tasks = 9 WHERE status = 'success'", "9 tasks are counted as success, but 1 are"),
        ("UPDATE workers SET status = 'inactive'", "worker w1 is inactive, but active by its events"),
        ("DELETE FROM events WHERE became = 'running' AND run_first = 1", "run 1 was pending, not running"),
        ("UPDATE events SET became = 'success' WHERE became = 'running'", "went from pending to success"),
        ("UPDATE jobs SET paused_ms = NULL", "the schedule of job 7 is scheduled, but paused by its events"),
        ("UPDATE jobs SET ended_ms = NULL", "the schedule of job 8 is scheduled, but ended by its events"),
        (
            "UPDATE jobs SET next_fire_ms = 1 WHERE job_id = 7",
            "the schedule of job 7 is paused, but it has a next fire",
        ),
        (
            "UPDATE events SET job_id = 7, event_id = 999 WHERE reason = 'fire'",
            "job 7 fired, but its schedule was paused",
        ),
        (
            "UPDATE events SET job_id = 8, event_id = 999 + event_id WHERE became = 'schedule_resumed'",
            "schedule_resumed, but the schedule of job 8 had ended",
        ),
        ("DELETE FROM jobs WHERE job_id = 1", "refers to a missing row of jobs"),
    ],
)
def test_what_does_not_agree_is_named(base: Base, statement: str, named: str) -> None:
    base.by_hand = True
    fill(base.store)
    base.unguard()
    base.rows(statement)
    findings = check(base.engine)
    base.store.begin()
    assert findings.count > 0
    assert any(named in sentence for sentence in findings.sentences), findings.sentences


def test_check_describes_only_the_first_findings() -> None:
    findings = Findings(most=2)
    for number in range(5):
        findings.add(f"finding {number}")
    assert (findings.count, findings.sentences) == (5, ["finding 0", "finding 1"])


def test_a_database_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none.db"
    assert zsched.main(["db", "check", "--db", str(path)]) == os.EX_IOERR
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"zsched: there is no database {path}: name its file with --db\n"
    assert not path.exists()


def test_a_backup_that_cannot_be_restored_is_named_and_not_the_database(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db = ["--db", str(tmp_path / "new.db")]
    whole, cut = tmp_path / "whole.backup", tmp_path / "cut.backup"
    assert zsched.main(["db", "backup", str(whole), "--db", str(path)]) == 0
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    capsys.readouterr()
    assert zsched.main(["db", "restore", str(cut), *db]) == os.EX_IOERR
    assert capsys.readouterr().err.startswith(f"zsched: {cut}: the database is damaged")
    assert zsched.main(["db", "restore", str(tmp_path / "none"), *db]) == os.EX_IOERR
    assert capsys.readouterr().err == f"zsched: there is no backup {tmp_path / 'none'}\n"


def test_the_command_says_what_it_found_by_its_exit_code(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert zsched.main(["db", "check", "--db", str(path)]) == 0
    assert "all agrees" in capsys.readouterr().err
    with closing(SqliteEngine(path)) as engine:
        engine.execute("UPDATE totals SET tasks = 9 WHERE status = 'success'")
    assert zsched.main(["db", "check", "--db", str(path)]) == 1
    assert "9 tasks are counted as success" in capsys.readouterr().out
    assert zsched.main(["db", "check", "--db", str(path.with_name("nothing.db"))]) == 74
