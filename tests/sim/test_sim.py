"""Seeds of the simulator. A seed that breaks a promise tells its story; see docs/simulation.md."""

from __future__ import annotations

from random import Random
from typing import Any, cast

import pytest

from tests.sim.disk import Disk, VirtualJournal
from tests.sim.runner import STANDBYS, check, story_of
from tests.sim.timeline import Clock, Timeline
from zsched.protocol import RunResult
from zsched.worker.guard.spool import Spool

# Seeds of the quick suite: some seconds' worth. The others are `slow`, and run before a change is taken (.ci/run).
QUICK = 3
ALL = 300
CHUNK = 25


def test_no_promise_is_broken_whatever_goes_wrong() -> None:
    check(range(QUICK))


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("first", range(QUICK, ALL, CHUNK))
def test_no_promise_is_broken_by_many_more_seeds(first: int) -> None:
    check(range(first, min(first + CHUNK, ALL)))


def test_no_promise_is_broken_when_schedulers_replace_one_another() -> None:
    check(range(STANDBYS, STANDBYS + QUICK))


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("first", range(QUICK, ALL, CHUNK))
def test_no_promise_is_broken_by_many_more_replaced_schedulers(first: int) -> None:
    check(range(STANDBYS + first, STANDBYS + min(first + CHUNK, ALL)))


def test_a_seed_alone_tells_the_whole_story_again() -> None:
    told = story_of(7).splitlines()
    again = story_of(7).splitlines()
    assert len(told) > 100
    # The identity of a database is random and decides nothing.
    assert [line for line in told if "db=" not in line and "database" not in line] == [
        line for line in again if "db=" not in line and "database" not in line
    ]


@pytest.mark.parametrize("rate", [970, 1_000, 1_030])
def test_a_host_wakes_at_the_first_moment_at_which_its_own_clock_says_so(rate: int) -> None:
    clock = Clock(Timeline(), 12_345, rate)
    for mono_ms in range(112_345, 114_345):
        moment_ms = clock.moment(mono_ms)
        assert clock.at(moment_ms - 1) < mono_ms <= clock.at(moment_ms)
    assert clock.at(1_000_000) - clock.at(0) == 1_000 * rate


def spool_on(disk: Disk) -> Spool:
    return Spool(cast("Any", VirtualJournal(disk)), 0)


def result(run: int) -> RunResult:
    return RunResult(run, "success", "exit", 1)


def test_virtual_disk_keeps_writes_on_a_kill_and_syncs_on_a_power_cut() -> None:
    disk = Disk()
    spool = spool_on(disk)
    spool.enter("d1", 0)
    for run in (1, 2, 3):
        spool.write([result(run)], 0)
        spool.sync(0)
    spool.forget((2,), 0)
    assert [one.run for one in spool_on(disk).results()] == [1, 3]

    spool = spool_on(disk)
    spool.forget((1,), 0)
    spool.forget((3,), 0)
    left = set()
    for seed in range(20):
        image = Disk()
        image.current, image.files = "d1", {"d1": disk.files["d1"].copy()}
        image.cut_power(Random(seed))
        left.add(tuple(one.run for one in spool_on(image).results()))
    assert left == {(1, 3), (3,), ()}
