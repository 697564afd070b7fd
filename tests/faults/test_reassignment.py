"""How long a run is without a worker when its own dies: from the kill to the first sign of its successor elsewhere.

ZSCHED_FAULT_KILLS says how many kills, 5 if not said.
"""

from __future__ import annotations

import logging
import os
import random
import time
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster, MissingError, boottime_ms
from tests.faults.history import Life, lives
from tests.faults.load import WITNESS
from tests.faults.stage import spread
from tests.system.session import until

log = logging.getLogger(__name__)

KILLS = int(os.environ.get("ZSCHED_FAULT_KILLS", "5"))
TIMEOUT_S = 3.0
# Its runs are pending again by the timeout and 2 s (promise 10); and then another worker starts them.
LATE_MS_MAX = 2_000 + 500


def test_a_run_of_a_worker_that_dies_is_started_elsewhere_in_time(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    witness.touch()
    command = WITNESS.format(path=witness) + "w start; exec sleep 600"

    def started(job: int, count: int) -> list[Life]:
        """Its lives so far, in order, when there are so many."""
        found: list[Life] = []

        def enough() -> bool:
            found[:] = [life for life in lives(witness.read_text("ascii").splitlines()) if life.job == job]
            return len(found) == count

        until(enough)
        return found

    delays_ms, chance = [], random.Random(1)
    try:
        cluster = Cluster(tmp_path, workers=2, slots=1, timeout_s=TIMEOUT_S)
    except MissingError as error:
        pytest.skip(str(error))
    with cluster:
        for _ in range(KILLS):
            (job,) = cluster.scheduler.submit(command)
            (first,) = started(job, 1)
            # At any moment between two heartbeats.
            time.sleep(chance.uniform(0, TIMEOUT_S / 3))
            killed_ms = boottime_ms()
            cluster.kill_worker(first.worker, back_after_s=float("inf"))
            _, second = started(job, 2)
            assert second.worker != first.worker
            delays_ms.append(float(second.started_ms - killed_ms))
            cluster.scheduler.post(f"/jobs/{job}/cancel")
            assert cluster.scheduler.finished(job)["status"] == "cancelled"
            cluster.start(first.worker)
            until(lambda: cluster.scheduler.workers() == dict.fromkeys(cluster.names, "active"))
        delays_ms.sort()
        log.info("%d kills, a timeout of %.0f s: %s", KILLS, TIMEOUT_S, spread(delays_ms))
        assert delays_ms[-1] <= TIMEOUT_S * 1000 + LATE_MS_MAX
        assert cluster.end() == []
        assert cluster.left() == []
