"""A scheduler in a folder where another user of the host may write too. Real processes of two users: needs root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.process import ROOT
from tests.system.session import Program, Scheduler, environment, until

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow

STRANGER = 2_002
# Creates a database, as a scheduler would.
CREATE = """
from pathlib import Path
from zsched.store.sqlite.engine import open_writer
from zsched.store.sqlite.lock import Lock
with Lock(Path("scheduler.db")) as lock:
    open_writer(Path("scheduler.db"), 0, lock).close()
"""
AS_STRANGER = ("setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups")


@pytest.fixture(params=[0o777, 0o1777], ids=["open", "sticky"])
def shared(request: pytest.FixtureRequest) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("needs root, to be another user")
    if subprocess.run([*AS_STRANGER, "test", "-r", ROOT / "zsched" / "security" / "keys.py"], timeout=20).returncode:
        pytest.skip(f"another user can't read {ROOT}")
    folder = Path(tempfile.mkdtemp(prefix="zsched-shared-"))
    folder.chmod(request.param)
    yield folder
    shutil.rmtree(folder)


def as_stranger(folder: Path, *words: str) -> str:
    """What a command of the other user prints. It must succeed."""
    argv = [*AS_STRANGER, *words]
    done = subprocess.run(argv, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def refusal(scheduler: Scheduler, exit_code: int = 78) -> str:
    """The log of a scheduler that must not start."""
    with Program("scheduler", scheduler._argv, scheduler.folder) as program:
        scheduler.program = program
        until(lambda: program.process.poll() is not None or scheduler.ready())
        assert program.process.poll() == exit_code, program.log()
        return program.log()


def test_lock_that_is_a_link_of_another_user_is_not_followed(shared: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious", "ascii")
    victim.chmod(0o600)
    as_stranger(shared, "sh", "-c", f"mkdir -m 700 scheduler.db.d && ln -s {victim} scheduler.db.d/lock")

    log = refusal(Scheduler(shared))

    assert victim.read_text("ascii") == "precious"
    assert f"insecure owner of {shared}/scheduler.db.d (user {STRANGER})" in log


def test_database_of_another_user_is_not_served(shared: Path) -> None:
    as_stranger(shared, sys.executable, "-P", "-c", CREATE)
    as_stranger(shared, "rm", "-r", "scheduler.db.d")
    assert (shared / "scheduler.db").stat().st_uid == STRANGER

    log = refusal(Scheduler(shared))

    assert f"insecure owner of {shared}/scheduler.db (user {STRANGER})" in log


@pytest.mark.parametrize(("name", "exit_code"), [("scheduler.db", 2), ("scheduler.db.d", 78)])
def test_link_of_another_user_is_not_followed(shared: Path, name: str, exit_code: int) -> None:
    private = Path(tempfile.mkdtemp(prefix="zsched-private-"))
    scheduler = Scheduler(private)
    with scheduler:
        pass
    try:
        as_stranger(shared, "ln", "-s", str(private / name), name)
        log = refusal(Scheduler(shared), exit_code)
        assert f"insecure link {shared}/{name} (of user {STRANGER})" in log
    finally:
        shutil.rmtree(private)
