"""Submits that are done once, by real processes: the scheduler is killed while they are under way."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.system.session import DEADLINE_S, Scheduler, until
from zsched import Client

CALLERS = 50

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


class ConnectionLimiter:
    """Callers who send the same submit at the same moment, each again and again until it gets an answer."""

    def __init__(self, port: int, key: str) -> None:
        self.ids: list[int] = []
        self.replayed = 0
        # Attempts that were sent and got no answer.
        self.lost = 0
        self._port = port
        self._key = key
        self._together = threading.Barrier(CALLERS + 1)
        self._threads = [threading.Thread(target=self._submit) for _ in range(CALLERS)]
        for thread in self._threads:
            thread.start()

    def begin(self) -> None:
        self._together.wait(DEADLINE_S)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive()

    def _submit(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=DEADLINE_S)
        connection.connect()
        self._together.wait(DEADLINE_S)
        until(lambda: self._answered(connection))
        connection.close()

    def _answered(self, connection: http.client.HTTPConnection) -> bool:
        """One attempt."""
        body = json.dumps({"name": self._key, "command": "true"})
        sent = False
        try:
            connection.request("POST", "/jobs", body, {"Idempotency-Key": self._key})
            sent = True
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            self.lost += sent
            return False
        if answer.status == 503:
            return False
        assert answer.status == 201, content
        self.ids.append(json.loads(content)["id"])
        self.replayed += answer.getheader("Idempotency-Replayed") == "true"
        return True


def test_of_fifty_at_once_one_is_done_though_the_scheduler_is_killed(tmp_path: Path) -> None:
    lost = 0
    with Scheduler(tmp_path, "-db", str(tmp_path / "scheduler.db")) as scheduler:
        # Killed when so many have been answered: before it has stored anything, most often, and after.
        for answered in (0, 0, 0, 1, 1, 10, 30):
            crowd = ConnectionLimiter(scheduler.port, f"key-{scheduler.program.pid if scheduler.program else 0}")
            crowd.begin()
            until(lambda answered=answered, crowd=crowd: len(crowd.ids) >= answered)  # type: ignore[misc]
            scheduler.kill()
            scheduler.start()
            crowd.join()
            lost += crowd.lost
            assert len(crowd.ids) == CALLERS
            assert len(set(crowd.ids)) == 1
            assert crowd.replayed >= CALLERS - 1
        names = Counter(job["name"] for job in scheduler.get("/jobs?limit=1000"))
    assert list(names.values()) == [1] * 7
    # Otherwise nothing was shown.
    assert lost > CALLERS


def test_a_client_submits_through_kills_and_each_job_is_there_once(tmp_path: Path) -> None:
    with Scheduler(tmp_path, "-db", str(tmp_path / "scheduler.db")) as scheduler, Client(scheduler.url) as client:
        client.stats()
        done: list[str] = []
        stop = threading.Event()

        def submit() -> None:
            while not stop.is_set():
                name = f"job-{len(done)}"
                client.submit("true", name=name)
                done.append(name)

        thread = threading.Thread(target=submit)
        thread.start()
        for _ in range(4):
            seen = len(done)
            until(lambda seen=seen: len(done) > seen + 5)  # type: ignore[misc]
            scheduler.kill()
            scheduler.start()
        seen = len(done)
        until(lambda: len(done) > seen)
        stop.set()
        thread.join(DEADLINE_S)
        names = Counter(job.name for job in client.jobs())
    assert names == Counter(done)
