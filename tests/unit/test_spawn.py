"""Starting a job's process when the host is not as it should be."""

from __future__ import annotations

import errno
import logging
import os
import resource
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from zsched.protocol import RunOrder
from zsched.worker.process import program
from zsched.worker.process.spawn import Spawner


@pytest.mark.parametrize("refused", [0, 1])
def test_process_that_was_started_never_counts_as_one_without_room(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, refused: int
) -> None:
    spawner = Spawner("w1", "m1")
    written: list[bytes] = []

    def write(fd: int, data: bytes, offset: int) -> int:
        # As when a privileged process has raised the score: others can't lower it, before the start or after it.
        written.append(data)
        if len(written) > refused:
            raise PermissionError(errno.EACCES, "Permission denied")
        return len(data)

    monkeypatch.setattr(os, "pwrite", write)
    order = RunOrder(run=2, job=2, task=0, attempt=1, command="exec true", grace_ms=1, output_bytes_max=1)
    spawned = spawner.spawn(order)
    assert len(written) == refused + 1
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1
    assert os.waitstatus_to_exitcode(os.waitpid(spawned.pid, 0)[1]) == 0
    for fd in (spawned.stdout, spawned.stderr):
        os.close(fd)


@pytest.mark.parametrize("above", [False, True])
def test_job_gets_the_limit_of_before_however_many_descriptors_are_open(*, above: bool) -> None:
    limit = max(map(int, os.listdir("/proc/self/fd"))) + 64
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        spawner = Spawner("w1", "m1")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(limit if above else 0)]
    order = RunOrder(run=2, job=2, task=0, attempt=1, command="ulimit -n", grace_ms=1, output_bytes_max=1)
    spawned = spawner.spawn(order)
    assert os.waitstatus_to_exitcode(os.waitpid(spawned.pid, 0)[1]) == 0
    assert os.read(spawned.stdout, 100) == b"%d\n" % limit
    for fd in (*held, spawned.stdout, spawned.stderr):
        os.close(fd)


@pytest.mark.parametrize("argv", [None, ("pwd",)])
def test_job_whose_home_is_empty_does_not_begin_in_the_worker_s_folder(
    tmp_path: Path, argv: tuple[str, ...] | None
) -> None:
    order = RunOrder(run=2, job=2, task=0, attempt=1, command="pwd", grace_ms=1, output_bytes_max=1)
    words = program.words(replace(order, argv=argv), "", at_home=True)
    done = subprocess.run(words, cwd=tmp_path, env={"HOME": ""}, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("/\n", "")
