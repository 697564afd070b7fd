"""Owners and the bounds of tokens over REST: who may act on whose job on every route, and for which worker."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from falcon import testing

from tests.unit.rest import ME, Rest, problem, until
from tests.unit.test_rest_tokens import elsewhere
from zsched.api.app import ACT, ROUTES
from zsched.api.gate import PEER_UID, Trust
from zsched.model.access import Scope
from zsched.model.limits import PRIORITY_MAX, TOKEN_LIFE_MS_DEFAULT, TOKEN_PENDING_MAX, TOKEN_USED_MS
from zsched.model.types import JobSpec
from zsched.security import owners
from zsched.security.keys import new_pair
from zsched.store.sqlite.engine import open_reader, open_writer

JOB = {"name": "j", "command": "true"}
_names = count(1)


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    with Rest(tmp_path_factory.mktemp("rest"), server_key=new_pair().public) as started:
        yield started


class Holder:
    """A caller elsewhere with a new token."""

    def __init__(self, rest: Rest, *scopes: str, **fields: object) -> None:
        fields.setdefault("name", f"t{next(_names)}")
        made = rest.post("/tokens", {"scopes": scopes or ("read", "submit"), **fields})
        assert made.status_code == 201, made.text
        self.rest = rest
        self.view: dict[str, Any] = made.json
        self.name = self.view["name"]
        self.owner = f"token:{self.name}"

    def call(self, method: str, path: str, value: object = None, **more: Any) -> testing.Result:
        if value is not None:
            more["json"] = value
        headers = {"Authorization": f"Bearer {self.view['token']}"}
        return self.rest.call(method, path, headers=headers, **elsewhere(), **more)

    def submit(self, **fields: object) -> int:
        answer = self.call("POST", "/jobs", {**JOB, **fields})
        assert answer.status_code == 201, answer.text
        return int(answer.json["id"])


# --- who may act on a job --------------------------------------------------------------------------------------------

# A request that each call on a job accepts: its body, and what follows the path.
BODIES: dict[tuple[str, str], object] = {("/jobs/{job}", "PATCH"): {"timeout": "1m"}}
QUERIES = {("/jobs/{job}", "DELETE"): "?cancel=1"}
# Calls on jobs without a schedule.
PLAIN = ("hold", "release", "rerun")
ACTS = [
    (path, method) for path, _, needs in ROUTES for method, scopes in needs.items() if "{job}" in path and scopes == ACT
]


def test_every_call_that_changes_a_job_needs_the_same_scopes() -> None:
    """A call that names another scope would escape the test below."""
    changing = {
        (path, method)
        for path, _, needs in ROUTES
        for method in needs
        if path.startswith("/jobs/{job}") and method != "GET" and path != "/jobs/{job}/log"
    }
    assert set(ACTS) == changing


@pytest.mark.parametrize(("path", "method"), ACTS)
@pytest.mark.parametrize(
    ("scopes", "whose"),
    [
        (scopes, whose)
        for scopes in (("submit",), ("submit", "operate"), ("operate",), ("admin",))
        for whose in ("own", "another token's", "a user's", "nobody's")
        # Which can't submit.
        if (scopes, whose) != (("operate",), "own")
    ],
)
def test_action_on_a_job_needs_its_owner_or_an_operator(
    rest: Rest, path: str, method: str, whose: str, scopes: tuple[str, ...]
) -> None:
    caller = Holder(rest, *scopes)
    job = {"own": caller, "another token's": Holder(rest)}.get(whose)
    fields: dict[str, Any] = {} if path.endswith(PLAIN) else {"schedule": "0 0 1 1 *", "run_now": True}
    number = rest.submit(**fields) if job is None else job.submit(**fields)
    if path.endswith("rerun"):
        assert rest.post(f"/jobs/{number}/cancel").status_code == 200
    if whose == "nobody's":
        orphan(rest, number)
    before = rest.get(f"/jobs/{number}").json
    answer = caller.call(method, asked(path, method, number), BODIES.get((path, method)))
    if whose == "own" or scopes != ("submit",):
        assert answer.status_code == 200, answer.text
        return
    owner = {"another token's": before.get("owner"), "a user's": ME}.get(whose)
    named = f"belongs to {owner}" if owner else "has no owner"
    sentence = f"Job {number} {named}: a token needs the scope operate to act on it"
    problem(answer, 403, "not_owner", sentence)
    assert rest.get(f"/jobs/{number}").json == before


def asked(path: str, method: str, number: int) -> str:
    """The path of a call on a job, with its parameters."""
    return path.format(job=number) + QUERIES.get((path, method), "")


def orphan(rest: Rest, number: int) -> None:
    """Make a job one of before there were owners."""
    import apsw

    connection = apsw.Connection(str(rest.path))
    connection.set_busy_timeout(5_000)
    connection.execute("UPDATE jobs SET owner_id = NULL WHERE job_id = ?", (number,))
    connection.close()
    assert "owner" not in rest.get(f"/jobs/{number}").json


@pytest.mark.parametrize(("path", "method"), ACTS)
def test_an_unknown_job_is_404_for_every_scope(rest: Rest, path: str, method: str) -> None:
    for scopes in (("submit",), ("operate",), ("admin",)):
        answer = Holder(rest, *scopes).call(method, asked(path, method, 10**9), BODIES.get((path, method)))
        assert (answer.status_code, answer.json["code"]) == (404, "unknown_job")


# --- owners in jobs, lists and events --------------------------------------------------------------------------------


def test_a_job_shows_its_owner_and_its_event_the_same_name(rest: Rest) -> None:
    ci = Holder(rest)
    job = ci.submit()
    assert rest.get(f"/jobs/{job}").json["owner"] == ci.owner
    assert rest.get(f"/jobs/{rest.submit()}").json["owner"] == ME
    actors = {event.get("job_id"): event["actor"] for event in rest.get("/events?limit=1000").json}
    assert actors[job].startswith(f"{ci.owner} at 2001:db8::")
    assert actors[job + 1] == f"{ME} at 127.0.0.1"


def test_lists_are_filtered_by_owner_and_status(rest: Rest) -> None:
    ci, other = Holder(rest), Holder(rest)
    mine = [ci.submit() for _ in range(3)]
    cancelled = [ci.submit() for _ in range(2)]
    theirs = other.submit()
    for job in cancelled:
        assert ci.call("POST", f"/jobs/{job}/cancel").status_code == 200

    def ids(answer: testing.Result) -> list[int]:
        assert answer.status_code == 200, answer.text
        return [job["id"] for job in answer.json]

    everything = sorted(mine + cancelled, reverse=True)
    assert ids(ci.call("GET", "/jobs?owner=me")) == everything
    assert ids(rest.get("/jobs", params={"owner": ci.owner})) == everything
    assert ids(other.call("GET", f"/jobs?owner={ci.owner}&status=cancelled")) == cancelled[::-1]
    assert ids(ci.call("GET", "/jobs?owner=me&status=pending")) == mine[::-1]
    assert ids(ci.call("GET", "/jobs?owner=me&limit=2&offset=1")) == everything[1:3]
    assert ids(other.call("GET", "/jobs?owner=me")) == [theirs]
    assert theirs not in ids(rest.get("/jobs?owner=me&limit=1000"))
    assert ids(rest.get("/jobs?owner=user:nobody-at-all")) == []


@pytest.mark.parametrize("owner", ["", "alice", "user:", "USER:alice", "me ", "x" * 301, "user:" + "x" * 300])
def test_an_owner_that_can_not_be_is_refused(rest: Rest, owner: str) -> None:
    answer = rest.get("/jobs", params={"owner": owner})
    problem(
        answer, 400, "invalid_request", "owner: me, user:NAME or token:NAME", ("owner", "me, user:NAME or token:NAME")
    )


def test_users_are_owners_by_name_and_without_one_by_number(tmp_path: Path) -> None:
    with Rest(tmp_path, trust=Trust(uids=frozenset({4_242, 1}))) as rest:
        for uid in (4_242, 1):
            assert rest.post("/jobs", JOB, extras={PEER_UID: lambda uid=uid: uid}).status_code == 201
        assert [job["owner"] for job in rest.get("/jobs").json] == [f"user:{pwd.getpwuid(1).pw_name}", "user:4242"]
        # Keys of submits are the user's by its number, which no other user ever has.
        headers = {"Idempotency-Key": "k"}
        for _ in range(2):
            assert rest.post("/jobs", JOB, headers=headers).json["id"] == 3


@pytest.mark.parametrize(("trust", "owner"), [(Trust("any"), "local"), (Trust(insecure=True), "anybody")])
def test_callers_without_a_name_share_an_owner(tmp_path: Path, trust: Trust, owner: str) -> None:
    with Rest(tmp_path, trust=trust) as rest:
        rest.submit()
        assert [job["owner"] for job in rest.get("/jobs?owner=me").json] == [owner]
        assert len(rest.get(f"/jobs?owner={owner}").json) == 1


@pytest.mark.parametrize("name", ["", "4242", "a\nb"])
def test_a_user_name_that_could_be_taken_for_another_is_not_used(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A user called 4242 is not the one with that number."""
    entry = list(pwd.getpwuid(os.geteuid()))
    entry[0] = name
    monkeypatch.setattr(pwd, "getpwuid", lambda _: pwd.struct_passwd(entry))
    assert owners.of_user.__wrapped__(77) == "user:77"


