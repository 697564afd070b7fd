"""Jobs that wait for other jobs: what they wait for is stored, and judged when those end. Part of the write side.

A job that ends, and has dependents or dependencies, is *settled*: its row in that table stays until the dependencies on
it are judged and its own are forgotten. A turn does a bounded part of that, in the order of the jobs' ids; so nothing
else has to be remembered for the next turn or the next start.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from zsched.model.after import Dependency, Ends, meets
from zsched.model.lifecycle import Cause
from zsched.model.limits import JUDGE_JOBS_MAX, JUDGE_STEP_COST, JUDGE_STEP_MAX
from zsched.model.types import JobId, Reason, RunStatus
from zsched.store import after, transitions
from zsched.store.contract import Again, Parent, TaskStep
from zsched.store.engine import Row
from zsched.store.lives import PENDING, Change
from zsched.store.reruns import RerunsWriter
from zsched.store.tasks import ALL

# Failures without a start.
_NEVER_RAN: Final = frozenset({Reason.DEPENDENCY, Reason.EXPIRED, Reason.QUARANTINED})

# How many of the last runs of an array tell why it has failed.
_LAST_RUNS: Final = 100
_HOW: Final = {RunStatus.SUCCESS: "succeeded", RunStatus.FAILED: "failed", RunStatus.CANCELLED: "was cancelled"}


class DependenciesWriter(RerunsWriter):
    """The role contract.Dependencies."""

    def parents(self, jobs: Sequence[JobId]) -> dict[JobId, Parent]:
        changing = self._ledger.counting
        found: dict[JobId, Parent] = {}
        for job_id, owner, recurring, status in self._engine.execute_list(after.PARENTS, [(job,) for job in jobs]):
            ended = None if status is None or job_id in changing else RunStatus(status)
            ran = ended is not RunStatus.FAILED or self._ran(job_id)
            found[JobId(job_id)] = Parent(owner or "", bool(recurring), ended, ran)
        return found

    def _ran(self, job_id: int) -> bool:
        """Whether a job that has failed had started; of an array, one of the last of its tasks that failed."""
        return any(reason not in _NEVER_RAN for (reason,) in self._execute(after.LAST_FAILURES, (job_id, _LAST_RUNS)))

    def _await_parents(self, jobs: Iterable[tuple[JobId, Sequence[Dependency]]]) -> None:
        """Store what jobs wait for. What has ended already is judged at the end of the turn."""
        edges: list[Row] = [
            (job_id, dependency.job, dependency.ends) for job_id, waits_for in jobs for dependency in waits_for
        ]
        if not edges:
            return
        self._engine.sendmany(after.ADD, edges)
        parents = [JobId(parent) for parent in dict.fromkeys(parent for _, parent, _ in edges)]
        self._engine.sendmany(after.MARK_PARENT, [(parent,) for parent in parents])
        ended: list[Row] = [(job_id,) for job_id, parent in self.parents(parents).items() if parent.ended is not None]
        if ended:
            self._ledger.settling = True
            self._engine.sendmany(after.SETTLE, ended)

    def _await_again(self, job_id: JobId, waits_for: Sequence[Dependency]) -> bool:
        """A job that has ended will run again: it waits as a new one does, but for jobs that were removed. Returns
        whether it waits for any.
        """
        # Of its dependents, those that are not judged yet wait for its next end.
        self._engine.execute_list(after.UNSETTLE, [(job_id,)])
        if not waits_for:
            return False
        self._engine.execute_list(after.FORGET, [(job_id,)])
        there = self.parents([JobId(dependency.job) for dependency in waits_for])
        left = [dependency for dependency in waits_for if dependency.job in there]
        self._await_parents([(job_id, left)])
        return bool(left)

    def rerun_array(self, job_id: JobId, actor: str, reason: str, now_ms: int) -> bool:
        done = super().rerun_array(job_id, actor, reason, now_ms)
        if done:
            self._await_array_again(job_id)
        return done

    def rerun_tasks(self, again: Again, most: int, actor: str, reason: str, now_ms: int) -> TaskStep:
        was_live = self._array(again.job_id).live
        step = super().rerun_tasks(again, most, actor, reason, now_ms)
        if step.done and not was_live:
            self._await_array_again(again.job_id)
        return step

    def _await_array_again(self, job_id: JobId) -> None:
        job = self.job(job_id)
        assert job is not None
        self._await_again(job_id, job.after)

    # --- judging ---

    @property
    def judging(self) -> bool:
        return self._ledger.settling

    def judge(self, now_ms: int, count: int) -> bool:
        left = count
        while self._ledger.settling and left > 0:
            left -= max(JUDGE_STEP_COST, self._judge_step(min(left, JUDGE_STEP_MAX), now_ms))
            self.end_jobs(now_ms)
        return self._ledger.settling

    def _judge_step(self, most: int, now_ms: int) -> int:
        """Judge up to about `most` dependencies on some settled jobs, or forget as many of their own. Returns how many
        it was.
        """
        settled: list[Row] = self._execute(after.SETTLED, (JUDGE_JOBS_MAX,))
        if not settled:
            self._ledger.settling = False
            return 0
        edges = self._engine.execute_list(after.OPEN, settled, after=(most,))
        if edges:
            self._judge(edges[:most], now_ms)
            return len(edges)
        own = self._engine.execute_list(after.OWN, settled, after=(most,))
        if len(own) < most:
            if own:
                self._engine.execute_list(after.FORGET, settled)
            self._engine.execute_list(after.UNSETTLE, settled)
        else:
            # Of a single job, which has AFTER_PER_JOB_MAX at most.
            self._engine.execute_list(after.FORGET, own[:1])
        return len(own)

    def _judge(self, edges: Sequence[Row], now_ms: int) -> None:
        """Judge dependencies on jobs that have ended, given as rows of after.OPEN."""
        parents = self.parents(list(dict.fromkeys(JobId(parent) for parent, _, _ in edges)))
        if live := [(job_id,) for job_id, parent in parents.items() if parent.ended is None]:
            # A row that was edited by hand: only ended jobs are settled.
            self._engine.execute_list(after.UNSETTLE, live)
            return
        met: dict[int, None] = {}
        failed: defaultdict[str, dict[int, None]] = defaultdict(dict)
        for parent_id, child_id, ends in edges:
            why = _why_unmet(JobId(parent_id), parents, Ends(ends))
            (failed[why] if why else met)[child_id] = None
        self._engine.sendmany(after.JUDGE, [(child_id, parent_id) for parent_id, child_id, _ in edges])
        for why, children in failed.items():
            change = Change(at_ms=now_ms, detail=why)
            rows: list[Row] = [(child_id,) for child_id in children]
            self._move_list((PENDING, Cause.STRAND), (transitions.STRAND, (why, now_ms)), rows, change)
            for job_id in (JobId(child_id) for child_id in children):
                if job_id in self._arrays:
                    # As long as an array waits, none of its tasks has a run.
                    self._end_unmade(job_id, self._array(job_id).array, ALL, Reason.DEPENDENCY, change)
        if met:
            self._ahead.waiting = None
            self._engine.execute_list(after.FREE, [(child_id,) for child_id in met])
            self._arrays.stir(map(JobId, met))


def _why_unmet(parent_id: JobId, parents: Mapping[JobId, Parent], ends: Ends) -> str:
    """Why the end of a job is not what another one waits for; empty if it is. A job that was removed counts as met."""
    parent = parents.get(parent_id)
    if parent is None or parent.ended is None or meets(ends, parent.ended, ran=parent.ran):
        return ""
    needed = "failure" if ends is Ends.FAILED else "success"
    how = _HOW[parent.ended] if parent.ran else "never started"
    return f"it needs the {needed} of job {parent_id}, which {how}"
