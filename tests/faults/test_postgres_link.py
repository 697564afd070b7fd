"""The link between the active scheduler and PostgreSQL is cut, and the standby has its own.

ZSCHED_FAULT_SECONDS says for how long.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from tests.faults.cluster import boottime_ms
from tests.faults.servers import FAR, NEAR, DurableServer
from tests.faults.sharing import LINKS, OUTAGE_MS_MAX, Sharing, cut, own_network
from tests.faults.stage import length_s

log = logging.getLogger(__name__)

pytestmark = pytest.mark.postgres

CALM_S = 3.0
# So short that the leases of `stop` jobs end while nobody leads.
TIMEOUT_S = 6.0


@pytest.mark.parametrize("how", LINKS)
def test_link_of_the_active_scheduler_is_cut(tmp_path: Path, how: str) -> None:
    with own_network(), DurableServer() as server:
        urls = [server.url(NEAR), server.url(FAR)]
        with Sharing(tmp_path, urls, server.socket_url, timeout_s=TIMEOUT_S) as sharing:
            with sharing.loaded():
                time.sleep(CALM_S)
                active, standby = sharing.await_both()
                assert active is sharing.team.all[0]
                with cut(how):
                    cut_ms = boottime_ms()
                    time.sleep(length_s(20))
                    assert standby.role() == "ready"
                outage_ms = sharing.acked_since(cut_ms)
                time.sleep(CALM_S)
            log.info("link cut (%s): without service %s ms", how, outage_ms)
            verdict = sharing.verdict()
            assert "no longer active" in active.log()
    assert verdict.clean
    assert outage_ms is not None
    assert outage_ms <= OUTAGE_MS_MAX
