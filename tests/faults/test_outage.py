"""The scheduler is away while jobs end: each result is told when it is back, and nothing runs again."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from tests.faults.stage import Stage, length_s
from tests.system.session import until

log = logging.getLogger(__name__)

JOBS = 30
WORKERS = 3
# Much more than the worker timeout of five seconds; 600 s with ZSCHED_FAULT_SECONDS.
AWAY_S = length_s(20)


def test_jobs_that_end_during_an_outage_are_reported_once_and_run_once(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    with Stage(tmp_path) as stage:
        for number in range(WORKERS):
            stage.worker(f"w{number}", slots=JOBS // WORKERS)
        stage.active()
        # They end all over the time that the scheduler is away, the last ones soon after it is back.
        lasts_s = [1 + (AWAY_S + 2) * number / JOBS for number in range(JOBS)]
        line = f"echo $ZSCHED_RUN_ID >> {witness}; sleep {{}}; echo $ZSCHED_JOB_ID"
        jobs = stage.scheduler.submit(*(line.format(f"{each_s:.2f}") for each_s in lasts_s))
        until(lambda: len(stage.ask("SELECT 1 FROM runs WHERE started_ms IS NOT NULL")) == JOBS)
        runs = stage.number("SELECT max(run_id) FROM runs")
        pids = stage.pids()
        stage.scheduler.kill()
        began = time.monotonic()
        time.sleep(AWAY_S)
        stage.scheduler.start()
        log.info("away for %.1f s", time.monotonic() - began)
        took_s = until(lambda: stage.scheduler.workers() == dict.fromkeys(stage.workers, "active"), 20)
        log.info("the workers were back after %.2f s", took_s)
        stage.all_end(30)
        assert [stage.scheduler.get(f"/jobs/{job}")["status"] for job in jobs] == ["success"] * JOBS
        assert stage.number("SELECT max(run_id) FROM runs") == runs == JOBS
        assert sorted(map(int, witness.read_text("ascii").split())) == list(range(1, JOBS + 1))
        for job in jobs:
            run = stage.scheduler.last_run(job)
            assert run["logs"] == f"STDOUT:\n{job}\n\n\nSTDERR:\n"
        ends = stage.ask("SELECT run_first FROM events WHERE became = 'success'")
        assert sorted(run for (run,) in ends) == list(range(1, JOBS + 1))
        assert {name: pid for name, pid in stage.pids().items() if name != "scheduler"} == {
            name: pid for name, pid in pids.items() if name != "scheduler"
        }
        log.info("%d results, each told once; %d runs in all", len(ends), runs)
        stage.close_the_books()
