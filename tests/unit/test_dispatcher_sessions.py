"""Dialogues about workers: who may speak, who is believed dead and when, and what a restart changes."""

from __future__ import annotations

import time

import pytest
from msgspec.structs import replace

from tests.unit.world import TIMEOUT_MS, Peer, Poller, World
from zsched.model.limits import FRAME_LIST_MAX
from zsched.model.types import RunStatus, WorkerId, WorkerStatus
from zsched.protocol import Error, Heartbeat, Ready, Register, Registered, Result, SchedulerBye, WorkerBye
from zsched.scheduler.dispatcher import registration
from zsched.scheduler.dispatcher.commands import RegisterWorker


def running(world: World, worker: Peer, *, started: bool = True) -> int:
    """A run of a new job on that worker."""
    world.submit_one()
    run_id = worker.take_one()
    if started:
        worker.start(run_id)
    return run_id


# --- sessions ---


def test_an_unknown_session_is_answered_at_most_once_a_second_to_each_peer(world: World) -> None:
    for peer in (b"a", b"b"):
        world.hear(peer, Ready(s="gone", window=1, ahead=0), Ready(s="gone", window=1, ahead=0))
    first, second = world.sent(Error, Error)
    assert first == second == Error(code="E_SESSION", fatal=False, detail="no such session: register again")
    world.jump(999)
    world.hear(b"a", Ready(s="gone", window=1, ahead=0))
    world.sent()
    world.jump(1)
    world.hear(b"a", Ready(s="gone", window=1, ahead=0))
    world.sent(Error)


def test_a_frame_of_an_unknown_session_changes_nothing(world: World) -> None:
    w1 = Peer(world).join()
    run_id = running(world, w1)
    world.hear(w1.peer, Result(s="gone", results=(w1.result(run_id),)))
    world.hear(w1.peer, Result(s="", results=(w1.result(run_id),)))
    assert w1.refused().code == "E_SESSION"
    assert world.run(run_id).status == RunStatus.RUNNING


def test_a_session_belongs_to_the_connection_it_was_given_to(world: World) -> None:
    w1 = Peer(world).join()
    run_id = running(world, w1)
    world.hear(b"another", Result(s=w1.session, results=(w1.result(run_id),)))
    assert world.sent(Error).code == "E_SESSION"
    assert world.run(run_id).status == RunStatus.RUNNING


def test_frame_over_another_connection_does_not_count_as_heard(world: World) -> None:
    w1 = Peer(world).join()
    world.wait(TIMEOUT_MS - 1)
    world.hear(b"another", Heartbeat(s=w1.session, seq=1, n=0, window=1, ahead=0))
    world.sent(Error)
    world.wait(1)
    assert world.worker("w1").status == WorkerStatus.INACTIVE


def test_an_older_session_of_the_same_worker_is_over(world: World) -> None:
    w1 = Peer(world).join()
    old = w1.session
    w1.register()
    w1.say(Ready(s=old, window=9, ahead=0))
    assert w1.refused().code == "E_SESSION"


def test_worker_without_a_common_version_is_asked_to_stop(world: World) -> None:
    w1 = Peer(world)
    w1.versions = (99,)
    w1.say(w1.introduction())
    error = w1.refused()
    assert (error.code, error.fatal) == ("E_VERSION", True)
    assert world.store.worker(WorkerId("w1")) is None


def test_a_worker_too_many_waits_and_those_there_go_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "SESSIONS_MAX", 1)
    w1, w2 = Peer(world, "w1").join(), Peer(world, "w2")
    w2.say(w2.introduction())
    error = w2.refused()
    assert (error.code, error.fatal) == ("E_BUSY", False)
    w1.register()
    w1.say(WorkerBye(s=w1.session, reason="stop"))
    w2.register()


# --- the same worker again ---


def test_worker_whose_agent_restarts_keeps_its_runs(world: World) -> None:
    w1 = Peer(world).join()
    waiting, running_ = running(world, w1, started=False), running(world, w1)
    again = w1.again(incarnation="i1")
    again.held = dict(w1.held)
    answer = again.register()
    assert (answer.keep, answer.kill) == ((waiting, running_), ())
    assert again.finish(running_) == "stored"


