"""The Python client against a server that answers as it is told: what no real scheduler does when one waits for it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.answers import Reply, Stub, as_json, following, problem, replies
from zsched.client.client import (
    PATIENCE_S,
    Chunk,
    Client,
    ClientError,
    Job,
    NotFound,
    Refused,
    Unreachable,
    WaitTimeout,
)
from zsched.commands import submit, waiting, watching
from zsched.model import spans
from zsched.model.limits import FAILED_SHOWN_MAX

pytestmark = pytest.mark.slow

DEADLINE_S = 20.0


@pytest.fixture
def stub() -> Iterator[Stub]:
    started = Stub()
    yield started
    started.close()


@pytest.fixture
def client(stub: Stub) -> Iterator[Client]:
    with Client(stub.url) as opened:
        yield opened


def job_of(path: str) -> int:
    """The number in the path of a job."""
    return int(path.partition("?")[0].rpartition("/")[2])


def job(number: int, status: str, **run: object) -> dict[str, Any]:
    return {"id": number, "name": "j", "status": status, **({"last_run": run} if run else {})}


def test_one_connection_serves_one_call_after_the_other(stub: Stub, client: Client) -> None:
    for _ in range(3):
        client.ask("GET", "/workers")
    assert (len(stub.asked), stub.connections) == (3, 1)


def test_kept_connection_that_was_closed_is_not_used_for_a_submit(stub: Stub, client: Client) -> None:
    stub.hasty = True
    stub.answer = lambda *_: as_json(job(1, "pending"))
    client.get(1)
    assert stub.closed.wait(DEADLINE_S)
    client.submit("ls")
    assert stub.asked == [("GET", "/jobs/1"), ("POST", "/jobs")]
    assert stub.connections == 2


def test_a_read_is_repeated_when_a_kept_connection_ends_under_it(stub: Stub, client: Client) -> None:
    client.ask("GET", "/workers")
    stub.answer = replies(None, as_json({"x": 1}))
    assert client.stats() == {"x": 1}


def test_a_write_is_never_sent_twice(stub: Stub, client: Client) -> None:
    client.ask("GET", "/workers")
    stub.answer = lambda *_: None
    with pytest.raises(Unreachable, match="no scheduler answers at http://127"):
        client.ask("POST", "/jobs/1/cancel")
    assert [method for method, _ in stub.asked] == ["GET", "POST"]


def test_submit_with_a_lost_or_early_answer_is_sent_again_with_its_key(stub: Stub, client: Client) -> None:
    early = problem(503, "unavailable", Retry_After="0")
    stub.answer = replies(None, early, None, as_json(job(1, "pending"), 201), as_json([job(2, "pending")], 201))
    assert client.submit("ls").id == 1
    assert [one.id for one in client.submit_all([{}])] == [2]
    assert stub.asked == [("POST", "/jobs")] * 5
    keys = [headers["Idempotency-Key"] for headers in stub.headers]
    assert len(set(keys[:4])) == 1
    # Each submit has a key of its own.
    assert keys[3] != keys[4]
    assert len(keys[0]) == len(keys[4]) == 34


def test_submit_respects_retry_after_up_to_a_minute(stub: Stub, client: Client) -> None:
    stub.answer = replies(problem(503, "unavailable", Retry_After="1"), as_json(job(1, "pending"), 201))
    begun_s = time.monotonic()
    client.submit("ls")
    assert time.monotonic() - begun_s >= 1
    stub.answer = lambda *_: problem(503, "unavailable", Retry_After=f"{PATIENCE_S + 1:.0f}")
    begun_s = time.monotonic()
    with pytest.raises(Refused, match="it is unavailable"):
        client.submit("ls")
    assert time.monotonic() - begun_s < PATIENCE_S / 2


def test_a_submit_that_is_refused_is_not_sent_again(stub: Stub, client: Client) -> None:
    for status, headers in ((400, {}), (422, {}), (429, {"Retry_After": "0"}), (500, {}), (503, {})):
        stub.answer = replies(problem(status, "no", **headers), as_json(job(1, "pending"), 201))
        with pytest.raises(Refused) as caught:
            client.submit("ls")
        assert caught.value.status == status


@pytest.mark.parametrize(("key", "sent"), [("k", '"k"'), ("a, b", '"a, b"'), ('\\"', r'"\\\""')])
def test_a_key_is_sent_in_quotes(stub: Stub, client: Client, key: str, sent: str) -> None:
    stub.answer = lambda *_: as_json(job(1, "pending"), 201)
    client.submit("ls", idempotency_key=key)
    client.submit("ls", idempotency_key=key)
    assert [headers["Idempotency-Key"] for headers in stub.headers] == [sent] * 2


@pytest.mark.parametrize("key", ["", "ß", "a\nb", "k" * 256])
def test_what_can_be_no_key_is_not_sent(stub: Stub, client: Client, key: str) -> None:
    with pytest.raises(ClientError, match="an idempotency key has 1 to 255 printable ASCII characters"):
        client.submit("ls", idempotency_key=key)
    assert stub.asked == []


def test_unreachable_scheduler_is_reported_with_its_address() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(Unreachable, match=f"no scheduler answers at {url}: Connection refused"):
            Client(url).stats()
        # Nobody has ever listened there, so this is not waited for either.
        begun_s = time.monotonic()
        with pytest.raises(Unreachable, match="Connection refused"):
            Client(url).submit("ls")
        assert time.monotonic() - begun_s < PATIENCE_S / 2
    with pytest.raises(Unreachable):
        Client("http://a..b").stats()


def test_server_that_is_not_a_scheduler_is_reported(stub: Stub, client: Client) -> None:
    stub.answer = lambda *_: (200, {}, b"<html>")
    with pytest.raises(Unreachable, match="not a zsched scheduler"):
        client.stats()
    stub.answer = lambda *_: (502, {}, b"<html>")
    with pytest.raises(Refused, match="502 Bad Gateway; is this a zsched scheduler"):
        client.stats()


def test_a_refusal_has_the_words_and_the_code_of_the_scheduler(stub: Stub, client: Client) -> None:
    stub.answer = lambda *_: problem(429, "too_many_pending", Retry_After="7")
    with pytest.raises(Refused, match="it is too_many_pending") as caught:
        client.submit("ls")
    assert (caught.value.status, caught.value.code, caught.value.retry_after_s) == (429, "too_many_pending", 7.0)
    stub.answer = lambda *_: problem(404, "unknown_job")
    with pytest.raises(NotFound, match="unknown job 12"):
        client.get(12)


def test_token_is_sent_as_bearer_and_the_path_of_the_url_is_a_prefix(stub: Stub) -> None:
    with Client(f"{stub.url}/prefix/", token="secret") as client:
        client.workers()
    assert stub.asked == [("GET", "/prefix/workers")]
    assert stub.headers[0]["Authorization"] == "Bearer secret"


def test_whatever_is_asked_for_a_list_is_one_value_of_its_address(stub: Stub, client: Client) -> None:
    stub.answer = lambda *_: as_json([])
    assert list(client.jobs("a b&limit=1", owner="user:ä&b", limit=5)) == []
    assert stub.asked == [("GET", "/jobs?limit=5&status=a%20b%26limit%3D1&owner=user%3A%C3%A4%26b")]


def test_long_list_of_failed_jobs_is_cut_and_names_the_command_for_all(
    stub: Stub, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = FAILED_SHOWN_MAX + 1
    stub.answer = lambda method, path, _body: as_json(
        {"next": 1, "failed": {"count": failed, "jobs": f"1-{failed}"}}
        if method == "POST"
        else job(job_of(path), "failed")
    )
    waiting.wait_for_counts(client, spans.Spans(((1, failed),)), None, quiet=False)
    out, err = capsys.readouterr()
    assert (len(out.splitlines()), out.splitlines()[-1]) == (FAILED_SHOWN_MAX + 1, f"{failed} failed")
    assert f"`zsched list --status failed --limit {failed}`" in err


def test_a_client_is_for_many_threads(stub: Stub, client: Client) -> None:
    stub.answer = lambda _method, path, _body: as_json(job(job_of(path), "success"))
    seen: list[int] = []
    threads = [
        threading.Thread(target=lambda first=first: seen.extend(client.get(n).id for n in range(first, first + 20)))
        for first in range(0, 80, 20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(80))
    assert stub.connections <= 4


def test_wait_survives_a_scheduler_that_cannot_answer_for_a_while(stub: Stub, client: Client) -> None:
    stub.answer = replies(as_json(job(1, "running")), None, problem(503, "unavailable"), as_json(job(1, "success")))
    assert client.get(1).wait().status == "success"


def test_a_wait_that_takes_too_long_says_so(stub: Stub, client: Client) -> None:
    stub.answer = lambda *_: as_json(job(1, "running"))
    with pytest.raises(WaitTimeout, match=r"job 1 had not ended after 0\.1 s"):
        client.get(1).wait(timeout=0.1)


def waited(**groups: object) -> Reply:
    """An answer of POST /jobs/wait: the position, and the numbers of each status as a text."""
    counted = {
        name: {"count": len(spans.parse(jobs.split(","), 10**6)), "jobs": jobs}
        for name, jobs in groups.items()
        if isinstance(jobs, str)
    }
    return as_json({"next": groups["next"], **counted})


def asked_to_wait(stub: Stub, *answers: Reply) -> list[dict[str, Any]]:
    """The stub answers waits by these in turn, and has each job as it ended; returns where the bodies of waits go."""
    bodies: list[dict[str, Any]] = []
    left = iter(answers)

    def answer(_method: str, path: str, body: bytes) -> Reply:
        if path == "/jobs/wait":
            bodies.append(json.loads(body))
            return next(left)
        return as_json(job(job_of(path), "success"))

    stub.answer = answer
    return bodies


def test_jobs_come_in_the_order_in_which_they_end(stub: Stub, client: Client) -> None:
    bodies = asked_to_wait(
        stub,
        waited(next=7, pending="1-2", success="3"),
        waited(next=9, failed="2"),
        waited(next=9),
        waited(next=9, pending="1"),
        waited(next=12, cancelled="1"),
    )
    assert [done.id for done in client.as_completed([1, 2, 3])] == [3, 2, 1]
    # After news only what is new is asked for; when nothing came, everything once more: the scheduler may have been
    # started again on an older database.
    assert [(body["select"], body.get("after")) for body in bodies] == [
        ("1-3", None),
        ("1-2", 7),
        ("1", 9),
        ("1", None),
        ("1", None),
    ]


def test_what_an_answer_left_out_is_asked_for_again(stub: Stub, client: Client) -> None:
    cut = as_json({"next": 7, "success": {"count": 5, "jobs": "1-3"}, "pending": {"count": 1, "jobs": "9"}})
    bodies = asked_to_wait(stub, cut, waited(next=7, success="4-5", pending="9"), waited(next=8, success="9"))
    assert client.wait([1, 2, 3, 4, 5, 9]) == dict.fromkeys((1, 2, 3, 4, 5, 9), "success")
    assert [(body["select"], body.get("after")) for body in bodies] == [("1-5,9", None), ("4-5,9", None), ("9", 7)]


def test_a_wait_for_many_that_takes_too_long_says_how_many_are_left(stub: Stub, client: Client) -> None:
    stub.answer = lambda *_: waited(next=7, pending="1-2", success="3")
    with pytest.raises(WaitTimeout, match=r"2 of the jobs had not ended after 0\.1 s"):
        client.wait([1, 2, 3], timeout=0.1)


def test_a_job_that_does_not_exist_ends_a_wait_for_many(stub: Stub, client: Client) -> None:
    stub.answer = lambda *_: waited(next=7, pending="1", unknown_job="2-3")
    with pytest.raises(NotFound, match="unknown job 2-3"):
        client.wait([1, 2, 3])


def test_wait_for_many_survives_a_scheduler_that_cannot_answer_for_a_while(stub: Stub, client: Client) -> None:
    stub.answer = replies(
        waited(next=7, pending="1-2"), None, problem(503, "unavailable"), waited(next=7, success="1-2")
    )
    assert client.wait([1, 2]) == {1: "success", 2: "success"}


def test_a_bulk_call_goes_on_until_all_is_done(stub: Stub, client: Client) -> None:
    """Also when an answer is lost: a cancel that is repeated does no harm."""
    bodies = []
    first = as_json({"action": "cancel", "done": {"count": 2, "jobs": "1-2"}, "next": 2})
    second = as_json({"action": "cancel", "done": {"count": 1, "jobs": "3"}, "finished": {"count": 1, "jobs": "4"}})
    answers = replies(first, None, second)

    def answer(method: str, path: str, body: bytes) -> Reply:
        bodies.append(json.loads(body))
        return answers(method, path, body)

    stub.answer = answer
    met = client.cancel([1, 2, 3, 4])
    assert {name: (group.size, str(group.jobs)) for name, group in met.items()} == {
        "done": (3, "1-3"),
        "finished": (1, "4"),
    }
    assert [body["after"] for body in bodies] == [0, 2, 2]


def test_the_answer_about_a_single_job_is_held_until_it_ends(stub: Stub, client: Client) -> None:
    stub.answer = replies(as_json(job(1, "running")), as_json(job(1, "running")), as_json(job(1, "success")))
    assert client.get(1).wait(timeout=5).done
    assert [path for _, path in stub.asked][:2] == ["/jobs/1", "/jobs/1?wait=5.000s"]
    (left_s,) = (float(path.removeprefix("/jobs/1?wait=").removesuffix("s")) for _, path in stub.asked[2:])
    assert 4 < left_s < 5


def test_pages_of_a_list_are_asked_for_as_they_are_taken(stub: Stub, client: Client) -> None:
    """However many rows each has: a page may end early."""
    first, second = "/jobs?limit=1000", "/jobs?limit=1000&before=7"
    pages = {
        first: as_json([job(9, "failed"), job(7, "failed")], Link=following(second)),
        second: as_json([job(6, "failed")] * 3),
    }
    stub.answer = lambda _method, path, _body: pages[path.replace("&status=failed", "")]
    found = client.jobs()
    assert [next(found).id, next(found).id] == [9, 7]
    assert stub.asked == [("GET", first)]
    assert [job.id for job in found] == [6, 6, 6]
    assert stub.asked == [("GET", first), ("GET", second)]
    pages["/jobs?limit=3"] = pages[first]
    assert [job.id for job in client.jobs(limit=3)] == [9, 7, 6]
    assert [job.id for job in client.jobs("failed")] == [9, 7, 6, 6, 6]
    assert ("GET", "/jobs?limit=1000&status=failed") in stub.asked


def test_workers_come_from_all_pages(stub: Stub, client: Client) -> None:
    names = [{"worker_id": name} for name in ("a", "b", "c")]
    stub.answer = replies(as_json(names[:2], Link=following("/workers?after=b")), as_json(names[2:]))
    assert client.workers() == names


def test_submit_whose_answer_ends_early_returns_all_of_its_jobs(stub: Stub, client: Client) -> None:
    rest = "/jobs?first=5&last=6&limit=1000"
    made = [job(number, "pending") for number in range(3, 7)]
    bodies = [{"name": f"n{number}", "command": "true"} for number in range(4)]
    early = as_json(made[:2], 201, Link=following(rest))
    stub.answer = replies(early, as_json(made[2:]))
    assert [made.id for made in client.submit_all(bodies)] == [3, 4, 5, 6]
    assert stub.asked == [("POST", "/jobs"), ("GET", rest)]

    # By a token that may not read, they are known by what was asked.
    stub.answer = replies(early, problem(403, "scope"))
    views = [made.view for made in client.submit_all(bodies)]
    assert views[:2] == made[:2]
    assert views[2:] == [
        {"id": 5, "name": "n2", "command": "true", "status": "pending"},
        {"id": 6, "name": "n3", "command": "true", "status": "pending"},
    ]
    stub.answer = replies(early, problem(403, "protected_mode"))
    with pytest.raises(Refused):
        client.submit_all(bodies)


def chunk(data: bytes, offset: int, end: bool = False) -> Reply:
    headers = {"Zsched-Offset": str(offset), "Zsched-Next": str(offset + len(data)), "Zsched-End": str(end).lower()}
    return 200, headers, data


def test_output_is_followed_from_byte_to_byte_to_its_end(stub: Stub, client: Client) -> None:
    stub.answer = replies(chunk(b"one\n", 0), chunk(b"", 4), chunk(b"late\xff", 90), chunk(b"", 95, end=True))
    assert list(client.follow(7, "stdout")) == [
        Chunk(0, b"one\n", 4, False),
        Chunk(4, b"", 4, False),
        Chunk(90, b"late\xff", 95, False),
        Chunk(95, b"", 95, True),
    ]
    assert [path.partition("?")[2] for _, path in stub.asked] == [
        f"stream=stdout&offset={offset}&wait=20s" for offset in (0, 4, 4, 95)
    ]


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.pieces: list[tuple[int, str, bytes, int]] = []

    def write(self, run_id: int, stream: str, chunk: Chunk, missing: int) -> None:
        self.pieces.append((run_id, stream, chunk.data, missing))


def test_a_job_is_followed_from_a_lost_run_to_the_next_one(stub: Stub, client: Client) -> None:
    looks = iter([{}, {"run_id": 3}, {"run_id": 3}, {"run_id": 5}, {"run_id": 5, "exit_code": 0}])

    def answer(_method: str, path: str, _body: bytes) -> Reply:
        if path.startswith("/jobs/"):
            run = next(looks)
            return as_json(job(1, "success" if "exit_code" in run else "running", **run))
        return chunk(b"lost" if "/3/" in path else b"won", 2, end=True)

    stub.answer = answer
    sink = Kept()
    ended = watching.Watch(client, sink, ("stdout",)).job(client.get(1))
    assert ended.status == "success"
    assert sink.pieces == [(3, "stdout", b"lost", 2), (5, "stdout", b"won", 2)]


def test_log_shows_the_tail_of_known_output_and_then_all(stub: Stub, client: Client) -> None:
    stub.answer = replies(chunk(b"a\nb\n", 0), chunk(b"c\n", 4), chunk(b"", 6), chunk(b"d\ne\n", 6, end=True))
    sink = Kept()
    watching.Watch(client, sink, ("stdout",), tail=1).run(3)
    assert [data for _, _, data, _ in sink.pieces] == [b"c\n", b"d\ne\n"]


def test_a_failed_reading_ends_the_watch(stub: Stub, client: Client) -> None:
    stub.answer = lambda *_: problem(404, "unknown_run")
    with pytest.raises(NotFound, match="it is unknown_run"):
        watching.Watch(client, Kept(), ("stdout",)).run(3)


def test_submit_of_a_single_job_reports_that_the_scheduler_is_full(stub: Stub, client: Client) -> None:
    stub.answer = replies(problem(429, "full", Retry_After="0"))
    with pytest.raises(Refused, match="it is full"):
        submit.store(client, {}, None, "k")


# Arrays.


def array(status: str, **counts: int) -> dict[str, Any]:
    """Job 5, an array with this number of tasks in each state."""
    states = dict.fromkeys(("pending", "running", "success", "failed", "cancelled"), 0) | counts
    return job(5, status) | {"tasks": {"total": sum(states.values())} | states}


def row(index: int, status: str, **run: object) -> dict[str, Any]:
    return {"task": index, "status": status, "entry": f"e{index}", **({"last_run": run} if run else {})}


def test_entries_are_sent_as_lines_and_again_when_the_answer_is_lost(stub: Stub, client: Client) -> None:
    bodies: list[bytes] = []

    def answer(_method: str, _path: str, body: bytes) -> Reply:
        bodies.append(body)
        return None if len(bodies) == 1 else as_json(array("pending", pending=3), 201)

    stub.answer = answer
    entries: Iterator[object] = iter(["a b", 5, "ä\n"])
    made = client.submit("cp {} x", each=entries, name="n", array="%2", idempotency_key="k")
    assert (made.id, made.counts) == (5, array("pending", pending=3)["tasks"])
    head = b'{"name":"n","array":"%2","command":"cp \\"$ZSCHED_ENTRY\\" x"}'
    assert bodies == [head + b'\n"a b"\n5\n' + '"ä\\n"\n'.encode()] * 2
    assert [headers["Content-Type"] for headers in stub.headers] == ["application/x-ndjson"] * 2
    assert {headers["Idempotency-Key"] for headers in stub.headers} == {'"k"'}


def test_inputs_of_map_are_the_entries_of_one_job(stub: Stub, client: Client) -> None:
    bodies: list[list[Any]] = []

    def answer(_method: str, _path: str, body: bytes) -> Reply:
        bodies.append([json.loads(line) for line in body.splitlines()])
        return as_json(array("pending", pending=2), 201)

    stub.answer = answer
    client.map("wc {}", range(2))
    client.map(["wc", "{}"], ["a", "b"], timeout="5s")
    client.map("cp {1} {2}", ["a b", "c"], iter([1, 2]))
    (wc, *numbers), (argv, *names), (cp, *pairs) = bodies
    assert (wc["command"], wc["name"], numbers) == ('wc "$ZSCHED_ENTRY"', "wc {}", ["0", "1"])
    assert (argv["argv"], argv["timeout"], names) == (["wc", "{}"], "5s", ["a", "b"])
    assert (cp["command"], pairs) == ('eval "set -- $ZSCHED_ENTRY"; cp "${1}" "${2}"', ["'a b' 1", "c 2"])


def test_each_task_comes_once_when_it_has_ended(stub: Stub, client: Client) -> None:
    views = replies(
        as_json(array("running", pending=2, success=1)),
        as_json(array("running", pending=1, success=1, failed=1)),
        as_json(array("failed", success=2, failed=1)),
    )
    rows = {"success": [row(1, "success")], "failed": [row(0, "failed", exit_code=3, reason="exit")]}

    def answer(method: str, path: str, body: bytes) -> Reply:
        if "/tasks" not in path:
            return views(method, path, body)
        return as_json(rows[path.rpartition("=")[2]])

    stub.answer = answer
    ended = Job(client, array("running")).as_completed(DEADLINE_S)
    first = next(ended)
    assert (first.id, first.index, first.entry, first.status, first.done) == ("5.1", 1, "e1", "success", True)
    second = next(ended)
    assert (second.index, second.exit_code, second.reason) == (0, 3, "exit")
    rows["success"].append(row(2, "success"))
    assert [task.index for task in ended] == [2]


def test_task_is_found_by_its_index(stub: Stub, client: Client) -> None:
    stub.answer = replies(as_json([row(4, "pending")]), as_json([row(4, "running")]), as_json([row(4, "success")]))
    task = Job(client, array("running")).task(4)
    assert task.wait(DEADLINE_S).status == "success"
    assert {path for _, path in stub.asked} == {"/jobs/5/tasks?after=3&limit=1"}
    stub.answer = lambda *_: as_json([row(9, "pending")])
    with pytest.raises(NotFound, match="job 5 has no task 4"):
        task.refresh()
    stub.answer = replies(as_json(array("running")), as_json([row(4, "cancelled")]))
    assert task.cancel("too old").status == "cancelled"
    assert ("POST", "/jobs/5/cancel?task=4&reason=too%20old") in stub.asked


def test_wait_for_an_array_prints_each_failure_once(
    stub: Stub, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    views = replies(
        as_json(array("running", running=2, failed=1)),
        as_json(array("running", running=2, failed=1)),
        as_json(array("failed", success=1, failed=2)),
    )
    failed = [row(2, "failed", exit_code=3, reason="exit")]

    def answer(method: str, path: str, body: bytes) -> Reply:
        if "/tasks" not in path:
            return views(method, path, body)
        shown = as_json(failed)
        failed.insert(0, row(1, "failed", signal=9, reason="signal"))
        return shown

    stub.answer = answer
    ended = waiting.wait_for_tasks(Job(client, array("running", running=3)), None, quiet=False)
    assert waiting.line(ended) == "5 failed (2 failed of 3 tasks)"
    assert capsys.readouterr() == (
        "5.2 failed (exit code 3)  e2\n5.1 failed (signal 9, SIGKILL)  e1\n",
        "",
    )


def test_wait_for_an_array_with_many_failures_is_short(
    stub: Stub, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    most = FAILED_SHOWN_MAX
    rows = [row(index, "failed") for index in range(most + 5)]
    ended = array("failed", failed=most + 5)
    stub.answer = lambda _method, path, _body: as_json(rows if "/tasks" in path else ended)
    waiting.wait_for_tasks(Job(client, ended), None, quiet=False)
    out, err = capsys.readouterr()
    assert out.count("\n") == most
    command = f"zsched show 5 --status failed --limit {most + 5}"
    assert err == f"zsched: the first {most} failed tasks are shown; `{command}` lists all\n"
    stub.answer = lambda *_: as_json(array("running", running=1))
    with pytest.raises(WaitTimeout, match=r"job 5 had not ended after 0\.1 s"):
        waiting.wait_for_tasks(Job(client, array("running", running=1)), 0.1, quiet=True)


def test_progress_of_an_array_is_counts_and_the_time_left() -> None:
    counts = array("running", success=4_980, failed=20, running=4, pending=496)["tasks"]
    assert waiting.state_line(counts) == "4,980 succeeded · 20 failed · 4 running · 496 pending"
    pace = waiting.Pace(100.0, 1_000)
    assert pace.left_s(101.0, 2_000, 5_500) is None
    assert pace.left_s(140.0, 1_000, 5_500) is None
    left_s = pace.left_s(140.0, 5_000, 5_500)
    assert left_s == 5.0
    assert waiting.state_line(counts, left_s) == "4,980 succeeded · 20 failed · 4 running · 0:05 left"
    assert waiting.state_line({"success": 1}, 3_723.4) == "1 succeeded · 1:02:03 left"
