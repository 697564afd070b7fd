"""How a limit of open files is shared out."""

from __future__ import annotations

import resource

import pytest

from zsched.model.limits import (
    CONNECTIONS_MAX,
    FILES_RESERVED,
    SOCKET_CONNECTIONS_MAX,
    WAITERS_MAX,
    WORKER_CONNECTIONS_MAX,
)
from zsched.scheduler import shares as module
from zsched.scheduler.shares import Shares, shares, warn_of_few_files

THREADS = 16


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (resource.RLIM_INFINITY, Shares(WORKER_CONNECTIONS_MAX, CONNECTIONS_MAX, SOCKET_CONNECTIONS_MAX)),
        (1_000_000, Shares(WORKER_CONNECTIONS_MAX, CONNECTIONS_MAX, SOCKET_CONNECTIONS_MAX)),
        (65_536, Shares(WORKER_CONNECTIONS_MAX, CONNECTIONS_MAX, SOCKET_CONNECTIONS_MAX)),
        (20_000, Shares(20_000 - FILES_RESERVED, CONNECTIONS_MAX, SOCKET_CONNECTIONS_MAX)),
        (2_500, Shares(2_500 - FILES_RESERVED, CONNECTIONS_MAX, SOCKET_CONNECTIONS_MAX)),
        (1_024, Shares(256, 468, 156, 32)),
        (150, Shares(27, 21, 6, 8)),
        (20, Shares(2, 2, 2, 8)),
    ],
)
def test_open_files_are_left_for_everything_else(files: int, found: Shares) -> None:
    threads = THREADS // 2 + WAITERS_MAX
    assert CONNECTIONS_MAX + SOCKET_CONNECTIONS_MAX + 37 + 2 * threads <= FILES_RESERVED
    assert shares(files, THREADS) == found


@pytest.mark.parametrize("files", range(128, 4_000, 7))
def test_shares_and_own_files_fit_the_limit(files: int) -> None:
    """37 files are open without a caller, and two more for each thread."""
    found = shares(files, THREADS)
    threads = THREADS // 2 + found.waiters
    assert threads >= THREADS
    assert found.workers + found.tcp + found.socket + 37 + 2 * threads <= files


def test_half_of_many_threads_may_wait() -> None:
    assert shares(65_536, 1_024).waiters == shares(resource.RLIM_INFINITY, 1_024).waiters == 512


def test_limit_of_open_files_that_is_too_low_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    for enough in (resource.RLIM_INFINITY, 65_536, 2_500):
        warn_of_few_files(enough, shares(enough, THREADS))
    assert caplog.records == []
    warn_of_few_files(150, shares(150, THREADS))
    (record,) = caplog.records
    assert "150: it allows 27 workers, and 27 connections of REST" in record.getMessage()
    assert f"set it to {FILES_RESERVED + WORKER_CONNECTIONS_MAX}" in record.getMessage()
    assert record.name == module.__name__
