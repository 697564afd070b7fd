"""Request bodies: whatever bytes come, the answer is a 201, or a 4xx that says what is wrong; never a 500."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from falcon import testing
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.unit.rest import Rest, problem, until
from zsched.api import body as body_module
from zsched.api.problem import Problem
from zsched.api.room import Room
from zsched.model.limits import (
    BODIES_BYTES_MAX,
    BODY_BYTES_MAX,
    BODY_VALUES_MAX,
    GATHER_S,
    JOBS_BODY_BYTES_MAX,
    LOG_BODY_BYTES_MAX,
    MIB,
    SMALL_BODY_BYTES_MAX,
)
from zsched.scheduler.inbox import Inbox

JOB = b'{"name": "j", "command": "true"}'
POSTS = ["/jobs", "/jobs/1/log", "/workers/register", "/workers/heartbeat", "/workers/enrol"]


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    with Rest(tmp_path_factory.mktemp("rest")) as started:
        yield started


def refused(answer: testing.Result, pointer: str, part: str) -> None:
    """A 400 whose one error points there and says this."""
    [error] = answer.json["errors"]
    problem(answer, 400, "invalid_request", answer.json["error"], (error["pointer"], error["detail"]))
    assert error["pointer"] == pointer
    assert part in error["detail"]


@pytest.mark.parametrize(
    ("body", "pointer", "part"),
    [
        (b"", "#", "not JSON"),
        (b" ", "#", "not JSON"),
        (b"{", "#", "not JSON"),
        (b"name=j&command=true", "#", "not JSON"),
        (JOB + JOB, "#", "not JSON"),
        (JOB + b"]", "#", "not JSON"),
        (b"\xef\xbb\xbf" + JOB, "#", "not JSON"),
        (b"{'name': 'j', 'command': 'true'}", "#", "not JSON"),
        (b'{"name": "j\n", "command": "true"}', "#", "not JSON"),
        (b"\xff\xfe", "#", "not UTF-8"),
        (b'{"name": "\xff", "command": "true"}', "#", "not UTF-8"),
        (b'{"name": "\xed\xa0\x80", "command": "true"}', "#", "not UTF-8"),
        (JOB.decode().encode("utf-16"), "#", "not UTF-8"),
        (b'{"name": "j", "name": "k", "command": "true"}', "#", 'the key "name" stands there twice'),
        (b'{"name": "j", "command": "true", "x": {"a": 1, "a": 1}}', "#", 'the key "a" stands there twice'),
        (b'{"name": "j", "command": "true", "timeout": NaN}', "#", "NaN is not a JSON number"),
        (b'{"name": "j", "command": "true", "timeout": Infinity}', "#", "Infinity is not a JSON number"),
        (b'{"name": "j", "command": "true", "timeout": -Infinity}', "#", "-Infinity is not a JSON number"),
        (b'{"name": "j", "command": "true", "timeout": 1e999}', "#/timeout", "a number is too large"),
        (b'{"name": "j", "command": "true", "timeout": 9007199254740993}', "#/timeout", "an integer lies outside"),
        (b'{"name": "j", "command": "true", "timeout": -9007199254740993}', "#/timeout", "an integer lies outside"),
        (b'{"name": "j", "command": "true", "timeout": %s}' % (b"9" * 400), "#/timeout", "an integer lies outside"),
        (b'{"name": "j", "command": "true", "timeout": %s}' % (b"9" * 9_999), "#", "an integer lies outside"),
        (rb'{"name": "\ud800", "command": "true"}', "#/name", "a lone surrogate"),
        (rb'{"name": "j", "command": "\udfff"}', "#/command", "a lone surrogate"),
        (rb'{"name": "j", "command": "true", "\ud800": 1}', "#", "a lone surrogate"),
        (rb'{"name": "j", "command": "a\u0000b"}', "#/command", "NUL"),
        (rb'{"name": "a\u0000b", "command": "true"}', "#/name", "NUL"),
        (b"[" * 33 + b"]" * 33, "#" + "/0" * 32, "nested deeper than 32"),
        (b"[" * 100_000, "#", "nested deeper than 32"),
        (b'{"a":' * 100_000, "#", "nested deeper than 32"),
        (b"null", "#", "`object`"),
        (b"true", "#", "`object`"),
        (b'"job"', "#", "`object`"),
        (b"[[]]", "#/0", "`object`"),
        (b"[null]", "#/0", "`object`"),
        (b'{"name": 1, "command": "true"}', "#/name", "`str | null`"),
        (b'{"name": "j", "command": ["true"]}', "#/command", "`str | null`"),
        (b'{"name": "j", "command": "true", "run_now": 1}', "#/run_now", "`bool`"),
        (b'{"name": "j", "command": "true", "comand": "x"}', "#/comand", "unknown field"),
        (b'{"name": "j", "command": "true", "id": 1}', "#/id", "unknown field"),
        (b'{"name": "j", "command": "true", "a/b~c": 1}', "#/a~1b~0c", "unknown field"),
        (b'{"name": "j", "command": "true", "": 1}', "#/", "unknown field"),
    ],
)
def test_invalid_job_is_refused_with_its_place(rest: Rest, body: bytes, pointer: str, part: str) -> None:
    before = rest.get("/jobs").text
    refused(rest.post("/jobs", body=body), pointer, part)
    assert rest.get("/jobs").text == before


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("action", "one of cancel, pause, resume, end"),
        ("status", "one of pending, running, success, failed, cancelled"),
    ],
)
def test_a_wrong_word_is_answered_with_the_words_that_the_field_takes(rest: Rest, field: str, words: str) -> None:
    body = {"action": "cancel", "select": "1", field: "x"}
    refused(rest.post("/jobs/bulk", json=body), f"#/{field}", f"Invalid enum value 'x'; it is {words}")


def test_what_json_may_escape_arrives_as_meant(rest: Rest) -> None:
    body = rb'{"name": "\u00e9 \ud83d\ude00 \u202e", "command": "printf \"a\\tb\"\t\u2028"}'
    job = rest.post("/jobs", body=body).json
    assert (job["name"], job["command"]) == ("é 😀 \u202e", 'printf "a\\tb"\t\u2028')
    assert rest.get(f"/jobs/{job['id']}").json["name"] == job["name"]


@pytest.mark.parametrize(
    "media",
    [None, "application/json", "application/x-www-form-urlencoded", "text/plain", "application/json; charset=utf-8"],
)
def test_json_is_json_whatever_the_content_type_says(rest: Rest, media: str | None) -> None:
    """`curl -d` without a header says that it sends a form."""
    headers = {} if media is None else {"Content-Type": media}
    assert rest.post("/jobs", body=JOB, headers=headers).status_code == 201


@pytest.mark.parametrize("path", POSTS)
def test_every_post_wants_a_body_of_json(rest: Rest, path: str) -> None:
    refused(rest.post(path, body=b""), "#", "not JSON")
    refused(rest.post(path, body=b"\xff"), "#", "not UTF-8")
    refused(rest.post(path, body=b'"a word"'), "#", "`object`")
    refused(rest.post(path, body=b'{"a": 1, "a": 1}'), "#", "twice")
    refused(rest.post(path, body=b"[" * 100_000), "#", "nested deeper")


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/jobs", JOBS_BODY_BYTES_MAX),
        ("/jobs/1/log", LOG_BODY_BYTES_MAX),
        ("/workers/register", BODY_BYTES_MAX),
        ("/workers/heartbeat", BODY_BYTES_MAX),
        ("/workers/enrol", BODY_BYTES_MAX),
    ],
)
def test_a_body_has_a_bound(rest: Rest, path: str, most: int) -> None:
    largest = b'"%s"' % (b"x" * (most - 2))
    assert rest.post(path, body=largest).status_code == 400

    sentence = f"The body of this request has at most {most} bytes"
    problem(rest.post(path, body=largest + b" "), 413, "too_large", sentence)


def test_many_keys_that_are_one_are_refused_quickly(rest: Rest) -> None:
    """A minute of work for a mebibyte of body would hold everybody up."""
    keys = b",".join(b'"%d":0' % number for number in range(300_000))
    answer = rest.post("/jobs", body=b"{%s,%s}" % (keys, b'"299999":0'))
    refused(answer, "#", 'the key "299999" stands there twice')


# The words that matter, so that a search comes near to what could be accepted.
NAMES = st.sampled_from(
    ["name", "command", "schedule", "timeout", "run_now", "worker_id", "status", "logs", "slots", "x"]
)
NUMBERS = st.integers() | st.floats()
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text() | st.sampled_from(["true", "w1", "success", "* * * * *", "5s"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(), inner, max_size=5),
    max_leaves=8,
)
BODIES = (
    st.binary(max_size=200)
    | VALUES.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(NAMES, VALUES, max_size=6).map(lambda value: json.dumps(value).encode())
    | st.builds(lambda cut: JOB[:cut], st.integers(0, len(JOB)))
)


@pytest.mark.slow
@pytest.mark.parametrize("path", POSTS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES)
def test_whatever_bytes_come_the_answer_is_one_that_is_documented(rest: Rest, path: str, body: bytes) -> None:
    answer = rest.post(path, body=body)
    assert answer.status_code in {"/jobs": (201, 400), "/workers/register": (200, 400)}.get(path, (200, 400, 404, 409))
    if answer.status_code >= 400:
        assert answer.json["error"] == answer.json["detail"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.text(max_size=30), query=st.text(max_size=30))
@example(path="/cancel", query="")
def test_whatever_path_and_query_come_no_read_fails(rest: Rest, path: str, query: str) -> None:
    for known in ("", "jobs/", "runs/", "workers/"):
        answer = rest.get(f"/{known}{path.replace('?', '')}", query_string=query.lstrip("?"))
        # 405: a path that takes something else, such as /workers/register.
        assert answer.status_code in (200, 400, 404, 405)


# --- how much one body may cost --------------------------------------------------------------------------------------


def filled(unit: bytes) -> bytes:
    """The largest body there is, an array of this over and over."""
    return b"[%s1]" % (unit * ((JOBS_BODY_BYTES_MAX - 3) // len(unit)))


@pytest.mark.parametrize("path", ["/jobs", "/jobs/1/log"])
@pytest.mark.parametrize(
    "unit", [b"[],", b'{"a":[]},', b"[[[[[]]]]],", b"1,", b'"",', b'"\\\\\\"",', b"[" * 1_000, b"{"]
)
def test_a_body_of_too_many_values_is_refused_before_any_is_built(rest: Rest, path: str, unit: bytes) -> None:
    body = filled(unit)
    sentence = "The JSON of one request has at most 700000 values: send less in each"
    tracemalloc.start()
    try:
        answer = rest.post(path, body=body)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    problem(answer, 413, "too_many", sentence)
    # Copies of its bytes, and nothing else.
    assert peak_bytes < 4 * JOBS_BODY_BYTES_MAX


def test_commas_and_brackets_inside_strings_are_not_counted_as_values(rest: Rest) -> None:
    """A command may be full of brackets, commas and quotes, and bring any number of backslashes."""
    hostile = ",[{:" * 300 + '"\\' * 20 + ',"[' + "\\\\"
    jobs = [{"name": 'j"', "command": f"true {hostile}{'x' * (number % 7)}"} for number in range(10_000)]
    body = json.dumps(jobs).encode()
    assert sum(body.count(mark) for mark in (b",", b"[", b"{", b":")) > 10 * BODY_VALUES_MAX
    answer = rest.post("/jobs", body=body)
    assert answer.status_code == 201, answer.text
    first = answer.json[0]["id"]
    assert rest.get(f"/jobs/{first + 9_999}").json["command"] == jobs[-1]["command"]


def test_as_many_values_as_may_be_are_read(rest: Rest) -> None:
    """An array with so many numbers is no job, but it is JSON."""
    numbers = b"[%s0]" % (b"0," * (BODY_VALUES_MAX - 2))
    assert rest.post("/jobs", body=numbers).json["code"] == "too_many"
    assert "10000 jobs" in rest.post("/jobs", body=numbers).json["error"]
    assert "700000 values" in rest.post("/jobs", body=b"[0," + numbers[1:]).json["error"]


def marks(value: object) -> int:
    """The commas, colons and opening brackets that a value is written with."""
    if isinstance(value, dict):
        return 1 + len(value) + max(len(value) - 1, 0) + sum(map(marks, value.values()))
    if isinstance(value, list):
        return 1 + max(len(value) - 1, 0) + sum(map(marks, value))
    return 0


@pytest.mark.slow
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.recursive(
        st.none() | st.integers() | st.text(alphabet='a\\",:[]{} ', max_size=12),
        lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(alphabet='a\\",:[{'), inner, max_size=5),
        max_leaves=20,
    ),
    most=st.integers(1, 40),
    piece=st.integers(1, 9),
)
def test_values_are_counted_exactly_whatever_their_strings_hold(
    monkeypatch: pytest.MonkeyPatch, value: object, most: int, piece: int
) -> None:
    monkeypatch.setattr(body_module, "BODY_VALUES_MAX", most)
    monkeypatch.setattr(body_module, "_SPLIT_BYTES", piece)
    written = json.dumps(value).encode()
    assert body_module._too_many_values(written) == (1 + marks(value) > most)


LARGE = b'{"name": "j", "command": "true"%s}' % (b" " * SMALL_BODY_BYTES_MAX)


def test_large_bodies_beyond_their_room_get_503_and_small_ones_are_read(rest: Rest) -> None:
    taken = rest.context.bodies.take(10 * BODIES_BYTES_MAX)
    answer = rest.post("/jobs", body=LARGE)
    assert (answer.status_code, answer.json["code"], answer.headers["Retry-After"]) == (503, "unavailable", "1")
    assert rest.post("/jobs", body=JOB).status_code == 201
    rest.context.bodies.give_back(taken)
    assert rest.post("/jobs", body=LARGE).status_code == 201


@pytest.mark.parametrize("body", [LARGE, LARGE + b"]", LARGE.replace(b"name", b"mane"), filled(b"[],")])
def test_room_is_given_back_whatever_came_of_the_request(rest: Rest, body: bytes) -> None:
    for _ in range(3):
        assert rest.post("/jobs", body=body).status_code in (201, 400, 413)
    # All of it.
    rest.context.bodies.give_back(rest.context.bodies.take(BODIES_BYTES_MAX))


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "%s"}' % (b"x" * 4 * MIB),
        b'{"name": "%s"' % (b"x" * 4 * MIB),
        b'{"name": "j", "command": "%s"}' % (b"x" * 4 * MIB),
        b'{"nome": "%s"}' % (b"x" * 4 * MIB),
        b'{"name": "\\u0000%s"}' % (b"x" * 4 * MIB),
        b'{"a": "%s", "a": 1}' % (b"x" * 4 * MIB),
        b"[%s1]" % (b"[]," * MIB),
    ],
    ids=["no command", "no JSON", "too long", "unknown field", "NUL", "a key twice", "too many"],
)
def test_a_body_that_was_refused_is_kept_by_nothing(rest: Rest, body: bytes) -> None:
    """Its room is given back, so it must be gone by then, and not only when Python looks for cycles."""
    rest.post("/jobs", body=b'{"name": ""}')
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        before_bytes, _ = tracemalloc.get_traced_memory()
        assert rest.post("/jobs", body=body).status_code in (400, 413)
        after_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert after_bytes - before_bytes < MIB


def test_large_bodies_take_turns_in_order_and_a_bounded_number_waits() -> None:
    room = Room(100, 2, "busy")
    assert room.take(1_000) == 100
    order: list[int] = []

    def want(size: int) -> None:
        taken = room.take(size)
        order.append(size)
        room.give_back(taken)

    threads = []
    for waiting, size in enumerate((100, 1), 1):
        threads.append(threading.Thread(target=want, args=(size,)))
        threads[-1].start()
        until(lambda waiting=waiting: len(room._waiting) == waiting)  # type: ignore[misc]
    with pytest.raises(Problem, match="busy"):
        room.take(1)
    room.give_back(100)
    for thread in threads:
        thread.join()
    assert order == [100, 1]
    assert room.take(100) == 100


def test_a_turn_does_not_wait_for_a_request_with_a_large_body(rest: Rest) -> None:
    inbox, mark = Inbox(2), object()
    inbox.expect(mark)
    with inbox.serving(mark):
        began = time.monotonic()
        inbox.gather()
        assert time.monotonic() - began >= GATHER_S
        inbox.postpone()
        assert not inbox._coming


# --- threads ---------------------------------------------------------------------------------------------------------

FIRST_USES = """
from __future__ import annotations

import sys
import threading
from typing import Annotated, Literal

from msgspec import Meta, defstruct

from zsched.api import body


def shape():
    # Of many fields, so that the threads meet while msgspec reads the annotations.
    fields = [(f"f{number}", Annotated[str, Meta(max_length=number + 1)] | None, None) for number in range(200)]
    return defstruct("Shape", [*fields, ("action", Literal["cancel", "end"], "end")], forbid_unknown_fields=True)


def use(one, barrier):
    barrier.wait()
    body.convert({"action": "end"}, one, "#")


sys.setswitchinterval(1e-6)
for _ in range(150):
    one, barrier = shape(), threading.Barrier(8)
    threads = [threading.Thread(target=use, args=(one, barrier)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


@pytest.mark.slow
def test_first_uses_of_a_shape_by_several_threads_do_no_harm() -> None:
    """In a process of its own, since msgspec would crash it."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", FIRST_USES],
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
