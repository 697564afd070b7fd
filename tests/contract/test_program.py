"""What a job executes, as the store keeps it and hands it out."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.contract.base import NOW, W1, Base
from zsched.model.edits import JobEdit
from zsched.model.limits import STDIN_BYTES_MAX
from zsched.model.types import JobId, JobSpec, Policy, RunStatus

WHOLE = JobSpec(
    name="job",
    command="cat 'a b'",
    argv=("cat", "a b", "", "ü\n'\"\\"),
    cwd="/data/ü",
    umask="0027",
    cwd_hint="/home",
    umask_hint="022",
    stdin="ü" * (STDIN_BYTES_MAX // 2),
    policy=Policy(timeout_ms=60_000, signal="USR1@30s"),
)


def submit(base: Base, *specs: JobSpec) -> list[JobId]:
    return base.store.submit(specs, [None] * len(specs), "test", NOW)


@pytest.mark.parametrize("ahead", [False, True])
def test_all_that_a_job_executes_reaches_its_claim(base: Base, ahead: bool) -> None:
    plain = JobSpec(name="plain", command="true")
    first, second = submit(base, WHOLE, plain)
    claimed = []
    for _ in range(2):
        if ahead:
            base.count_ready()
        claimed += base.claim()
    runs = {run.job_id: run for run in claimed}
    for name in ("argv", "cwd", "umask", "cwd_hint", "umask_hint", "stdin", "command"):
        assert getattr(runs[first], name) == getattr(WHOLE, name), name
        assert getattr(runs[second], name) == getattr(plain, name), name
    assert (runs[first].signal, runs[second].signal) == ("USR1@30s", None)
    assert runs[first].size > STDIN_BYTES_MAX // 2
    again = base.store.find_claimed(runs[first].run_id)
    assert again is not None
    assert again.stdin == WHOLE.stdin


def test_row_of_a_job_has_the_size_of_its_input_alone(base: Base) -> None:
    (job_id,) = submit(base, WHOLE)
    job = base.store.job(job_id)
    assert job is not None
    assert job.stdin_bytes == STDIN_BYTES_MAX
    assert base.rows("SELECT count(*) FROM inputs") == [(1,)]


def test_claim_of_plain_jobs_does_not_look_for_inputs(base: Base) -> None:
    submit(base, JobSpec(name="plain", command="true"))
    with base.trace() as statements:
        assert len(base.claim()) == 1
    assert not any("inputs" in statement for statement in statements)


def test_new_command_of_a_recurring_job_replaces_its_arguments(base: Base) -> None:
    spec = replace(WHOLE, schedule="* * * * *", stdin=None)
    (job_id,) = base.store.submit([spec], [NOW], "test", NOW)
    job = base.store.job(job_id)
    assert job is not None
    base.store.edit(JobEdit(name="renamed").applied_to(job), "ann", "name", NOW)
    renamed = base.store.job(job_id)
    assert renamed is not None
    assert renamed.argv == WHOLE.argv
    base.store.edit(JobEdit(command="true").applied_to(renamed), "ann", "command", NOW)
    edited = base.store.job(job_id)
    assert edited is not None
    assert (edited.argv, edited.command) == (None, "true")


def test_run_that_lacks_its_folder_has_no_successor(base: Base) -> None:
    (job_id,) = submit(base, replace(WHOLE, policy=Policy(retries=3)))
    (run,) = base.claim()
    refused = replace(base.outcome(run.run_id, RunStatus.FAILED), reason="cwd_missing", exit_code=None)
    assert base.store.finish(refused, W1, NOW) == "stored"
    assert base.last_run(job_id).run_id == run.run_id
    assert base.store.finish(refused, W1, NOW) == "duplicate"