# --- tokens: names, bounds, expiry, last use -------------------------------------------------------------------------


def test_a_token_has_a_name_that_is_its_own_for_ever(rest: Rest) -> None:
    ci = Holder(rest, name="deploy")
    taken = rest.post("/tokens", {"scopes": ["read"], "name": "deploy"})
    sentence = "A token named deploy exists or was revoked: take another name"
    problem(taken, 409, "token_name_taken", sentence)
    assert rest.call("DELETE", "/tokens/deploy").json["id"] == ci.view["id"]
    assert rest.post("/tokens", {"scopes": ["read"], "name": "deploy"}).status_code == 409
    made = rest.post("/tokens", {"scopes": ["read"]}).json
    assert made["name"] == made["id"]
    # No token can pass for another one by a name that is the other's id.
    assert rest.post("/tokens", {"scopes": ["read"], "name": made["id"]}).status_code == 400


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "a b"},
        {"name": "-a"},
        {"name": "x" * 65},
        {"name": "0123456789ab"},
        {"name": "a\n"},
        {"run_as": "a b"},
        {"run_as": ""},
        {"pending_max": 0},
        {"pending_max": TOKEN_PENDING_MAX + 1},
        {"schedules_max": -1},
        {"priority_max": PRIORITY_MAX + 1},
        {"workers": ["a b"]},
        {"workers": [""]},
        {"workers": ["[a-z]"]},
        {"workers": ["x"] * 65},
        {"workers": "w1"},
        {"slots_max": 0},
        {"expires": "always"},
    ],
)
def test_bounds_that_make_no_sense_are_refused(rest: Rest, fields: dict[str, object]) -> None:
    answer = rest.post("/tokens", {"scopes": ["submit"], **fields})
    assert answer.status_code == 400, answer.text
    (name,) = fields
    assert answer.json["errors"][0]["pointer"].startswith(f"#/{name}")


def test_a_token_shows_its_bounds(rest: Rest) -> None:
    bounds: dict[str, object] = {"run_as": "build", "pending_max": 7, "schedules_max": 0, "priority_max": -10}
    bounds |= {"workers": ["gpu-*", "w1"], "slots_max": 4}
    made = Holder(rest, "submit", "worker", **bounds)
    assert {name: made.view[name] for name in bounds} == bounds
    (listed,) = [view for view in rest.get("/tokens").json if view["id"] == made.view["id"]]
    assert {name: listed[name] for name in bounds} == bounds


def test_a_token_expires_unless_it_is_made_for_ever(rest: Rest) -> None:
    from datetime import datetime

    made = Holder(rest).view
    life = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["created_at"])
    assert life.total_seconds() * 1000 == TOKEN_LIFE_MS_DEFAULT
    assert "expires_at" not in Holder(rest, expires="never").view


@pytest.mark.slow
def test_the_last_use_is_stored_once_in_a_while(rest: Rest) -> None:
    ci = Holder(rest)

    def shown() -> str | None:
        (view,) = [view for view in rest.get("/tokens").json if view["id"] == ci.view["id"]]
        last: str | None = view.get("last_used_at")
        return last

    assert shown() is None
    assert ci.call("GET", "/jobs").status_code == 200
    until(lambda: shown() is not None)
    first = shown()
    posted = rest.inbox._posted
    for _ in range(50):
        assert ci.call("GET", "/version").status_code == 200
        assert not posted
    assert shown() == first
    # A refused call is one as well; a call with a bad token is not.
    other = Holder(rest, "read")
    bad = other.view["token"][:-4] + "0000"
    assert rest.get("/jobs", headers={"Authorization": f"Bearer {bad}"}, **elsewhere()).status_code == 401
    assert not posted
    assert other.call("POST", "/jobs", JOB).status_code == 403
    until(lambda: "last_used_at" in next(one for one in rest.get("/tokens").json if one["id"] == other.view["id"]))


def test_last_use_is_stored_again_later_and_after_a_clock_set_back(rest: Rest) -> None:
    from zsched.api.gate import Gate
    from zsched.model.access import Token

    noted: list[str] = []
    gate = Gate(Trust(), lambda: rest.context.reader, {}, noted.append)

    def use(token_id: str, last_used_ms: int | None) -> None:
        token = Token(
            token_id=token_id,
            digest=b"",
            scopes=frozenset(),
            note="",
            created_ms=1,
            created_by="x",
            last_used_ms=last_used_ms,
        )
        gate._note_use(token, 10 * TOKEN_USED_MS)

    use("never", None)
    use("never", None)
    use("lately", 9 * TOKEN_USED_MS + 1)
    use("long ago", 9 * TOKEN_USED_MS)
    use("in the future", 11 * TOKEN_USED_MS)
    use("in a moment", 10 * TOKEN_USED_MS + 1)
    assert noted == ["never", "long ago", "in the future"]


# --- what a token allows its jobs ------------------------------------------------------------------------------------


def test_a_submit_beyond_a_tokens_bounds_is_refused_with_a_reason(rest: Rest) -> None:
    ci = Holder(rest, "submit", run_as="build", pending_max=3, schedules_max=1)
    assert ci.call("POST", "/jobs", JOB).json["user"] == "build"
    answer = ci.call("POST", "/jobs", {**JOB, "user": "root"})
    problem(answer, 403, "run_as", "Jobs of this token run as build, not as root: leave user out")
    ci.submit(schedule="0 0 1 1 *")
    answer = ci.call("POST", "/jobs", {**JOB, "schedule": "0 0 1 1 *"})
    problem(answer, 409, "too_many_schedules", "This token may have 1 recurring jobs: end one of them first")
    answer = ci.call("POST", "/jobs", [JOB] * 2)
    sentence = "3 jobs of this token may be pending, and are: submit again when some have started"
    problem(answer, 429, "too_many_pending", sentence)
    assert answer.headers["Retry-After"] == "1"
    assert ci.call("POST", "/jobs", [JOB] * 4).status_code == 413
    # A replay needs no room.
    headers = {"Idempotency-Key": "k", "Authorization": f"Bearer {ci.view['token']}"}
    third = [rest.post("/jobs", JOB, headers=headers, **elsewhere()) for _ in range(2)]
    assert [answer.status_code for answer in third] == [201, 201]
    assert third[0].json["id"] == third[1].json["id"]
    assert ci.call("POST", "/jobs", JOB).status_code == 429


