"""A scheduler stands still, or is cut off from the database: another one takes over, and the old one does nothing."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import psycopg
import pytest

from tests import postgres
from tests.relay import relay
from tests.system.process import WorkerProcess
from tests.system.schedulers import SERVED_S, SharingScheduler, Team

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("inside", [False, True], ids=["idle", "inside a transaction"])
def test_stopped_scheduler_is_replaced_and_writes_nothing(database: str, tmp_path: Path, inside: bool) -> None:
    """SIGSTOP for 90 s. A job that stops at a disconnect runs all the time, on one worker or another."""
    folders = [tmp_path / name for name in ("w1", "w2")]
    for folder in folders:
        folder.mkdir()
    beats = tmp_path / "beats"
    with (
        Team(database, tmp_path) as team,
        WorkerProcess(team.urls, folders[0], id="w1", heartbeat_interval="1s"),
        # It knows the first scheduler alone, so it stays with it.
        WorkerProcess(team.all[0].url, folders[1], id="w2", heartbeat_interval="1s"),
    ):
        active, standby = team.all
        command = f"while :; do echo $$ $(date +%s%N) >> {beats}; sleep 0.02; done"
        jobs = [active.submit(command, on_disconnect="stop") for _ in range(2)]
        active.until(lambda: all(active.call("GET", f"/jobs/{job}").body["status"] == "running" for job in jobs))
        late: list[int] = []
        asked = threading.Thread(
            target=lambda: late.append(
                active.call("POST", "/jobs", {"name": "late", "command": "true"}, timeout_s=150).status
            )
        )
        stop(active, database, inside=inside)
        stopped_s = time.monotonic()
        asked.start()
        assert standby.until_served() < SERVED_S
        mark = team.look("SELECT split_part(mark, '.', 1) FROM turn")
        time.sleep(max(0.0, stopped_s + 90 - time.monotonic()))
        assert team.look("SELECT split_part(mark, '.', 1) FROM turn") == mark
        active.send(signal.SIGCONT)
        active.until(lambda: active.role() == "standby")
        asked.join()
        assert team.look("SELECT split_part(mark, '.', 1) FROM turn") == mark
        assert "another scheduler has taken over" in active.log()
        assert late == [503]
        assert team.look("SELECT count(*) FROM jobs WHERE name = 'late'") == [(0,)]
        assert team.look("SELECT count(*) FROM schedulers WHERE stopped_ms IS NOT NULL") == [(0,)]
        assert overlaps(team, beats) == 0


@pytest.mark.timeout(150)
def test_scheduler_cut_off_from_the_database_is_replaced(database: str, tmp_path: Path) -> None:
    """Workers and callers still reach it. A job that stops at a disconnect ends there before it starts elsewhere."""
    folder = postgres.server().folder
    if folder is None:
        pytest.skip("the server is another host's")
    between, beats = tmp_path / "between", tmp_path / "beats"
    folders = [tmp_path / name for name in ("w1", "w2")]
    for made in (between, *folders):
        made.mkdir()
    with (
        relay(between, folder) as link,
        Team(database, tmp_path, first=database.replace(str(folder), str(between))) as team,
        # It knows the first scheduler alone, so it stays with it.
        WorkerProcess(team.all[0].url, folders[1], id="w2", heartbeat_interval="1s"),
    ):
        active, standby = team.all
        command = f"while :; do echo $$ $(date +%s%N) >> {beats}; sleep 0.02; done"
        jobs = [active.submit(command, on_disconnect="stop") for _ in range(2)]
        active.until(lambda: all(active.call("GET", f"/jobs/{job}").body["status"] == "running" for job in jobs))
        with WorkerProcess(team.urls, folders[0], id="w1", heartbeat_interval="1s"):
            link.closed = True
            link.cut()
            assert standby.until_served() < SERVED_S
            # Until it answers so, callers that know both don't go on to the other one.
            late = {"name": "late", "command": "true"}
            active.until(lambda: (active.call("POST", "/jobs", late).body or {}).get("code") == "standby", SERVED_S)
            standby.until(
                lambda: all(
                    [run["worker_id"] for run in standby.call("GET", f"/jobs/{job}/runs").body][:1] == ["w1"]
                    for job in jobs
                ),
                within_s=60,
            )
            link.closed = False
            active.until(lambda: active.role() == "standby")
        assert "another scheduler may have taken over" in active.log()
        assert team.look("SELECT count(*) FROM jobs WHERE name = 'late'") == [(0,)]
        assert overlaps(team, beats) == 0
        assert len({line.split()[0] for line in beats.read_text("ascii").splitlines()}) == 4


def stop(scheduler: SharingScheduler, database: str, *, inside: bool) -> None:
    """SIGSTOP. `inside`: when it has begun a transaction, and read the epoch."""
    if not inside:
        scheduler.stop()
        return
    with psycopg.connect(database) as holder:
        holder.execute("SELECT * FROM turn FOR UPDATE")
        with psycopg.connect(database, autocommit=True) as looking:
            waits = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            scheduler.until(lambda: looking.execute(waits).fetchone() == (1,))
            scheduler.send(signal.SIGSTOP)
            holder.rollback()
            idle = (
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND state = 'idle in transaction'"
            )
            scheduler.until(lambda: looking.execute(idle).fetchone() == (1,))


def overlaps(team: Team, beats: Path) -> int:
    """How often two runs of one job have lived at the same time, by what they wrote themselves."""
    spans: dict[int, tuple[int, int]] = {}
    for line in beats.read_text("ascii").splitlines():
        if len(words := line.split()) == 2:
            pid, at_ns = map(int, words)
            first, last = spans.get(pid, (at_ns, at_ns))
            spans[pid] = min(first, at_ns), max(last, at_ns)
    living = sorted(spans.values())
    # Two jobs run at the same time, and never three processes.
    return sum(
        sum(first <= begin <= last for first, last in living if (first, last) != (begin, end)) > 1
        for begin, end in living
    )
