"""`zsched key rotate` between two starts of a scheduler: who comes in afterwards, and what jobs find."""

from __future__ import annotations

import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.system.process import WorkerProcess
from tests.system.session import Scheduler, environment, until
from tests.system.test_command_line import ZSCHED
from zsched.host.files import write_private
from zsched.security.keys import Access, new_pair, read_access, written_access

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow

SECRET = "correct-horse-battery"


@pytest.fixture
def scheduler(tmp_path: Path) -> Scheduler:
    """It is not started yet."""
    return Scheduler(tmp_path, "-worker-timeout", "3s")


def key(scheduler: Scheduler, *words: str) -> tuple[int, str, str]:
    """The exit code of `zsched key`, its stdout and stderr."""
    argv = [*ZSCHED, "key", *words, "--db=scheduler.db"]
    folder = scheduler.folder
    done = subprocess.run(argv, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout, done.stderr


def test_jobs_have_their_secrets_after_the_rotation(scheduler: Scheduler, tmp_path: Path) -> None:
    with scheduler:
        (job,) = scheduler.submit(f'test "$TOKEN" = {SECRET}', secret_env={"TOKEN": SECRET})
        code, out, err = key(scheduler, "rotate", "secret")
        assert (code, out) == (75, "")
        assert "another scheduler (process" in err
    before = (tmp_path / "scheduler.db.d" / "secret.key").read_bytes()

    code, out, _ = key(scheduler, "rotate", "secret")

    assert (code, out) == (0, f"{tmp_path}/scheduler.db.d/secret.key replaced, the secrets of 1 job encrypted again\n")
    assert (tmp_path / "scheduler.db.d" / "secret.key").read_bytes() != before
    with scheduler, WorkerProcess(scheduler.url, tmp_path):
        assert scheduler.finished(job)["status"] == "success"


def test_old_access_files_are_worthless_and_new_ones_good(scheduler: Scheduler, tmp_path: Path) -> None:
    endpoint, file = f"tcp://127.0.0.1:{scheduler.zmq_port}", tmp_path / "w2.access"
    with ExitStack() as held:
        with scheduler:
            pair = new_pair()
            place = scheduler.post(
                "/workers/enrol", {"worker_id": "w2", "public_key": pair.public, "access_file": True}
            )
            write_private(file, written_access(Access("w2", endpoint, place["server_key"], pair)))
            w1, w2 = (
                held.enter_context(WorkerProcess(scheduler.url, made(tmp_path / name), id=name, access=access))
                for name, access in (("w1", ""), ("w2", str(file)))
            )
            until(lambda: scheduler.workers() == {"w1": "active", "w2": "active"})

        code, out, err = key(scheduler, "rotate", "curve", "--dir=new", f"--endpoint={endpoint}")

        assert (code, out) == (0, "new/w2.access\n"), err
        issued = read_access(tmp_path / "new" / "w2.access")
        assert issued.server_key != place["server_key"]
        held.enter_context(scheduler)
        # The first comes back by itself, the other can't: its file has the old key.
        until(lambda: scheduler.workers() == {"w1": "active", "w2": "inactive"})
        (job,) = scheduler.submit("true")
        assert scheduler.finished(job)["worker_id"] == "w1"
        (tmp_path / "new" / "w2.access").rename(file)
        w2.send(signal.SIGHUP)
        until(lambda: scheduler.workers() == {"w1": "active", "w2": "active"})
        assert w1.agent() is not None
        # The old key is worth nothing: a worker that still has it stays outside.
        keys = [one for one in scheduler.get("/access") if one["worker_id"] == "w2"]
        assert [(one["public_key"], "revoked_at" in one) for one in keys] == [
            (pair.public, True),
            (issued.pair.public, False),
        ]


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder
