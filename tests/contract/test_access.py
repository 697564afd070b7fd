"""Tokens and keys in the store: what is kept of them, when it counts, and what is written down."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.contract.base import NOW, W1, W2, Base
from zsched.model.access import KeyOrigin, Scope, Token, WorkerKey
from zsched.store.check import check
from zsched.store.contract import StoreConstraint

ORIGIN = KeyOrigin.ENROLLED
K1, K2, K3 = "1" * 40, "2" * 40, "#" * 40
# Every character of Z85, quotes or not.
ODD = "&<>()[]{}@%$#*?!/=^:.-+0aZ" + "0" * 14


class OopsError(Exception):
    """A bug of ours, in the middle of a piece of work."""


def token(token_id: str = "t1", *scopes: Scope, expires_ms: int | None = None) -> Token:
    return Token(
        token_id=token_id,
        name=token_id,
        digest=bytes(range(32)),
        scopes=frozenset(scopes or {Scope.READ}),
        note="für Ann",
        created_ms=NOW,
        created_by="user 1000 at 127.0.0.1",
        expires_ms=expires_ms,
    )


def told(base: Base) -> list[tuple[object, ...]]:
    """What is written down about access, all of it that is committed."""
    with_runs = [event for event in base.open_door().events(0, 1_000) if event.runs is not None]
    assert with_runs == []
    return [
        (event.at_ms, event.actor, event.was, event.became, event.detail) for event in base.open_door().events(0, 1_000)
    ]


# --- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scopes", [{Scope.READ}, {Scope.SUBMIT, Scope.READ}, set(Scope)])
@pytest.mark.parametrize("expires_ms", [None, NOW + 1])
def test_a_token_is_kept_as_it_was_made(base: Base, scopes: set[Scope], expires_ms: int | None) -> None:
    made = token("t1", *scopes, expires_ms=expires_ms)
    base.store.access.add_token(made)
    assert base.store.access.token("t1") == made
    assert base.open_door().token("t1") is None
    base.turn()
    assert base.open_door().token("t1") == made
    assert list(base.open_door().tokens()) == [made]
    assert base.store.access.token("t2") is None
    assert base.open_door().token("t") is None


def test_a_token_is_revoked_once_and_stays_in_the_list(base: Base) -> None:
    base.store.access.add_token(token("t1"))
    base.store.access.add_token(token("t2"))
    assert base.store.access.revoke_token("t1", "eve", NOW + 5)
    assert not base.store.access.revoke_token("t1", "eve", NOW + 6)
    assert not base.store.access.revoke_token("t3", "eve", NOW + 6)
    base.turn()
    assert list(base.open_door().tokens()) == [replace(token("t1"), revoked_ms=NOW + 5), token("t2")]


def test_what_is_done_to_tokens_is_written_down_without_the_digest(base: Base) -> None:
    base.store.access.add_token(token("t1", Scope.SUBMIT, Scope.READ))
    base.store.access.revoke_token("t1", "eve", NOW + 5)
    base.store.access.revoke_token("t1", "eve", NOW + 6)
    base.turn()
    assert told(base) == [
        (NOW, "user 1000 at 127.0.0.1", None, "token_added", "t1: read submit"),
        (NOW + 5, "eve", None, "token_revoked", "t1"),
    ]


def test_lists_hide_what_has_not_been_valid_for_long(base: Base) -> None:
    access = base.store.access
    for name in ("revoked", "valid"):
        access.add_token(token(name))
    access.add_token(token("expired", expires_ms=NOW + 5))
    access.revoke_token("revoked", "eve", NOW + 5)
    access.bind_key(W1, K1, ORIGIN, "ann", NOW)
    access.bind_key(W1, K2, ORIGIN, "ann", NOW + 5)
    base.turn()
    reader = base.open_door()
    for valid_ms, tokens, keys in (
        (0, {"revoked", "expired", "valid"}, {K1, K2}),
        (NOW + 4, {"revoked", "expired", "valid"}, {K1, K2}),
        (NOW + 5, {"valid"}, {K2}),
    ):
        assert {each.token_id for each in reader.tokens(valid_ms=valid_ms)} == tokens
        assert {each.public_key for each in reader.worker_keys(valid_ms=valid_ms)} == keys
    assert [each.token_id for each in reader.tokens("expired", valid_ms=NOW + 5)] == ["valid"]
    assert [each.public_key for each in reader.worker_keys(K1, valid_ms=NOW + 5)] == [K2]


def test_old_tokens_are_removed_and_their_names_stay_taken(base: Base) -> None:
    store = base.store
    for name in ("revoked", "valid", "ending"):
        store.access.add_token(token(name))
    store.access.add_token(token("expired", expires_ms=NOW + 5))
    for name in ("revoked", "ending"):
        store.access.revoke_token(name, "eve", NOW + 5)
    store.access.end_jobs("ending", "eve", NOW + 5)
    assert store.retention.purge_tokens(NOW + 4, 9, NOW) == 0
    assert store.retention.purge_tokens(NOW + 5, 1, NOW) == 1
    assert store.retention.purge_tokens(NOW + 5, 9, NOW) == 1
    base.turn()
    assert {each.token_id for each in base.open_door().tokens()} == {"valid", "ending"}
    assert [store.access.is_name_used(name) for name in ("revoked", "expired", "valid")] == [True, True, False]
    assert [what for *_, what, _ in told(base)].count("token_removed") == 2


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("public_key", [K1, K3, ODD])
def test_a_key_is_kept_as_it_was_bound(base: Base, public_key: str) -> None:
    base.store.access.bind_key(W1, public_key, ORIGIN, "ann", NOW)
    made = WorkerKey(public_key=public_key, worker_id=W1, origin=ORIGIN, created_ms=NOW, created_by="ann")
    assert base.store.access.key(public_key) == base.store.access.key_of(W1) == made
    assert base.store.access.key_of(W2) is None
    assert base.store.access.key(K2) is None
    assert list(base.open_door().worker_keys()) == []
    base.turn()
    assert list(base.open_door().worker_keys()) == [made]


def test_a_worker_has_one_key_and_the_one_before_is_revoked(base: Base) -> None:
    base.store.access.bind_key(W1, K1, ORIGIN, "ann", NOW)
    base.store.access.bind_key(W2, K3, ORIGIN, "ann", NOW)
    base.store.access.bind_key(W1, K2, ORIGIN, "bob", NOW + 5)
    old, new = base.store.access.key(K1), base.store.access.key_of(W1)
    assert old is not None
    assert new is not None
    assert (old.revoked_ms, new.public_key, new.revoked_ms) == (NOW + 5, K2, None)
    other = base.store.access.key_of(W2)
    assert other is not None
    assert other.public_key == K3
    base.turn()
    assert [(key.public_key, key.revoked_ms) for key in base.open_door().worker_keys()] == [
        (K1, NOW + 5),
        (K2, None),
        (K3, None),
    ]


def test_a_key_is_revoked_once(base: Base) -> None:
    base.store.access.bind_key(W1, K1, ORIGIN, "ann", NOW)
    base.store.access.bind_key(W2, K2, ORIGIN, "ann", NOW)
    assert base.store.access.revoke_key(W1, "eve", NOW + 5)
    assert not base.store.access.revoke_key(W1, "eve", NOW + 6)
    assert base.store.access.key_of(W1) is None
    revoked = base.store.access.key(K1)
    assert revoked is not None
    assert revoked.revoked_ms == NOW + 5
    assert base.store.access.key_of(W2) is not None


def test_what_is_done_to_keys_is_written_down(base: Base) -> None:
    base.store.access.bind_key(W1, K1, ORIGIN, "ann", NOW)
    base.store.access.bind_key(W1, K2, ORIGIN, "bob", NOW + 5)
    base.store.access.revoke_key(W1, "eve", NOW + 6)
    base.store.access.revoke_key(W1, "eve", NOW + 7)
    base.turn()
    assert told(base) == [
        (NOW, "ann", None, "key_bound", f"w1: {K1}"),
        (NOW + 5, "bob", None, "key_revoked", f"w1: {K1}"),
        (NOW + 5, "bob", None, "key_bound", f"w1: {K2}"),
        (NOW + 6, "eve", None, "key_revoked", f"w1: {K2}"),
    ]


# --- what is undone --------------------------------------------------------------------------------------------------


def test_what_raises_takes_its_own_changes_back_and_no_others(base: Base) -> None:
    base.store.access.add_token(token("t1"))
    base.store.access.bind_key(W1, K1, ORIGIN, "ann", NOW)

    def botch() -> None:
        with base.store.savepoint():
            base.store.access.add_token(token("t2"))
            base.store.access.revoke_token("t1", "eve", NOW)
            base.store.access.bind_key(W1, K2, ORIGIN, "eve", NOW)
            base.store.access.bind_key(W2, K3, ORIGIN, "eve", NOW)
            base.store.access.revoke_key(W1, "eve", NOW)
            raise OopsError

    with pytest.raises(OopsError):
        botch()
    assert base.store.access.token("t1") == token("t1")
    assert base.store.access.token("t2") is None
    mine = base.store.access.key_of(W1)
    assert mine is not None
    assert mine.public_key == K1
    assert base.store.access.key(K2) is None
    assert base.store.access.key_of(W2) is None
    base.turn()
    assert [became for _, _, _, became, _ in told(base)] == ["token_added", "key_bound"]


def test_a_turn_that_is_given_up_leaves_nothing(base: Base) -> None:
    base.store.access.add_token(token("t1"))
    base.turn()
    base.store.access.revoke_token("t1", "eve", NOW)
    base.store.access.bind_key(W1, K1, ORIGIN, "eve", NOW)
    base.store.rollback()
    base.store.begin()
    assert base.store.access.token("t1") == token("t1")
    assert base.store.access.key(K1) is None
    base.turn()
    assert len(told(base)) == 1


def test_a_second_token_of_the_same_id_is_refused_and_changes_nothing(base: Base) -> None:
    base.store.access.add_token(token("t1"))
    with pytest.raises(StoreConstraint), base.store.savepoint():
        base.store.access.add_token(token("t1", Scope.ADMIN))
    assert base.store.access.token("t1") == token("t1")


def test_a_key_belongs_to_one_worker_whoever_forgets_to_ask(base: Base) -> None:
    base.store.access.bind_key(W1, K1, ORIGIN, "ann", NOW)
    with pytest.raises(StoreConstraint), base.store.savepoint():
        base.store.access.bind_key(W2, K1, ORIGIN, "ann", NOW)
    mine = base.store.access.key_of(W1)
    assert mine is not None
    assert mine.public_key == K1


# --- events and the check --------------------------------------------------------------------------------------------


def test_events_come_in_order_after_an_id_and_no_more_than_asked_for(base: Base) -> None:
    for number in range(5):
        base.store.access.add_token(token(f"t{number}"))
    base.submit()
    base.turn()
    found = list(base.open_door().events(0, 1_000))
    assert [event.event_id for event in found] == sorted(event.event_id for event in found)
    assert list(base.open_door().events(found[1].event_id, 2)) == found[2:4]
    assert list(base.open_door().events(found[-1].event_id, 10)) == []
    assert (found[-1].job_id, found[-1].became, found[0].job_id) == (1, "pending", None)


def test_check_passes_with_tokens_and_keys(base: Base) -> None:
    run_id = base.running()
    base.store.access.add_token(token())
    base.register(W1)
    base.store.access.bind_key(W1, K1, ORIGIN, "ann", NOW)
    base.finish(run_id)
    base.store.access.bind_key(W1, K2, ORIGIN, "ann", NOW)
    base.store.access.revoke_token("t1", "eve", NOW)
    base.store.access.revoke_key(W1, "eve", NOW)
    base.turn()
    base.store.rollback()
    findings = check(base.engine)
    base.store.begin()
    assert (findings.count, findings.sentences) == (0, [])
    assert findings.events >= 8


# --- where a key came from -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", KeyOrigin)
def test_origin_of_a_key_is_kept(base: Base, origin: KeyOrigin) -> None:
    base.store.access.bind_key(W1, K1, origin, "ann", NOW)
    found = base.store.access.key_of(W1)
    assert found is not None
    assert found.origin is origin
    assert base.store.access.has_remote_key() == (origin is not KeyOrigin.ENROLLED)


def test_revoked_key_is_not_a_remote_key(base: Base) -> None:
    assert not base.store.access.has_remote_key()
    base.store.access.bind_key(W1, K1, KeyOrigin.FILE, "ann", NOW)
    base.store.access.bind_key(W2, K2, KeyOrigin.ENROLLED, "ann", NOW)
    base.store.access.revoke_key(W1, "ann", NOW)
    assert not base.store.access.has_remote_key()
