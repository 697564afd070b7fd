"""Thousands of connections that say next to nothing, and a caller who wants an answer."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

from tests.faults.stage import MIB, Memory, Stage, length_s, spread
from tests.system.process import open_fds
from tests.system.session import Program, until
from zsched.model.limits import CONNECTIONS_MAX

log = logging.getLogger(__name__)

CROWD = 2_000
ANSWER_S_MAX = 1.0
# A connection costs some 10 KiB here, one whose request's head grows a little more.
GROWTH_MAX = 48 * MIB


def test_a_crowd_that_dribbles_keeps_no_caller_from_an_answer(tmp_path: Path) -> None:
    seconds = length_s(5)
    with Stage(tmp_path) as stage:
        stage.worker()
        stage.active()
        for job in stage.scheduler.submit(*["echo"] * 20):
            stage.scheduler.finished(job)
        scheduler = stage.scheduler.program
        assert scheduler is not None
        memory, times_ms, most = Memory({"scheduler": scheduler.pid}), [], 0
        words = [sys.executable, "-m", "tests.faults.dribbles", str(stage.scheduler.port), str(CROWD), str(seconds)]
        crowd = Program("crowd", words, tmp_path)
        while crowd.process.poll() is None:
            for method, path, value in (
                ("GET", "/jobs/1", None),
                ("POST", "/jobs", {"name": "j", "command": "true"}),
                ("GET", "/healthz", None),
            ):
                began = time.monotonic()
                assert stage.scheduler.ask(method, path, value)[0] in (200, 201)
                times_ms.append((time.monotonic() - began) * 1000)
                time.sleep(0.02)
            most = max(most, open_fds(scheduler.pid))
        assert crowd.exit_code() == 0, crowd.log()
        log.info("the crowd: %s; the scheduler had at most %d descriptors", crowd.log().strip(), most)
        times_ms.sort()
        log.info("%d calls beside it: %s", len(times_ms), spread(times_ms))
        assert times_ms[-1] < ANSWER_S_MAX * 1000
        memory.assert_bounded(GROWTH_MAX)
        # It was a crowd, and it was bounded.
        assert CONNECTIONS_MAX * 0.8 < most < CONNECTIONS_MAX + 100
        assert stage.lost_runs() == 0
        until(lambda: open_fds(scheduler.pid) < 100)
        stage.all_end(60)
        stage.close_the_books()
