"""Dialogues with an agent whose scheduler has another database than before."""

from __future__ import annotations

from msgspec.structs import replace

from tests.unit.test_agent import SLOTS, Dialogue, acked, ready, register, registered, result, run_frame, snapshot
from zsched.protocol import Cancel, Foreign, Heartbeat, HeartbeatAck, Held, Result
from zsched.worker import messages
from zsched.worker.messages import Ended, ForeignRuns, Session, State

ANSWER = snapshot("d2", foreign=(ForeignRuns("d1", (1,), results=1, finished=(2,)),))


def away() -> Dialogue:
    """An agent that holds a run and a result for d1, registered with d2, whose guard has set them aside."""
    d = Dialogue((Held(1, "running"), Held(2, "finished")), (result(2),), db="d1")
    d.wait(0)
    d.says(register(Held(1, "running"), Held(2, "finished"), db="d1"))
    d.hear(registered(db="d2"))
    d.orders(Session("d2"))
    return d


def beat(seq: int, window: int, *foreign: Foreign, session: str = "s1", runs: tuple[Held, ...] = ()) -> Heartbeat:
    return Heartbeat(s=session, seq=seq, n=0, window=window, ahead=0, runs=runs, foreign=foreign)


def test_foreign_runs_go_on_and_their_results_are_not_reported() -> None:
    d = away()
    d.says(ready(window=0))
    d.guard(ANSWER)
    # One of the slots is taken. Nothing is dropped, and no result is sent.
    d.says(beat(1, SLOTS - 1, Foreign("d1", (1,), results=1)))
    d.orders()
    d.guard(State("d2", (ForeignRuns("d1", results=2, finished=(1, 2)),)))
    d.says(beat(2, 128, Foreign("d1", results=2)))
    d.orders()


def test_a_later_register_lists_what_is_held_for_other_databases() -> None:
    d = away()
    d.guard(ANSWER)
    d.sent()
    d.agent.on_disconnected(d.now)
    d.guard(messages.Unstarted((), withdrawn=True))
    d.wait(0)
    d.says(replace(register(db="d2"), foreign=(Foreign("d1", (1,), results=1, finished=(2,)),)))
    d.orders(Session("d2", lost=True))


def test_guard_messages_from_before_a_change_are_not_about_new_runs() -> None:
    d = away()
    d.guard(ANSWER)
    d.sent()
    d.moves_to(registered("s2", db="d1", keep=(1,)))
    d.orders(Session("d1"))
    # A run of d2 with the same number, which ended before the guard knew.
    d.guard(Ended((result(1),)), messages.Began(1, 1, 1), Ended(gone=(1,)), State("d1", stuck=(1,)))
    d.says()
    d.guard(snapshot("d1", (1,), (result(2),), ()))
    [first, second] = d.sent()
    assert first == beat(3, 128, session="s2", runs=(Held(1, "running"), Held(2, "finished")))
    assert second == Result(s="s2", results=(result(2),))


def test_results_found_before_a_change_are_not_those_of_new_runs() -> None:
    """The agent holds nothing: the guard could not read the results of d1 until now."""
    d = Dialogue(db="d1")
    d.wait(0)
    d.sent()
    d.hear(registered(db="d2"))
    d.sent()
    d.hear(run_frame(7))
    d.guard(Ended((result(7),), found=True))
    assert not [frame for frame in d.sent() if isinstance(frame, Result)]


def test_when_the_old_database_returns_its_runs_are_held_again() -> None:
    d = away()
    d.guard(snapshot("d2", foreign=(ForeignRuns("d1", (1,), leases=((1, 10_000),)),)))
    d.sent()
    d.moves_to(registered("s2", db="d1", keep=(1,)))
    d.orders(Session("d1"), Session("d1", heard_ms=d.mono_ms))
    d.guard(snapshot("d1", (1,)), Ended((result(1),)))
    assert d.sent()[-1] == Result(s="s2", results=(result(1),))
    d.hear(acked(1, session="s2"))
    d.orders(messages.Forget((1,)))


def test_answer_to_a_register_before_a_change_of_database_is_refused() -> None:
    d = away()
    # The agent stood still. Its last register is answered by a scheduler with d1, but d2's has discarded its result.
    d.hear(Cancel(s="s1", ep=1, runs=(), discard=("d1",)))
    d.sent()
    d.hear(registered("s2", db="d1", keep=(1,)))
    d.orders(Session("d2", ("d1",)), Session("d2", lost=True))
    d.guard(snapshot("d2", foreign=(ForeignRuns("d1", ending=(1,), ended=(2,)),)))
    d.guard(messages.Unstarted((), withdrawn=True))
    d.wait(0)
    d.says(replace(register(db="d2"), foreign=(Foreign("d1", ending=(1,), ended=(2,)),)))


