"""Dialogues about keys: who may speak for a worker, who may have its name, and what revoking does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.world import TIMEOUT_MS, Peer, Poller, World, operator
from zsched.model.access import KeyOrigin, Scope, Token
from zsched.model.limits import ERROR_INTERVAL_MS
from zsched.model.types import RunStatus, WorkerId, WorkerStatus
from zsched.protocol import (
    Error,
    Heartbeat,
    Log,
    Ready,
    Registered,
    Result,
    Return,
    Started,
    WorkerBye,
    WorkerFrame,
)
from zsched.scheduler.dispatcher.commands import (
    AddToken,
    BindKey,
    ConflictError,
    KeyBound,
    NotFoundError,
    RefusedError,
    RegisterWorker,
    RevokeKey,
    RevokeToken,
)

K1, K2, K3 = "1" * 40, "2" * 40, "3" * 40


@pytest.fixture
def world() -> Iterator[World]:
    opened = World(keyed=True)
    yield opened
    opened.end()


def bind(world: World, name: str, key: str, origin: KeyOrigin = KeyOrigin.ENROLLED) -> bool:
    """Returns whether the key may be of a worker on another host."""
    reply = world.ask(BindKey(WorkerId(name), key, origin, operator("ann")))
    assert isinstance(reply, KeyBound)
    return reply.outward


def taken(world: World, name: str, key: str, code: str, origin: KeyOrigin = KeyOrigin.ENROLLED) -> None:
    """The key is not bound, and why."""
    before = world.engine.execute("SELECT * FROM keys"), world.engine.execute("SELECT * FROM events")
    with pytest.raises(ConflictError) as refused:
        bind(world, name, key, origin)
    assert refused.value.code == code
    assert (world.engine.execute("SELECT * FROM keys"), world.engine.execute("SELECT * FROM events")) == before


def worker(world: World, name: str = "w1", key: str = K1, **more: Any) -> Peer:
    """A worker whose key is bound, not registered yet."""
    bind(world, name, key)
    peer = Peer(world, name, **more)
    peer.key = key
    return peer


def thief(world: World, victim: Peer, key: str, connection: str = "thief") -> Peer:
    """Somebody who knows all of another worker but its key, and has this one."""
    made = Peer(world, victim.name, connection=connection, incarnation=victim.incarnation)
    made.boot_id, made.lock, made.db, made.key = victim.boot_id, victim.lock, victim.db, key
    made.session = victim.session
    return made


def refused(peer: Peer) -> str:
    """It asks for a session and gets a fatal E_KEY; returns the sentence."""
    peer.say(peer.introduction())
    error = peer.refused()
    assert (error.code, error.fatal) == ("E_KEY", True)
    return error.detail


def running(world: World, peer: Peer) -> int:
    world.submit_one()
    run_id = peer.take_one()
    peer.start(run_id)
    return run_id


# --- who may have a session ------------------------------------------------------------------------------------------


def test_a_new_token_can_not_have_the_name_of_a_removed_one(world: World) -> None:
    world.store.begin()
    world.store.retention.purge_tokens(0, 9, world.wall_ms)
    world.store.commit()
    new = Token(
        token_id="1", name="ci", digest=b"", scopes=frozenset({Scope.SUBMIT}), note="", created_ms=0, created_by="ann"
    )
    world.ask(AddToken(new, None))
    world.ask(RevokeToken("1", "ann", False))
    world.turn(lambda: world.store.retention.purge_tokens(world.wall_ms, 9, world.wall_ms))
    with pytest.raises(ConflictError) as refused:
        world.ask(AddToken(new, None))
    assert refused.value.code == "token_name_taken"


def test_a_worker_with_the_key_of_its_name_gets_a_session(world: World) -> None:
    w1 = worker(world).join()
    run_id = running(world, w1)
    assert w1.finish(run_id) == "stored"


@pytest.mark.parametrize("key", ["", K2, K3])
def test_a_name_is_only_its_keys(world: World, key: str) -> None:
    """Without any key, with one that nobody knows, and with another worker's."""
    w1, _ = worker(world).join(), worker(world, "w2", K2)
    run_id = running(world, w1)
    before = world.worker("w1"), world.events("active")
    sentence = refused(thief(world, w1, key))
    told = {K2: "this key is that of worker w2, not of w1"}
    assert sentence == told.get(key, "this key is not known: enrol again")
    # The owner has lost nothing, and did not even hear of it.
    assert (world.worker("w1"), world.events("active")) == before
    assert world.sent_to(w1.peer) == []
    w1.beat()
    assert w1.finish(run_id) == "stored"


