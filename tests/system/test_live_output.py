"""What a job writes can be read while it writes it, and its end be waited for, by real processes."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from tests.system.process import WorkerProcess
from tests.system.session import Scheduler, until
from zsched.model.limits import WAITERS_MAX

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scheduler]:
    folder = tmp_path_factory.mktemp("live")
    with Scheduler(folder) as started, WorkerProcess(started.url, folder):
        until(lambda: started.workers() == {"w1": "active"})
        yield started


def follow(scheduler: Scheduler, run: int, stream: str = "stdout") -> Iterator[tuple[float, bytes]]:
    """Each piece as it comes, with the moment; to the end of the run."""
    offset, end = 0, "false"
    while end != "true":
        query = f"stream={stream}&offset={offset}&wait=20s"
        with urllib.request.urlopen(f"{scheduler.url}/runs/{run}/log?{query}", timeout=30) as answer:
            data = answer.read()
            offset, end = int(answer.headers["Zsched-Next"]), answer.headers["Zsched-End"]
        if data:
            yield time.monotonic(), data


def running(scheduler: Scheduler, command: str) -> int:
    """Submit a job and return its run once it has started."""
    (job,) = scheduler.submit(command)
    until(lambda: "start_time" in scheduler.last_run(job))
    return int(scheduler.last_run(job)["run_id"])


def milliseconds(when: str) -> float:
    return datetime.fromisoformat(when).timestamp() * 1000


def test_lines_come_as_they_are_written(scheduler: Scheduler) -> None:
    run = running(scheduler, "for i in 1 2 3; do echo $i; sleep 0.4; done")
    pieces = list(follow(scheduler, run))
    assert b"".join(data for _, data in pieces) == b"1\n2\n3\n"
    # The first line was there long before the last.
    assert pieces[-1][0] - pieces[0][0] > 0.3


def test_both_streams_are_followed_each_by_itself(scheduler: Scheduler) -> None:
    run = running(scheduler, "sleep 0.3; echo out; echo err >&2; sleep 0.3")
    assert b"".join(data for _, data in follow(scheduler, run, "stderr")) == b"err\n"
    assert b"".join(data for _, data in follow(scheduler, run)) == b"out\n"


def test_any_bytes_come_through(scheduler: Scheduler) -> None:
    run = running(scheduler, r"sleep 0.2; printf '\377\000\376'; sleep 0.3")
    assert b"".join(data for _, data in follow(scheduler, run)) == b"\xff\x00\xfe"


def test_a_held_answer_comes_when_the_job_has_ended(scheduler: Scheduler) -> None:
    (job,) = scheduler.submit("sleep 0.3; exit 3")
    ended = scheduler.get(f"/jobs/{job}?wait=20s")
    answered_ms = time.time() * 1000
    assert ended["status"] == "failed"
    assert ended["last_run"]["exit_code"] == 3
    # The last word counts milliseconds, and so does this.
    assert 0 <= answered_ms - milliseconds(ended["last_run"]["end_time"]) < 500


def test_an_answer_is_held_no_longer_than_asked_for(scheduler: Scheduler) -> None:
    (job,) = scheduler.submit("sleep 2")
    began = time.monotonic()
    assert scheduler.get(f"/jobs/{job}?wait=0.2s")["status"] in ("pending", "running")
    assert 0.2 <= time.monotonic() - began < 1.5


@pytest.mark.slow
def test_waiting_readers_leave_threads_for_the_others(scheduler: Scheduler) -> None:
    """More readers than may wait: the excess is answered at once, and short calls are served."""
    run = running(scheduler, "sleep 4")
    url = f"{scheduler.url}/runs/{run}/log?offset=0&wait=20s"
    readers = [urllib.request.Request(url) for _ in range(WAITERS_MAX + 8)]
    began = time.monotonic()
    with ThreadPoolExecutor(len(readers)) as pool:
        asked = [pool.submit(lambda one: urllib.request.urlopen(one, timeout=30).close(), one) for one in readers]
        until(lambda: sum(future.done() for future in asked) >= 8)
        assert scheduler.get("/version")["name"] == "zsched"
        assert time.monotonic() - began < 3.5
        for future in asked:
            future.result()