def test_a_priority_above_that_of_a_token_is_refused_on_each_call(rest: Rest) -> None:
    ci = Holder(rest, "submit", priority_max=5)
    job = ci.submit(priority=5)
    sentence = "Invalid priority {}: this token allows at most 5; give priority 5 or less, or use another token"
    problem(ci.call("POST", "/jobs", {**JOB, "priority": 6}), 403, "priority_max", sentence.format(6))
    problem(ci.call("PATCH", f"/jobs/{job}", {"priority": 7}), 403, "priority_max", sentence.format(7))
    assert rest.call("PATCH", f"/jobs/{job}", json={"priority": 8}).status_code == 200
    assert rest.post(f"/jobs/{job}/cancel").status_code == 200
    problem(ci.call("POST", f"/jobs/{job}/rerun"), 403, "priority_max", sentence.format(8))
    assert rest.get("/stats").json["refused"]["priority_max"] == 3


def test_a_token_revoked_between_the_gate_and_the_turn_submits_nothing(rest: Rest) -> None:
    from zsched.model.access import Caller
    from zsched.scheduler.dispatcher.commands import BadTokenError, Submit

    ci = Holder(rest)
    rest.call("DELETE", f"/tokens/{ci.name}?jobs=cancel")
    by = Caller(owner=ci.owner, actor="x", all_jobs=False, token_id=ci.view["id"])
    with pytest.raises(BadTokenError):
        rest.inbox.call(Submit((JobSpec(name="j", command="true"),), by))


# --- the end of a revoked token's jobs -------------------------------------------------------------------------------


def test_revoking_says_what_goes_on_and_ends_it_when_asked_to(rest: Rest) -> None:
    ci = Holder(rest)
    jobs = [ci.submit() for _ in range(3)]
    cron = ci.submit(schedule="0 0 1 1 *")
    told = rest.call("DELETE", f"/tokens/{ci.view['id']}").json
    assert (told["live_jobs"], told["live_schedules"], told.get("ending")) == (3, 1, None)
    assert rest.call("DELETE", f"/tokens/{ci.view['id']}").status_code == 404
    told = rest.call("DELETE", f"/tokens/{ci.name}?jobs=cancel").json
    assert told["revoked_at"]
    until(lambda: all(rest.get(f"/jobs/{job}").json["status"] == "cancelled" for job in jobs))
    assert "next_fire_at" not in rest.get(f"/jobs/{cron}").json
    told = rest.call("DELETE", f"/tokens/{ci.name}?jobs=cancel").json
    assert (told["live_jobs"], told["live_schedules"]) == (0, 0)
    until(lambda: "ending" not in next(one for one in rest.get("/tokens").json if one["name"] == ci.name))
    answer = rest.call("DELETE", f"/tokens/{ci.name}?jobs=keep")
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (400, "jobs")


# --- workers ---------------------------------------------------------------------------------------------------------


def as_worker(holder: Holder, name: str, job: int, key: str) -> dict[str, testing.Result]:
    """Each call by which a caller speaks for a worker."""
    return {
        "/workers/register": holder.call("POST", "/workers/register", {"worker_id": name}),
        "/workers/heartbeat": holder.call("POST", "/workers/heartbeat", {"worker_id": name}),
        "/workers/{worker}/next": holder.call("GET", f"/workers/{name}/next"),
        "/jobs/{job}/log": holder.call("POST", f"/jobs/{job}/log", {"worker_id": name, "status": "running"}),
        "/workers/enrol": holder.call("POST", "/workers/enrol", {"worker_id": name, "public_key": key}),
    }


