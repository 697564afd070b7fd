"""The log: few lines of what fails again and again, none of them false; and a pipe that nobody reads stops nothing."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.system.process import ROOT
from zsched.host.logs import QUIET_MS, Line, Outage, Writer
from zsched.model.limits import LOG_FLUSH_S, LOG_LINES_BYTES_MAX
from zsched.model.units import counted

PIPE_BYTES = 4_096
F_SETPIPE_SZ = 1031
FULL = OSError("disk full")


@pytest.fixture
def outage() -> Outage:
    return Outage(logging.getLogger("test"), "it failed", "it works again")


def error(text: str) -> tuple[str, int, str]:
    return "test", logging.ERROR, text


def info(text: str) -> tuple[str, int, str]:
    return "test", logging.INFO, text


def test_first_failure_is_logged_at_once_and_later_ones_every_ten_seconds(
    outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    for now_ms in range(5_000, 5_000 + 2 * QUIET_MS + 1, 100):
        outage.failed(FULL, now_ms)
    assert caplog.record_tuples == [
        error("it failed: disk full"),
        error("it failed: disk full (100 times since the last such line)"),
        error("it failed: disk full (100 times since the last such line)"),
    ]


def test_end_of_a_failure_is_logged_once_with_its_length(outage: Outage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    outage.worked(0)
    outage.failed(FULL, 1_000)
    outage.failed(FULL, 2_000)
    outage.worked(3_500)
    outage.worked(4_000)
    assert caplog.record_tuples == [error("it failed: disk full"), info("it works again, after 2.5 s")]


def test_alternating_failures_are_logged_no_more_often(outage: Outage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for now_ms in range(0, QUIET_MS, 1_000):
        outage.failed(FULL, now_ms)
        outage.worked(now_ms + 500)
    outage.failed(FULL, QUIET_MS)
    outage.worked(QUIET_MS + 500)
    assert caplog.record_tuples == [
        error("it failed: disk full"),
        info("it works again, after 0.5 s"),
        error("it failed: disk full (10 times since the last such line)"),
        info("it works again, after 0.5 s"),
    ]


def test_failure_that_returns_in_the_quiet_time_is_logged_after_it(
    outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    outage.failed(FULL, 0)
    outage.worked(1_000)
    outage.failed(FULL, 4_000)
    outage.failed(FULL, QUIET_MS)
    outage.worked(QUIET_MS + 2_000)
    assert caplog.record_tuples[2:] == [
        error("it failed: disk full (2 times since the last such line)"),
        info("it works again, after 8.0 s"),
    ]


# --- Numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "noun", "text"), [(0, "run", "0 runs"), (1, "run", "1 run"), (2, "process", "2 processes")]
)
def test_counted_noun_has_its_number(count: int, noun: str, text: str) -> None:
    assert counted(count, noun) == text


def test_messages_have_no_plural_that_may_stand_behind_one() -> None:
    plural = re.compile(r"%d (?:foreign )?(?:runs|results|records|processes|slots|events)\b")
    found = {
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in (ROOT / "zsched").rglob("*.py")
        for match in plural.finditer(path.read_text("utf-8"))
    }
    assert found == set()


# --- Lines to a pipe --------------------------------------------------------------------------------------------------


LOST = re.compile(r"WARN zsched\.host\.logs: lost (\d+) log lines?: stderr did not take them in time")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The reading and the writing end. A full pipe holds PIPE_BYTES."""
    ends = os.pipe()
    fcntl.fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES)
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


def writer(descriptor: int) -> tuple[logging.Logger, Writer]:
    """A logger that writes its lines to a descriptor."""
    handler = Writer(descriptor)
    handler.setFormatter(Line())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    return logger, handler


def read_lines(readable: int, writable: int, handler: Writer) -> list[str]:
    """Everything that a writer writes until it has been closed."""
    handler.close()
    parts: list[bytes] = []
    reader = threading.Thread(target=lambda: parts.extend(iter(lambda: os.read(readable, 65_536), b"")))
    reader.start()
    if handler._thread is not None:
        handler._thread.join()
    os.close(writable)
    reader.join()
    return b"".join(parts).decode().splitlines()


def test_full_pipe_blocks_no_logger_and_lost_lines_are_counted(pipe: tuple[int, int]) -> None:
    logger, handler = writer(pipe[1])
    count = 4 * LOG_LINES_BYTES_MAX // 1_000
    for number in range(count):
        logger.warning("%d %s", number, "x" * 1_000)
    lines = read_lines(*pipe, handler)
    numbers = [int(line.split()[3]) for line in lines if "x" * 1_000 in line]
    assert numbers == list(range(len(numbers)))
    (lost,) = [int(found[1]) for line in lines if (found := LOST.search(line))]
    assert len(numbers) + lost == count
    assert sum(map(len, lines)) < LOG_LINES_BYTES_MAX + PIPE_BYTES + 2_000


def test_lost_lines_are_counted_where_they_are_missing(pipe: tuple[int, int]) -> None:
    logger, handler = writer(pipe[1])
    for number in range(2 * LOG_LINES_BYTES_MAX // 1_000):
        logger.warning("%d %s", number, "x" * 1_000)
    # As soon as something was read there is room for short lines, before the queue is empty.
    while handler._bytes > LOG_LINES_BYTES_MAX // 2:
        os.read(pipe[0], 4_096)
    logger.warning("later")
    lines = read_lines(*pipe, handler)
    assert LOST.search(lines[-2])
    assert lines[-1].endswith("later")


def test_pipe_that_is_read_gets_every_line(pipe: tuple[int, int]) -> None:
    logger, handler = writer(pipe[1])
    parts: list[bytes] = []
    reader = threading.Thread(target=lambda: parts.extend(iter(lambda: os.read(pipe[0], 1_000), b"")))
    reader.start()
    for number in range(5_000):
        logger.warning("%d", number)
    handler.flush()
    handler.close()
    os.close(pipe[1])
    reader.join()
    assert [int(line.split()[-1]) for line in b"".join(parts).splitlines()] == list(range(5_000))


def test_shared_non_blocking_pipe_gets_every_line(pipe: tuple[int, int]) -> None:
    """The other end of the sharing may be a shell or a supervisor, so the flag is left as it is."""
    os.set_blocking(pipe[1], False)
    logger, handler = writer(pipe[1])
    for number in range(200):
        logger.warning("%d %s", number, "x" * 1_000)
    lines = read_lines(*pipe, handler)
    assert [int(line.split()[3]) for line in lines] == list(range(200))


def test_closed_pipe_stops_no_logger(pipe: tuple[int, int]) -> None:
    logger, handler = writer(pipe[1])
    os.close(pipe[0])
    for number in range(100):
        logger.warning("%d", number)
    handler.flush()
    assert not handler._lines
    handler.close()


PROGRAM = """
import logging, sys
from zsched.host import logs
logs.start("INFO")
for number in range(int(sys.argv[1])):
    logging.getLogger("x").info("%d", number)
"""


def test_last_lines_are_written_at_exit() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, "3000"], stderr=subprocess.PIPE, timeout=20, check=True)
    assert done.stderr.count(b"\n") == 3_000


def test_program_ends_while_its_log_has_no_reader(pipe: tuple[int, int]) -> None:
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, "3000"], stderr=pipe[1])
    try:
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    assert time.monotonic() - began >= LOG_FLUSH_S
