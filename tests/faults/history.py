"""What happened, held against what was promised, in the manner of Jepsen's checkers. Pure: no clock, no files.

A history has three parts that know nothing of each other: what callers did and were told, what the jobs themselves
wrote down (the witness, the ground truth), and what the store says in the end. `check` counts where they disagree.
Times are CLOCK_BOOTTIME in milliseconds unless something else is said.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal, NamedTuple

from tests.faults.tasks import STEP_MS, TERMINAL, Tasks
from zsched.model.limits import JUMP_MS

# An order that was under way when its run ended may start a process for so long: it waits a second at most.
UNDER_WAY_MS: Final = 2_000
# How long after its time a fire may come: the scheduler may be down or stand still meanwhile.
FIRE_LATE_MS: Final = 30_000

Outcome = Literal["ok", "fail", "unknown"]


class Count(StrEnum):
    """What is counted. All must be 0."""

    LOST = "lost"
    UNEXPECTED = "unexpected"
    DOUBLED_KEY = "doubled keys"
    OVERLAP = "overlaps"
    WRONG_WINNER = "wrong winners"
    WRONG_LOSER = "wrong losers"
    SECOND_START = "second starts"
    STALE = "accepted stale results"
    RESURRECTED = "resurrected states"
    STUCK = "stuck"
    PHANTOM = "phantom"
    ORPHAN = "orphans"
    ZOMBIE = "zombies"
    START_EARLY = "early starts"
    ORDER = "starts out of order"
    CAP = "tasks beyond the cap"
    FIRE_EARLY = "early fires"
    FIRE_LATE = "late fires"
    FIRE_MISSED = "missed fires"
    FIRE_EXTRA = "extra fires"
    ARTIFACT = "wrong artifacts"
    REPLAY = "events that don't replay"


# --- what callers did ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Submit:
    """One call. `name` is the job's, new with each job that somebody wants; a retry by `key` has it again."""

    name: str
    key: str | None
    invoked_ms: int
    completed_ms: int
    outcome: Outcome
    job: int | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """One call; `ok` is an acked cancel."""

    job: int
    invoked_ms: int
    completed_ms: int
    outcome: Outcome


# --- what the jobs wrote ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Life:
    """One process of a job. `seen_ms` is its last sign; `code` is None when it was ended from outside."""

    run: int
    job: int
    worker: str
    pid: int
    started_ms: int
    seen_ms: int
    code: int | None = None


def lives(lines: Iterable[str]) -> list[Life]:
    """From the witness file: `run job worker pid start|alive|end seconds [code]` in each line."""
    found: dict[tuple[int, int], Life] = {}
    for line in lines:
        run, job, worker, pid, what, seconds, *code = line.split()
        at_ms, key = round(float(seconds) * 1000), (int(run), int(pid))
        if what == "start":
            found[key] = Life(int(run), int(job), worker, int(pid), at_ms, at_ms)
            continue
        found[key].seen_ms = at_ms
        if what == "end":
            found[key].code = int(code[0])
    return list(found.values())


# --- what the store says ---------------------------------------------------------------------------------------------


class Parent(NamedTuple):
    """What a job waits for: by its name; `how` is ok, any, or same (task by task). `task`: for this one alone."""

    name: str
    how: str
    task: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """`stops`: its runs end when their worker is cut off. `fails`: its script does not always end with 0. `once`: it
    is not started again when its worker is lost. `tried_again`: so often that it has a success in the end. `delay_ms`:
    it starts no earlier after its submit. `leaves`: each run leaves its number as an artifact. `tasks`: the indexes of
    an array, of which `cap` run at once, if that is not 0. `after`: what it waits for.
    """

    id: int
    name: str
    status: str
    stops: bool = False
    fails: bool = False
    once: bool = False
    tried_again: bool = False
    recurring: bool = False
    delay_ms: int = 0
    leaves: bool = False
    tasks: tuple[int, ...] = ()
    cap: int = 0
    after: tuple[Parent, ...] = ()


