"""A fleet that has nothing to do: it is heard, and nothing of that is written."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.system.process import WorkerProcess
from tests.system.session import Scheduler, until

pytestmark = pytest.mark.slow

HEARTBEAT = "100ms"


def test_an_idle_fleet_is_heard_and_writes_nothing(tmp_path: Path) -> None:
    with ExitStack() as held:
        scheduler = held.enter_context(Scheduler(tmp_path))
        for name in ("w1", "w2"):
            (tmp_path / name).mkdir()
            worker = WorkerProcess(scheduler.url, tmp_path / name, id=name, heartbeat_interval=HEARTBEAT)
            held.enter_context(worker)
        until(lambda: scheduler.workers() == {"w1": "active", "w2": "active"})
        # The first job ends, and with it all that a start writes.
        job = scheduler.submit("true")[0]
        scheduler.finished(job)

        def seen() -> list[Any]:
            return [worker["last_seen"] for worker in scheduler.get("/workers")]

        def written() -> list[tuple[int, int]]:
            files = (tmp_path / name for name in ("scheduler.db", "scheduler.db-wal"))
            return [(found.st_size, found.st_mtime_ns) for found in (file.stat() for file in files)]

        first, before = seen(), written()
        for _ in range(10):
            last = seen()
            until(lambda last=last: all(new > old for new, old in zip(seen(), last, strict=True)))  # type: ignore[misc]
        assert written() == before
        assert all(new > old for new, old in zip(seen(), first, strict=True))