def test_free_name_is_not_bound_by_the_first_caller(world: World) -> None:
    stranger = Peer(world, "w9")
    stranger.key = K3
    refused(stranger)
    worker(world, "w2", K2)
    stranger.key = K2
    # An answer of this kind comes once a second.
    world.jump(ERROR_INTERVAL_MS)
    assert refused(stranger) == "this key is that of worker w2, not of w9"
    assert world.store.worker(WorkerId("w9")) is None


def test_a_revoked_key_gets_no_session(world: World) -> None:
    w1 = worker(world)
    world.ask(RevokeKey(WorkerId("w1"), "ann"))
    assert refused(w1) == "this key was revoked"


def test_key_is_demanded_before_any_other_answer(world: World) -> None:
    """Whether a name is taken, and which versions are spoken, is for those who may come in."""
    worker(world).join()
    stranger = Peer(world, "w1", connection="stranger")
    stranger.key, stranger.versions = K3, (99,)
    refused(stranger)


def test_where_keys_are_not_needed_none_are_asked_for() -> None:
    world = World()
    Peer(world).join()
    world.end()


# --- every frame -----------------------------------------------------------------------------------------------------


def frames(peer: Peer, run_id: int) -> list[WorkerFrame]:
    """One of each that a worker can send in its session."""
    session = peer.session
    return [
        Heartbeat(s=session, seq=9, n=9, window=99, ahead=99),
        Ready(s=session, window=99, ahead=99),
        Started(s=session, run=run_id, pid=1, at_ms=1),
        Result(s=session, results=(peer.result(run_id),)),
        Return(s=session, runs=(run_id,)),
        Log(s=session, run=run_id, stream="stdout", offset=0, data=b"x"),
        WorkerBye(s=session, reason="guard_lost"),
    ]


@pytest.mark.parametrize("key", ["", K2, K3])
@pytest.mark.parametrize("number", range(7))
def test_every_later_frame_by_another_key_is_refused(world: World, number: int, key: str) -> None:
    """Even over the same connection and with the session in hand."""
    w1, _ = worker(world, slots=1).join(), worker(world, "w2", K2)
    run_id = running(world, w1)
    waiting = world.submit_one()
    before = world.run(run_id), world.worker("w1"), world.states(waiting)
    world.hear(w1.peer, frames(w1, run_id)[number], key=key)
    assert w1.refused() == Error(code="E_SESSION", fatal=False, detail="no such session: register again")
    assert (world.run(run_id), world.worker("w1"), world.states(waiting)) == before
    assert world.dispatcher.outbox.output == []
    assert w1.finish(run_id) == "stored"
    w1.take()


def test_frame_by_another_key_does_not_count_as_heard(world: World) -> None:
    w1 = worker(world).join()
    world.wait(TIMEOUT_MS - 1)
    world.hear(w1.peer, Heartbeat(s=w1.session, seq=1, n=0, window=1, ahead=0), key=K3)
    w1.refused()
    world.wait(1)
    assert world.worker("w1").status == WorkerStatus.INACTIVE


def test_a_worker_can_not_tell_the_end_of_anothers_run(world: World) -> None:
    w1, w2 = worker(world).join(), worker(world, "w2", K2).join()
    run_id = running(world, w1)
    w2.say(Result(s=w2.session, results=(w2.result(run_id),)))
    (ack,) = world.sent_to(w2.peer)
    assert ack.verdicts == ((run_id, "stale"),)  # type: ignore[union-attr]
    w2.say(Result(s=w1.session, results=(w2.result(run_id),)))
    assert w2.refused().code == "E_SESSION"
    w2.say(Return(s=w2.session, runs=(run_id,)), Started(s=w2.session, run=run_id, pid=1, at_ms=1))
    assert world.run(run_id).status == RunStatus.RUNNING
    assert world.run(run_id).worker_id == "w1"
    assert w1.finish(run_id) == "stored"