def test_a_token_bound_to_workers_speaks_for_no_other_on_any_call(rest: Rest) -> None:
    rest.register("victim")
    bound = Holder(rest, "worker", workers=["gpu-*", "solo", "n?"])
    free = Holder(rest, "worker")
    job = rest.submit()
    calls = as_worker(bound, "victim", job, new_pair().public)
    assert set(calls) == {path for path, _, needs in ROUTES if (Scope.WORKER,) in needs.values()}
    sentence = "This token speaks for the workers gpu-*, solo, n?, not for victim"
    for answer in calls.values():
        problem(answer, 403, "not_bound", sentence)
    assert not [key for key in rest.get("/access").json if key["worker_id"] == "victim"]
    for name in ("gpu", "solo2", "xgpu-1", "n10", "GPU-1"):
        assert bound.call("POST", "/workers/register", {"worker_id": name}).json["code"] == "not_bound"
    for holder, name in ((bound, "gpu-1"), (bound, "gpu-"), (bound, "solo"), (bound, "n1"), (free, "victim")):
        for path, answer in as_worker(holder, name, job, new_pair().public).items():
            assert answer.status_code in (200, 409), f"{path} {name}: {answer.text}"
    rest.call("POST", f"/jobs/{job}/cancel")


def test_a_token_bounds_the_slots_of_its_workers(rest: Rest) -> None:
    bound = Holder(rest, "worker", slots_max=4)
    answer = bound.call("POST", "/workers/register", {"worker_id": "s1", "slots": 5})
    detail = "this token's workers have at most 4 slots, not 5"
    problem(answer, 403, "slots_max", f"slots: {detail}", ("#/slots", detail))
    assert rest.get("/workers/s1").status_code == 404
    assert bound.call("POST", "/workers/register", {"worker_id": "s1", "slots": 4}).json["slots"] == 4
    key = new_pair().public
    assert bound.call("POST", "/workers/enrol", {"worker_id": "z1", "public_key": key}).status_code == 200
    (kept,) = [one for one in rest.get("/access").json if one["worker_id"] == "z1"]
    assert kept["slots_max"] == 4


# --- databases of before ---------------------------------------------------------------------------------------------


def test_a_database_of_before_is_taken_over(tmp_path: Path) -> None:
    """Its tokens are named by their ids, and go on; its jobs have no owner."""
    import apsw

    from zsched.store.sqlite.engine import SqliteEngine
    from zsched.store.sqlite.migrations import schema_steps

    path = tmp_path / "scheduler.db"
    path.touch(0o600)
    old = SqliteEngine(path)
    for number, step in enumerate(schema_steps()[:6], 1):
        old.execute(step)
        old.execute(f"PRAGMA user_version = {number}")
    old.execute(f"PRAGMA application_id = {0x7A736368}")
    old.execute("INSERT INTO identity VALUES ('x', 1)")
    old.execute("INSERT INTO tokens VALUES ('0123456789ab', zeroblob(32), 'submit', '', 1, 'x', NULL, NULL)")
    old.execute("INSERT INTO demands (wish) VALUES ('{}')")
    old.execute(
        "INSERT INTO jobs (name, command, demand_id, grace_ms, crash_limit, success, created_ms, updated_ms)"
        " VALUES ('j', 'true', 1, 1, 1, 1, 1, 1)"
    )
    old.close()
    open_writer(path, 1).close()
    reader = open_reader(path)
    (token,) = reader.tokens()
    assert (token.name, token.owner, token.scopes) == (
        "0123456789ab",
        "token:0123456789ab",
        frozenset({Scope.SUBMIT}),
    )
    assert [job.owner for job in reader.jobs(None, 10, 0)] == [""]
    reader.close()
    assert apsw.Connection(str(path)).pragma("foreign_key_check") is None
