"""Workers that know nothing but HTTP: register, heartbeat, next, log; and the rules that keep their runs safe."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.unit.rest import Rest, problem, receive, until
from tests.unit.test_rest_tokens import add
from zsched import protocol
from zsched.api.gate import LOCAL_ADDRESS, Trust
from zsched.model.access import Scope
from zsched.model.limits import KIB, MIB, OUTPUT_BYTES_MAX
from zsched.security.keys import new_pair
from zsched.store.check import check
from zsched.store.sqlite.engine import SqliteEngine

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
NOT_A_NAME = "1 to 128 letters, digits and . _ @ : - (a letter or digit first)"


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Rest]:
    with Rest(tmp_path) as started:
        yield started


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Rest]:
    """A scheduler that takes a worker for lost after a second."""
    with Rest(tmp_path, timeout_ms=1_000) as started:
        yield started


# --- register, heartbeat, the list -----------------------------------------------------------------------------------


def test_registering_answers_with_the_worker(rest: Rest) -> None:
    view = rest.register("w1").json

    assert TIME.fullmatch(view.pop("last_seen"))
    assert TIME.fullmatch(view.pop("registered_at"))
    assert view == {"worker_id": "w1", "status": "active", "kind": "rest", "slots": 1}


def test_a_worker_may_announce_slots_features_and_labels(rest: Rest) -> None:
    view = rest.register("w1", slots=4, can=["env", "cwd"], labels={"disk": "ssd"}).json
    assert (view["slots"], view["can"], view["labels"]) == (4, ["env", "cwd"], {"disk": "ssd"})


def test_the_list_of_workers_is_a_bare_array(rest: Rest) -> None:
    assert rest.get("/workers").text == "[]"
    rest.register("w2")
    rest.register("w1")
    listed = rest.get("/workers").json
    assert [worker["worker_id"] for worker in listed] == ["w1", "w2"]
    assert rest.get("/workers/w1").json == listed[0]
    problem(rest.get("/workers/w3"), 404, "unknown_worker", "Worker not found")


@pytest.mark.slow
def test_a_worker_that_is_gone_can_be_removed(hasty: Rest) -> None:
    hasty.register("w1")
    hasty.register("w2")
    sentence = "Worker w1 is active: stop it first"
    problem(hasty.call("DELETE", "/workers/w1"), 409, "worker_active", sentence)
    until(lambda: hasty.get("/workers/w1").json["status"] == "inactive")
    removed = hasty.call("DELETE", "/workers/w1")
    assert (removed.status_code, removed.json["worker_id"], removed.json["status"]) == (200, "w1", "inactive")
    assert [worker["worker_id"] for worker in hasty.get("/workers").json] == ["w2"]
    problem(hasty.call("DELETE", "/workers/w1"), 404, "unknown_worker", "Worker not found")
    (event,) = hasty.get("/events?kind=worker_removed").json
    assert (event["worker_id"], event["was"]) == ("w1", "inactive")
    # It comes back as a new one.
    assert hasty.register("w1").status_code in (200, 201)
    with closing(SqliteEngine(hasty.path, read_only=True)) as engine:
        assert check(engine).sentences == []


def test_a_worker_with_foreign_results_can_not_be_removed(rest: Rest) -> None:
    rest.connect("z1", (protocol.Foreign("1" * 32, (7, 8), results=1, finished=(5,)),))
    sentence = "Worker z1 holds runs or results of another database: run `zsched foreign discard z1` first"
    problem(rest.call("DELETE", "/workers/z1"), 409, "foreign_runs", sentence)


def test_a_heartbeat_is_answered_ok(rest: Rest) -> None:
    rest.register("w1")
    answer = rest.post("/workers/heartbeat", {"worker_id": "w1"})
    assert (answer.status_code, answer.json) == (200, {"status": "ok"})


def test_unregistered_worker_is_404_until_it_registers(rest: Rest) -> None:
    sentence = "Worker w1 is not registered: POST /workers/register first"
    problem(rest.post("/workers/heartbeat", {"worker_id": "w1"}), 404, "unknown_worker", sentence)
    problem(rest.get("/workers/w1/next"), 404, "unknown_worker", sentence)
    assert rest.get("/workers").json == []

    rest.register("w1")
    assert rest.post("/workers/heartbeat", {"worker_id": "w1"}).status_code == 200


@pytest.mark.parametrize("path", ["/workers/register", "/workers/heartbeat", "/workers/enrol"])
def test_a_workers_name_is_required_and_safe_in_a_path(rest: Rest, path: str) -> None:
    problem(rest.post(path, {}), 400, "invalid_request", "worker_id: required", ("#/worker_id", "required"))
    for name in ("", "../w", "a b", "w\n", "é", ".w", "a/b", "w" * 129):
        answer = rest.post(path, {"worker_id": name})
        assert answer.status_code == 400, name
        assert answer.json["errors"][0]["pointer"] == "#/worker_id"
    problem(
        rest.post(path, {"worker_id": "a b"}),
        400,
        "invalid_request",
        f"worker_id: {NOT_A_NAME}",
        ("#/worker_id", NOT_A_NAME),
    )
    assert rest.get("/workers").json == []


@pytest.mark.parametrize(
    "facts", [{"labels": {f"{n:02}" + "\U0001f600" * 62: "x" for n in range(17)}}, {"can": ["\U0001f600" * 64] * 17}]
)
def test_what_a_worker_says_of_itself_is_bounded_in_bytes(rest: Rest, facts: dict[str, object]) -> None:
    answer = rest.post("/workers/register", {"worker_id": "w1", **facts})
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (400, "#/labels")
    assert "at most 4096 bytes of UTF-8 together" in answer.json["detail"]
    assert rest.get("/workers").json == []


@pytest.mark.parametrize("slots", [0, -1, 4_097, 1.5, "2", None, True])
def test_slots_are_a_number_within_bounds(rest: Rest, slots: object) -> None:
    answer = rest.post("/workers/register", {"worker_id": "w1", "slots": slots})
    assert answer.status_code == 400
    assert answer.json["errors"][0]["pointer"] == "#/slots"


def test_enrolling_tells_where_the_zeromq_port_is(rest: Rest) -> None:
    answer = rest.post("/workers/enrol", {"worker_id": "w1"})
    assert (answer.status_code, answer.json) == (200, {"endpoint": "tcp://127.0.0.1:5555", "db": rest.db})


@pytest.mark.parametrize(
    ("zmq_host", "called", "endpoint"),
    [
        ("0.0.0.0", "localhost:8080", "tcp://localhost:5555"),
        ("0.0.0.0", "127.0.0.1", "tcp://127.0.0.1:5555"),
        ("", "[::1]:8080", "tcp://[::1]:5555"),
        ("0.0.0.0", "[::1]:8080", "tcp://[::1]:5555"),
        ("::", "[::1]:8080", "tcp://[::1]:5555"),
        ("192.0.2.1", "[::1]:8080", "tcp://192.0.2.1:5555"),
    ],
)
def test_enrolled_worker_gets_an_address_on_which_the_port_is(
    tmp_path: Path, zmq_host: str, called: str, endpoint: str
) -> None:
    with Rest(tmp_path, zmq_host=zmq_host) as rest:
        answer = rest.post("/workers/enrol", {"worker_id": "w2"}, headers={"Host": called})
        assert answer.json["endpoint"] == endpoint
    assert rest.get("/workers").json == []


# --- next ------------------------------------------------------------------------------------------------------------


def test_asking_assigns_the_oldest_run(rest: Rest) -> None:
    rest.register("w1")
    assert rest.get("/workers/w1/next").json == {"job": None}
    first, _ = rest.submit("echo 1", timeout="10m"), rest.submit("echo 2")

    answer = rest.get("/workers/w1/next")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "ETag" not in answer.headers
    job = answer.json["job"]
    assert TIME.fullmatch(job.pop("created_at"))
    assert TIME.fullmatch(job.pop("updated_at"))
    assert job == {"id": first, "name": "j", "command": "echo 1", "run_id": 1, "attempt": 1, "timeout_ms": 600_000}
    last = rest.get(f"/jobs/{first}").json["last_run"]
    assert (last["status"], last["worker_id"]) == ("running", "w1")


def test_an_answer_that_was_lost_on_the_way_is_given_again(rest: Rest) -> None:
    rest.submit()
    rest.submit()
    rest.register("w1")
    assert [rest.take("w1")["run_id"] for _ in range(3)] == [1, 1, 1]


def test_two_workers_never_get_the_same_run(rest: Rest) -> None:
    for _ in range(2):
        rest.submit()
    rest.register("w1")
    rest.register("w2")
    assert [rest.take(name)["run_id"] for name in ("w1", "w2", "w1", "w2")] == [1, 2, 1, 2]


def test_a_hundred_askers_at_once_get_a_hundred_runs(rest: Rest) -> None:
    rest.post("/jobs", [{"name": "j", "command": "true"}] * 100)
    names = [f"w{number}" for number in range(100)]
    for name in names:
        rest.register(name)
    got: dict[str, int] = {}
    threads = [
        threading.Thread(target=lambda name=name: got.update({name: rest.take(name)["run_id"]})) for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(got.values()) == list(range(1, 101))


def test_a_worker_with_two_slots_gets_two_runs(rest: Rest) -> None:
    for _ in range(3):
        rest.submit()
    rest.register("w1", slots=2)
    assert [rest.take("w1")["run_id"] for _ in range(3)] == [1, 2, 1]


@pytest.mark.slow
def test_worker_with_room_gets_an_unstarted_run_again_after_the_timeout(hasty: Rest) -> None:
    hasty.submit()
    hasty.register("w1", slots=2)
    assert hasty.take("w1")["run_id"] == 1
    assert hasty.get("/workers/w1/next").json == {"job": None}

    until(lambda: hasty.get("/workers/w1/next").json["job"] is not None)
    assert hasty.take("w1")["run_id"] == 1
    assert len(hasty.get("/jobs/1/runs").json) == 1


def test_a_worker_that_asks_while_its_only_run_runs_has_lost_it(rest: Rest) -> None:
    job = rest.submit()
    rest.register("w1")
    rest.take("w1")
    rest.report(job, "w1", "running")

    assert rest.take("w1")["run_id"] == 2
    lost = rest.get("/runs/1").json
    assert (lost["status"], lost["reason"], lost["detail"]) == ("failed", "worker_lost", "asked for another run")
    assert rest.report(job, "w1", "success", run_id=1).status_code == 409
    assert rest.report(job, "w1", "success", run_id=2).status_code == 200


@pytest.mark.slow
def test_worker_whose_run_was_lost_goes_on_being_heard(hasty: Rest) -> None:
    """Also when that run had been watched for its first second: nothing is written into a run that has ended."""
    job = hasty.submit()
    hasty.register("w1")
    hasty.take("w1")
    hasty.report(job, "w1", "running")
    hasty.take("w1")

    def seen() -> str:
        assert hasty.post("/workers/heartbeat", {"worker_id": "w1"}).json == {"status": "ok"}
        return str(hasty.get("/workers/w1").json["last_seen"])

    first = seen()
    until(lambda: seen()[:19] > first[:19])
    first = seen()
    until(lambda: seen()[:19] > first[:19])


# --- the log post ----------------------------------------------------------------------------------------------------


def test_a_run_goes_from_running_to_its_end(rest: Rest) -> None:
    job = rest.submit()
    rest.register("w1")
    rest.take("w1")

    answer = rest.report(job, "w1", "running")
    assert answer.status_code == 200
    assert answer.json == rest.get("/runs/1").json
    assert answer.json["status"] == "running"
    answer = rest.report(job, "w1", "failed", logs="no", exit_code=3)
    assert answer.status_code == 200
    assert answer.json == rest.get("/runs/1").json
    assert (answer.json["status"], answer.json["reason"], answer.json["exit_code"]) == ("failed", "exit", 3)
    assert answer.json["logs"] == "no"


def test_a_run_may_end_without_a_word_in_between(rest: Rest) -> None:
    job = rest.submit()
    rest.register("w1")
    rest.take("w1")
    answer = rest.report(job, "w1", "success")
    assert (answer.status_code, answer.json["status"], answer.json["reason"]) == (200, "success", "reported")
    assert "exit_code" not in answer.json
    assert "logs" not in answer.json


def test_the_same_end_again_is_200_and_changes_nothing(rest: Rest) -> None:
    job = rest.submit()
    rest.register("w1")
    rest.take("w1")
    rest.report(job, "w1", "running")
    first = rest.report(job, "w1", "success", logs="first", exit_code=0)

    again = rest.report(job, "w1", "success", logs="second")
    assert (again.status_code, again.json) == (200, first.json)
    assert rest.get("/runs/1").json == first.json


def test_success_with_another_exit_code_than_0_is_refused(rest: Rest) -> None:
    job = rest.submit()
    rest.register("w1")
    rest.take("w1")
    refused = rest.report(job, "w1", "success", exit_code=5)
    assert refused.status_code == 400
    assert refused.json["errors"][0]["pointer"] == "#/exit_code"
    assert rest.get("/runs/1").json["status"] == "running"


def test_an_end_is_final(rest: Rest) -> None:
    job = rest.submit()
    rest.register("w1")
    rest.take("w1")
    ended = rest.report(job, "w1", "success", exit_code=0).json

    for status in ("failed", "running"):
        problem(rest.report(job, "w1", status), 409, "not_running", "Run 1 is success, not running")
    assert rest.get("/runs/1").json == ended


def test_another_workers_word_changes_nothing(rest: Rest) -> None:
    job = rest.submit()
    rest.register("w1")
    rest.register("w2")
    rest.take("w1")
    before = rest.get(f"/jobs/{job}").json

    sentence = f"Worker w2 has no run of job {job} to report on"
    for status in ("running", "success", "failed"):
        problem(rest.report(job, "w2", status, logs="mine"), 409, "not_owner", sentence)
        problem(rest.report(job, "w2", status, run_id=1), 409, "not_owner", sentence)
        problem(rest.report(job, "nobody", status), 409, "not_owner", sentence.replace("w2", "nobody"))
    assert rest.get(f"/jobs/{job}").json == before
    assert rest.report(job, "w1", "success").status_code == 200


def test_a_report_names_its_run_where_two_are_live(rest: Rest) -> None:
    rest.post("/jobs", [{"name": "j", "command": "true"}, {"name": "k", "command": "true"}])
    rest.register("w1", slots=2)
    rest.take("w1")
    rest.take("w1")
    # Two live runs of one job need a job of several tasks; of two jobs each is meant by its own path.
    assert rest.report(2, "w1", "success").json["run_id"] == 2
    problem(rest.report(1, "w1", "success", run_id=2), 409, "not_owner", "Worker w1 has no run of job 1 to report on")
    assert rest.report(1, "w1", "success", run_id=1).json["run_id"] == 1


def test_register_again_ends_what_the_name_still_held(rest: Rest) -> None:
    job = rest.submit()
    rest.register("w1")
    rest.take("w1")
    rest.report(job, "w1", "running")
    registered_at = rest.get("/workers/w1").json["registered_at"]

    assert rest.register("w1").json["registered_at"] == registered_at
    lost, waiting = rest.get("/runs/1").json, rest.get(f"/jobs/{job}").json["last_run"]
    assert (lost["status"], lost["reason"], lost["detail"]) == ("failed", "worker_lost", "registered again")
    assert (waiting["run_id"], waiting["status"]) == (2, "pending")
    problem(rest.report(job, "w1", "success"), 409, "not_running", "Run 1 is failed, not running")


@pytest.mark.slow
def test_a_silent_worker_is_inactive_and_its_run_goes_to_another(hasty: Rest) -> None:
    job = hasty.submit()
    hasty.register("w1")
    hasty.take("w1")
    hasty.report(job, "w1", "running")

    until(lambda: hasty.get("/workers/w1").json["status"] == "inactive")
    lost = hasty.get("/runs/1").json
    assert (lost["status"], lost["reason"]) == ("failed", "worker_lost")
    hasty.register("w2")
    assert hasty.take("w2")["run_id"] == 2
    problem(hasty.report(job, "w1", "success"), 409, "not_running", "Run 1 is failed, not running")
    # It was never told, so it simply goes on.
    assert hasty.post("/workers/heartbeat", {"worker_id": "w1"}).status_code == 200
    assert hasty.get("/workers/w1").json["status"] == "active"
    assert hasty.report(job, "w2", "success").status_code == 200


def test_a_cancel_ends_the_run_of_a_polling_worker_at_once(rest: Rest) -> None:
    job = rest.submit()
    rest.register("w1")
    rest.take("w1")
    rest.report(job, "w1", "running")

    last = rest.post(f"/jobs/{job}/cancel").json["last_run"]
    assert (last["status"], last["reason"]) == ("cancelled", "cancelled")
    for status in ("running", "success", "failed"):
        problem(rest.report(job, "w1", status), 409, "not_running", "Run 1 is cancelled, not running")
    assert rest.get("/workers/w1/next").json == {"job": None}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"status": "success"}, "#/worker_id"),
        ({"worker_id": "w1"}, "#/status"),
        ({"worker_id": "w1", "status": "pending"}, "#/status"),
        ({"worker_id": "w1", "status": "cancelled"}, "#/status"),
        ({"worker_id": "w1", "status": 1}, "#/status"),
        ({"worker_id": "w1", "status": "success", "exit_code": "0"}, "#/exit_code"),
        ({"worker_id": "w1", "status": "success", "exit_code": 2**40}, "#/exit_code"),
        ({"worker_id": "w1", "status": "success", "logs": ["a"]}, "#/logs"),
        ({"worker_id": "w1", "status": "success", "logs": "a\0b"}, "#/logs"),
        ({"worker_id": "w1", "status": "success", "run_id": 0}, "#/run_id"),
        ({"worker_id": "w1", "status": "success", "run_id": "1"}, "#/run_id"),
        ({"worker_id": "w1", "status": "success", "output": ""}, "#/output"),
    ],
)
def test_a_report_that_can_not_be_read_changes_nothing(rest: Rest, body: object, pointer: str) -> None:
    job = rest.submit()
    rest.register("w1")
    rest.take("w1")
    answer = rest.post(f"/jobs/{job}/log", body)
    assert answer.status_code == 400
    assert answer.json["errors"][0]["pointer"] == pointer
    assert rest.get("/runs/1").json["status"] == "running"


# --- output ----------------------------------------------------------------------------------------------------------


def ended_with(rest: Rest, logs: str) -> None:
    """Run 1 ends with this output."""
    job = rest.submit()
    rest.register("w1")
    rest.take("w1")
    answer = rest.report(job, "w1", "success", logs=logs, exit_code=0)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("logs", ["", "STDOUT:\nhi\n\n\nSTDERR:\noh", "é\u202e\x1b[31m\r\n\ud7ff\U0001f600"])
def test_logs_are_shown_as_they_were_posted(rest: Rest, logs: str) -> None:
    ended_with(rest, logs)
    assert rest.get("/jobs/1").json["last_run"].get("logs", "") == logs
    assert rest.get("/runs/1/log").content == logs.encode()


def test_long_logs_are_shown_by_head_and_tail_and_say_where_the_rest_is(rest: Rest) -> None:
    text = "".join(f"{line:07}\n" for line in range(OUTPUT_BYTES_MAX // 8))
    ended_with(rest, text)

    left_out = len(text) - 64 * KIB
    marker = f"\n[... {left_out} bytes left out; all that is kept: /runs/1/log?stream=stdout ...]\n"
    assert rest.get("/jobs/1").json["last_run"]["logs"] == text[: 32 * KIB] + marker + text[-32 * KIB :]
    assert rest.get("/runs/1/log").text == text


def test_logs_longer_than_what_is_kept_keep_head_tail_and_the_true_count(rest: Rest) -> None:
    text = "".join(f"{line:07}\n" for line in range(2 * MIB // 8))
    ended_with(rest, text)

    half = OUTPUT_BYTES_MAX // 2
    marker = f"\n[... {len(text) - 2 * half} bytes left out; they were not kept ...]\n"
    assert rest.get("/runs/1/log").text == text[:half] + marker + text[-half:]
    shown = rest.get("/runs/1").json["logs"]
    left_out = len(text) - 64 * KIB
    assert f"[... {left_out} bytes left out; all that is kept: /runs/1/log?stream=stdout ...]" in shown
    assert shown.startswith(text[: 32 * KIB])
    assert shown.endswith(text[-32 * KIB :])


def test_a_cut_through_a_character_is_still_an_answer_in_json(rest: Rest) -> None:
    ended_with(rest, "x" + "é" * OUTPUT_BYTES_MAX)
    assert "bytes left out" in rest.get("/runs/1").json["logs"]


# --- beside workers that are connected -------------------------------------------------------------------------------


def test_the_name_of_a_connected_worker_is_taken(rest: Rest) -> None:
    job = rest.submit()
    with rest.connect("z1"):
        sentence = "Worker z1 is connected over ZeroMQ: take another name"
        problem(rest.post("/workers/register", {"worker_id": "z1"}), 409, "connected", sentence)
        problem(rest.post("/workers/heartbeat", {"worker_id": "z1"}), 409, "connected", sentence)
        problem(rest.get("/workers/z1/next"), 409, "connected", sentence)
        problem(rest.report(job, "z1", "success"), 409, "connected", sentence)
        assert rest.get("/workers/z1").json["kind"] == "zmq"
    assert rest.get(f"/jobs/{job}").json["status"] == "pending"


def test_both_kinds_of_workers_are_served_from_one_queue(rest: Rest) -> None:
    rest.register("w1")
    with rest.connect("z1") as dealer:
        dealer.send(protocol.pack(protocol.Ready(s="session", window=1, ahead=0)))
        rest.submit()
        frame = receive(dealer)
        assert isinstance(frame, protocol.Dispatch)
        assert [order.run for order in frame.runs] == [1]
        rest.submit()
        assert rest.take("w1")["run_id"] == 2
        problem(rest.report(1, "w1", "success"), 409, "not_owner", "Worker w1 has no run of job 1 to report on")
        result = protocol.RunResult(run=1, status="success", reason="exit", exit_code=0, finished_ms=1)
        dealer.send(protocol.pack(protocol.Result(s="session", results=(result,))))
        assert receive(dealer) == protocol.ResultAck(s="session", ep=1, verdicts=((1, "stored"),))
        assert rest.report(2, "w1", "success").status_code == 200
    assert [job["status"] for job in rest.get("/jobs").json] == ["success", "success"]


def test_a_connected_workers_output_reads_in_the_documented_form(rest: Rest) -> None:
    with rest.connect("z1") as dealer:
        dealer.send(protocol.pack(protocol.Ready(s="session", window=1, ahead=0)))
        rest.submit()
        assert isinstance(receive(dealer), protocol.Dispatch)
        result = protocol.RunResult(
            run=1,
            status="failed",
            reason="exit",
            exit_code=3,
            finished_ms=1,
            stdout=protocol.Output(b"out\xff\n", b"", 5),
            stderr=protocol.Output(b"err\n", b"", 4),
        )
        dealer.send(protocol.pack(protocol.Result(s="session", results=(result,))))
        assert isinstance(receive(dealer), protocol.ResultAck)
    assert rest.get("/jobs/1").json["last_run"]["logs"] == "STDOUT:\nout\ufffd\n\n\nSTDERR:\nerr\n"
    assert rest.get("/runs/1/log").content == b"out\xff\n"
    assert rest.get("/runs/1/log", query_string="stream=stderr").content == b"err\n"


# --- where the worker of a key is ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "body", "origin"),
    [
        ({}, {}, "remote"),
        ({"extras": {"HTTP_X_FORWARDED_FOR": "127.0.0.1"}}, {}, "remote"),
        ({"remote_addr": "192.0.2.7", "extras": {LOCAL_ADDRESS: "192.0.2.1"}}, {}, "remote"),
        ({"host": "zsched.example"}, {}, "remote"),
        ({}, {"access_file": True}, "file"),
        ({"remote_addr": "192.0.2.7", "extras": {LOCAL_ADDRESS: "192.0.2.1"}}, {"access_file": True}, "file"),
    ],
    ids=["loopback", "a proxy", "another host", "by another name", "an access file", "an access file elsewhere"],
)
def test_key_enrolled_with_a_token_is_remote_from_any_address(
    tmp_path: Path, more: dict[str, Any], body: dict[str, object], origin: str
) -> None:
    pair, server = new_pair(), new_pair()
    with Rest(tmp_path, server_key=server.public) as rest:
        headers = {"Authorization": f"Bearer {add(rest, Scope.WORKER)}"}
        enrolled = rest.post(
            "/workers/enrol", {"worker_id": "w1", "public_key": pair.public, **body}, headers=headers, **more
        )
        assert enrolled.status_code == 200
        (key,) = rest.get("/access").json
        assert key["origin"] == origin


@pytest.mark.parametrize(
    ("more", "origin"),
    [({}, "enrolled"), ({"extras": {"HTTP_X_FORWARDED_FOR": "127.0.0.1"}}, "remote")],
    ids=["this host", "a proxy"],
)
@pytest.mark.parametrize("trust", [Trust(local="any"), Trust(insecure=True)], ids=["any", "insecure"])
def test_key_enrolled_without_a_token_is_local_unless_the_call_was_remote(
    tmp_path: Path, trust: Trust, more: dict[str, Any], origin: str
) -> None:
    body = {"worker_id": "w1", "public_key": new_pair().public}
    with Rest(tmp_path, trust=trust, server_key=new_pair().public) as rest:
        answer = rest.post("/workers/enrol", body, **more)
        if not trust.insecure and more:
            assert answer.status_code == 403
            return
        assert answer.status_code == 200
        assert [key["origin"] for key in rest.get("/access").json] == [origin]


def test_token_that_did_not_bind_a_key_changes_no_bound_of_it(tmp_path: Path) -> None:
    """Public keys are no secret: `GET /access` and `GET /events` show them."""
    with Rest(tmp_path, server_key=new_pair().public) as rest:
        four, two = (add(rest, Scope.WORKER, slots_max=count) for count in (4, 2))
        admin = add(rest, Scope.ADMIN)

        def enrol(worker: str, key: str, token: str = "") -> int:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            body = {"worker_id": worker, "public_key": key}
            return rest.post("/workers/enrol", body, headers=headers).status_code

        def limits() -> list[str]:
            return [event["detail"] for event in rest.get("/events").json if event["became"] == "key_limited"]

        ours, theirs = new_pair().public, new_pair().public
        assert [enrol("ours", ours), enrol("theirs", theirs, four)] == [200, 200]
        expected = [f"{theirs}: at most 4 slots"]
        assert limits() == expected
        assert [enrol("ours", ours, two), enrol("theirs", theirs, two), enrol("theirs", theirs, four)] == [200] * 3
        assert limits() == expected
        assert enrol("theirs", theirs, admin) == 200
        expected.append(f"{theirs}: any number of slots")
        assert limits() == expected
        # The token that bound the key may give its own bound back.
        assert enrol("theirs", theirs, four) == 200
        assert limits() == [*expected, f"{theirs}: at most 4 slots"]


@pytest.mark.parametrize("elsewhere", [{}, {"extras": {"HTTP_X_FORWARDED_FOR": "192.0.2.7"}}], ids=["here", "a proxy"])
def test_enrolling_with_a_token_ends_no_worker_of_this_host(tmp_path: Path, elsewhere: dict[str, Any]) -> None:
    """Nor the worker of an access file, though both are away."""
    with Rest(tmp_path, server_key=new_pair().public) as rest:
        headers = {"Authorization": f"Bearer {add(rest, Scope.WORKER)}"}
        for name, body in (("local", {}), ("file", {"access_file": True})):
            pair = new_pair()
            assert (
                rest.post("/workers/enrol", {"worker_id": name, "public_key": pair.public, **body}).status_code == 200
            )
            refused = rest.post(
                "/workers/enrol",
                {"worker_id": name, "public_key": new_pair().public},
                headers=headers,
                **elsewhere,
            )
            assert (refused.status_code, refused.json["code"]) == (409, "name_has_key")
            assert f"`zsched access revoke {name}`" in refused.json["error"]
            taken = rest.post("/workers/register", {"worker_id": name, "slots": 1}, headers=headers)
            assert (taken.status_code, taken.json["code"]) == (409, "name_has_key")
            good = [key["public_key"] for key in rest.get("/access").json if key["worker_id"] == name]
            assert good == [pair.public]
