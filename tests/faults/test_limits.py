"""Jobs with a limit, and an array with a cap, while one of their workers is cut off: never more at once if they `stop`,
else the excess.

ZSCHED_FAULT_LIMITS says for how many seconds (45), and the worker timeout is 30 s then.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Final

import pytest

from tests.faults import history
from tests.faults.cluster import Cluster, MissingError
from tests.faults.history import Life
from tests.faults.load import LIVES, WITNESS
from tests.faults.tasks import most_at_once
from tests.system.session import until

log = logging.getLogger(__name__)

GIVEN: Final = os.environ.get("ZSCHED_FAULT_LIMITS")
CUT_S: Final = float(GIVEN or 14)
TIMEOUT_S: Final = 30.0 if GIVEN else 5.0
# Of jobs with a limit, and of the tasks of an array.
LIMIT: Final = 3
CAP: Final = 4
# Longer than the scheduler waits for a worker that is silent.
JOB_S: Final = 1.6 * TIMEOUT_S
JOBS: Final = 12


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["stop", "continue"])
@pytest.mark.parametrize("most", [LIMIT, CAP], ids=["limit", "cap"])
def test_limit_holds_while_a_worker_is_cut_off(most: int, mode: str, tmp_path: Path) -> None:
    try:
        cluster = Cluster(tmp_path, workers=3, slots=2, timeout_s=TIMEOUT_S)
    except MissingError as error:
        pytest.skip(str(error))
    witness = tmp_path / "witness"
    witness.touch()
    lasts = LIVES.format(tenths=int(JOB_S * 10))
    command = f"{WITNESS.format(path=witness)}w start; {lasts}; w end 0"
    body = {"name": "j", "command": command, "on_disconnect": mode}
    with cluster:
        scheduler = cluster.scheduler
        capped = most == CAP
        bodies = [body | {"array": f"1-{JOBS}%{CAP}"}] if capped else [body | {"limits": {"db": most}}] * JOBS
        jobs = [job["id"] for job in scheduler.post("/jobs", bodies)]

        def lives() -> list[Life]:
            return history.lives(witness.read_text("ascii").splitlines())

        until(lambda: len(lives()) == most)
        worker = lives()[0].worker
        cluster.cut(worker)
        time.sleep(CUT_S)
        cluster.uncut(worker)
        until(lambda: {scheduler.get(f"/jobs/{job}")["status"] for job in jobs} == {"success"}, JOBS * JOB_S)
        seen = most_at_once(lives())
        assert cluster.end() == []
    log.info("%s: %d at once of %d, while %s was cut off for %g s", mode, seen, most, worker, CUT_S)
    assert len(lives()) > JOBS
    assert seen == most or mode == "continue"
