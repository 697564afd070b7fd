"""Dialogues about arrays: what callers see of tasks that are not made yet."""

from __future__ import annotations

from tests.unit.world import TEST, World
from zsched.model.arrays import read_array
from zsched.model.types import JobId, JobSpec
from zsched.scheduler.dispatcher.answers import job_state
from zsched.scheduler.dispatcher.commands import Cause, Made, Submit

ARRAY = JobSpec(name="array", command="true", array=read_array("0-1999"))


def submit(world: World, *specs: JobSpec) -> list[JobId]:
    made = world.ask(Submit(specs, TEST))
    assert isinstance(made, Made)
    return list(made.ids)


def why(world: World, job_id: JobId) -> Cause | None:
    return job_state(job_id).read(world.store.reads).cause


def test_an_array_whose_tasks_are_made_after_those_of_others_is_not_held(world: World) -> None:
    *_, last = submit(world, ARRAY, ARRAY, ARRAY)
    cause = why(world, last)
    assert cause is not None
    assert cause.code == "no_capacity"
    world.turn()
    cause = why(world, last)
    assert cause is not None
    assert cause.code == "no_workers"
