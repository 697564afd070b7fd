"""Submits that are done once, as the dispatcher decides: with time in the test's hands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.world import TEST, TIMEOUT_MS, World
from zsched.model.limits import FORGET_INTERVAL_MS, FORGET_KEYS_MAX, IDEMPOTENCY_MS
from zsched.model.types import JobId, JobSpec
from zsched.scheduler.dispatcher import Dispatcher, Settings
from zsched.scheduler.dispatcher.commands import FullError, Made, Once, RefusedError, ReusedError, Submit
from zsched.store.contract import Submitted

SPEC = JobSpec(name="j", command="true")


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.end()


def submit(key: bytes = b"k", *, caller: str = "ann", digest: bytes = b"d", count: int = 1) -> Submit:
    return Submit((SPEC,) * count, TEST, Once(caller, key, digest))


def ids(reply: object) -> list[JobId]:
    assert isinstance(reply, Made)
    return list(reply.ids)


def kept(world: World) -> int:
    return int(world.engine.execute("SELECT count(*) FROM idempotency")[0][0])


def jobs(world: World) -> int:
    return int(world.engine.execute("SELECT count(*) FROM jobs")[0][0])


def test_the_same_request_again_is_answered_with_what_it_stored(world: World) -> None:
    first = ids(world.ask(submit(count=3)))
    assert first == [1, 2, 3]
    assert world.ask(submit(count=3)) == Submitted(b"d", JobId(1), JobId(3), 3)
    world.restart()
    world.jump(IDEMPOTENCY_MS - 1)
    assert world.ask(submit(count=3)) == Submitted(b"d", JobId(1), JobId(3), 3)
    assert jobs(world) == 3
    assert len(world.engine.execute("SELECT 1 FROM runs")) == 3


def test_two_in_one_turn_are_one(world: World) -> None:
    replies: list[object] = []

    def both() -> None:
        for _ in range(2):
            with world.store.savepoint():
                reply = world.dispatcher.on_command(submit(), world.now)
                replies.append(reply)

    world.turn(both)
    assert [ids(replies[0]), replies[1]] == [[1], Submitted(b"d", JobId(1), JobId(1), 1)]
    assert jobs(world) == 1


def test_another_request_with_the_key_is_refused_and_changes_nothing(world: World) -> None:
    world.ask(submit())
    with pytest.raises(ReusedError) as caught:
        world.ask(submit(digest=b"e"))
    assert caught.value.code == "idempotency_key_reused"
    assert world.ask(submit()) == Submitted(b"d", JobId(1), JobId(1), 1)
    assert jobs(world) == 1


def test_a_key_belongs_to_its_caller(world: World) -> None:
    assert ids(world.ask(submit())) == [1]
    assert ids(world.ask(submit(caller="bob", digest=b"e"))) == [2]
    assert ids(world.ask(submit(b"l"))) == [3]
    assert ids(world.ask(Submit((SPEC,), TEST))) == [4]
    assert ids(world.ask(Submit((SPEC,), TEST))) == [5]


def test_a_submit_that_a_turn_did_not_store_is_done_when_it_comes_again(world: World) -> None:
    world.failing_turn(lambda: world.dispatcher.on_command(submit(), world.now))
    assert kept(world) == 0
    assert ids(world.ask(submit())) == [1]


def test_a_replay_needs_no_room_and_a_refused_submit_leaves_no_key(world: World) -> None:
    world.dispatcher = Dispatcher(
        world.store, Settings(epoch=2, timeout_ms=TIMEOUT_MS, new_token=lambda: "s", pending_max=2), world.now
    )
    assert ids(world.ask(submit(b"k", count=2))) == [1, 2]
    assert world.ask(submit(b"k", count=2)) == Submitted(b"d", JobId(1), JobId(2), 2)
    for _ in range(2):
        with pytest.raises(FullError):
            world.ask(submit(b"l"))
    assert kept(world) == 1
    world.cancel(JobId(1))
    assert ids(world.ask(submit(b"l"))) == [3]


def test_after_seven_days_the_key_is_a_new_one(world: World) -> None:
    world.ask(submit())
    world.jump(IDEMPOTENCY_MS)
    # Before any turn that could have dropped it; another request may have it too.
    assert ids(world.ask(submit(digest=b"e"))) == [2]
    assert world.ask(submit(digest=b"e")) == Submitted(b"e", JobId(2), JobId(2), 1)
    assert kept(world) == 1
    with pytest.raises(RefusedError):
        world.ask(submit())


def test_expired_keys_are_dropped_within_a_minute_and_the_others_stay(world: World) -> None:
    world.ask(submit(b"old"))
    world.jump(IDEMPOTENCY_MS - 1)
    world.ask(submit(b"young"))
    world.wait(FORGET_INTERVAL_MS + 1_000)
    assert [row[0] for row in world.engine.execute("SELECT idem_key FROM idempotency")] == [b"young"]
    assert jobs(world) == 2


def test_many_expired_keys_are_dropped_turn_by_turn(world: World) -> None:
    for number in range(2):
        world.by_hand(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) INSERT INTO idempotency"
            " SELECT 'ann', CAST(? || i AS BLOB), x'00', 1, 1, 1, ? FROM n",
            FORGET_KEYS_MAX,
            f"{number}.",
            world.wall_ms - IDEMPOTENCY_MS,
        )
    world.ask(submit())
    left = [kept(world)]
    for _ in range(2):
        world.turn()
        left.append(kept(world))
    assert left == [FORGET_KEYS_MAX + 1, 1, 1]
    # Then it is left alone for a minute.
    world.by_hand("UPDATE idempotency SET made_ms = ?", world.wall_ms - IDEMPOTENCY_MS)
    world.wait(FORGET_INTERVAL_MS - 1_000)
    assert kept(world) == 1
    world.wait(2_000)
    assert kept(world) == 0
