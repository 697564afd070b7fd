"""Jobs that are cancelled at random moments, on workers that are killed now and then: what has ended stays so."""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from tests.faults.stage import Stage
from tests.system.session import until

log = logging.getLogger(__name__)

JOBS = int(os.environ.get("ZSCHED_FAULT_JOBS", "300"))
SEED = int(os.environ.get("ZSCHED_FAULT_SEED", "1"))
WORKERS = 3
BATCH = 50
KILL_EACH_S = 2.0

# Some end soon, some ignore TERM, some leave a grandchild in a session of its own.
COMMANDS = ("sleep 0.1", "sleep 1", "sleep 30", "trap '' TERM; sleep 30 & wait; sleep 30", "setsid sleep 30 & sleep 30")


class Patrol(threading.Thread):
    """Looks all the time whether a process of a run lives whose end is stored already."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(daemon=True)
        self._stage = stage
        self._over = threading.Event()
        self.looks = 0
        self.found: list[str] = []

    def run(self) -> None:
        while not self._over.wait(0.1):
            self.look()

    def stop(self) -> None:
        self._over.set()
        self.join()

    def look(self) -> None:
        ended = {run for (run,) in self._stage.ask("SELECT run_id FROM runs WHERE finished_ms IS NOT NULL")}
        marks = {mark.read_bytes().strip() for mark in self._stage.folder.glob("*/state/spool_id")}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                told = dict(one.partition(b"=")[::2] for one in (process / "environ").read_bytes().split(b"\0"))
                if told.get(b"ZSCHED_SPOOL") in marks and int(told.get(b"ZSCHED_RUN_ID", b"0")) in ended:
                    # Of one that is killed the kernel still shows the environment until it is a zombie.
                    state = (process / "stat").read_text("ascii").rpartition(")")[2].split()[0]
                    self.found.append(f"{process.name} ({state}) of run {told[b'ZSCHED_RUN_ID'].decode()}")
        self.looks += 1


def test_cancelled_jobs_end_with_all_their_processes_and_stay_ended(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    with Stage(tmp_path) as stage:
        for number in range(WORKERS):
            stage.worker(f"w{number}", slots=8)
        stage.active()
        patrol = Patrol(stage)
        patrol.start()
        answers: Counter[int] = Counter()
        acked: set[int] = set()
        kills, next_kill = 0, time.monotonic() + KILL_EACH_S
        left: list[int] = []
        for _ in range(0, JOBS, BATCH):
            left += stage.scheduler.submit(*chance.choices(COMMANDS, k=BATCH), kill_grace="500ms", retries=1)
            while len(left) > BATCH // 2:
                job = left.pop(chance.randrange(len(left)))
                status, _ = stage.scheduler.ask("POST", f"/jobs/{job}/cancel")
                answers[status] += 1
                if status == 200:
                    acked.add(job)
                time.sleep(chance.expovariate(1 / 0.02))
                if time.monotonic() > next_kill:
                    name = chance.choice(list(stage.workers))
                    stage.workers[name].send(signal.SIGKILL)
                    stage.workers[name].exit_code()
                    stage.worker(name, slots=8)
                    kills, next_kill = kills + 1, time.monotonic() + KILL_EACH_S
        for job in left:
            status, _ = stage.scheduler.ask("POST", f"/jobs/{job}/cancel")
            answers[status] += 1
            acked |= {job} if status == 200 else set()
        stage.all_end(120)
        patrol.stop()
        patrol.look()
        log.info(
            "%d jobs, seed %d: cancels answered %s; %d workers killed; %d looks", JOBS, SEED, dict(answers), kills,
            patrol.looks,
        )  # fmt: skip
        log.info("ends: %s", dict(stage.ask("SELECT status, count(*) FROM jobs GROUP BY status")))
        assert answers.keys() <= {200, 409}
        assert patrol.found == []
        # An acked cancel is the last word.
        others = stage.ask("SELECT job_id, status FROM jobs WHERE status != 'cancelled'")
        assert [job for job, _ in others if job in acked] == []
        # No end has another event after it, and no run of a cancelled job was made after the cancel.
        again = stage.ask(
            "SELECT e.run_first, e.was, e.became FROM events e WHERE e.was IN ('success', 'failed', 'cancelled')"
            " AND e.was != e.became"
        )
        assert again == []
        until(lambda: stage.scheduler.workers() == dict.fromkeys(stage.workers, "active"))
        stage.close_the_books()