def test_no_lease_of_a_foreign_run_is_renewed_and_none_sets_the_pace() -> None:
    d = Dialogue((Held(1, "running"),), db="d1", leases=((1, 1_000),))
    d.wait(0)
    d.sent()
    d.hear(registered(db="d2"))
    d.orders(Session("d2"))
    d.guard(snapshot("d2", foreign=(ForeignRuns("d1", (1,), leases=((1, 1_000),)),)))
    d.hear(HeartbeatAck(s="s1", ep=1, seq=1))
    d.orders()
    d.sent()
    d.wait(1_000)
    d.says()


def test_a_result_that_has_gone_from_the_disk_is_not_held_for_ever() -> None:
    d = away()
    d.guard(ANSWER)
    d.sent()
    d.moves_to(registered("s2", db="d1", keep=(1,)))
    d.guard(snapshot("d1", (1,)))
    d.sent()
    d.wait(5_000)
    [again] = d.sent()
    assert isinstance(again, Heartbeat)
    assert again.runs == (Held(1, "running"),)


def test_run_that_ended_before_the_guard_saw_the_change_is_released() -> None:
    d = away()
    d.guard(ANSWER)
    d.sent()
    d.moves_to(registered("s2", db="d1", keep=(1,)))
    # Run 1 was discarded a moment ago, and run 2 has its result.
    d.guard(snapshot("d1", (), (result(2),), ()))
    d.sent()
    d.wait(5_000)
    assert Held(1, "running") not in [held for frame in d.sent() if isinstance(frame, Heartbeat) for held in frame.runs]


def test_discarded_run_is_held_until_it_is_gone_when_its_database_returns() -> None:
    """Its scheduler must not start another before."""
    d = away()
    d.guard(snapshot("d2", foreign=(ForeignRuns("d1", ending=(1,)),)))
    d.sent()
    d.moves_to(registered("s2", db="d1", keep=(1,)))
    d.guard(snapshot("d1", (1,), (), (), discarded=(1,)))
    [beat] = [frame for frame in d.sent() if isinstance(frame, Heartbeat)]
    assert beat.runs == (Held(1, "running"),)
    d.guard(Ended(gone=(1,)))
    d.wait(5_000)
    [beat] = [frame for frame in d.sent() if isinstance(frame, Heartbeat)]
    assert beat.runs == ()


def test_databases_are_discarded_as_long_as_something_of_them_is_held() -> None:
    d = away()
    d.guard(ANSWER)
    d.orders()
    d.hear(Cancel(s="s1", ep=1, runs=(), discard=("d1", "d3")))
    d.orders(Session("d2", ("d1",)))
    d.sent()
    d.guard(State("d2", (ForeignRuns("d1", ending=(1,), ended=(2,)),)))
    d.says(beat(2, SLOTS - 1, Foreign("d1", ending=(1,))))
    d.guard(State("d2", (ForeignRuns("d1", ended=(1, 2)),)))
    d.says(beat(3, 128))
    d.guard(State("d2", ()))
    d.sent()
    d.hear(HeartbeatAck(s="s1", ep=1, seq=3, discard=("d1",)))
    d.orders()


def test_a_predecessors_runs_are_discarded_at_once() -> None:
    d = Dialogue((Held(1, "running"),), db="d1")
    d.wait(0)
    d.sent()
    d.hear(replace(registered(db="d2"), discard=("d1",)))
    d.orders(Session("d2"), Session("d2", ("d1",)))
    d.says(ready(window=0))


def test_runs_that_were_dropped_before_keep_their_slots_until_gone() -> None:
    d = Dialogue((Held(1, "running"), Held(2, "running")), db="d1", dropped=(1,))
    d.wait(0)
    d.says(register(Held(2, "running"), db="d1"))
    d.hear(registered(db="d2"))
    d.guard(snapshot("d2", foreign=(ForeignRuns("d1", (2,), (1,)),)))
    d.says(ready(window=0), beat(1, 0, Foreign("d1", (2,), (1,))))
    # A new run may have the number of one that is not gone.
    d.hear(run_frame(1, 1))
    assert d.agent.to_guard[-1] == d.start(1)


def test_restarted_agent_knows_what_is_foreign() -> None:
    d = Dialogue(db="d2", foreign=(ForeignRuns("d1", (1,)),))
    d.wait(0)
    d.says(replace(register(db="d2"), foreign=(Foreign("d1", (1,)),)))
    d.hear(registered(db="d2"))
    d.says(ready(window=SLOTS - 1))
