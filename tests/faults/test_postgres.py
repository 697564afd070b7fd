"""Schedulers that share a PostgreSQL server: schedulers, the server and the link between them die under load.

ZSCHED_FAULT_SECONDS says how long the active scheduler is killed, each minute if that is long.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cluster import boottime_ms
from tests.faults.servers import FAR, NEAR, DurableServer
from tests.faults.sharing import OUTAGE_MS_MAX, OUTAGE_MS_P50, Sharing, own_network, spread
from tests.faults.stage import LENGTH_GIVEN, length_s

log = logging.getLogger(__name__)

pytestmark = pytest.mark.postgres

# A scheduler that was killed is started again by its service manager.
RESTART_S = 1.0
# From one kill to the next, in a short run and in a long one.
SHORT_S, LONG_S = 8.0, 60.0
RECURRING = 200


@pytest.fixture
def server() -> Iterator[DurableServer]:
    with own_network(), DurableServer() as server:
        yield server


def test_active_scheduler_is_killed_again_and_again(tmp_path: Path, server: DurableServer) -> None:
    seconds, gap_s = length_s(2 * SHORT_S), LONG_S if LENGTH_GIVEN else SHORT_S
    outages: list[int] = []
    with Sharing(tmp_path, [server.url(NEAR), server.url(FAR)], server.socket_url) as sharing:
        if LENGTH_GIVEN:
            sharing.add_recurring(RECURRING)
        end_s = time.monotonic() + seconds
        with sharing.loaded():
            while time.monotonic() < end_s:
                next_s = time.monotonic() + gap_s
                active, _ = sharing.await_both()
                killed_ms = boottime_ms()
                active.send(signal.SIGKILL)
                active.exit_code()
                time.sleep(RESTART_S)
                active.start()
                outages.append(sharing.await_service(killed_ms))
                time.sleep(max(0.0, next_s - time.monotonic()))
        log.info("%d submits/s; without service: %s", 50, spread(outages))
        verdict = sharing.verdict()
    assert verdict.clean
    assert max(outages) <= OUTAGE_MS_MAX
    assert sorted(outages)[len(outages) // 2] <= OUTAGE_MS_P50
