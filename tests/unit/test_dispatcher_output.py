"""Dialogues about output that somebody looks at while a run writes it."""

from __future__ import annotations

from tests.unit.world import Peer, World
from zsched.model.limits import WATCH_MS
from zsched.model.types import RunId, StreamName
from zsched.protocol import Log, Watch
from zsched.scheduler.dispatcher.commands import Look


def log(worker: Peer, run: int, offset: int, data: bytes, stream: StreamName = "stdout") -> Log:
    return Log(s=worker.session, run=run, stream=stream, offset=offset, data=data)


def test_a_look_asks_the_runs_worker_and_passes_on_what_it_tells(world: World) -> None:
    w1 = Peer(world).join()
    world.submit_one()
    run_id = w1.take_one()
    world.ask(Look(RunId(run_id), 10, 20))
    watch = world.sent(Watch)
    assert (watch.run, watch.stdout, watch.stderr, watch.for_ms) == (run_id, 10, 20, WATCH_MS)
    told = log(w1, run_id, 10, b"more")
    w1.say(told)
    assert world.dispatcher.outbox.output == [told]


def test_output_without_a_viewer_goes_nowhere(world: World) -> None:
    w1 = Peer(world).join()
    world.submit_one()
    w1.say(log(w1, w1.take_one(), 0, b"unasked"))
    assert world.dispatcher.outbox.output == []


def test_output_of_another_workers_run_goes_nowhere(world: World) -> None:
    w1, w2 = Peer(world, "w1").join(), Peer(world, "w2").join()
    world.submit(2)
    mine, other = w1.take_one(), w2.take_one()
    world.ask(Look(RunId(other), 0, 0))
    world.sent(Watch)
    w1.say(log(w1, other, 0, b"forged"), log(w1, mine, 0, b"unasked"))
    assert world.dispatcher.outbox.output == []


def test_nothing_is_taken_any_more_when_the_look_is_long_ago(world: World) -> None:
    w1 = Peer(world).join()
    world.submit_one()
    run_id = w1.take_one()
    world.ask(Look(RunId(run_id), 0, 0))
    world.sent(Watch)
    world.wait(3 * WATCH_MS, w1)
    w1.say(log(w1, run_id, 0, b"late"))
    assert world.dispatcher.outbox.output == []


def test_look_at_a_run_that_does_not_run_sends_nothing(world: World) -> None:
    w1 = Peer(world).join()
    world.ask(Look(RunId(7), 0, 0))
    world.submit_one()
    run_id = w1.take_one()
    w1.finish(run_id)
    world.ask(Look(RunId(run_id), 0, 0))
    assert world.sent() == []