def test_run_unknown_to_the_new_agent_was_dropped_without_blame(world: World) -> None:
    w1 = Peer(world).join()
    waiting, started = running(world, w1, started=False), running(world, w1)
    jobs = [world.run(run_id).job_id for run_id in (waiting, started)]
    w1.again(incarnation="i1").register()
    assert [world.states(job_id) for job_id in jobs] == [["pending/returned"], ["failed/worker_lost", "pending"]]
    assert [world.runs(job_id)[-1].crashes for job_id in jobs] == [0, 0]


def test_worker_is_asked_to_kill_what_another_worker_has(world: World) -> None:
    w1 = Peer(world).join()
    mine = running(world, w1)
    again = w1.again(incarnation="i1")
    again.held = {mine: "running", 77: "running", 78: "finished"}
    answer = again.register()
    assert (answer.keep, answer.kill) == ((mine,), (77,))


def test_longest_list_of_a_register_costs_little(world: World) -> None:
    """It took seconds when the cost grew with the square of the list."""
    w1 = Peer(world)
    w1.held = dict.fromkeys(range(1, FRAME_LIST_MAX + 1), "finished")
    began_s = time.process_time()
    w1.register()
    assert time.process_time() - began_s < 1.0


def test_a_worker_that_never_knew_a_database_is_taken_at_its_word(world: World) -> None:
    w1 = Peer(world).join()
    mine = running(world, w1)
    again = w1.again(incarnation="i1")
    again.db, again.held = "", {mine: "running"}
    assert again.register().keep == (mine,)


def test_a_register_that_comes_after_a_later_one_is_not_looked_at(world: World) -> None:
    """An agent was killed, and the next one has registered before what the first had written came."""
    w1 = Peer(world)
    late = w1.introduction()
    world.jump(1)
    w1.join()
    run_id = running(world, w1)
    world.hear(b"the connection before", late)
    assert world.sent(Error).code == "E_SESSION"
    assert w1.beat().kill == ()
    assert world.run(run_id).status == RunStatus.RUNNING


def test_a_late_register_of_an_earlier_start_does_not_end_the_next_one(world: World) -> None:
    w1 = Peer(world).join()
    late = w1.introduction()
    world.jump(1)
    again = w1.again()
    again.register()
    again.ready()
    run_id = running(world, again)
    world.hear(b"the connection before", late)
    assert world.sent(Error).code == "E_SESSION"
    assert again.beat().kill == ()
    assert world.run(run_id).status == RunStatus.RUNNING


def test_a_worker_that_says_no_time_is_never_late(world: World) -> None:
    w1 = Peer(world).join()
    world.hear(b"another", replace(w1.introduction(), sent_ms=0))
    world.sent(Registered)


# --- two workers with one name ---


def test_new_start_with_proof_takes_over_at_once_and_the_old_runs_are_lost(world: World) -> None:
    w1 = Peer(world).join()
    run_id = running(world, w1)
    again = w1.again()
    again.register()
    job_id = world.run(run_id).job_id
    assert world.states(job_id) == ["failed/worker_lost", "pending"]
    assert world.runs(job_id)[-1].crashes == 1
    w1.say(Ready(s=w1.session, window=1, ahead=0))
    assert w1.refused().code == "E_SESSION"


@pytest.mark.parametrize(
    ("boot_id", "lock"),
    [("another boot", (1, 2)), ("boot of w1", (1, 3)), ("", (1, 2)), ("boot of w1", (0, 0))],
    ids=["another boot", "another lock", "no boot", "no lock"],
)
def test_name_is_kept_for_its_worker_against_a_rival_without_proof(
    world: World, boot_id: str, lock: tuple[int, int]
) -> None:
    w1 = Peer(world)
    if not boot_id:
        w1.boot_id = ""
    if lock == (0, 0):
        w1.lock = lock
    w1.join()
    run_id = running(world, w1)
    rival = w1.again()
    rival.boot_id, rival.lock = boot_id, lock
    rival.say(rival.introduction())
    error = rival.refused()
    assert (error.code, error.fatal) == ("E_DUP", False)
    assert w1.finish(run_id) == "stored"