# --- who may have a name ---------------------------------------------------------------------------------------------


def test_the_same_key_may_be_bound_again_and_nothing_changes(world: World) -> None:
    w1 = worker(world).join()
    before = world.engine.execute("SELECT count(*) FROM events")
    bind(world, "w1", K1)
    assert world.engine.execute("SELECT count(*) FROM events") == before
    w1.beat()


def test_a_name_keeps_its_key_while_its_worker_lives(world: World) -> None:
    w1 = worker(world).join()
    taken(world, "w1", K2, "name_taken")
    run_id = running(world, w1)
    assert w1.finish(run_id) == "stored"


def test_name_of_a_worker_heard_since_the_first_enrol_is_refused_for_good(world: World) -> None:
    w1 = worker(world).join()
    taken(world, "w1", K2, "name_taken")
    world.wait(1_000)
    taken(world, "w1", K2, "name_taken")
    w1.beat()
    taken(world, "w1", K2, "name_in_use")
    # Each newcomer is judged by what is heard after its own first enrol.
    world.wait(1_000)
    taken(world, "w1", K3, "name_taken")
    world.wait(TIMEOUT_MS - 1_000)
    bind(world, "w1", K3)


@pytest.mark.parametrize("end", ["goodbye", "silence"])
def test_name_of_a_lost_worker_gets_another_key_and_the_old_one_ends(world: World, end: str) -> None:
    w1 = worker(world).join()
    if end == "goodbye":
        w1.say(WorkerBye(s=w1.session, reason="stop"))
    else:
        world.wait(TIMEOUT_MS - 1)
        taken(world, "w1", K2, "name_taken")
        world.wait(1)
    again = worker(world, "w1", K2, connection="new").join()
    run_id = running(world, again)
    assert refused(w1) == "this key was revoked"
    assert again.finish(run_id) == "stored"
    again.say(WorkerBye(s=again.session, reason="stop"))
    taken(world, "w1", K1, "key_revoked")


def test_a_restart_of_the_scheduler_makes_no_name_free(world: World) -> None:
    """Its worker lives and will be back in a moment; until a timeout has passed nobody else gets its name."""
    w1 = worker(world).join()
    run_id = running(world, w1)
    world.restart()
    taken(world, "w1", K2, "name_taken")
    w1.register()
    assert w1.finish(run_id) == "stored"


def test_worker_that_lost_its_key_gets_its_name_after_restart_and_timeout(world: World) -> None:
    worker(world).join()
    world.restart()
    world.wait(TIMEOUT_MS)
    worker(world, "w1", K2, connection="new").join()


def test_a_worker_that_came_by_no_key_gets_one_while_it_lives(world: World) -> None:
    """From a time when none were needed."""
    world.keyed = False
    world.restart()
    w1 = Peer(world).join()
    world.keyed = True
    world.restart()
    bind(world, "w1", K1)
    w1.key = K1
    w1.register()


def test_a_turn_that_was_given_up_makes_no_name_free(world: World) -> None:
    w1 = worker(world).join()
    world.failing_turn(lambda: world.dispatcher.on_command(RevokeKey(WorkerId("w1"), "ann"), world.now))
    taken(world, "w1", K2, "name_taken")
    assert isinstance(w1.register(), Registered)


def test_a_key_is_one_workers(world: World) -> None:
    worker(world)
    taken(world, "w2", K1, "key_taken")


def test_a_revoked_key_is_never_bound_again(world: World) -> None:
    worker(world)
    world.ask(RevokeKey(WorkerId("w1"), "ann"))
    taken(world, "w1", K1, "key_revoked")
    taken(world, "w2", K1, "key_revoked")


