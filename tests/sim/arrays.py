"""Arrays in the simulator: what callers do with some tasks, and the judge of tasks without runs, caps and `max_fails`.

The judge knows the indexes and the cap that the client asked for. It reads what the store says of each task, and never
asks the store which task is next.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final

from tests.sim.network import Path
from tests.sim.scheduler import Answer, Done, Refused, Scheduler, Undone
from tests.sim.story import Story
from tests.sim.timeline import Timeline
from tests.sim.violation import Violation
from zsched.model.after import Ends
from zsched.model.limits import TICK_MS_MAX
from zsched.model.types import JobId
from zsched.scheduler.dispatcher.acts import Hold, Release
from zsched.scheduler.dispatcher.commands import Cancel
from zsched.scheduler.dispatcher.tasks import RerunTasks

if TYPE_CHECKING:
    from tests.sim.callers import Asked
    from tests.sim.judge import Row

# The arrays that jobs ask for: their indexes, and their caps.
ARRAYS: Final[tuple[tuple[str, Sequence[int], int | None], ...]] = (
    ("0-11%1", range(12), 1),
    ("0-11%2", range(12), 2),
    ("0-15:4%4", range(0, 16, 4), 4),
    ("1,3,7-13%3", (1, 3, *range(7, 14)), 3),
    ("0-7", range(8), None),
    ("5-14%20", range(5, 15), 20),
)
# A seed with more of them takes too long.
_ARRAYS_MAX: Final = 25
ALL: Final = (0, 10**6)
# The states of tasks that have ended without a run.
ENDED: Final = ("cancelled", "failed")

_ARRAYS: Final = """
    SELECT job_id, name, held_ms IS NULL AND cancel_ms IS NULL, waiting, failed - forgiven FROM jobs
    WHERE task_array IS NOT NULL"""
_RANGES: Final = "SELECT job_id, first_task, last_task, state, again FROM task_ranges ORDER BY job_id, first_task"
_OPEN: Final = """
    SELECT job_id, count(*) FROM runs
    WHERE of_array = 1 AND (status = 'running' OR status = 'pending' AND blocked & 1 = 0) GROUP BY job_id"""
_WAITING: Final = """
    SELECT job_id, count(*) FROM runs WHERE of_array = 1 AND status = 'pending' AND blocked & 1 = 1 GROUP BY job_id"""
# Held back by anything but a limit or a preference, and yet open.
_WRONG: Final = """
    SELECT run_id FROM runs WHERE of_array = 1 AND status = 'pending' AND blocked & 1 = 0 AND blocked & 106 <> 0"""
_LIVE: Final = """
    SELECT task FROM runs WHERE job_id = ? AND of_array = 1 AND task BETWEEN ? AND ? AND cancel_ms IS NULL
        AND status IN ('pending', 'running')
    UNION ALL SELECT first_task FROM task_ranges WHERE job_id = ? AND state NOT IN ('cancelled', 'failed')
        AND first_task <= ? AND last_task >= ?"""
# How long a place may stay free: a time, and as many turns as all of a seed's arrays may need at one task a turn.
_FREE_MS: Final = TICK_MS_MAX + 1_000
_FREE_TURNS: Final = 100


class TaskCaller:
    """Holds, releases, cancels and runs some tasks of an array again, after its submit was acked."""

    def __init__(self, timeline: Timeline, scheduler: Scheduler, path: Path, story: Story, chance: Random) -> None:
        self._timeline = timeline
        self._scheduler = scheduler
        self._path = path
        self._story = story
        self._chance = chance
        # In some seeds many jobs are arrays.
        self._often = chance.choice((0.0, 0.1, 0.4))
        self._arrays = 0
        # Reruns of tasks that may still be done, by the name of the job.
        self._reruns = Counter[str]()
        # What jobs wait for of arrays: apart, so that a seed's other decisions don't hang on it.
        self._part = Random(repr(chance.getstate()) + "part")

    def give_array(self, one: Asked) -> None:
        """Make some jobs arrays. What kills workers or never ends would do so once for each task."""
        script = one.script
        tame = script.kills is None and not script.sticks_ms and not any(child.sticks_ms for child in script.children)
        if one.recurring or not tame or self._chance.random() >= self._often or self._arrays == _ARRAYS_MAX:
            return
        self._arrays += 1
        text, indexes, cap = self._chance.choice(ARRAYS)
        one.give_array(text, indexes, cap)
        if self._chance.random() < 0.3:
            one.turn["max_fails"] = self._chance.choice((0, 1, 3))
        one.task_acts = [
            self._chance.choice(("hold", "cancel", "rerun", "failed")) for _ in range(self._chance.choice((0, 1, 3)))
        ]

    def choose_part(self, one: Asked, parent: Asked, ends: Ends) -> tuple[int | None, Ends]:
        """What a job waits for of an array: one of its tasks, each for the same one, or all. An array gets the indexes
        of the one that its tasks follow.
        """
        luck = self._part.random()
        if luck < 0.35:
            return self._part.choice(parent.indexes), ends
        followed = any(kind == Ends.SAME for _, _, kind in one.after)
        if luck > 0.75 or not one.indexes or (followed and one.indexes != parent.indexes):
            return None, ends
        one.indexes, one.cap, one.turn["array"] = parent.indexes, parent.cap, parent.turn["array"]
        return None, Ends.SAME

    def on_acked(self, one: Asked) -> None:
        for act in one.task_acts:
            self._timeline.after(self._chance.choice((0, 5, 300, 2_000, 9_000)), partial(self._act, one, act))

    def forget(self, one: Asked) -> None:
        """The database is that of an earlier moment: tasks may be held again."""
        if one.indexes and one.task_acts:
            self._timeline.after(3_000, partial(self._release, one, ALL))

    def _act(self, one: Asked, act: str) -> None:
        if one.acked is None:
            return  # It was acked, and a restore has lost it.
        first = self._chance.choice(one.indexes)
        part = first, first + self._chance.choice((0, 0, 2, 5))
        job = JobId(one.acked)
        if act == "hold":
            self._call(
                Hold(job, one.by, "", part),
                lambda _: self._timeline.after(self._chance.choice((0, 20, 4_000)), partial(self._release, one, part)),
            )
        elif act == "cancel":
            # A rerun that is under way may come after the cancel.
            reran = -1 if self._reruns[one.name] else one.reran
            self._call(Cancel(job, one.by, "", part), partial(self._check_cancelled, one, part, reran))
        elif not (one.cancel_asked and not one.cancel_acked):
            self._rerun(one, RerunTasks(job, one.by, part if act == "rerun" else ALL, failed=act == "failed"))

    def _release(self, one: Asked, part: tuple[int, int]) -> None:
        """Until it was done, or is not needed."""
        if one.acked is None:
            return

        def on_answer(answer: Answer) -> None:
            if not isinstance(answer, Done):
                self._timeline.after(1_000, partial(self._release, one, part))

        self._call(Release(JobId(one.acked), one.by, "", part), on_answer)

    def _rerun(self, one: Asked, act: RerunTasks) -> None:
        was = one.cancel_asked, one.cancel_acked, one.cancel_late
        one.cancel_asked, one.cancel_acked, one.cancel_late = True, False, False
        one.reran += 1
        self._reruns[one.name] += 1

        def on_answer(answer: Answer) -> None:
            if isinstance(answer, Done | Refused | Undone):
                self._reruns[one.name] -= 1
            if isinstance(answer, Done):
                one.cancel_asked = False
            elif isinstance(answer, Refused | Undone):
                one.cancel_asked, one.cancel_acked, one.cancel_late = was

        self._call(act, on_answer)

    def _check_cancelled(self, one: Asked, part: tuple[int, int], reran: int, answer: Answer) -> None:
        """After the ack of a cancel none of these tasks is live, unless one may run again since."""
        if not isinstance(answer, Done) or one.acked is None or self._scheduler.away:
            return
        if one.reran > 1 or one.reran != reran:
            return
        live = self._scheduler.engine.look(_LIVE, one.acked, *part, one.acked, part[1], part[0])
        if live and not one.rerun_ms:
            raise Violation(f"the tasks {part} of job {one.acked} were cancelled, but {live} are live")

    def _call(self, act: Any, on_answer: Any) -> None:
        def told(answer: Answer) -> None:
            self._story.tell("client", "%s: %s", act, type(answer).__name__.lower())
            on_answer(answer)

        self._scheduler.call(self._path, act, told)


class Arrays:
    """Part of the judge. `asked`: what the client asked for, by the name of the job."""

    def __init__(self, timeline: Timeline, scheduler: Scheduler, asked: Mapping[str, Asked]) -> None:
        self._timeline = timeline
        self._scheduler = scheduler
        self._asked = asked
        # The state of each task without a run, as of the last look: by job and index, and the same for each job.
        self.ranges: dict[tuple[int, int], str] = {}
        self.ranges_of: dict[int, dict[int, str]] = {}
        # The same after the turn before.
        self.ranges_before: dict[int, dict[int, str]] = {}
        # The jobs that are or were arrays.
        self._known: set[int] = set()
        # Those of them that the store does not have any more.
        self.gone: set[int] = set()
        # Whether an array waits for other jobs.
        self.is_held_back: Callable[[int], bool] = lambda job: False
        # Arrays with a free place: since when, and for how many turns.
        self._free: dict[int, tuple[int, int]] = {}

    def was_array(self, job: int) -> bool:
        """The same of a job that may be removed."""
        return job in self._known

    def is_array(self, job: int) -> bool:
        return bool(self._look("SELECT 1 FROM jobs WHERE job_id = ? AND task_array IS NOT NULL", job))

    def check(
        self,
        tasks: Mapping[tuple[int, int], list[int]],
        rows: Mapping[int, Row],
        changed: Iterable[Row],
        new: Iterable[Row],
    ) -> None:
        """After a turn. `changed`: the runs that it has changed or made; `new`: those that follow none."""
        before = self.ranges_before = self.ranges_of
        self.ranges_of = self._read_ranges()
        self.ranges = {(job, index): state for job, states in self.ranges_of.items() for index, state in states.items()}
        touched = {row.job for row in changed}
        made: defaultdict[int, list[int]] = defaultdict(list)
        for row in new:
            made[row.job].append(row.task)
        open_, waiting = Counter(dict(self._look(_OPEN))), Counter(dict(self._look(_WAITING)))
        for (run,) in self._look(_WRONG):
            raise Violation(f"run {run} is held back, and takes a place of its array")
        arrays = self._look(_ARRAYS)
        self.gone = self._known - {job for job, *_ in arrays}
        for job, name, goes_on, placeless, fails in arrays:
            one = self._asked[name]
            self._known.add(job)
            if placeless != waiting[job]:
                raise Violation(f"job {job} counts {placeless} runs without a place, it has {waiting[job]}")
            if one.cap is not None and open_[job] > one.cap:
                raise Violation(f"{open_[job]} tasks of job {job} are open, of {one.cap}")
            states = self.ranges_of.get(job, {})
            unmade = [index for index, state in states.items() if state == "unmade"]
            if job in touched or states != before.get(job, {}):
                self._check_tasks(job, one, tasks, rows)
            if made[job] and unmade and goes_on and not self._again(job) and max(made[job]) > unmade[0]:
                raise Violation(f"job {job} has made the tasks {made[job]} before {unmade[0]}")
            most = one.turn.get("max_fails")
            spent = most is not None and fails > most
            if spent and self._settled():
                live = [index for index in one.indexes if self._is_pending(job, index, tasks, rows)]
                if live:
                    raise Violation(f"{fails} tasks of job {job} have failed, and {live} are still to start")
            room = one.cap is None or open_[job] < one.cap
            self._note_free(job, bool(goes_on and unmade and room and not spent) and not self.is_held_back(job))

    def _check_tasks(
        self, job: int, one: Asked, tasks: Mapping[tuple[int, int], list[int]], rows: Mapping[int, Row]
    ) -> None:
        """Each task is described once: by its range, or by its last run."""
        for index in one.indexes:
            runs = tasks.get((job, index), [])
            state = self.ranges.get((job, index))
            if state is None and not runs:
                raise Violation(f"the task {index} of job {job} is lost")
            if state is not None and runs and not rows[runs[-1]].final:
                raise Violation(f"the task {index} of job {job} is {state}, but run {runs[-1]} is live")
            for run in runs:
                row = rows[run]
                if row.reason == "max_fails" and one.turn.get("max_fails") is None:
                    raise Violation(f"run {run} was cancelled for max_fails, which its job does not have")

    def _is_pending(
        self, job: int, index: int, tasks: Mapping[tuple[int, int], list[int]], rows: Mapping[int, Row]
    ) -> bool:
        if (state := self.ranges.get((job, index))) is not None:
            return state not in ENDED
        return rows[tasks[job, index][-1]].status == "pending"

    def _settled(self) -> bool:
        return self._scheduler.stored and not self._scheduler.engine.refusing

    def _again(self, job: int) -> bool:
        return bool(self._look("SELECT 1 FROM task_ranges WHERE job_id = ? AND again = 1", job))

    def _note_free(self, job: int, free: bool) -> None:
        if not free:
            self._free.pop(job, None)
        else:
            self._free.setdefault(job, (self._timeline.now_ms, 0))

    def after_turn(self) -> None:
        """While tasks wait to be made, no place stays free."""
        if not self._scheduler.up or not self._scheduler.stored or self._scheduler.engine.refusing:
            self._free.clear()
            return
        for job, (since_ms, turns) in self._free.items():
            waited_ms = self._timeline.now_ms - since_ms
            if turns > _FREE_TURNS and waited_ms > _FREE_MS:
                raise Violation(f"a place of job {job} is free since {waited_ms} ms, and tasks wait for one")
            self._free[job] = since_ms, turns + 1

    def left(self, goes_on: Callable[[int], bool]) -> dict[tuple[int, int], str]:
        """The tasks that are still to be made, but for those of jobs that do not end."""
        left = {task: state for task, state in self.ranges.items() if state not in ENDED}
        lasting = {job for job in {job for job, _ in left} if goes_on(job)}
        return {task: state for task, state in left.items() if task[0] not in lasting}

    def _read_ranges(self) -> dict[int, dict[int, str]]:
        names = dict(self._look("SELECT job_id, name FROM jobs WHERE task_array IS NOT NULL"))
        found: defaultdict[int, dict[int, str]] = defaultdict(dict)
        for job, first, last, state, _ in self._look(_RANGES):
            inside = [index for index in self._asked[names[job]].indexes if first <= index <= last]
            if not inside or inside[0] != first or inside[-1] != last:
                raise Violation(f"a range of job {job} from {first} to {last} has the tasks {inside}")
            for index in inside:
                if index in found[job]:
                    raise Violation(f"the task {index} of job {job} is in two ranges")
                found[job][index] = state
        return found

    def _look(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self._scheduler.engine.look(statement, *parameters)