@dataclass(frozen=True, slots=True)
class Range:
    """Tasks of an array that have no run, or whose last run does not say how they are."""

    job: int
    first: int
    last: int
    state: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """`left`: the content of its artifacts, None without any."""

    id: int
    job: int
    task: int
    status: str
    reason: str | None = None
    worker: str | None = None
    left: bytes | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """About the runs `first` to `last`, in the order in which they were stored."""

    first: int
    last: int
    was: str | None
    became: str
    worker: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A run that had ended, as somebody saw it during the test."""

    run: int
    status: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Fire:
    """A fire that was made or skipped, and the time that it was for: milliseconds since 1970 UTC, both."""

    job: int
    due_ms: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    what: str


@dataclass(slots=True)
class History:
    submits: list[Submit] = field(default_factory=list)
    cancels: list[Cancel] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    # Runs whose processes lived when the store was read for the last time.
    executing: set[int] = field(default_factory=set)
    orphans: list[Process] = field(default_factory=list)
    zombies: list[Process] = field(default_factory=list)
    # Times since 1970 that a recurring job should have fired at, by job; and all fires.
    due_ms: dict[int, list[int]] = field(default_factory=dict)
    fires: list[Fire] = field(default_factory=list)
    ranges: list[Range] = field(default_factory=list)
    # Jobs with an event that says that artifacts were left out.
    left_out: set[int] = field(default_factory=set)
    # What `zsched db check` found, in words.
    replay: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Verdict:
    """`wrong`: sentences by count, none where all is well. The rest is told, and judges nothing."""

    wrong: dict[Count, list[str]]
    info: dict[str, int]

    @property
    def clean(self) -> bool:
        return not any(self.wrong.values())

    def counts(self) -> dict[Count, int]:
        return {count: len(self.wrong[count]) for count in Count}


def check(history: History) -> Verdict:
    """Count everything."""
    case = _Case(history)
    case.submits()
    case.overlaps()
    case.ends()
    case.artifacts()
    case.transitions()
    case.observations()
    case.cancels()
    case.delays()
    case.liveness()
    case.fires()
    wrong, tasks = case.wrong, Tasks(history)
    wrong[Count.LOST] += tasks.lost()
    wrong[Count.UNEXPECTED] += tasks.unexpected()
    wrong[Count.ORDER] += tasks.out_of_order()
    wrong[Count.CAP] += tasks.beyond_the_cap()
    wrong[Count.WRONG_LOSER] += tasks.without_a_cause()
    wrong[Count.ORPHAN] += [f"process {one.pid} lives: {one.what}" for one in history.orphans]
    wrong[Count.ZOMBIE] += [f"process {one.pid} was not reaped: {one.what}" for one in history.zombies]
    wrong[Count.REPLAY] += history.replay
    return Verdict({count: wrong[count] for count in Count}, case.info())


class _Case:
    """A history, by the keys that it is looked at by."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.wrong: dict[Count, list[str]] = defaultdict(list)
        self.jobs = {job.id: job for job in history.jobs}
        self.runs = {run.id: run for run in history.runs}
        self.lives: dict[int, list[Life]] = {}
        for life in history.lives:
            self.lives.setdefault(life.run, []).append(life)
        self.tasks: dict[tuple[int, int], list[Run]] = defaultdict(list)
        for run in sorted(history.runs, key=lambda run: run.id):
            self.tasks[run.job, run.task].append(run)
        self.overlaps_allowed = 0

    def submits(self) -> None:
        """What was acked is there, what is there was asked for, and a key makes one job."""
        stored: dict[str, list[int]] = defaultdict(list)
        for job in self.history.jobs:
            stored[job.name].append(job.id)
        asked: dict[str, Submit] = {}
        for submit in self.history.submits:
            if submit.outcome == "ok" and submit.job not in stored[submit.name]:
                self.wrong[Count.LOST].append(f"job {submit.job} ({submit.name}) was acked and is not there")
            if submit.outcome != "fail":
                asked[submit.name] = submit
        for name, ids in stored.items():
            if ids and name not in asked:
                self.wrong[Count.UNEXPECTED].append(f"jobs {ids} ({name}): nobody submitted them, or it was refused")
            elif len(ids) > 1:
                count = Count.DOUBLED_KEY if asked[name].key is not None else Count.UNEXPECTED
                self.wrong[count].append(f"one submit ({name}) made the jobs {ids}")

    def overlaps(self) -> None:
        """Two runs of a task never execute at the same moment, where that was asked for."""
        for (job_id, _), runs in self.tasks.items():
            executed = sorted(
                (life for run in runs for life in self.lives.get(run.id, ())),
                key=lambda life: (life.started_ms, life.run),
            )
            latest: Life | None = None
            for life in executed:
                if latest is not None and life.run != latest.run and life.started_ms < latest.seen_ms - STEP_MS:
                    self._overlap(job_id, latest, life)
                if latest is None or life.seen_ms > latest.seen_ms:
                    latest = life

    def _overlap(self, job_id: int, one: Life, other: Life) -> None:
        job = self.jobs.get(job_id)
        if job is None or not job.stops:
            self.overlaps_allowed += 1
            return
        self.wrong[Count.OVERLAP].append(
            f"job {job_id}: run {other.run} on {other.worker} started at {other.started_ms} ms, and run {one.run} on"
            f" {one.worker} lived until {one.seen_ms} ms at least"
        )

    def ends(self) -> None:
        """A run is a success if its process was one, there; a task has one success at most."""
        for run in self.history.runs:
            job = self.jobs.get(run.job)
            if run.status == "success":
                ended = [life for life in self.lives.get(run.id, ()) if life.code == 0]
                if not ended:
                    self.wrong[Count.WRONG_WINNER].append(f"run {run.id} is a success, and did not end with 0")
                elif all(life.worker != run.worker for life in ended):
                    self.wrong[Count.WRONG_WINNER].append(
                        f"run {run.id} is a success of {run.worker}, and ran on {ended[0].worker}"
                    )
            elif run.reason in ("exit", "signal", "spawn_error", "quarantined") and job is not None and not job.fails:
                self.wrong[Count.WRONG_LOSER].append(
                    f"run {run.id} of job {run.job} failed ({run.reason}), and its script does not"
                )
        for (job_id, task), runs in self.tasks.items():
            winners = [run.id for run in runs if run.status == "success"]
            last, job = runs[-1], self.jobs.get(job_id)
            if last.reason in ("worker_lost", "lease_stop") and job is not None and not (job.fails or job.once):
                self.wrong[Count.WRONG_LOSER].append(f"run {last.id} of job {job_id} was lost, and none followed it")
            if last.reason == "exit" and last.status == "failed" and job is not None and job.tried_again:
                self.wrong[Count.WRONG_LOSER].append(f"run {last.id} of job {job_id} failed, and was not tried again")
            if job is not None and job.once and len(self._started(runs)) > 1:
                self.wrong[Count.SECOND_START].append(
                    f"job {job_id} may start once, and runs {self._started(runs)} did"
                )
            # Of a recurring job each fire may be one.
            if len(winners) > 1 and not self._recurs(job_id):
                self.wrong[Count.WRONG_WINNER].append(f"job {job_id}, task {task}: runs {winners} are all a success")
            elif winners and last.id != winners[-1] and not self._recurs(job_id):
                self.wrong[Count.SECOND_START].append(
                    f"job {job_id}, task {task}: run {last.id} follows run {winners[-1]}, which is a success"
                )

    def artifacts(self) -> None:
        """A run has the artifacts that it has left, and no other run's. A success lacks none without an event."""
        for run in self.history.runs:
            job = self.jobs.get(run.job)
            if run.left is not None and run.left != b"%d\n" % run.id:
                self.wrong[Count.ARTIFACT].append(f"run {run.id} has artifacts that it has not left: {run.left[:30]!r}")
            lacks = run.status == "success" and run.left is None and run.job not in self.history.left_out
            if job is not None and job.leaves and lacks:
                self.wrong[Count.ARTIFACT].append(f"run {run.id} is a success, and its artifacts are lost")

    def _recurs(self, job_id: int) -> bool:
        return job_id in self.jobs and self.jobs[job_id].recurring

    def _started(self, runs: list[Run]) -> list[int]:
        return [run.id for run in runs if run.id in self.lives]

    def transitions(self) -> None:
        """A result is stored for a run that is running, from its worker, and not for one that has a successor; what is
        cancelled while it is pending never runs.
        """
        newest: dict[tuple[int, int], int] = {}
        state: dict[int, tuple[str, str | None]] = {}
        for event in self.history.events:
            # A cancel that is under way; a stale result that was refused.
            if event.was == event.became:
                continue
            for run_id in range(event.first, event.last + 1):
                run = self.runs.get(run_id)
                if run is None:
                    continue
                task = (run.job, run.task)
                if event.was is None:
                    newest[task] = max(run_id, newest.get(task, 0))
                status, owner = state.get(run_id, (None, None))
                if (event.was, event.became) == ("pending", "cancelled") and run_id in self.lives:
                    self.wrong[Count.RESURRECTED].append(f"run {run_id} was cancelled before it started, and ran")
                if status in TERMINAL:
                    self._stale(run_id, f"had ended ({status}) when it became {event.became}")
                elif event.became == "success" and event.worker != owner:
                    self._stale(run_id, f"belonged to {owner} when {event.worker} told of it")
                elif event.became == "success" and run_id < newest.get(task, 0):
                    self._stale(run_id, f"had a successor, run {newest[task]}, when its success was stored")
                state[run_id] = (event.became, event.worker if event.became == "running" else owner)

    def _stale(self, run_id: int, why: str) -> None:
        self.wrong[Count.STALE].append(f"run {run_id} {why}")

    def observations(self) -> None:
        """What has ended does not change, and does not begin."""
        for seen in self.history.seen:
            run = self.runs.get(seen.run)
            if run is None or run.status != seen.status:
                now = "gone" if run is None else run.status
                self.wrong[Count.RESURRECTED].append(
                    f"run {seen.run} was {seen.status} at {seen.at_ms} ms, and is {now}"
                )
            for life in self.lives.get(seen.run, ()):
                if life.started_ms > seen.at_ms + UNDER_WAY_MS:
                    self.wrong[Count.RESURRECTED].append(
                        f"run {seen.run} had ended ({seen.status}) at {seen.at_ms} ms, and started on {life.worker}"
                        f" at {life.started_ms} ms"
                    )

    def cancels(self) -> None:
        """An acked cancel is the end of its job."""
        for cancel in self.history.cancels:
            job = self.jobs.get(cancel.job)
            if cancel.outcome != "ok" or job is None or job.recurring:
                continue
            # Some tasks of an array may have failed before.
            ends = ("cancelled", "failed") if job.tasks else ("cancelled",)
            if job.status in TERMINAL and job.status not in ends:
                self.wrong[Count.RESURRECTED].append(f"job {job.id} was cancelled, and is {job.status}")
            for task in job.tasks or (0,):
                runs = self.tasks.get((job.id, task), [])
                ended = [run.id for run in runs if run.status == "cancelled"]
                if ended and runs[-1].id > ended[0]:
                    self.wrong[Count.RESURRECTED].append(
                        f"job {job.id} was cancelled, and run {runs[-1].id} followed run {ended[0]}"
                    )

    def delays(self) -> None:
        """A job with a delay starts no earlier after its submit."""
        begun = {submit.name: submit.invoked_ms for submit in reversed(self.history.submits)}
        for life in self.history.lives:
            job = self.jobs.get(life.job)
            if job is None or not job.delay_ms or job.name not in begun:
                continue
            waited_ms = life.started_ms - begun[job.name]
            # A jump of the clock that is shorter than JUMP_MS is not noticed.
            if waited_ms < job.delay_ms - JUMP_MS - STEP_MS:
                self.wrong[Count.START_EARLY].append(
                    f"run {life.run} of job {job.id} started {waited_ms} ms after its submit, not {job.delay_ms} ms"
                )

    def liveness(self) -> None:
        """All has ended, and the store knows of all that ever ran."""
        running = {run.job: run.id for run in self.history.runs if run.status == "running"}
        for job in self.history.jobs:
            if job.status in TERMINAL or (job.recurring and job.id not in running):
                continue
            run = running.get(job.id)
            if run is not None and run not in self.history.executing:
                self.wrong[Count.PHANTOM].append(f"run {run} of job {job.id} is running, and nobody executes it")
            else:
                self.wrong[Count.STUCK].append(f"job {job.id} is {job.status}")
        for run_id, found in self.lives.items():
            stored = self.runs.get(run_id)
            if stored is None or any(life.job != stored.job for life in found):
                self.wrong[Count.PHANTOM].append(f"run {run_id} ran, and the store does not know it")
            elif len(found) > 1:
                self.wrong[Count.PHANTOM].append(f"run {run_id} was started {len(found)} times")

    def fires(self) -> None:
        """Each time has one fire, or one that was skipped for a reason."""
        for job_id, due in self.history.due_ms.items():
            made = Counter(fire.due_ms for fire in self.history.fires if fire.job == job_id)
            for at_ms in due:
                if not made[at_ms]:
                    self.wrong[Count.FIRE_MISSED].append(f"job {job_id} has no fire for {at_ms}")
                elif made[at_ms] > 1:
                    self.wrong[Count.FIRE_EXTRA].append(f"job {job_id} has {made[at_ms]} fires for {at_ms}")
        for fire in self.history.fires:
            if fire.due_ms not in self.history.due_ms.get(fire.job, ()):
                self.wrong[Count.FIRE_EXTRA].append(f"job {fire.job} fired for {fire.due_ms}, which is no time of it")
            elif fire.at_ms < fire.due_ms:
                self.wrong[Count.FIRE_EARLY].append(f"job {fire.job} fired {fire.due_ms - fire.at_ms} ms too early")
            elif fire.at_ms > fire.due_ms + FIRE_LATE_MS:
                self.wrong[Count.FIRE_LATE].append(f"job {fire.job} fired {fire.at_ms - fire.due_ms} ms too late")

    def info(self) -> dict[str, int]:
        """What is worth knowing, and no promise."""
        lost = Counter(run.reason for run in self.history.runs if run.status == "failed")
        recovered = sum(
            runs[-1].status == "success" and any(run.reason == "worker_lost" for run in runs)
            for runs in self.tasks.values()
        )
        found = {
            "submits acked": sum(one.outcome == "ok" for one in self.history.submits),
            "submits refused": sum(one.outcome == "fail" for one in self.history.submits),
            "submits unknown": sum(one.outcome == "unknown" for one in self.history.submits),
            "cancels acked": sum(one.outcome == "ok" for one in self.history.cancels),
            "jobs": len(self.jobs),
            "processes witnessed": len(self.history.lives),
            "runs seen ended": len(self.history.seen),
            "recovered": recovered,
            "stale results refused": sum(event.reason == "stale" for event in self.history.events),
            "rerun": sum(len(runs) - 1 for (job, _), runs in self.tasks.items() if not self._recurs(job)),
            "overlaps of jobs that continue": self.overlaps_allowed,
            "arrays": sum(bool(job.tasks) for job in self.jobs.values()),
            "tasks of arrays that ran": sum(bool(self.jobs[job].tasks) for job, _ in self.tasks if job in self.jobs),
            "jobs that waited for others": sum(bool(job.after) for job in self.jobs.values()),
        }
        found |= {
            f"jobs {status}": many for status, many in sorted(Counter(job.status for job in self.jobs.values()).items())
        }
        return found | {f"runs failed, {reason}": many for reason, many in sorted(lost.items(), key=str)}
