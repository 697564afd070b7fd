"""Dialogues about jobs with variables of their own, secret ones too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.world import TEST, Peer, Poller, World
from zsched.model.limits import COMMAND_BYTES_MAX, ENV_BYTES_MAX, FRAME_TO_WORKER_BYTES_MAX
from zsched.model.types import JobSpec
from zsched.protocol import Run, pack
from zsched.scheduler.dispatcher.commands import Made, Submit

ALL = ("env", "secret_env", "user")


def unseal(name: str, sealed: str) -> str:
    """A lock that is easily picked."""
    if not sealed.startswith("sealed "):
        raise ValueError(f"{name} was sealed by somebody else")
    return sealed.removeprefix("sealed ")


@pytest.fixture
def world() -> Iterator[World]:
    opened = World(unseal=unseal)
    yield opened
    opened.end()


def submit(world: World, **fields: object) -> int:
    reply = world.ask(Submit((JobSpec(name="job", command="true", **fields),), TEST))  # type: ignore[arg-type]
    assert isinstance(reply, Made)
    return reply.ids[0]


def able(world: World, name: str = "w1", *can: str) -> Peer:
    peer = Peer(world, name)
    peer.can = can or ALL
    return peer.join()


def test_a_worker_gets_variables_with_the_secret_ones_opened(world: World) -> None:
    w1 = able(world)
    submit(world, env={"A": "1"}, secret_env={"B": "sealed correct horse"})
    order = w1.orders[w1.take_one()]
    assert (order.env, order.secret_env) == ({"A": "1"}, {"B": "correct horse"})


@pytest.mark.parametrize(
    ("can", "fields"),
    [
        (("env", "user"), {"secret_env": {"B": "sealed correct horse"}}),
        (("secret_env", "user"), {"env": {"A": "1"}}),
        (("env", "secret_env"), {"user": "alice"}),
    ],
)
def test_a_worker_gets_nothing_that_it_does_not_know_of(
    world: World, can: tuple[str, ...], fields: dict[str, object]
) -> None:
    able(world, "w1", *can)
    job_id = submit(world, **fields)
    assert world.states(job_id) == ["pending"]  # type: ignore[arg-type]


def test_a_worker_that_polls_gets_variables_and_never_secrets(world: World) -> None:
    poller = Poller(world, "poller", slots=2, can=ALL).register()
    secret = submit(world, secret_env={"B": "sealed correct horse"})
    plain = submit(world, env={"A": "1"})
    claimed = poller.next_run()
    assert (claimed.job_id, claimed.env, claimed.secret_env) == (plain, {"A": "1"}, None)
    assert poller.next() is None
    assert world.states(secret) == ["pending"]  # type: ignore[arg-type]


def test_no_frame_is_sent_when_no_secret_of_a_claim_can_be_opened(world: World) -> None:
    w1 = able(world)
    bad = submit(world, secret_env={"B": "damaged"})
    world.sent()
    assert world.states(bad) == ["failed/quarantined"]  # type: ignore[arg-type]
    good = submit(world, secret_env={"B": "sealed correct horse"})
    assert w1.orders[w1.take_one()].job == good


def test_a_secret_that_can_not_be_opened_fails_its_run_and_no_other(world: World) -> None:
    w1 = able(world)
    specs = [
        JobSpec(name="job", command="true", secret_env={"B": sealed}) for sealed in ("damaged", "sealed correct horse")
    ]
    reply = world.ask(Submit(tuple(specs), TEST))
    assert isinstance(reply, Made)
    bad, good = reply.ids
    assert w1.orders[w1.take_one()].job == good
    assert world.states(bad) == ["failed/quarantined"]
    assert world.runs(bad)[0].detail == "B was sealed by somebody else"
    # And its place is free.
    w1.quiet_beat()
    submit(world)
    assert len(w1.take()) == 1


def test_runs_with_the_largest_commands_and_variables_fit_their_frames(world: World) -> None:
    w1 = Peer(world, slots=100)
    w1.can = ALL
    w1.join()
    large = JobSpec(name="job", command="x" * COMMAND_BYTES_MAX, env={"A": "x" * (ENV_BYTES_MAX - 3)})
    world.ask(Submit((large,) * 100, TEST))
    # One turn hands out no more than CLAIM_BYTES_MAX, and the next comes at once.
    assert world.next_tick_ms == world.mono_ms
    world.turn()
    frames = [frame for frame in world.sent_to(w1.peer) if isinstance(frame, Run)]
    assert sum(len(frame.runs) for frame in frames) == 100
    assert all(len(pack(frame)) < FRAME_TO_WORKER_BYTES_MAX for frame in frames)