def rival_of(world: World, w1: Peer) -> Peer:
    rival = Peer(world, w1.name, connection="rival", incarnation="other")
    rival.boot_id = "another machine"
    return rival


def refusal(rival: Peer) -> Error:
    rival.say(rival.introduction())
    error = rival.refused()
    assert error.code == "E_DUP"
    return error


def test_rival_of_a_silent_worker_takes_over_when_that_one_times_out(world: World) -> None:
    w1 = Peer(world).join()
    run_id = running(world, w1)
    rival = rival_of(world, w1)
    for _ in range(TIMEOUT_MS // 5_000 - 1):
        world.wait(5_000)
        assert not refusal(rival).fatal
    world.wait(5_000)
    rival.register()
    assert world.run(run_id).status == RunStatus.FAILED


def test_rival_of_a_worker_that_goes_on_speaking_is_asked_to_stop(world: World) -> None:
    w1 = Peer(world).join()
    rival = rival_of(world, w1)
    assert not refusal(rival).fatal
    world.wait(1_000)
    assert not refusal(rival).fatal
    w1.beat()
    error = refusal(rival)
    assert error.fatal
    assert "-id" in error.detail
    # The one that was there is not harmed, and a later rival is judged anew.
    w1.beat()
    assert not refusal(rival).fatal


def test_rival_is_not_asked_to_stop_because_the_scheduler_stood_still(world: World) -> None:
    w1 = Peer(world).join()
    world.wait(1_000)
    rival = rival_of(world, w1)
    assert not refusal(rival).fatal
    world.jump(10_000)
    world.turn()
    assert not refusal(rival).fatal


def test_a_name_in_use_over_rest_is_kept_from_a_connected_worker(world: World) -> None:
    Poller(world, "w1").register()
    w1 = Peer(world, "w1")
    assert not refusal(w1).fatal
    world.wait(TIMEOUT_MS)
    w1.register()


# --- liveness ---


def test_a_silent_worker_is_inactive_at_the_timeout_and_not_before(world: World) -> None:
    w1 = Peer(world).join()
    run_id = running(world, w1)
    world.wait(TIMEOUT_MS - 1)
    assert world.worker("w1").status == WorkerStatus.ACTIVE
    assert world.run(run_id).status == RunStatus.RUNNING
    world.wait(1)
    assert world.worker("w1").status == WorkerStatus.INACTIVE
    assert world.states(world.run(run_id).job_id) == ["failed/worker_lost", "pending"]


def test_the_runs_of_a_lost_worker_go_to_another_in_the_same_turn(world: World) -> None:
    w1, w2 = Peer(world, "w1").join(), Peer(world, "w2")
    run_id = running(world, w1)
    w2.join()
    world.wait(TIMEOUT_MS - 1, w2)
    world.jump(1)
    world.turn()
    again = world.run(w2.take_one())
    assert (again.job_id, again.attempt) == (world.run(run_id).job_id, 2)


@pytest.mark.parametrize("kind", ["ready", "started", "result"])
def test_any_frame_is_a_sign_of_life(world: World, kind: str) -> None:
    w1 = Peer(world).join()
    run_id = running(world, w1)
    world.wait(TIMEOUT_MS - 1)
    if kind == "ready":
        w1.ready()
    elif kind == "started":
        w1.start(run_id)
    else:
        w1.finish(run_id)
    world.wait(TIMEOUT_MS - 1)
    assert world.worker("w1").status == WorkerStatus.ACTIVE


def test_heartbeats_keep_a_worker_active_for_ever(world: World) -> None:
    w1 = Peer(world).join()
    for _ in range(20):
        world.wait(TIMEOUT_MS // 2)
        w1.beat()
    assert world.worker("w1").status == WorkerStatus.ACTIVE


def test_silence_is_not_judged_while_frames_wait_to_be_read(world: World) -> None:
    w1 = Peer(world).join()
    for _ in range(TIMEOUT_MS // 1_000 + 5):
        world.jump(1_000)
        world.turn(drained=False)
    assert world.worker("w1").status == WorkerStatus.ACTIVE
    w1.beat()
    world.turn()
    assert world.worker("w1").status == WorkerStatus.ACTIVE


def test_scheduler_that_stood_still_does_not_count_that_time_as_silence(world: World) -> None:
    w1 = Peer(world).join()
    running(world, w1)
    world.wait(TIMEOUT_MS - 5_000)
    world.jump(60_000)
    world.turn()
    assert world.worker("w1").status == WorkerStatus.ACTIVE
    world.wait(3_000)
    assert world.worker("w1").status == WorkerStatus.ACTIVE
    world.wait(3_000)
    assert world.worker("w1").status == WorkerStatus.INACTIVE


@pytest.mark.parametrize("gap_ms", [-86_400_000, 86_400_000])
def test_the_wall_clock_decides_no_liveness(world: World, gap_ms: int) -> None:
    w1 = Peer(world).join()
    run_id = running(world, w1)
    world.wall_ms += gap_ms
    world.wait(TIMEOUT_MS - 1)
    assert world.run(run_id).status == RunStatus.RUNNING
    world.wait(1)
    assert world.run(run_id).status == RunStatus.FAILED


def test_a_worker_that_was_only_slow_comes_back_and_kills_what_it_lost(world: World) -> None:
    w1 = Peer(world).join()
    run_id = running(world, w1)
    world.wait(TIMEOUT_MS)
    w1.say(Heartbeat(s=w1.session, seq=1, n=1, window=2, ahead=0))
    assert w1.refused().code == "E_SESSION"
    assert w1.register().kill == (run_id,)
    assert world.worker("w1").status == WorkerStatus.ACTIVE


# --- a restart of the scheduler ---


def test_after_a_restart_a_worker_goes_on_with_the_same_runs(world: World) -> None:
    w1 = Peer(world).join()
    waiting, started = running(world, w1, started=False), running(world, w1)
    world.restart()
    w1.say(Ready(s=w1.session, window=2, ahead=0))
    assert w1.refused().code == "E_SESSION"
    answer = w1.register()
    assert (answer.ep, answer.keep, answer.kill) == (2, (waiting, started), ())
    assert w1.finish(started) == "stored"
    assert world.run(waiting).status == RunStatus.RUNNING


def test_restart_judges_no_silence_before_one_timeout(world: World) -> None:
    w1 = Peer(world).join()
    run_id = running(world, w1)
    world.wait(TIMEOUT_MS - 1)
    world.restart()
    world.wait(TIMEOUT_MS - 1)
    assert world.run(run_id).status == RunStatus.RUNNING
    assert world.worker("w1").status == WorkerStatus.ACTIVE
    world.wait(1)
    assert world.run(run_id).status == RunStatus.FAILED
    assert world.worker("w1").status == WorkerStatus.INACTIVE


def test_restart_sends_nothing_to_a_worker_before_it_registers(world: World) -> None:
    Peer(world).join()
    world.restart()
    world.submit_one()
    world.wait(1_000)
    world.sent()


def test_worker_that_died_with_the_scheduler_takes_over_when_it_is_back(world: World) -> None:
    w1 = Peer(world).join()
    run_id = running(world, w1)
    world.restart()
    w1.again().register()
    assert world.states(world.run(run_id).job_id) == ["failed/worker_lost", "pending"]


# --- goodbye ---


def test_a_clean_goodbye_counts_against_nothing(world: World) -> None:
    w1 = Peer(world).join()
    waiting, started = running(world, w1, started=False), running(world, w1)
    jobs = [world.run(run_id).job_id for run_id in (waiting, started)]
    w1.say(WorkerBye(s=w1.session, reason="stop"))
    assert world.worker("w1").status == WorkerStatus.INACTIVE
    assert [world.states(job_id) for job_id in jobs] == [["failed/worker_lost", "pending"]] * 2
    assert [world.runs(job_id)[-1].attempt for job_id in jobs] == [1, 2]
    assert [
        (world.runs(job_id)[-1].crashes, world.store.ready(world.wall_ms)[0].demand.probation) for job_id in jobs
    ] == [(0, False)] * 2


def test_unreturned_run_of_a_leaving_worker_gets_a_new_id(world: World) -> None:
    w1 = Peer(world).join()
    run_id = running(world, w1, started=False)
    w1.say(WorkerBye(s=w1.session, reason="shutdown"))
    w2 = Peer(world, "w2").join()
    assert w2.take_one() > run_id


def test_a_goodbye_because_the_guard_is_lost_is_a_loss(world: World) -> None:
    w1 = Peer(world).join()
    run_id = running(world, w1)
    w1.say(WorkerBye(s=w1.session, reason="guard_lost"))
    assert world.worker("w1").status == WorkerStatus.INACTIVE
    assert world.runs(world.run(run_id).job_id)[-1].crashes == 1


def test_a_stopping_scheduler_says_goodbye_and_keeps_the_runs(world: World) -> None:
    w1 = Peer(world).join()
    Poller(world).register()
    run_id = running(world, w1)
    world.turn(world.dispatcher.on_stop)
    assert world.sent(SchedulerBye).s == w1.session
    assert world.run(run_id).status == RunStatus.RUNNING


# --- turns that the store refused ---


def test_nothing_of_a_refused_turn_is_sent(world: World) -> None:
    w1 = Peer(world).join()
    world.submit(2)
    w1.take()
    world.failing_turn(lambda: world.dispatcher.on_frame(b"w2", Peer(world, "w2").introduction(), world.now))
    world.sent()


def test_a_claim_that_was_rolled_back_is_made_again(world: World) -> None:
    w1 = Peer(world, slots=1)
    w1.register()
    world.submit_one()
    ready = Ready(s=w1.session, window=1, ahead=0)
    world.failing_turn(lambda: world.dispatcher.on_frame(w1.peer, ready, world.now))
    world.sent()
    world.turn()
    assert len(w1.take()) == 1


@pytest.mark.parametrize("end", ["silence", "guard_lost", "stop"])
def test_worker_whose_loss_could_not_be_stored_is_still_lost_in_the_end(world: World, end: str) -> None:
    w1 = Peer(world).join()
    run_id = running(world, w1)
    if end == "silence":
        world.wait(TIMEOUT_MS - 1)
        world.jump(1)
        world.failing_turn()
    else:
        bye = WorkerBye(s=w1.session, reason=end)
        world.failing_turn(lambda: world.dispatcher.on_frame(w1.peer, bye, world.now))
    assert world.run(run_id).status == RunStatus.RUNNING
    world.wait(TIMEOUT_MS + 1_000)
    assert world.run(run_id).status == RunStatus.FAILED
    assert world.worker("w1").status == WorkerStatus.INACTIVE


def test_a_register_that_could_not_be_stored_is_made_again(world: World) -> None:
    w1 = Peer(world)
    world.failing_turn(lambda: world.dispatcher.on_frame(w1.peer, w1.introduction(), world.now))
    w1.register()
    assert world.worker("w1").status == WorkerStatus.ACTIVE


def test_a_loss_by_a_new_start_that_could_not_be_stored_is_still_blamed(world: World) -> None:
    w1 = Peer(world).join()
    run_id = running(world, w1)
    again = w1.again()
    world.failing_turn(lambda: world.dispatcher.on_frame(again.peer, again.introduction(), world.now))
    again.register()
    assert world.runs(world.run(run_id).job_id)[-1].crashes == 1


def test_polling_worker_whose_register_could_not_be_stored_is_unknown(world: World) -> None:
    command = RegisterWorker(WorkerId("r1"), 1, (), {})
    world.failing_turn(lambda: world.dispatcher.on_command(command, world.now))
    assert world.store.worker(WorkerId("r1")) is None
    world.ask(command)
    assert world.worker("r1").status == WorkerStatus.ACTIVE


def test_frames_that_a_worker_repeats_do_no_harm(world: World) -> None:
    w1 = Peer(world)
    frame: Register = w1.introduction()
    world.hear(w1.peer, frame, frame)
    first, second = world.sent(Registered, Registered)
    assert first.s != second.s
    w1.session = second.s
    w1.ready()
    run_id = running(world, w1)
    w1.start(run_id)
    w1.start(run_id)
    assert len(world.events("active")) == 2