# --- which key replaces which ----------------------------------------------------------------------------------------

ENROLLED, REMOTE, FILE = KeyOrigin


@pytest.mark.parametrize(
    ("old", "new", "replaced"),
    [
        (ENROLLED, ENROLLED, True),
        (ENROLLED, REMOTE, False),
        (ENROLLED, FILE, False),
        (REMOTE, ENROLLED, True),
        (REMOTE, REMOTE, True),
        (REMOTE, FILE, False),
        (FILE, ENROLLED, False),
        (FILE, REMOTE, False),
        (FILE, FILE, False),
    ],
)
def test_key_of_an_absent_worker_is_replaced_by_origin(
    world: World, old: KeyOrigin, new: KeyOrigin, replaced: bool
) -> None:
    bind(world, "w1", K1, old)
    if replaced:
        bind(world, "w1", K2, new)
        assert world.store.access.key(K1).revoked_ms is not None  # type: ignore[union-attr]
        return
    taken(world, "w1", K2, "name_has_key", new)
    with pytest.raises(ConflictError, match="`zsched access revoke w1`"):
        bind(world, "w1", K2, new)
    w1 = Peer(world, "w1")
    w1.key = K1
    run_id = running(world, w1.join())
    assert w1.finish(run_id) == "stored"


def test_key_of_an_access_file_is_replaced_after_it_is_revoked(world: World) -> None:
    bind(world, "w1", K1, FILE)
    world.ask(RevokeKey(WorkerId("w1"), "ann"))
    assert bind(world, "w1", K2, FILE)


@pytest.mark.parametrize(("origin", "outward"), [(ENROLLED, False), (REMOTE, True), (FILE, True)])
def test_key_of_another_host_opens_the_port_each_time_it_is_bound(
    world: World, origin: KeyOrigin, outward: bool
) -> None:
    """Also again, so that a port that could not be opened is tried again."""
    assert bind(world, "w1", K1, origin) == outward
    assert bind(world, "w1", K1) == outward


def test_rest_worker_gets_no_name_that_has_a_key(world: World) -> None:
    w1 = worker(world).join()
    w1.say(WorkerBye(s=w1.session, reason="stop"))
    with pytest.raises(ConflictError, match="`zsched access revoke w1`") as refused:
        world.ask(RegisterWorker(WorkerId("w1"), 1, (), {}))
    assert refused.value.code == "name_has_key"
    assert isinstance(w1.register(), Registered)
    w1.say(WorkerBye(s=w1.session, reason="stop"))
    world.ask(RevokeKey(WorkerId("w1"), "ann"))
    Poller(world, "w1").register()


def test_name_of_an_active_rest_worker_gets_no_key(world: World) -> None:
    r1 = Poller(world).register()
    taken(world, "r1", K1, "name_taken")
    world.wait(1)
    r1.beat()
    taken(world, "r1", K1, "name_in_use")
    world.wait(TIMEOUT_MS)
    bind(world, "r1", K1)


# --- revoking --------------------------------------------------------------------------------------------------------


def test_revoking_ends_the_session_and_its_runs_go_elsewhere_without_blame(world: World) -> None:
    w1, job = worker(world).join(), world.submit_one()
    started = w1.take_one()
    w1.start(started)
    waiting = world.submit_one()
    w1.take()
    world.ask(RevokeKey(WorkerId("w1"), "ann"))
    assert w1.refused() == Error(code="E_KEY", fatal=True, detail="this key was revoked")
    assert world.worker("w1").status == WorkerStatus.INACTIVE
    w2 = worker(world, "w2", K2).join()
    assert len(w2.take()) == 2
    for one in (job, waiting):
        newest = world.runs(one)[-1]
        assert (newest.worker_id, newest.crashes) == ("w2", 0)
    assert not any(order.probation for order in w2.orders.values())
    # The old one is heard no more.
    world.hear(w1.peer, Result(s=w1.session, results=(w1.result(started),)), key=K1)
    assert w1.refused().code == "E_SESSION"
    assert refused(w1) == "this key was revoked"
    for run_id in list(w2.held):
        assert w2.finish(run_id) == "stored"


