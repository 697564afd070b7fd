"""Jobs that wait for other jobs: what they wait for is stored, and judged when those end. Part of the write side.

A job that ends, and has dependents or dependencies, is *settled*: its row in that table stays until the dependencies on
it are judged and its own are forgotten. So are tasks for which others wait (followers.py). A turn does a bounded part
of that, in the order of the jobs' ids; so nothing else has to be remembered for the next turn or the next start.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from zsched.model.after import Dependency, Ends
from zsched.model.arrays import read_array
from zsched.model.limits import JUDGE_JOBS_MAX, JUDGE_STEP_COST, JUDGE_STEP_MAX
from zsched.model.types import JobId, RunStatus
from zsched.store import after
from zsched.store.contract import Again, Parent, TaskStep
from zsched.store.engine import Row
from zsched.store.followers import WHOLE, End, FollowersWriter
from zsched.store.tasks import ALL, Part


class DependenciesWriter(FollowersWriter):
    """The role contract.Dependencies."""

    def parents(self, jobs: Sequence[JobId]) -> dict[JobId, Parent]:
        changing = self._ledger.counting
        unwritten = self._ledger.unwritten(changing.intersection(jobs))
        found: dict[JobId, Parent] = {}
        stored = self._engine.execute_list(after.PARENTS, [(job,) for job in jobs])
        ran = self._have_run([job_id for job_id, _, _, status, *_ in stored if status == RunStatus.FAILED])
        for job_id, owner, recurring, status, tasks, some, followers in stored:
            ended = None if status is None or job_id in changing else RunStatus(status)
            found[JobId(job_id)] = Parent(
                owner=owner or "",
                recurring=bool(recurring),
                ended=ended,
                ran=ended is not RunStatus.FAILED or job_id in ran,
                array=None if tasks is None else read_array(tasks),
                some_ended=bool(some) or (job_id in unwritten and any(unwritten[job_id][2:5])),
                followers=followers,
            )
        return found

    def _have_run(self, failed: Sequence[int]) -> set[int]:
        """Those of some failed jobs that had started, by their last runs or those of their tasks."""
        if not failed:
            return set()
        return {job_id for (job_id,) in self._engine.execute_list(after.HAVE_RUN, [(job_id,) for job_id in failed])}

    def _await_parents(self, jobs: Iterable[tuple[JobId, Sequence[Dependency]]]) -> None:
        """Store what jobs wait for. What has ended already is judged at the end of the turn."""
        edges: list[Row] = []
        marks: dict[int, int] = defaultdict(int)
        for job_id, waits_for in jobs:
            for dependency in waits_for:
                same = dependency.ends is Ends.SAME
                task = WHOLE if dependency.task is None else dependency.task
                edges.append((job_id, 2 if same else 0, dependency.job, task, dependency.ends))
                marks[dependency.job] |= 2 if same or dependency.task is not None else 1
        if not edges:
            return
        self._engine.sendmany(after.ADD, edges)
        self._engine.sendmany(after.MARK_PARENT, [(mark, parent) for parent, mark in marks.items()])
        parents = self.parents([JobId(parent) for parent in marks])
        for job_id, parent in parents.items():
            if marks[job_id] & 2:
                self._watching().add(job_id)
                if parent.some_ended:
                    self._settle_part(job_id, ALL)
        ended: list[Row] = [(job_id,) for job_id, parent in parents.items() if parent.ended is not None]
        if ended:
            self._ledger.settling = True
            self._engine.sendmany(after.SETTLE, ended)

    def _await_again(self, job_id: JobId, waits_for: Sequence[Dependency]) -> bool:
        """A job that has ended will run again: it waits as a new one does, but for jobs that were removed. Returns
        whether it waits for any.
        """
        # Of its dependents, those that are not judged yet wait for its next end. Its tasks that have ended stay
        # settled: some of an array may not run again.
        self._engine.execute_list(after.UNSETTLE_JOBS, [(job_id,)])
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
            self._await_array_again(job_id, ALL, ended=True)
        return done

    def rerun_tasks(self, again: Again, most: int, actor: str, reason: str, now_ms: int) -> TaskStep:
        ended = not self._array(again.job_id).live
        step = super().rerun_tasks(again, most, actor, reason, now_ms)
        if step.done:
            first, last = again.part
            part = first, last if step.after is None else step.after
            self._await_array_again(again.job_id, part, ended=ended)
        return step

    def _await_array_again(self, job_id: JobId, part: Part, *, ended: bool) -> None:
        """Some tasks of a part of an array will run again. `ended`: the whole array had ended."""
        job = self.job(job_id)
        assert job is not None
        if ended:
            self._await_again(job_id, job.after)
        self._follow_again(job_id, part)

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
        """Judge up to about `most` dependencies on some settled jobs or tasks, or forget as many of the jobs' own.
        Returns how many it was.
        """
        settled = self._execute(after.SETTLED, (JUDGE_JOBS_MAX,))
        if not settled:
            self._ledger.settling = False
            return 0
        if parts := [row for row in settled if row[1] != WHOLE]:
            job_id = parts[0][0]
            return self._judge_tasks(JobId(job_id), [row[1:] for row in parts if row[0] == job_id], most, now_ms)
        jobs: list[Row] = [(job_id,) for job_id, *_ in settled]
        edges = self._engine.execute_list(after.OPEN, jobs, after=(most,))
        if edges:
            self._judge_jobs(edges[:most], now_ms)
            return len(edges)
        own = self._engine.execute_list(after.OWN, jobs, after=(most,))
        if len(own) < most:
            if own:
                self._engine.execute_list(after.FORGET, jobs)
            self._engine.execute_list(after.UNSETTLE_JOBS, jobs)
        else:
            # Of a single job, which has AFTER_PER_JOB_MAX at most.
            self._engine.execute_list(after.FORGET, own[:1])
        return len(own)

    def _judge_jobs(self, edges: Sequence[Row], now_ms: int) -> None:
        """Judge dependencies on jobs that have ended, given as rows of after.OPEN."""
        parents = self.parents(list(dict.fromkeys(JobId(parent) for _, parent, *_ in edges)))
        if live := [(job_id,) for job_id, parent in parents.items() if parent.ended is None]:
            # A row that was edited by hand: only ended jobs are settled.
            self._engine.execute_list(after.UNSETTLE_JOBS, live)
            return
        ends: dict[tuple[int, int], End | None] = dict.fromkeys((edge[1], edge[2]) for edge in edges)
        ends |= {(job, WHOLE): End(parent.ended, parent.ran) for job, parent in parents.items() if parent.ended}
        self._judge(edges, ends, now_ms)
