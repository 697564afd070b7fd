"""People who submit, cancel and change schedules over REST, and what they were told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from dataclasses import replace as replace_script
from functools import partial
from itertools import chain
from random import Random
from typing import Any, Final, Literal

from msgspec.structs import replace

from tests.sim.arrays import TaskCaller
from tests.sim.artifacts import PATTERN, SHARE
from tests.sim.jobs import FOREVER, PLACES, Child, Poison, Script
from tests.sim.network import Path
from tests.sim.scheduler import Answer, Done, Refused, Scheduler, Undone
from tests.sim.story import Story
from tests.sim.timeline import Timeline
from tests.sim.violation import Violation
from zsched.model.access import Caller
from zsched.model.after import Dependency, Ends
from zsched.model.arrays import parse_array
from zsched.model.backoff import Backoff
from zsched.model.edits import JobEdit
from zsched.model.spans import Spans, of_numbers
from zsched.model.types import JobId, JobSpec, OnDisconnect, OnLost, Policy
from zsched.scheduler.dispatcher.acts import Hold, Release, Rerun
from zsched.scheduler.dispatcher.bulk import Action, Bulk, BulkDone, Selection
from zsched.scheduler.dispatcher.commands import (
    Cancel,
    EditJob,
    EndSchedule,
    Made,
    NotOwnerError,
    Once,
    PauseSchedule,
    ResumeSchedule,
    ReusedError,
    Submit,
)
from zsched.scheduler.dispatcher.queues import PauseQueue, ResumeQueue, ShareQueue, UniqueError
from zsched.store.contract import Submitted

# Its tokens: each may act on its own jobs only. Most seeds use the first alone.
CALLERS: Final = tuple(
    Caller(owner=f"token:{name}", actor=name, all_jobs=False) for name in ("client", "second", "third")
)
CLIENT: Final = CALLERS[0]

# The queues that its jobs name besides the default one.
QUEUES: Final = ("nightly", "weekly")
UNIQUE_KEYS: Final = ("index", "report")

# The folders that hosts have, each one of them.
FOLDERS: Final = ("/even", "/odd")

# What its jobs with retries may write into `retry_on`. retries.py knows what each means.
RETRY_ON: Final = (("7",), ("2-9", "timeout"), ("exit",), ("TERM", "spawn_error"), ("signal", "reported", "1"))

# How long jobs take at most, each as likely as the next.
_MIXED_MS: Final = (1, 20, 90, 300, 1_500, 5_000, 12_000, 90_000)
_SHORT_MS: Final = (*(1, 2, 5, 10) * 3, 90, 1_500, 5_000)


@dataclass(slots=True)
class Asked:
    """One job that somebody asked for, by its unique name. `acked` is its id once the client read it."""

    name: str
    script: Script
    by: Caller = CLIENT
    acked: int | None = None
    undone: bool = False
    cancel_asked: bool = False
    cancel_acked: bool = False
    # Whether some cancel may have been done.
    cancel_possible: bool = False
    # A cancel was answered: nothing of it is pending or running.
    cancel_late: bool = False
    policy: Policy = field(default_factory=Policy)
    cwd: str | None = None
    artifacts: bool = False
    # Its start time and its deadline, as fields of JobSpec; and what says when it has its turn.
    times: dict[str, int] = field(default_factory=dict)
    turn: dict[str, Any] = field(default_factory=dict)
    # The jobs that it waits for, by their names, or a task of them, with the end that it needs; and the same as fields
    # of JobSpec.
    after: list[tuple[str, int | None, str]] = field(default_factory=list)
    waits_for: tuple[Dependency, ...] = ()
    recurring: bool = False
    # Whether it is held, as was acked; None while a change is under way, for it may have been done.
    held: bool | None = False
    # Holds and releases without an answer, and whether several were under way at once.
    holding: int = 0
    muddled: bool = False
    ever_held: bool = False
    # How many of its reruns were acked.
    reruns: int = 0
    # How long after its ack it is to be held, and run again.
    hold_ms: int | None = None
    rerun_ms: int | None = None
    # How long after its ack it is to be cancelled.
    cancel_ms: int | None = None
    # The indexes of its tasks and its cap, if it is an array; what will be done with some tasks; and how many reruns of
    # some were sent.
    indexes: Sequence[int] = ()
    cap: int | None = None
    task_acts: list[str] = field(default_factory=list)
    reran: int = 0
    # What was acked of its schedule; None while a change is under way, for it may have been done.
    schedule: str | None = "scheduled"

    def give_array(self, text: str, indexes: Sequence[int], cap: int | None) -> None:
        """Its tasks must not take long together, and have no dates."""
        self.indexes, self.cap = indexes, cap
        self.turn["array"] = parse_array(text)
        self.script = replace_script(self.script, lasts_ms=min(self.script.lasts_ms, 1_500))
        self.times = {}


@dataclass(slots=True)
class Request:
    """One submit, which may be sent several times when it has a key. `open` counts those that have no answer yet;
    `possible`: one of them may have been done.
    """

    batch: list[Asked]
    once: Once | None
    tries: int = 1
    open: int = 0
    possible: bool = False
    acked: list[int] = field(default_factory=list)

    @property
    def by(self) -> Caller:
        return self.batch[0].by


class Client:
    """Remembers every job it asked for and every answer it got."""

    def __init__(
        self,
        timeline: Timeline,
        scheduler: Scheduler,
        path: Path,
        chance: Random,
        story: Story,
        poison: tuple[Poison, ...],
    ) -> None:
        self.asked: dict[str, Asked] = {}
        self.jobs: dict[int, Asked] = {}
        # Jobs that the scheduler has removed because they ended long ago. The judge fills it.
        self.removed: Set[int] = frozenset()
        self._requests: list[Request] = []
        self._timeline = timeline
        self._scheduler = scheduler
        self._path = path
        self._chance = chance
        # How it uses keys: apart, so that a seed's other decisions don't hang on it.
        self._habit = Random(chance.random())
        # The same for what it does to schedules.
        self._whim = Random(repr(chance.getstate()))
        # The same for what it cancels by one call.
        self._sweep = Random(f"bulk {chance.getstate()}")
        self._story = story
        self._poison = poison
        # Whether most of its jobs may start only once, and which.
        self._care = Random(repr(chance.getstate()) + "care")
        self._careful = self._care.random() < 0.3
        # The same for the processes of its jobs, since some may outlive a KILL.
        self._family = Random(repr(chance.getstate()) + "family")
        self._spoils = self._family.choice((0, 0, 1, 2))
        # The same for the times of its jobs.
        self._when = Random(repr(chance.getstate()) + "when")
        # The same for priorities, queues and keys, and for pauses of queues. In some seeds most jobs have some; in half
        # of those, the runs with limits end with their leases.
        self._turn = Random(repr(chance.getstate()) + "turn")
        self._ordered = self._turn.random() < 0.5
        self._strict = self._turn.random() < 0.5
        self._limits = {"db": self._turn.choice((1, 2, 3)), "net": self._turn.choice((1, 2))}
        # Submits with each unique key that were sent, and that have no answer yet; and keys of which one without an
        # answer may still be done.
        self._sent_keys = Counter[str]()
        self._open_keys = Counter[str]()
        self._unsure_keys: set[str] = set()
        # The same for its tokens, and for the queues that are shared between them.
        self._crowd = Random(repr(chance.getstate()) + "crowd")
        self._callers = CALLERS[: self._crowd.choice((1, 1, 1, 2, 3))]
        # The same for what it cancels while it is warned of its timeout.
        self._warned = Random(repr(chance.getstate()) + "warned")
        # The same for the failures that it has tried again.
        self._again = Random(repr(chance.getstate()) + "again")
        # The same for what it holds, releases and runs again.
        self._act = Random(repr(chance.getstate()) + "act")
        # The same for jobs that wait for others. In half of the seeds some do.
        self._order = Random(repr(chance.getstate()) + "after")
        self._waiting = self._order.random() < 0.5
        # The same for arrays.
        tasks = Random(repr(chance.getstate()) + "tasks")
        self._tasks = TaskCaller(timeline, scheduler, path, story, tasks)
        # The same for jobs with artifacts.
        self._leaves = Random(repr(chance.getstate()) + "leaves")
        # So that workers ask for runs ahead.
        self._short = chance.random() < 0.4

    def forget(self, jobs: Set[int]) -> None:
        """The scheduler's database is that of an earlier moment again, and has these jobs. What was acked since then is
        not so any more.
        """
        for one in self.asked.values():
            if one.acked not in jobs:
                one.acked = None
            one.cancel_acked = one.cancel_late = False
            one.schedule = one.held = None
            one.reruns = 0
            if one.ever_held:
                # It may be held again.
                self._timeline.after(3_000, partial(self._change_hold, one, hold=False))
            one.reran += 2
            self._tasks.forget(one)
        self.jobs = {job: one for job, one in self.jobs.items() if job in jobs}
        self._unsure_keys.update(f"{by.owner} {key}" for by in CALLERS for key in UNIQUE_KEYS)
        for request in self._requests:
            if not set(request.acked) <= jobs:
                request.acked = []

    def submit(self) -> None:
        """Some jobs in one request: a few, or a crowd of short ones."""
        most = self._chance.choice((4, 20)) if self._short else 4
        by = self._crowd.choice(self._callers)
        batch = [self._job(by) for _ in range(self._chance.randint(1, most))]
        if self._waiting:
            for place in range(len(batch)):
                self._give_parents(batch, place)
        once, tries = None, 1
        if self._habit.random() < 0.5:
            key = b"key %d" % len(self.asked)
            once, tries = Once("client", key, key), self._habit.randint(2, 5)
        request = Request(batch, once, tries)
        if (
            len(batch) == 1
            and not batch[0].recurring
            and not batch[0].indexes
            and self._ordered
            and self._turn.random() < 0.4
        ):
            batch[0].turn["unique"] = self._turn.choice(UNIQUE_KEYS)
        self._requests.append(request)
        self._story.tell("client", "submits %s", ", ".join(f"{one.name} ({one.script.command})" for one in batch))
        self.send(request)
        if once is not None and self._habit.random() < 0.2:
            # Without patience for the answer.
            self._timeline.after(self._habit.choice((0, 0, 5, 50)), lambda: self.send(request))

    def submit_one(self, one: Asked) -> None:
        """One job that somebody has made up, without a key."""
        self.asked[one.name] = one
        request = Request([one], None)
        self._requests.append(request)
        self._story.tell("client", "submits %s: %s", one.name, one.script)
        self.send(request)

    def send(self, request: Request) -> None:
        request.tries -= 1
        request.open += 1
        for one in request.batch:
            one.undone = False
        specs = tuple(_spec(one) for one in request.batch)
        key = f"{request.by.owner} {specs[0].unique}" if specs[0].unique is not None else None
        free = self._expect_free(key)

        def on_answer(answer: Answer) -> None:
            if key is not None:
                self._check_unique(key, free, answer)
            self._on_submitted(request, answer)

        self._scheduler.call(self._path, Submit(specs, request.by, request.once), on_answer)

    def _expect_free(self, key: str | None) -> int:
        """A submit with a unique key, as it is stored, is sent: its number if no job has the key, and none may get it
        meanwhile; else 0.
        """
        if key is None:
            return 0
        self._sent_keys[key] += 1
        self._open_keys[key] += 1
        holders = self._scheduler.engine.look("SELECT 1 FROM jobs WHERE unique_key = ? AND pending + running > 0", key)
        sure = key not in self._unsure_keys and self._open_keys[key] == 1 and not self._scheduler.engine.in_turn
        return 0 if holders or not sure else self._sent_keys[key]

    def _check_unique(self, key: str, free: int, answer: Answer) -> None:
        """A submit is refused for its key only if a job has it."""
        self._open_keys[key] -= 1
        if not isinstance(answer, Done | Refused | Undone):
            self._unsure_keys.add(key)
        if not isinstance(answer, Refused) or not isinstance(answer.error, UniqueError):
            return
        existing = answer.error.existing
        found = self._scheduler.engine.look("SELECT unique_key FROM jobs WHERE job_id = ?", existing)
        if found not in ([], [(key,)]):
            raise Violation(f"a submit with the key {key} was refused for job {existing}, which has {found}")
        if free and self._sent_keys[key] == free:
            raise Violation(f"a submit with the key {key} was refused for job {existing}, but no job has it")

    def share_queues(self, end_ms: int) -> None:
        """Some queues are shared fairly between the tokens: from the start on, or from or up to a later moment. At some
        moments all tokens want more of such a queue than there is.
        """
        draw = self._crowd
        for name in ("default", *QUEUES) if len(self._callers) > 1 else ():
            start_ms, stop_ms = draw.choice((0, 0, 0, draw.randint(0, end_ms))), draw.randint(0, 2 * end_ms)
            if draw.random() < 0.6:
                self._timeline.at(start_ms, partial(self._share_queue, name, "owner"))
                self._timeline.at(max(start_ms, stop_ms), partial(self._share_queue, name, None))
                for _ in range(draw.randint(1, 2)):
                    self._timeline.at(draw.randint(start_ms, end_ms), partial(self._rush, name))

    def _share_queue(self, name: str, fair: Literal["owner"] | None) -> None:
        """Change it, again and again until that is done."""

        def on_answer(answer: Answer) -> None:
            self._story.tell("client", "shares the queue %s by %s: %s", name, fair, _short(answer))
            if not isinstance(answer, Done):
                self._timeline.after(1_000, lambda: self._share_queue(name, fair))

        self._scheduler.call(self._path, ShareQueue(name, fair, "ann"), on_answer)

    def _rush(self, queue: str) -> None:
        draw = self._crowd
        for by in self._callers:
            kinds = [Policy(), Policy(on_disconnect=OnDisconnect.STOP)][: draw.randint(1, 2)]
            batch = []
            for number in range(len(self.asked) + 1, len(self.asked) + draw.randint(4, 20)):
                one = Asked(f"j{number}", Script(draw.choice((20, 300, 1_500))), by, policy=draw.choice(kinds))
                one.turn = {"queue": queue, "priority": draw.choice((0, 0, 0, 0, 5))}
                batch.append(one)
            self.asked.update({one.name: one for one in batch})
            self._requests.append(request := Request(batch, None))
            self._story.tell("client", "submits %s at once for %s", " ".join(one.name for one in batch), by.owner)
            self.send(request)

    def pause_queue(self) -> None:
        """Pause a queue for a while."""
        name = self._turn.choice(("default", *QUEUES))
        self._story.tell("client", "pauses the queue %s", name)
        self._scheduler.call(self._path, PauseQueue(name, "", "ann"), lambda answer: None)
        self._timeline.after(self._turn.choice((500, 3_000, 9_000)), lambda: self.resume_queue(name))

    def resume_queue(self, name: str) -> None:
        """Resume it, again and again until that is done."""

        def on_answer(answer: Answer) -> None:
            self._story.tell("client", "resumes the queue %s: %s", name, _short(answer))
            if not isinstance(answer, Done):
                self._timeline.after(1_000, lambda: self.resume_queue(name))

        self._scheduler.call(self._path, ResumeQueue(name, "", "ann"), on_answer)

    def resume_queues(self) -> None:
        """Whatever was paused."""
        for name in ("default", *QUEUES):
            self.resume_queue(name)

    def _on_submitted(self, request: Request, answer: Answer) -> None:
        self._story.tell("client", "submit of %s: %s", " ".join(one.name for one in request.batch), _short(answer))
        request.open -= 1
        request.possible |= not isinstance(answer, Undone | Refused)
        if isinstance(answer, Done):
            self._on_acked(request, answer.reply)
        for one in request.batch:
            one.undone = not request.possible and not request.open
        again = request.once is not None and request.tries > 0
        if again and (not isinstance(answer, Done) or self._habit.random() < 0.2):
            self._timeline.after(self._habit.choice((0, 20, 1_000, 3_000)), lambda: self.send(request))
        elif isinstance(answer, Done) and request.once is not None and self._habit.random() < 0.1:
            self._misuse(request.once)
        if self._chance.random() < 0.2:
            self.cancel()

    def _on_acked(self, request: Request, reply: object) -> None:
        if isinstance(reply, Submitted):
            ids = list(range(reply.first, reply.last + 1))
        else:
            assert isinstance(reply, Made)
            ids = list(reply.ids)
        if request.acked and ids != request.acked:
            raise Violation(f"a submit was acked as jobs {request.acked}, and then as {ids}")
        request.acked = ids
        for job_id, one in zip(ids, request.batch, strict=True):
            if one.recurring and one.acked is None:
                self._timeline.after(self._whim.randint(0, 20_000), partial(self._change_schedule, one))
            if one.acked is None and one.hold_ms is not None:
                self._timeline.after(one.hold_ms, partial(self._hold, one))
            if one.acked is None and one.rerun_ms is not None:
                self._timeline.after(one.rerun_ms, partial(self._rerun, one))
            if one.acked is None and one.cancel_ms is not None:
                self._timeline.after(one.cancel_ms, partial(self._cancel_soon, one))
            if one.acked is None:
                self._tasks.on_acked(one)
            one.acked = job_id
            self.jobs[job_id] = one

    def _change_schedule(self, one: Asked) -> None:
        """Pause the schedule of a job, resume it, end it, or edit it; and again after a while."""
        if one.acked is None:
            return  # It was acked, and a restore has lost it.
        job_id, luck = JobId(one.acked), self._whim.random()
        change: PauseSchedule | ResumeSchedule | EndSchedule | EditJob
        if luck < 0.4:
            change, becomes = PauseSchedule(job_id, one.by), "paused"
        elif luck < 0.8:
            change, becomes = ResumeSchedule(job_id, one.by), "scheduled"
        elif luck < 0.9:
            change, becomes = EndSchedule(job_id, one.by, cancel=self._whim.random() < 0.5), "ended"
        else:
            # It is every minute by either; paused it stays what it is.
            schedule = self._whim.choice(("* * * * *", "*/1 * * * *"))
            change, becomes = EditJob(job_id, JobEdit(schedule=schedule), one.by), one.schedule or ""
        before, one.schedule = one.schedule, None

        def on_answer(answer: Answer) -> None:
            self._story.tell("client", "%s: %s", change, _short(answer))
            if isinstance(answer, Done):
                one.schedule = becomes or None
            elif isinstance(answer, Refused | Undone):
                one.schedule = before
            # Whether a change without an answer was made, only the next acked one tells.
            self._timeline.after(self._whim.randint(0, 90_000), lambda: self._change_schedule(one))

        self._scheduler.call(self._path, change, on_answer)

    def _hold(self, one: Asked) -> None:
        """Hold a job, and release it after a while."""
        self._change_hold(one, hold=True)

    def _change_hold(self, one: Asked, *, hold: bool) -> None:
        if one.acked is None:
            return  # It was acked, and a restore has lost it.
        act = (Hold if hold else Release)(JobId(one.acked), one.by, "a reason")
        before, one.held, one.ever_held = one.held, None, True
        one.muddled |= one.holding > 0
        one.holding += 1

        def on_answer(answer: Answer) -> None:
            self._story.tell("client", "%s: %s", act, _short(answer))
            one.holding -= 1
            if not one.muddled and isinstance(answer, Done):
                one.held = hold
            elif not one.muddled and isinstance(answer, Refused | Undone):
                one.held = before
            one.muddled &= one.holding > 0
            if hold or not isinstance(answer, Done):
                pause_ms = self._act.choice((0, 20, 3_000, 15_000))
                self._timeline.after(pause_ms, lambda: self._change_hold(one, hold=False))

        self._scheduler.call(self._path, act, on_answer)

    def _rerun(self, one: Asked) -> None:
        """Run a job again, if it has ended."""
        if one.acked is None or (one.cancel_asked and not one.cancel_acked):
            return
        act = Rerun(JobId(one.acked), one.by)
        # What was answered to a cancel is not so any more, once it runs again.
        was = one.cancel_asked, one.cancel_acked, one.cancel_late
        one.cancel_asked, one.cancel_acked, one.cancel_late = True, False, False

        def on_answer(answer: Answer) -> None:
            self._story.tell("client", "%s: %s", act, _short(answer))
            if isinstance(answer, Done):
                one.reruns += 1
                one.cancel_asked = False
            elif isinstance(answer, Refused | Undone):
                one.cancel_asked, one.cancel_acked, one.cancel_late = was

        self._scheduler.call(self._path, act, on_answer)

    def _misuse(self, used: Once) -> None:
        """Send another job with a key that has been used: it has to be refused."""

        def on_answer(answer: Answer) -> None:
            self._story.tell("client", "another submit with the key of an earlier one: %s", _short(answer))
            if isinstance(answer, Done) or (isinstance(answer, Refused) and not isinstance(answer.error, ReusedError)):
                raise Violation(f"another submit with a used key was answered: {_short(answer)}")

        other = Submit(
            (JobSpec(name="never", command=Script(0).command),), CLIENT, Once(used.caller, used.key, b"other")
        )
        self._scheduler.call(self._path, other, on_answer)

    def _job(self, by: Caller) -> Asked:
        name = f"j{len(self.asked) + 1}"
        lasts_ms = self._chance.choice(_SHORT_MS if self._short else _MIXED_MS)
        one = Asked(name, Script(self._chance.randint(0, lasts_ms)), by, policy=self._policy())
        luck = self._chance.random()
        if luck < 0.15:
            one.script = Script(one.script.lasts_ms, code=self._chance.choice((1, 7)))
        elif luck < 0.22:
            one.script = Script(one.script.lasts_ms, deaf=True)
        elif luck < 0.30:
            one.policy = replace(one.policy, timeout_ms=self._chance.choice((100, 2_000)))
        elif luck < 0.33:
            one.recurring = True
        elif luck < 0.37 and self._poison and sum(job.script.kills is not None for job in self.asked.values()) < 2:
            one.script = Script(self._chance.choice((0, 0, 0, 50)), kills=self._chance.choice(self._poison))
            # One that no crash ends would kill workers for ever.
            one.policy = replace(one.policy, crash_limit=one.policy.crash_limit or 5)
        elif luck < 0.40 and sum(job.script.sticks_ms > 0 for job in self.asked.values()) < 2:
            self._let_stick(one)
        if one.policy.on_disconnect is OnDisconnect.STOP and one.script.kills is None:
            lasts_ms = max(one.script.lasts_ms, self._chance.choice((0, 5_000, 30_000)))
            one.script = replace_script(one.script, lasts_ms=lasts_ms, deaf=self._chance.random() < 0.4)
        if self._family.random() < 0.3:
            one.script = replace_script(one.script, children=self._children())
        if self._family.random() < 0.1:
            one.script = replace_script(one.script, mutes_ms=self._family.randint(0, 1_000))
        if not one.recurring:
            one.times = self._times()
        if self._ordered:
            self._give_turn(one)
        if one.script.kills is None and self._when.random() < 0.1:
            one.cwd = self._when.choice(FOLDERS)
        one.artifacts = self._leaves.random() < SHARE
        if (timeout_ms := one.policy.timeout_ms) is not None and self._when.random() < 0.6:
            before_ms = self._when.choice((1, timeout_ms // 2, timeout_ms - 1))
            one.policy = replace(one.policy, signal=f"USR1@{before_ms}ms")
            if self._warned.random() < 0.4:
                # It is being stopped when that moment comes.
                one.script = replace_script(one.script, lasts_ms=20_000, deaf=True)
                one.cancel_ms = self._warned.randint(0, timeout_ms)
        if not one.recurring and self._act.random() < (0.5 if one.policy.retries else 0.1):
            one.hold_ms = self._act.choice((0, 5, 500, 4_000))
        if not one.recurring and self._act.random() < 0.1 and not (one.script.kills or "deadline_ms" in one.times):
            one.rerun_ms = self._act.choice((50, 1_000, 10_000, 40_000))
        self._tasks.give_array(one)
        self.asked[name] = one
        return one

    def _give_parents(self, batch: Sequence[Asked], place: int) -> None:
        """Let a job wait for some that come before it in its request, or were acked before."""
        draw, one = self._order, batch[place]
        if one.recurring or draw.random() < 0.4:
            return
        placed = [(other, Dependency(number, placed=True)) for number, other in enumerate(batch[:place], 1)]
        known = [
            (other, Dependency(job))
            for job, other in list(self.jobs.items())[-12:]
            if job not in self.removed and other.by is one.by
        ]
        choice = [(other, dependency) for other, dependency in placed + known if not other.recurring]
        chosen = draw.sample(choice, min(len(choice), draw.choice((1, 1, 1, 2, 3))))
        for other, dependency in chosen:
            ends = draw.choice((Ends.OK, Ends.OK, Ends.OK, Ends.ANY, Ends.ANY, Ends.FAILED))
            task = None
            if other.indexes:
                task, ends = self._tasks.choose_part(one, other, ends)
            one.after.append((other.name, task, ends))
            one.waits_for += (replace(dependency, ends=ends, task=task),)

    def _give_turn(self, one: Asked) -> None:
        """Its priority, queue and limits. What never ends would hold its place for ever."""
        draw = self._turn
        if draw.random() < 0.4:
            one.turn["priority"] = draw.choice((-5, 5, 5, 10))
        if draw.random() < 0.3:
            one.turn["queue"] = draw.choice(QUEUES)
        ends = one.script.kills is None and not one.script.sticks_ms and not one.script.children
        if ends and draw.random() < 0.4:
            keys = draw.choice((("db",), ("db",), ("net",), ("db", "net")))
            one.turn["limits"] = {key: self._limits[key] for key in keys}
            if self._strict:
                one.policy = replace(one.policy, on_disconnect=OnDisconnect.STOP)

    def _times(self) -> dict[str, int]:
        """Few jobs have a start time or a deadline, by the scheduler's clock."""
        draw, wall_ms = self._when, self._scheduler.clock.now().wall_ms
        times: dict[str, int] = {}
        if draw.random() < 0.08:
            times["run_at_ms"] = wall_ms + draw.choice((0, 500, 3_000, 15_000))
        elif draw.random() < 0.08:
            times["delay_ms"] = draw.choice((0, 500, 5_000, 15_000))
        if draw.random() < 0.1:
            times["deadline_ms"] = wall_ms + draw.choice((0, 1_000, 4_000, 16_000, 60_000))
        return times

    def _children(self) -> tuple[Child, ...]:
        """Processes beside the main one: some leave its group, some hold its outputs, and one may outlive a KILL."""
        draw = self._family
        children = [
            Child(draw.choice(PLACES), draw.choice((10, 1_000, 60_000)), draw.random() < 0.3, draw.random() < 0.5)
            for _ in range(draw.choice((1, 1, 2, 3)))
        ]
        if self._spoils and draw.random() < 0.5:
            self._spoils -= 1
            children.append(Child(draw.choice(PLACES), 60_000, sticks_ms=draw.choice((700, 12_000, FOREVER))))
        return tuple(children)

    def _let_stick(self, one: Asked) -> None:
        """It will be killed at its timeout or by its lease, if nobody cancels it, and does not end by that."""
        sticks_ms = self._chance.choice((12_000, 25_000, FOREVER))
        one.script = Script(self._chance.choice((2_000, 90_000)), deaf=True, sticks_ms=sticks_ms)
        timeout_ms = self._chance.choice((100, 2_000, None))
        one.policy = replace(one.policy, timeout_ms=timeout_ms, grace_ms=self._chance.choice((0, 300)))

    def _policy(self) -> Policy:
        """Most jobs leave it as it is."""
        policy = Policy()
        if self._chance.random() < 0.3:
            backoff = Backoff(initial_ms=self._chance.choice((0, 100, 2_000)), factor=2)
            policy = replace(policy, retries=self._chance.randint(1, 3), backoff=backoff)
            if self._again.random() < 0.3:
                policy = replace(policy, retry_on=self._again.choice(RETRY_ON))
        if self._chance.random() < 0.15:
            policy = replace(policy, on_lost=OnLost.FAIL)
        if self._careful and self._care.random() < 0.6:
            policy = replace(policy, on_lost=OnLost.FAIL)
        if self._chance.random() < 0.1:
            policy = replace(policy, crash_limit=self._chance.choice((1, 2, 3, None)))
        if self._chance.random() < 0.25:
            policy = replace(policy, on_disconnect=OnDisconnect.STOP)
        return policy

    def cancel(self) -> None:
        """One of the jobs it knows, mostly a young one."""
        known = [job_id for job_id, one in self.jobs.items() if not one.cancel_asked]
        if not known:
            return
        job_id = self._chance.choice(known[-8:])
        if self._sweep.random() < 0.3:
            self._cancel_many(known[-self._sweep.randint(1, 8) :])
            return
        self._cancel(job_id, self.jobs[job_id])

    def _cancel_soon(self, one: Asked) -> None:
        if one.acked is not None and not one.cancel_asked:
            self._cancel(one.acked, one)

    def cancel_one(self, one: Asked) -> None:
        assert one.acked is not None
        self._cancel(one.acked, one)

    def _cancel(self, job_id: int, one: Asked) -> None:
        one.cancel_asked = True

        def on_answer(answer: Answer) -> None:
            self._story.tell("client", "cancel of job %d: %s", job_id, _short(answer))
            if isinstance(answer, Refused) and isinstance(answer.error, NotOwnerError):
                raise Violation(f"job {job_id} was refused to its owner")
            one.cancel_acked = isinstance(answer, Done)
            one.cancel_late |= isinstance(answer, Refused) and answer.error.code == "finished"
            one.cancel_possible |= not isinstance(answer, Undone | Refused)
            # Whoever is told that there is nothing to cancel, or that nothing was done, may ask once more.
            one.cancel_asked = not isinstance(answer, Undone | Refused)

        self._story.tell("client", "cancels job %d", job_id)
        self._scheduler.call(self._path, Cancel(JobId(job_id), one.by), on_answer)

    def _cancel_many(self, jobs: list[int]) -> None:
        """Some jobs by one call, those of the last one's token: each is cancelled, or has ended."""
        by = self.jobs[jobs[-1]].by
        jobs = [job_id for job_id in jobs if self.jobs[job_id].by is by]
        for job_id in jobs:
            self.jobs[job_id].cancel_asked = True

        def on_answer(answer: Answer) -> None:
            self._story.tell("client", "cancel of jobs %s: %s", of_numbers(jobs), _short(answer))
            met = answer.reply.outcomes if isinstance(answer, Done) and isinstance(answer.reply, BulkDone) else {}
            # A restore may have taken some of them back meanwhile.
            unknown = met.get("unknown_job", Spans())
            known = (self.jobs.keys() & unknown) - self.removed
            strange = known or met.keys() - {"done", "ending", "finished", "unknown_job"}
            if isinstance(answer, Done) and (strange or sorted(chain(*met.values())) != sorted(jobs)):
                raise Violation(f"a cancel of the jobs {of_numbers(jobs)} was answered: {_short(answer)}")
            for job_id in self.jobs.keys() & set(jobs):
                one = self.jobs[job_id]
                finished = job_id in met.get("finished", Spans()) or job_id in unknown
                one.cancel_acked = isinstance(answer, Done) and not finished
                one.cancel_late |= finished
                one.cancel_possible |= not isinstance(answer, Undone | Refused) and not finished
                one.cancel_asked = not isinstance(answer, Undone | Refused) and not finished

        self._story.tell("client", "cancels jobs %s", of_numbers(jobs))
        command = Bulk(Action.CANCEL, Selection(of_numbers(jobs)), by, JobId(0))
        self._scheduler.call(self._path, command, on_answer)


def _short(answer: Answer) -> str:
    match answer:
        case Done(Made(ids=ids)):
            return f"job {of_numbers(ids)}"
        case Done(Submitted(first=first, last=last)):
            return f"job {first}" if first == last else f"jobs {first} to {last}"
        case Done(BulkDone(outcomes=outcomes)):
            return f"done, {dict(outcomes)}"
        case Done():
            return "done"
        case Refused(error):
            return f"refused, {error.code}"
        case _:
            return type(answer).__name__.lower()


def _spec(one: Asked) -> JobSpec:
    spec = JobSpec(
        name=one.name,
        command=one.script.command,
        policy=one.policy,
        cwd=one.cwd,
        artifacts=(PATTERN,) if one.artifacts else None,
        schedule="* * * * *" if one.recurring else None,
        after=one.waits_for,
    )
    more = one.times | one.turn
    return replace(spec, **more) if more else spec