def test_revoking_is_final_without_a_connected_worker_too(world: World) -> None:
    w1 = worker(world)
    world.ask(RevokeKey(WorkerId("w1"), "ann"))
    refused(w1)
    with pytest.raises(NotFoundError):
        world.ask(RevokeKey(WorkerId("w1"), "ann"))
    with pytest.raises(NotFoundError):
        world.ask(RevokeKey(WorkerId("nobody"), "ann"))
    # Its name gets a new one.
    worker(world, "w1", K2, connection="new").join()


def test_revoking_one_ends_no_other(world: World) -> None:
    worker(world).join()
    w2 = worker(world, "w2", K2).join()
    run_id = running_on(world, w2)
    world.ask(RevokeKey(WorkerId("w1"), "ann"))
    world.sent(Error)
    assert w2.finish(run_id) == "stored"


def running_on(world: World, peer: Peer) -> int:
    """A run that only this one has room for."""
    for other in ("w1", "w2"):
        if other != peer.name:
            session = world.dispatcher._sessions.of_worker(WorkerId(other))
            assert session is not None
            session.window = 0
    return running(world, peer)


def test_a_worker_that_polls_has_no_key_to_lose(world: World) -> None:
    poller = Poller(world).register()
    job = world.submit_one()
    claimed = poller.next_run()
    with pytest.raises(NotFoundError):
        world.ask(RevokeKey(WorkerId("r1"), "ann"))
    poller.report(job, RunStatus.SUCCESS)
    assert world.run(claimed.run_id).status == RunStatus.SUCCESS


def test_revoking_after_a_restart_ends_what_the_worker_had(world: World) -> None:
    """Its worker has not come back yet, and never will."""
    w1 = worker(world).join()
    job = world.submit_one()
    w1.start(w1.take_one())
    world.restart()
    world.ask(RevokeKey(WorkerId("w1"), "ann"))
    world.sent()
    assert world.states(job) == ["failed/worker_lost", "pending"]
    refused(w1)


def test_a_revocation_that_could_not_be_stored_has_not_happened(world: World) -> None:
    w1 = worker(world).join()
    run_id = running(world, w1)
    world.failing_turn(lambda: world.dispatcher.on_command(RevokeKey(WorkerId("w1"), "ann"), world.now))
    world.sent()
    w1.register()
    assert w1.finish(run_id) == "stored"


# --- what is written down --------------------------------------------------------------------------------------------


def test_token_times_are_those_of_the_turn(world: World) -> None:
    token = Token(
        token_id="t1", name="ci", digest=b"x" * 32, scopes=frozenset(), note="", created_ms=0, created_by="bob"
    )
    stored = world.ask(AddToken(token, life_ms=60_000))
    assert stored == world.store.access.token("t1")
    assert isinstance(stored, Token)
    assert (stored.created_ms, stored.expires_ms) == (world.now.wall_ms, world.now.wall_ms + 60_000)


def test_events_about_access_record_the_actor(world: World) -> None:
    token = Token(
        token_id="t1", digest=b"x" * 32, scopes=frozenset({Scope.READ}), note="", created_ms=1, created_by="bob"
    )
    world.ask(AddToken(token))
    world.ask(RevokeToken("t1", "eve"))
    with pytest.raises(RefusedError):
        world.ask(RevokeToken("t1", "eve"))
    bind(world, "w1", K1)
    bind(world, "w1", K2)
    world.ask(RevokeKey(WorkerId("w1"), "bob"))
    found = world.engine.execute("SELECT became, actor, detail FROM events ORDER BY event_id")
    assert found == [
        ("token_added", "bob", "t1: read"),
        ("token_revoked", "eve", "t1"),
        ("key_bound", "ann", f"w1: {K1}"),
        ("key_revoked", "ann", f"w1: {K1}"),
        ("key_bound", "ann", f"w1: {K2}"),
        ("key_revoked", "bob", f"w1: {K2}"),
    ]
