"""How the jobs of a script have ended, as text: their status and reason, and how often their processes have started."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from tests.sim.callers import Asked
from tests.sim.world import World
from zsched.model.spans import of_numbers

_LAST: Final = """
    SELECT status, reason, exit_code, detail FROM runs WHERE job_id = ? AND task = ? ORDER BY run_id DESC LIMIT 1"""
_RANGES: Final = "SELECT first_task, last_task, state, reason FROM task_ranges WHERE job_id = ?"
# What a job leaves in the tables.
_LEFT: Final = """
    SELECT (SELECT count(*) FROM runs WHERE job_id = ?1) + (SELECT count(*) FROM task_ranges WHERE job_id = ?1)
        + (SELECT count(*) FROM entries WHERE job_id = ?1)
        + (SELECT count(*) FROM dependencies WHERE child_id = ?1 OR parent_id = ?1)
        + (SELECT count(*) FROM settled WHERE settled_id = ?1)"""


class Ending:
    """Lines such as

        a success, 2 runs
        b failed dependency, 0 runs: it needs the success of job 1, which failed
        c removed
        d failed                        an array, and then its tasks
        d.0,2-3 success, 1 run
        d.1 failed exit 7, 2 runs
        d at most 2 at once             the processes of a job that lived at the same time
        starts d.0 d.1 d.0 a            the processes of these jobs, in the order of their starts

    A run is a process that has started.
    """

    def __init__(self, world: World, asked: Mapping[str, Asked]) -> None:
        self._world = world
        self._asked = asked

    def like(self, text: str) -> str:
        """The lines that a text should have: those of all jobs, and the other kinds of lines that it has."""
        lines = [line for name in self._asked for line in self._job(name)]
        for line in map(str.strip, text.strip().splitlines()):
            match line.split():
                case ["starts", *starts]:
                    lines.append(self._starts({start.partition(".")[0] for start in starts}))
                case [name, "at", "most", *_]:
                    lines.append(f"{name} at most {self._most(name)} at once")
        return "\n".join(lines)

    def tasks(self, name: str) -> dict[int, str]:
        """How each task of a job is. A plain job has the task 0."""
        one = self._asked[name]
        spans = self._look(_RANGES, one.acked)
        ends = {}
        for task in one.indexes or (0,):
            span = next((span for span in spans if span[0] <= task <= span[1]), None)
            if span is None:
                ends[task] = self._run(*self._look(_LAST, one.acked, task)[0])
            else:
                ends[task] = _how(*span[2:]) if span[2] in ("cancelled", "failed") else "pending"
        return ends

    def _job(self, name: str) -> list[str]:
        one = self._asked[name]
        stored = self._look("SELECT status FROM jobs WHERE job_id = ?", one.acked)
        if not stored:
            left = self._look(_LEFT, one.acked)[0][0]
            return [f"{name} removed{f', but {left} rows' if left else ''}"]
        texts = {task: self._with_runs(name, task, how) for task, how in self.tasks(name).items()}
        if not one.indexes:
            return [f"{name} {texts[0]}"]
        groups: dict[str, list[int]] = {}
        for task, text in texts.items():
            groups.setdefault(text, []).append(task)
        return [f"{name} {stored[0][0]}", *(f"{name}.{of_numbers(tasks)} {text}" for text, tasks in groups.items())]

    def _with_runs(self, name: str, task: int, how: str) -> str:
        how, _, why = how.partition(": ")
        runs = sum(task == index for _, index in self._lives([name]))
        return f"{how}, {runs} run{'' if runs == 1 else 's'}{f': {why}' if why else ''}"

    def _run(self, status: str, reason: str | None, code: int | None, detail: str | None) -> str:
        return _how(status, reason) + (f" {code}" if code else "") + (f": {detail}" if reason == "dependency" else "")

    def _lives(self, names: Iterable[str]) -> list[tuple[str, int]]:
        """The processes of some jobs, in the order of their starts: each with its job and its task."""
        jobs = {self._asked[name].acked: name for name in names}
        lives = [life for life in self._world.witness.lives.values() if life.job in jobs]
        lives.sort(key=lambda life: (life.started_ms, life.run))
        return [(jobs[life.job], self._world.judge.rows[life.run].task) for life in lives]

    def _starts(self, names: Iterable[str]) -> str:
        starts = self._lives(names)
        return " ".join(["starts", *(f"{name}.{task}" if self._asked[name].indexes else name for name, task in starts)])

    def _most(self, name: str) -> int:
        lives = [life for life in self._world.witness.lives.values() if life.job == self._asked[name].acked]
        now_ms = self._world.timeline.now_ms
        return max(
            sum(
                other.started_ms <= life.started_ms < (now_ms + 1 if other.ended_ms is None else other.ended_ms)
                for other in lives
            )
            for life in lives
        )

    def _look(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self._world.scheduler.engine.look(statement, *parameters)


def _how(status: str, reason: str | None) -> str:
    """The status of a run or of tasks without runs, with the reason where that says more."""
    return status if status not in ("failed", "cancelled") or reason == status else f"{status} {reason}"
