"""Dialogues with workers that hold runs of other databases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.world import TIMEOUT_MS, Peer, World
from zsched.model.limits import FOREIGN_DATABASES_MAX, FOREIGN_NAMED_MAX
from zsched.model.records import ForeignDecision
from zsched.model.types import WorkerId
from zsched.protocol import Cancel, Foreign, Heartbeat, WorkerBye
from zsched.scheduler.dispatcher.commands import DecideForeign, NotFoundError
from zsched.store.contract import Restoration

KEEP, DISCARD = ForeignDecision.KEEP, ForeignDecision.DISCARD


@pytest.fixture
def world() -> Iterator[World]:
    opened = World()
    yield opened
    opened.end()


def stranger(world: World, name: str = "w1", *held: Foreign, slots: int = 2) -> Peer:
    """A registered worker that holds runs of database d1 and is ready for one more, before it gets anything."""
    peer = Peer(world, name, slots=slots)
    peer.can = ("foreign",)
    peer.foreign = held or (Foreign("d1", (5, 6), results=1, finished=(7,)),)
    peer.db = world.store.identity
    answer = peer.register()
    assert (answer.keep, answer.kill) == ((), ())
    peer.foreign = tuple(Foreign(one.db, one.running, one.ending, one.results) for one in peer.foreign)
    peer.ready(window=1)
    return peer


def decide(world: World, decision: ForeignDecision, name: str = "w1") -> None:
    world.ask(DecideForeign(WorkerId(name), decision, "user:ann at here"))


def rows(world: World) -> list[tuple[Any, ...]]:
    statement = "SELECT worker_id, db, running, results, decision FROM foreign_runs ORDER BY worker_id, db"
    return world.engine.execute(statement)


def events(world: World) -> list[tuple[str, str]]:
    return world.engine.execute("SELECT became, detail FROM events WHERE became LIKE 'foreign%' ORDER BY event_id")


def test_foreign_runs_are_neither_kept_nor_killed_and_block_their_worker(world: World) -> None:
    world.submit_one()
    w1 = stranger(world)
    assert rows(world) == [("w1", "d1", 2, 1, None)]
    assert world.sent_to(w1.peer) == []
    ack = w1.beat()
    assert (ack.kill, ack.cancel, ack.discard) == ((), (), ())
    world.wait(3 * TIMEOUT_MS, w1)
    assert w1.take() == []
    # Another worker is not concerned.
    w2 = Peer(world, "w2").join()
    assert len(w2.take()) == 1


def test_runs_that_a_register_lists_under_another_database_are_foreign(world: World) -> None:
    w1 = Peer(world)
    w1.can, w1.db, w1.held = ("foreign",), "d1", {5: "running", 7: "finished"}
    answer = w1.register()
    assert (answer.keep, answer.kill, answer.discard) == ((), (), ())
    assert rows(world) == [("w1", "d1", 1, 1, None)]


def test_a_worker_gets_work_when_its_foreign_runs_have_ended(world: World) -> None:
    world.submit_one()
    w1 = stranger(world)
    w1.foreign = (Foreign("d1", (6,), results=2),)
    w1.beat()
    assert w1.take() == []
    # Results alone hold nothing back: they wait on the worker's disk.
    w1.foreign = (Foreign("d1", results=3),)
    w1.beat()
    assert len(w1.take()) == 1
    assert rows(world) == [("w1", "d1", 0, 3, None)]
    w1.foreign = ()
    w1.beat()
    assert rows(world) == []
    assert [became for became, _ in events(world)] == ["foreign_found", "foreign_gone"]


def test_kept_foreign_runs_go_on_while_new_runs_start(world: World) -> None:
    world.submit(2)
    w1 = stranger(world)
    decide(world, KEEP)
    # As many as it asks for.
    assert len(w1.take()) == 1
    assert rows(world) == [("w1", "d1", 2, 1, "keep")]
    decide(world, KEEP)
    found = [(became, detail) for became, detail in events(world) if became != "foreign_found"]
    assert found == [("foreign_keep", "w1: 2 runs and 1 result of database d1")]


def test_a_decision_outlives_the_scheduler(world: World) -> None:
    w1 = stranger(world)
    decide(world, KEEP)
    world.restart()
    world.submit_one()
    again = w1.again(incarnation=w1.incarnation)
    again.can, again.foreign = w1.can, w1.foreign
    again.register()
    again.ready(window=1)
    assert len(again.take()) == 1


def test_a_decision_is_not_about_another_database(world: World) -> None:
    w1 = stranger(world)
    decide(world, KEEP)
    w1.foreign = (*w1.foreign, Foreign("d3", (1,)))
    w1.beat()
    world.submit_one()
    assert w1.take() == []


def test_discarded_runs_are_named_and_block_dispatch_until_they_are_gone(world: World) -> None:
    world.submit_one()
    w1 = stranger(world)
    decide(world, DISCARD)
    [told] = world.sent_to(w1.peer)
    assert isinstance(told, Cancel)
    assert (told.runs, told.discard) == ((), ("d1",))
    w1.foreign = (Foreign("d1", ending=(5, 6)),)
    assert w1.beat().discard == ("d1",)
    assert w1.take() == []
    w1.foreign = ()
    assert w1.beat().discard == ()
    assert len(w1.take()) == 1


def test_absent_worker_learns_later_that_its_runs_are_discarded(world: World) -> None:
    w1 = stranger(world)
    held = w1.foreign
    world.wait(2 * TIMEOUT_MS)
    decide(world, DISCARD)
    again = w1.again(incarnation=w1.incarnation)
    again.can, again.foreign = w1.can, held
    assert again.register().discard == ("d1",)


def test_a_predecessors_runs_are_discarded_before_anything_is_dispatched(world: World) -> None:
    w0 = Peer(world, slots=2)
    w0.can = ("foreign",)
    w0.join()
    world.submit(2)
    first, second = w0.take()
    w0.start(first, second)
    before = world.store.identity
    world.store.begin()
    world.store.succeed("restored", Restoration(now_ms=world.wall_ms))
    world.store.commit()
    world.restart()
    w1 = w0.again(incarnation=w0.incarnation)
    w1.can, w1.held = w0.can, {first: "running", second: "finished"}
    answer = w1.register()
    assert (answer.db, answer.keep, answer.kill, answer.discard) == ("restored", (), (), (before,))
    w1.held, w1.foreign = {}, (Foreign(before, ending=(first,)),)
    w1.ready(window=2)
    assert w1.beat().discard == (before,)
    assert w1.take() == []
    w1.foreign = ()
    w1.beat()
    # Its own tasks run again, under new numbers.
    assert len(w1.take()) == 2


def test_when_the_old_database_returns_its_runs_go_on(world: World) -> None:
    w0 = Peer(world, slots=3)
    w0.can = ("foreign",)
    w0.join()
    world.submit(3)
    first, second, third = w0.take()
    w0.start(first, second, third)
    again = w0.again(incarnation=w0.incarnation)
    again.can, again.db = w0.can, "d2"
    again.held = {first: "running"}
    again.foreign = (Foreign(world.store.identity, (first, second), results=1, finished=(third,)),)
    answer = again.register()
    assert (answer.keep, answer.kill, answer.discard) == ((first, second), (), ())
    assert rows(world) == [("w1", "d2", 1, 0, None)]
    again.held = {first: "running", second: "running", third: "finished"}
    assert again.finish(third) == "stored"


def test_discarded_run_of_the_old_database_is_lost_and_never_pending_again(world: World) -> None:
    """It has run: its own scheduler may not know that, and another start under its number would be the second."""
    w0 = Peer(world, slots=2)
    w0.can = ("foreign",)
    w0.join()
    job = world.submit_one()
    run = w0.take_one()
    again = w0.again(incarnation=w0.incarnation)
    again.can, again.db = w0.can, "d2"
    again.foreign = (Foreign(world.store.identity, ended=(run,)),)
    again.register()
    assert world.states(job) == ["failed/worker_lost", "pending"]
    assert rows(world) == []


def test_a_discarded_run_that_is_ending_is_held_until_it_is_gone(world: World) -> None:
    """Another run of a task that stops at a disconnect must not start before."""
    w0 = Peer(world, slots=2)
    w0.can = ("foreign",)
    w0.join()
    job = world.submit_one()
    run = w0.take_one()
    again = w0.again(incarnation=w0.incarnation)
    again.can, again.db = w0.can, "d2"
    again.foreign = (Foreign(world.store.identity, ending=(run,)),)
    assert again.register().keep == (run,)
    again.foreign, again.held = (), {run: "running"}
    again.beat(window=0)
    assert world.states(job) == ["running"]
    again.held = {}
    again.beat(window=0)
    assert world.states(job) == ["failed/worker_lost", "pending"]


def test_a_worker_that_can_not_keep_foreign_runs_has_to_wait_for_their_end(world: World) -> None:
    w1 = Peer(world)
    w1.db, w1.held = "d1", {5: "running", 7: "finished"}
    w1.say(w1.introduction())
    refused = w1.refused()
    assert (refused.code, refused.fatal) == ("E_BUSY", False)
    assert "zsched foreign discard w1" in refused.detail
    assert rows(world) == [("w1", "d1", 1, 1, None)]
    w1.held = {5: "finished", 7: "finished"}
    assert w1.register().kill == (5, 7)


def test_a_worker_that_can_not_keep_foreign_runs_is_let_in_to_kill_them(world: World) -> None:
    w1 = Peer(world)
    w1.db, w1.held = "d1", {5: "running"}
    w1.say(w1.introduction())
    w1.refused()
    decide(world, DISCARD)
    world.wait(2_000)
    answer = w1.register()
    assert (answer.kill, answer.keep) == ((5,), ())


def test_there_is_something_to_decide(world: World) -> None:
    Peer(world).join()
    with pytest.raises(NotFoundError):
        decide(world, KEEP)


def test_a_worker_that_leaves_takes_its_processes_along(world: World) -> None:
    w1 = stranger(world)
    w1.say(WorkerBye(s=w1.session, reason="shutdown"))
    assert rows(world) == [("w1", "d1", 0, 1, None)]


def test_what_could_not_be_stored_is_stored_by_the_next_heartbeat(world: World) -> None:
    w1 = stranger(world)
    w1.foreign = (Foreign("d1", (6,), results=1),)
    beat = Heartbeat(s=w1.session, seq=9, n=0, window=1, ahead=0, foreign=w1.foreign)
    world.failing_turn(lambda: world.dispatcher.on_frame(w1.peer, beat, world.now))
    assert rows(world) == [("w1", "d1", 2, 1, None)]
    w1.beat()
    assert rows(world) == [("w1", "d1", 1, 1, None)]


@pytest.mark.parametrize("decision", [KEEP, DISCARD])
def test_decision_between_a_failed_turn_and_a_heartbeat_dispatches_nothing(
    world: World, decision: ForeignDecision
) -> None:
    world.submit_one()
    w1 = stranger(world)
    world.failing_turn()
    decide(world, decision)
    assert world.sent_to(w1.peer) == []
    # What the worker holds is known again.
    ack = w1.beat()
    assert ack.discard == (("d1",) if decision is DISCARD else ())
    assert len(w1.take()) == (1 if decision is KEEP else 0)


def test_a_decision_after_a_failed_turn_waits_for_the_workers_next_list(world: World) -> None:
    world.submit_one()
    w1 = stranger(world, "w1", Foreign("d1", ending=(5,)))
    world.failing_turn()
    decide(world, KEEP)
    # A discarded run still lives there.
    assert w1.take() == []
    w1.foreign = ()
    w1.beat()
    assert len(w1.take()) == 1


def test_heartbeats_without_news_write_nothing(world: World) -> None:
    w1 = stranger(world)
    w1.beat()
    before = world.engine.execute("SELECT * FROM foreign_runs"), events(world)
    changes = world.engine.changes()
    w1.beat()
    # Its own `last_seen` alone.
    assert world.engine.changes() - changes <= 1
    assert (world.engine.execute("SELECT * FROM foreign_runs"), events(world)) == before


def test_lists_of_a_worker_are_bounded(world: World) -> None:
    held = tuple(Foreign(f"d{number}", tuple(range(1, 201))) for number in range(40))
    stranger(world, "w1", *held)
    assert len(rows(world)) == 16
    assert len(world.store.foreign.of(WorkerId("w1"))[0].runs) == FOREIGN_NAMED_MAX


def test_runs_of_the_last_database_are_listed_though_there_are_many_others(world: World) -> None:
    w1 = Peer(world)
    w1.can, w1.db, w1.held = ("foreign",), "last", {5: "running"}
    w1.foreign = tuple(Foreign(f"d{number:02}", results=1) for number in range(FOREIGN_DATABASES_MAX))
    w1.register()
    found = rows(world)
    assert len(found) == FOREIGN_DATABASES_MAX
    assert ("w1", "last", 1, 0, None) in found
