"""People who submit, cancel and change schedules over REST, and what they were told."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from dataclasses import replace as replace_script
from functools import partial
from itertools import chain
from random import Random
from typing import Final

from msgspec.structs import replace

from tests.sim.jobs import FOREVER, PLACES, Child, Poison, Script
from tests.sim.network import Path
from tests.sim.scheduler import Answer, Done, Refused, Scheduler, Undone
from tests.sim.story import Story
from tests.sim.timeline import Timeline
from tests.sim.violation import Violation
from zsched.model.access import Caller
from zsched.model.backoff import Backoff
from zsched.model.spans import Spans, of_numbers
from zsched.model.spec import JobEdit
from zsched.model.types import JobId, JobSpec, OnDisconnect, OnLost, Policy
from zsched.scheduler.dispatcher.commands import (
    Action,
    Bulk,
    BulkDone,
    Cancel,
    EditJob,
    EndSchedule,
    Made,
    NotOwnerError,
    Once,
    PauseSchedule,
    ResumeSchedule,
    ReusedError,
    Selection,
    Submit,
)
from zsched.store.contract import Submitted

# It may act on its own jobs only.
CLIENT: Final = Caller(owner="token:client", actor="client", all_jobs=False)

# The folders that hosts have, each one of them.
FOLDERS: Final = ("/even", "/odd")

# How long jobs take at most, each as likely as the next.
_MIXED_MS: Final = (1, 20, 90, 300, 1_500, 5_000, 12_000, 90_000)
_SHORT_MS: Final = (*(1, 2, 5, 10) * 3, 90, 1_500, 5_000)


@dataclass(slots=True)
class Asked:
    """One job that somebody asked for, by its unique name. `acked` is its id once the client read it."""

    name: str
    script: Script
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
    # Its start time and its deadline, as fields of JobSpec.
    times: dict[str, int] = field(default_factory=dict)
    recurring: bool = False
    # What was acked of its schedule; None while a change is under way, for it may have been done.
    schedule: str | None = "scheduled"


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
            one.schedule = None
        self.jobs = {job: one for job, one in self.jobs.items() if job in jobs}
        for request in self._requests:
            if not set(request.acked) <= jobs:
                request.acked = []

    def submit(self) -> None:
        """Some jobs in one request: a few, or a crowd of short ones."""
        most = self._chance.choice((4, 20)) if self._short else 4
        batch = [self._job() for _ in range(self._chance.randint(1, most))]
        once, tries = None, 1
        if self._habit.random() < 0.5:
            key = b"key %d" % len(self.asked)
            once, tries = Once("client", key, key), self._habit.randint(2, 5)
        request = Request(batch, once, tries)
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
        self._scheduler.call(
            self._path, Submit(specs, CLIENT, request.once), lambda answer: self._on_submitted(request, answer)
        )

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
            one.acked = job_id
            self.jobs[job_id] = one

    def _change_schedule(self, one: Asked) -> None:
        """Pause the schedule of a job, resume it, end it, or edit it; and again after a while."""
        if one.acked is None:
            return  # It was acked, and a restore has lost it.
        job_id, luck = JobId(one.acked), self._whim.random()
        change: PauseSchedule | ResumeSchedule | EndSchedule | EditJob
        if luck < 0.4:
            change, becomes = PauseSchedule(job_id, CLIENT), "paused"
        elif luck < 0.8:
            change, becomes = ResumeSchedule(job_id, CLIENT), "scheduled"
        elif luck < 0.9:
            change, becomes = EndSchedule(job_id, CLIENT, cancel=self._whim.random() < 0.5), "ended"
        else:
            # It is every minute by either; paused it stays what it is.
            schedule = self._whim.choice(("* * * * *", "*/1 * * * *"))
            change, becomes = EditJob(job_id, JobEdit(schedule=schedule), CLIENT), one.schedule or ""
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

    def _job(self) -> Asked:
        name = f"j{len(self.asked) + 1}"
        lasts_ms = self._chance.choice(_SHORT_MS if self._short else _MIXED_MS)
        one = Asked(name, Script(self._chance.randint(0, lasts_ms)), policy=self._policy())
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
        if one.script.kills is None and self._when.random() < 0.1:
            one.cwd = self._when.choice(FOLDERS)
        if (timeout_ms := one.policy.timeout_ms) is not None and self._when.random() < 0.6:
            before_ms = self._when.choice((1, timeout_ms // 2, timeout_ms - 1))
            one.policy = replace(one.policy, signal=f"USR1@{before_ms}ms")
        self.asked[name] = one
        return one

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
        self._scheduler.call(self._path, Cancel(JobId(job_id), CLIENT), on_answer)

    def _cancel_many(self, jobs: list[int]) -> None:
        """Some jobs by one call: each is cancelled, or has ended."""
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
        command = Bulk(Action.CANCEL, Selection(of_numbers(jobs)), CLIENT, JobId(0))
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
        schedule="* * * * *" if one.recurring else None,
    )
    return replace(spec, **one.times) if one.times else spec
