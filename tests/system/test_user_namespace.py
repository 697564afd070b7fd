"""A scheduler in a user namespace that does not have all users of its host, as in a rootless container."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.process import ROOT, open_folder
from tests.system.session import SCHEDULER, Scheduler, environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or any(shutil.which(name) is None for name in ("setpriv", "curl")),
        reason="only root can make such a namespace and be other users, by setpriv(1) and curl(1)",
    ),
]

# Becomes the program that follows, as user N of a user namespace whose users 0 to 65,535 are 100,000 and up outside.
ENTER = """
import ctypes, os, sys
heard, told = os.pipe()
main = os.getpid()
helper = os.fork()
if helper == 0:
    os.read(heard, 1)
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{main}/{name}", "w") as file:
            file.write("0 100000 65536")
    os._exit(0)
CLONE_NEWUSER = 0x10000000
assert ctypes.CDLL(None).unshare(CLONE_NEWUSER) == 0
os.write(told, b"!")
assert os.waitpid(helper, 0)[1] == 0
os.setgroups([])
os.setresgid(*[int(sys.argv[1])] * 3)
os.setresuid(*[int(sys.argv[1])] * 3)
os.execv(sys.argv[2], sys.argv[2:])
"""
FIRST = 100_000
OVERFLOW = int(Path("/proc/sys/kernel/overflowuid").read_text("ascii"))


@contextmanager
def scheduler(uid: int, *flags: str) -> Iterator[Scheduler]:
    """One that runs as a user of such a namespace."""
    enter = [sys.executable, "-I", "-c", ENTER, str(uid)]
    if subprocess.run([*enter, *SCHEDULER, "--version"], env=environment(ROOT), capture_output=True).returncode != 0:
        pytest.skip(f"{ROOT} and {sys.executable} lie where another user can't read them")
    with open_folder() as place:
        os.chown(place, FIRST + uid, FIRST + uid)
        with Scheduler(place, *flags, argv=[*enter, *SCHEDULER]) as started:
            yield started


def ask(scheduler: Scheduler, uid: int, *more: str) -> str:
    """What curl prints as a user of the host: the answer to a submit, and its status."""
    words = ["setpriv", f"--reuid={uid}", "--clear-groups", "curl", "-s", "-w", " %{http_code}", *more]
    job = ["-d", '{"name": "j", "command": "true"}', f"http://localhost:{scheduler.port}/jobs"]
    return subprocess.run([*words, *job], check=True, capture_output=True, text=True, timeout=20).stdout


@pytest.mark.parametrize("flags", [("-local-trust", "uid"), ("-local-trust", "uid", "-local-uids", str(OVERFLOW))])
def test_unmapped_users_are_not_the_schedulers_own(flags: tuple[str, ...]) -> None:
    with scheduler(OVERFLOW, *flags) as started:
        # Neither an unmapped user, nor root outside, nor the scheduler's own user, which looks the same.
        for uid in (2002, 0, FIRST + OVERFLOW):
            answer = ask(started, uid)
            assert answer.endswith(" 403"), answer
            assert "The caller's user has no number in the scheduler's user namespace" in answer
        assert "User 5 needs a token: " in ask(started, FIRST + 5)
        # Root of the namespace is somebody.
        assert ask(started, FIRST).endswith(" 201")
        # Root outside may open any socket, and is nobody inside.
        answer = ask(started, 0, "--unix-socket", str(started.folder / "scheduler.db.d" / "api.sock"))
        assert answer.endswith(" 403"), answer


def test_default_in_a_partial_user_namespace_is_the_socket() -> None:
    with scheduler(0) as started:
        assert started.program is not None
        # It answers before it says so.
        started.program.wait_for_log("may administer it (local_trust = socket)")
        for uid in (2002, 0, FIRST):
            answer = ask(started, uid)
            assert answer.endswith(" 403"), answer
            assert "local_trust = socket" in answer
        sock = str(started.folder / "scheduler.db.d" / "api.sock")
        assert ask(started, FIRST, "--unix-socket", sock).endswith(" 201")
