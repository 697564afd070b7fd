"""People who submit and cancel over REST, and what they were told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from tests.sim.jobs import Poison, Script
from tests.sim.network import Path
from tests.sim.scheduler import Answer, Done, Refused, Scheduler, Undone
from tests.sim.story import Story
from zsched.dispatcher.commands import Cancel, Submit
from zsched.model import Backoff, JobId, JobSpec, OnLost, Policy

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
    policy: Policy = field(default_factory=Policy)
    recurring: bool = False


class Client:
    """Remembers every job it asked for and every answer it got."""

    def __init__(
        self, scheduler: Scheduler, path: Path, chance: Random, story: Story, poison: tuple[Poison, ...]
    ) -> None:
        self.asked: dict[str, Asked] = {}
        self.jobs: dict[int, Asked] = {}
        self._scheduler = scheduler
        self._path = path
        self._chance = chance
        self._story = story
        self._poison = poison
        # So that workers ask for runs ahead.
        self._short = chance.random() < 0.4

    def submit(self) -> None:
        """Some jobs in one request: a few, or a crowd of short ones."""
        most = self._chance.choice((4, 20)) if self._short else 4
        batch = [self._job() for _ in range(self._chance.randint(1, most))]
        specs = tuple(
            JobSpec(
                name=one.name,
                command=one.script.command,
                policy=one.policy,
                schedule="* * * * *" if one.recurring else None,
            )
            for one in batch
        )

        def on_answer(answer: Answer) -> None:
            self._story.tell("client", "submit of %s: %s", " ".join(one.name for one in batch), _short(answer))
            for place, one in enumerate(batch):
                if isinstance(answer, Done):
                    assert isinstance(answer.reply, list)
                    one.acked = answer.reply[place]
                    self.jobs[answer.reply[place]] = one
                one.undone = isinstance(answer, Undone | Refused)
            if self._chance.random() < 0.2:
                self.cancel()

        self._story.tell("client", "submits %s", ", ".join(f"{one.name} ({one.script.command})" for one in batch))
        self._scheduler.call(self._path, Submit(specs, "client"), on_answer)

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
        self.asked[name] = one
        return one

    def _policy(self) -> Policy:
        """Most jobs leave it as it is."""
        policy = Policy()
        if self._chance.random() < 0.3:
            backoff = Backoff(initial_ms=self._chance.choice((0, 100, 2_000)), factor=2)
            policy = replace(policy, retries=self._chance.randint(1, 3), backoff=backoff)
        if self._chance.random() < 0.15:
            policy = replace(policy, on_lost=OnLost.FAIL)
        if self._chance.random() < 0.1:
            policy = replace(policy, crash_limit=self._chance.randint(1, 3))
        return policy

    def cancel(self) -> None:
        """One of the jobs it knows, mostly a young one."""
        known = [job_id for job_id, one in self.jobs.items() if not one.cancel_asked]
        if not known:
            return
        job_id = self._chance.choice(known[-8:])
        one = self.jobs[job_id]
        one.cancel_asked = True

        def on_answer(answer: Answer) -> None:
            self._story.tell("client", "cancel of job %d: %s", job_id, _short(answer))
            one.cancel_acked = isinstance(answer, Done)
            one.cancel_possible |= not isinstance(answer, Undone | Refused)
            # Whoever is told that there is nothing to cancel, or that nothing was done, may ask once more.
            one.cancel_asked = not isinstance(answer, Undone | Refused)

        self._story.tell("client", "cancels job %d", job_id)
        self._scheduler.call(self._path, Cancel(JobId(job_id), "client"), on_answer)


def _short(answer: Answer) -> str:
    match answer:
        case Done(reply):
            return f"done, {reply}"
        case Refused(error):
            return f"refused, {error.code}"
        case _:
            return type(answer).__name__.lower()
