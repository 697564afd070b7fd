"""The files of a job and the artifacts of a run, as the store keeps them and removes them."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.contract.base import NOW, W1, Base
from zsched.model.backoff import Backoff
from zsched.model.files import File, Listed
from zsched.model.limits import FILES_BYTES_MAX
from zsched.model.types import JobId, JobSpec, Outcome, Policy, RunId, RunStatus
from zsched.store.contract import Old

FILES = (File("a", bytes(range(256)) * 16, 0o755), File("dir/ü", b"", 0o600), File("z", b"\0" * 70_000))
WITH_FILES = JobSpec(name="job", command="true", files=FILES, artifacts=("out/*", "ü"))
ARTIFACTS = (File("out/a\nb", b"first"), File("empty", b"", 0o600), File("last", bytes(FILES_BYTES_MAX - 5), 0o777))


def submit(base: Base, *specs: JobSpec) -> list[JobId]:
    return base.store.submit(specs, [None] * len(specs), "test", NOW)


def end(base: Base, run_id: RunId, *artifacts: File, left_out: int = 0) -> Outcome:
    outcome = replace(base.outcome(run_id), artifacts=artifacts, left_out=left_out, detail="some")
    assert base.store.finish(outcome, W1, NOW) == "stored"
    return outcome


@pytest.mark.parametrize("ahead", [False, True])
def test_files_of_a_job_reach_its_claim(base: Base, ahead: bool) -> None:
    plain = JobSpec(name="plain", command="true")
    first, second = submit(base, WITH_FILES, plain)
    claimed = []
    for _ in range(2):
        if ahead:
            base.count_ready()
        claimed += base.claim()
    runs = {run.job_id: run for run in claimed}
    assert (runs[first].files, runs[first].artifacts) == (FILES, ("out/*", "ü"))
    assert (runs[second].files, runs[second].artifacts) == ((), None)
    assert runs[first].size > 70_000
    again = base.store.find_claimed(runs[first].run_id)
    assert again is not None
    assert again.files == FILES


def test_row_of_a_job_has_the_size_of_its_files_alone(base: Base) -> None:
    (job_id,) = submit(base, WITH_FILES)
    job = base.store.job(job_id)
    assert job is not None
    assert (job.files_bytes, job.artifacts) == (4096 + 70_000, ("out/*", "ü"))
    assert base.rows("SELECT count(*) FROM files") == [(1,)]


def test_plain_job_costs_no_statement_about_files(base: Base) -> None:
    with base.trace() as statements:
        submit(base, JobSpec(name="plain", command="true"))
        (run,) = base.claim()
        base.finish(run.run_id)
    assert not any(table in statement for statement in statements for table in ("files (", "FROM files", "artifacts ("))


def test_artifacts_are_stored_with_the_result(base: Base) -> None:
    submit(base, WITH_FILES)
    (run,) = base.claim()
    assert base.store.reads.artifacts(run.run_id) == []
    outcome = end(base, run.run_id, *ARTIFACTS)
    reads = base.store.reads
    assert reads.artifacts(run.run_id) == [Listed(file.path, len(file.data), file.mode) for file in ARTIFACTS]
    for file in ARTIFACTS:
        assert reads.artifact(run.run_id, file.path) == file.data, file.path
    assert reads.artifact(run.run_id, "none") is None
    assert reads.artifact(RunId(99), "last") is None
    # A result that is sent again changes nothing.
    assert base.store.finish(replace(outcome, artifacts=(File("x", b""),)), W1, NOW) == "duplicate"
    assert len(reads.artifacts(run.run_id)) == len(ARTIFACTS)


def test_artifacts_of_a_stale_result_are_not_stored(base: Base) -> None:
    submit(base, WITH_FILES)
    (run,) = base.claim()
    assert base.store.start(run.run_id, W1, NOW)
    base.fail_lost(run.run_id)
    late = replace(base.outcome(run.run_id), artifacts=ARTIFACTS)
    assert base.store.finish(late, W1, NOW) == "stale"
    assert base.rows("SELECT count(*) FROM artifacts") == [(0,)]


def test_each_attempt_has_its_own_artifacts(base: Base) -> None:
    (job_id,) = submit(
        base,
        JobSpec(name="job", command="true", artifacts=("a",), policy=Policy(retries=1, backoff=Backoff(initial_ms=0))),
    )
    for content in (b"one", b"two"):
        (run,) = base.claim()
        failed = replace(base.outcome(run.run_id, RunStatus.FAILED, 1), artifacts=(File("a", content),))
        assert base.store.finish(failed, W1, NOW) == "stored"
    runs = [row[0] for row in base.rows("SELECT run_id FROM runs WHERE job_id = ? ORDER BY run_id", job_id)]
    assert [base.store.reads.artifact(run_id, "a") for run_id in runs] == [b"one", b"two"]


def test_left_out_artifacts_leave_an_event_of_the_job(base: Base) -> None:
    (job_id,) = submit(base, WITH_FILES)
    (run,) = base.claim()
    end(base, run.run_id, left_out=2)
    base.turn()
    found = base.rows("SELECT job_id, run_first, actor, detail FROM events WHERE became = 'artifacts_left_out'")
    assert found == [(job_id, None, f"worker {W1}", f"run {run.run_id}: some")]


def test_files_and_artifacts_go_with_their_job(base: Base) -> None:
    kept, deleted, old = submit(base, *[WITH_FILES] * 3)
    for run in base.claim():
        end(base, run.run_id, *ARTIFACTS)
    base.turn()
    base.by_hand = True
    assert base.store.retention.remove(deleted, "ann", "", NOW)
    base.turn()
    assert base.rows("SELECT job_id FROM files ORDER BY job_id") == [(kept,), (old,)]
    assert base.rows("SELECT count(*) FROM artifacts") == [(2,)]
    base.store.retention.purge_jobs(Old(RunStatus.SUCCESS, NOW + 10), JobId(kept), 10, "retention", NOW)
    base.turn()
    assert base.rows("SELECT job_id FROM files") == [(kept,)]
    assert base.rows("SELECT count(*) FROM artifacts") == [(1,)]


def test_damaged_listing_hides_the_artifacts_alone(base: Base) -> None:
    base.by_hand = True
    submit(base, WITH_FILES)
    (run,) = base.claim()
    end(base, run.run_id, *ARTIFACTS)
    base.engine.execute("UPDATE artifacts SET listing = ?", ("[[1",))
    assert base.store.reads.artifacts(run.run_id) == []
    assert base.store.reads.artifact(run.run_id, "last") is None
