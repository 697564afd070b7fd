"""Who may come in, with real processes: workers and their keys, and other users of this host."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import zmq

from tests.system.calls import Call, calls
from tests.system.process import ROOT, WorkerProcess, gone, open_fds
from tests.system.session import Program, Scheduler, until
from tests.unit.test_rest_methods import METHODS, TAKEN, real
from zsched import protocol
from zsched.security.keys import Access, Pair, is_key, new_pair, own_pair, written_access

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow

NOBODY = 65_534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can be another user, by setpriv(1)"
)


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Scheduler]:
    with Scheduler(tmp_path, "-worker-timeout", "3s") as started:
        yield started


@contextmanager
def worker(scheduler: Scheduler, folder: str = "w1", **settings: str) -> Iterator[WorkerProcess]:
    place = scheduler.folder / folder
    place.mkdir(exist_ok=True)
    with WorkerProcess(scheduler.url, place, 2, "", heartbeat_interval="1s", **settings) as started:
        yield started


def active(scheduler: Scheduler, name: str = "w1") -> None:
    until(lambda: scheduler.workers().get(name) == "active")


def keys(scheduler: Scheduler, name: str = "w1") -> list[tuple[str, bool]]:
    """A worker's keys, oldest first, and whether each is still good."""
    found = [key for key in scheduler.get("/access") if key["worker_id"] == name]
    return [(key["public_key"], "revoked_at" not in key) for key in found]


def enrolled(scheduler: Scheduler, name: str) -> Access:
    """The way in of a worker of that name whose key is made here."""
    pair = new_pair()
    place = scheduler.post("/workers/enrol", {"worker_id": name, "public_key": pair.public})
    return Access(name, place["endpoint"], place["server_key"], pair)


# --- keys of workers -------------------------------------------------------------------------------------------------


def test_a_worker_of_the_same_user_enrols_by_itself_and_its_key_stays(scheduler: Scheduler) -> None:
    with worker(scheduler) as w1:
        active(scheduler)
        ((key, good),) = keys(scheduler)
        assert is_key(key)
        assert good
        assert own_pair(w1.state_dir / "curve.key").public == key
        assert scheduler.finished(scheduler.submit("echo hello")[0])["status"] == "success"
        w1.send(signal.SIGTERM)
        assert w1.exit_code() == 0
    with worker(scheduler):
        active(scheduler)
        assert keys(scheduler) == [(key, True)]


def test_the_keys_are_their_owners_alone(scheduler: Scheduler) -> None:
    with worker(scheduler) as w1:
        active(scheduler)
        data = scheduler.folder / "scheduler.db.d"
        for path, mode in ((data, 0o700), (w1.state_dir, 0o700)):
            assert path.stat().st_mode & 0o777 == mode
        for path in (data / "curve.key", w1.state_dir / "curve.key", scheduler.folder / "scheduler.db"):
            assert path.stat().st_mode & 0o777 == 0o600
        for path in scheduler.folder.glob("scheduler.db-*"):
            assert path.stat().st_mode & 0o077 == 0, path


def test_worker_with_a_key_revoked_before_it_connects_logs_it_and_goes_on(scheduler: Scheduler) -> None:
    path = scheduler.folder / "w2.access"
    path.touch(0o600)
    path.write_text(written_access(enrolled(scheduler, "w2")))
    assert scheduler.ask("DELETE", "/access/w2")[0] == 200
    with worker(scheduler, "w2", id="w2", access=str(path)) as w2:
        w2.wait_for_log("no answer from tcp://")
        assert "does not accept this worker's key (see `zsched access list` there); retrying" in w2.log()
        assert w2.log().count("connecting to") == 1
        w2.send(signal.SIGTERM)
        assert w2.exit_code() == 0


def test_a_worker_that_lost_its_key_comes_back_with_a_new_one(scheduler: Scheduler) -> None:
    with worker(scheduler) as w1:
        active(scheduler)
        (old,) = keys(scheduler)
        w1.send(signal.SIGTERM)
        assert w1.exit_code() == 0
    (w1.state_dir / "curve.key").unlink()
    with worker(scheduler):
        # The scheduler may still call the old one active.
        until(lambda: len(keys(scheduler)) == 2)
        active(scheduler)
        before, after = sorted(keys(scheduler), key=lambda one: one[1])
        assert before == (old[0], False)
        assert after[1]
        assert after[0] != old[0]
        assert scheduler.finished(scheduler.submit("true")[0])["status"] == "success"


def test_worker_whose_key_was_revoked_names_the_file_to_delete(scheduler: Scheduler) -> None:
    with worker(scheduler) as w1:
        active(scheduler)
        assert scheduler.ask("DELETE", "/access/w1")[0] == 200
        assert w1.exit_code() == 77
    with worker(scheduler) as w1:
        assert w1.exit_code() == 77
        file = w1.state_dir / "curve.key"
        said = f"refused by the scheduler: this worker's key was revoked: delete {file} to enrol with a new key"
        assert said in w1.log()
    file.unlink()
    with worker(scheduler):
        active(scheduler)


def test_worker_with_the_key_of_another_names_the_file_to_delete(scheduler: Scheduler) -> None:
    with worker(scheduler) as w1:
        active(scheduler)
        w1.send(signal.SIGTERM)
        assert w1.exit_code() == 0
    with worker(scheduler, id="w2") as w2:
        assert w2.exit_code() == 77
        said = f"this worker's key belongs to another worker: delete {w2.state_dir / 'curve.key'} to enrol with a new"
        assert said in w2.log()


def test_a_worker_starts_before_its_scheduler(tmp_path: Path) -> None:
    scheduler = Scheduler(tmp_path)
    with ExitStack() as held:
        w1 = held.enter_context(worker(scheduler))
        w1.wait_for_log(f"can't reach {scheduler.url}: Connection refused; retrying")
        held.enter_context(scheduler)
        active(scheduler)


@pytest.mark.slow
def test_scheduler_that_lost_its_key_gets_its_workers_and_their_jobs_back(tmp_path: Path) -> None:
    """With a wrong key of the scheduler a handshake fails without a word, so the worker asks again by itself."""
    with Scheduler(tmp_path) as scheduler, worker(scheduler):
        active(scheduler)
        (job,) = scheduler.submit("sleep 10; echo done")
        until(lambda: scheduler.last_run(job).get("status") == "running")
        before = enrolled(scheduler, "w2").server_key
        scheduler.kill()
        (tmp_path / "scheduler.db.d" / "curve.key").unlink()
        scheduler.start()
        assert enrolled(scheduler, "w3").server_key != before
        (next_job,) = scheduler.submit("true")
        assert scheduler.finished(next_job)["status"] == "success"
        run = scheduler.finished(job)
        assert (run["status"], run["attempt"]) == ("success", 1)
        assert len(scheduler.get(f"/jobs/{job}/runs")) == 1


def test_second_worker_of_a_name_ends_with_77_and_the_first_is_unharmed(scheduler: Scheduler) -> None:
    with worker(scheduler):
        active(scheduler)
        before = keys(scheduler)
        with worker(scheduler, "other", id="w1") as other:
            assert other.exit_code() == 77
            said = "refused by the scheduler: a worker named w1 is connected and alive: give this one another -id"
            assert said in other.log()
            assert "is reached" not in other.log()
        assert keys(scheduler) == before
        assert scheduler.finished(scheduler.submit("true")[0])["status"] == "success"


def test_valid_worker_that_claims_the_name_of_another_is_refused(scheduler: Scheduler) -> None:
    with worker(scheduler), zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        active(scheduler)
        access = enrolled(scheduler, "w2")
        (job,) = scheduler.submit("sleep 1; echo done")
        until(lambda: scheduler.last_run(job).get("status") == "running")
        connect(dealer, access)
        for name in ("w1", "w3"):
            answer = answered(dealer, introduction(name))
            assert isinstance(answer, protocol.Error)
            assert (answer.code, answer.fatal) == ("E_KEY", True)
            assert answer.detail == f"this key is that of worker w2, not of {name}"
        dealer.send(protocol.pack(introduction("w2")))
        assert isinstance(heard(dealer), protocol.Registered)
        assert scheduler.finished(job)["status"] == "success"
        assert "w3" not in scheduler.workers()


def connect(dealer: zmq.Socket[bytes], access: Access) -> None:
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.setsockopt(zmq.CURVE_SERVERKEY, access.server_key.encode())
    dealer.setsockopt(zmq.CURVE_PUBLICKEY, access.pair.public.encode())
    dealer.setsockopt(zmq.CURVE_SECRETKEY, access.pair.secret.encode())
    dealer.connect(access.endpoint)


def introduction(name: str) -> protocol.Register:
    return protocol.Register(
        versions=protocol.VERSIONS, worker=name, incarnation="i", boot_id="b", lock=(1, 1), slots=1, heartbeat_ms=1_000
    )


def heard(dealer: zmq.Socket[bytes]) -> protocol.SchedulerFrame:
    assert dealer.poll(10_000), "nothing came"
    return protocol.unpack_from_scheduler(dealer.recv())


def answered(dealer: zmq.Socket[bytes], frame: protocol.Register) -> protocol.SchedulerFrame:
    """The answer to a frame that is sent again until it comes: a refusal comes once a second."""
    until(lambda: (dealer.send(protocol.pack(frame)), dealer.poll(100))[1] != 0)
    return heard(dealer)


def test_port_answers_nothing_without_a_key(scheduler: Scheduler) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as null, context.socket(zmq.DEALER) as unknown:
        null.setsockopt(zmq.LINGER, 0)
        null.connect(f"tcp://127.0.0.1:{scheduler.zmq_port}")
        access = enrolled(scheduler, "w2")
        pair = new_pair()
        connect(unknown, Access("w2", access.endpoint, access.server_key, Pair(pair.public, pair.secret)))
        for dealer in (null, unknown):
            for frame in (protocol.pack(introduction("w2")), b"nonsense"):
                # One that was refused takes no more.
                with suppress(zmq.Again):
                    dealer.send(frame, zmq.NOBLOCK)
        assert not null.poll(1_000)
        assert not unknown.poll(100)
        assert scheduler.workers() == {}


def test_revoking_a_key_ends_its_worker_and_its_job_starts_elsewhere(scheduler: Scheduler) -> None:
    with worker(scheduler) as w1, ExitStack() as held:
        active(scheduler)
        mark = scheduler.folder / "go"
        (job,) = scheduler.submit(f"while ! test -e {mark}; do sleep 0.05; done; echo done")
        until(lambda: bool(w1.jobs()))
        (pid,) = w1.jobs()
        held.enter_context(worker(scheduler, "w2", id="w2"))
        active(scheduler, "w2")
        began = time.monotonic()
        status, key = scheduler.ask("DELETE", "/access/w1")
        assert (status, key["worker_id"]) == (200, "w1")
        assert w1.exit_code() == 77
        assert time.monotonic() - began < 15
        mark.touch()
        assert "this key was revoked" in w1.log()
        assert gone(pid, within_s=15)
        run = scheduler.finished(job)
        assert (run["status"], run["worker_id"]) == ("success", "w2")
        assert scheduler.workers() == {"w1": "inactive", "w2": "active"}


def test_worker_whose_key_was_revoked_returns_only_with_another_key(scheduler: Scheduler) -> None:
    with worker(scheduler) as w1:
        active(scheduler)
        scheduler.ask("DELETE", "/access/w1")
        assert w1.exit_code() == 77
    with worker(scheduler) as again:
        assert again.exit_code() == 77
        assert "this worker's key was revoked: delete " in again.log()
    (w1.state_dir / "curve.key").unlink()
    with worker(scheduler):
        active(scheduler)


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_scheduler_refuses_a_key_that_others_can_read(tmp_path: Path, mode: int) -> None:
    scheduler = Scheduler(tmp_path)
    (tmp_path / "scheduler.db.d").mkdir(mode=0o700)
    path = tmp_path / "scheduler.db.d" / "curve.key"
    own_pair(path)
    path.chmod(mode)
    with Program("loose", scheduler._argv, tmp_path) as program:
        assert program.exit_code() == 78
        assert f"insecure permissions on {path} (mode {mode:o}): others can read the secret in it" in program.log()


def test_scheduler_with_a_damaged_key_reports_it(tmp_path: Path) -> None:
    scheduler = Scheduler(tmp_path)
    (tmp_path / "scheduler.db.d").mkdir(mode=0o700)
    path = tmp_path / "scheduler.db.d" / "curve.key"
    path.touch(0o600)
    path.write_text("half of a k", "ascii")
    with Program("damaged", scheduler._argv, tmp_path) as program:
        assert program.exit_code() == 78
        assert "delete the file, and a new key is made" in program.log()


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701])
def test_a_data_directory_that_others_may_enter_is_refused(tmp_path: Path, mode: int) -> None:
    scheduler = Scheduler(tmp_path)
    folder = tmp_path / "scheduler.db.d"
    folder.mkdir()
    folder.chmod(mode)
    with Program("loose", scheduler._argv, tmp_path) as program:
        assert program.exit_code() == 78
        assert f"chmod 700 {folder}" in program.log()


def test_a_database_that_others_can_read_is_refused(tmp_path: Path) -> None:
    scheduler = Scheduler(tmp_path)
    with scheduler:
        pass
    db = tmp_path / "scheduler.db"
    db.chmod(0o644)
    with Program("loose", scheduler._argv, tmp_path) as program:
        assert program.exit_code() == 78
        assert f"chmod 600 {db}" in program.log()


@pytest.mark.parametrize("what", ["missing", "loose", "damaged", "another's"])
def test_worker_with_an_invalid_access_file_ends_with_77_and_a_sentence(scheduler: Scheduler, what: str) -> None:
    path = scheduler.folder / "w1.access"
    if what != "missing":
        text = written_access(enrolled(scheduler, "w2" if what == "another's" else "w1"))
        path.touch(0o600)
        path.write_text(text[: text.index("endpoint")] if what == "damaged" else text, "ascii")
    if what == "loose":
        path.chmod(0o644)
    with worker(scheduler, access=str(path)) as w1:
        assert w1.exit_code() == 77
        log = w1.log()
    sentence = {
        "missing": f"there is no access file {path}: make one with `zsched access new`",
        "loose": f"insecure permissions on {path} (mode 644): others can read the secret in it; run chmod 600 {path}",
        "damaged": f"{path} has no endpoint: make a new one",
        "another's": f"{path} is for a worker named w2, not w1: leave out -id",
    }
    assert sentence[what] in log
    assert "Traceback" not in log


def test_a_worker_with_an_access_file_needs_no_rest(scheduler: Scheduler) -> None:
    path = scheduler.folder / "w2.access"
    path.touch(0o600)
    path.write_text(written_access(enrolled(scheduler, "w2")), "ascii")
    endpoint = f"tcp://127.0.0.1:{scheduler.zmq_port}"
    (scheduler.folder / "w2").mkdir()
    with WorkerProcess(endpoint, scheduler.folder / "w2", id="w2", access=str(path)):
        active(scheduler, "w2")
        assert scheduler.finished(scheduler.submit("true")[0])["worker_id"] == "w2"


@pytest.mark.slow
def test_a_worker_that_was_not_known_comes_in_when_it_is(scheduler: Scheduler) -> None:
    """ZeroMQ gives a socket up for good when its handshake is refused, without a word."""
    known, path = enrolled(scheduler, "w3"), scheduler.folder / "w2.access"
    mine = Access("w2", known.endpoint, known.server_key, new_pair())
    path.touch(0o600)
    path.write_text(written_access(mine), "ascii")
    assert scheduler.program is not None
    with worker(scheduler, "w2", id="w2", access=str(path)):
        scheduler.program.wait_for_log("refused for a key that is not known")
        time.sleep(1)
        scheduler.post("/workers/enrol", {"worker_id": "w2", "public_key": mine.pair.public})
        active(scheduler, "w2")


def test_a_worker_does_not_talk_to_a_scheduler_with_another_key(scheduler: Scheduler) -> None:
    """Who sits at the address is not enough."""
    access = enrolled(scheduler, "w2")
    path = scheduler.folder / "w2.access"
    path.touch(0o600)
    other = Access(access.worker, access.endpoint, new_pair().public, access.pair)
    path.write_text(written_access(other), "ascii")
    with worker(scheduler, "w2", id="w2", access=str(path)) as w2:
        w2.wait_for_log("connecting to")
        time.sleep(1)
        assert scheduler.workers() == {}


# --- other users of this host ----------------------------------------------------------------------------------------


@root
def test_other_user_of_this_host_is_refused_on_each_path_with_each_method(scheduler: Scheduler) -> None:
    asked = [
        Call(method, real(path), {"Host": "localhost"}, "{}" if method in ("POST", "PUT", "PATCH") else "")
        for path in (*TAKEN, "/nothing", "/")
        for method in sorted({*METHODS, "OPTIONS"})
    ]
    before = [scheduler.get(path) for path in ("/jobs", "/workers", "/events", "/tokens", "/access")]
    for call, (status, body) in zip(asked, calls(AS_NOBODY, "127.0.0.1", scheduler.port, asked), strict=True):
        if call.path in ("/healthz", "/readyz"):
            assert status in (200, 405), call
            continue
        assert status == 403, call
        assert call.method == "HEAD" or json.loads(body)["code"] == "protected_mode"
        assert call.method == "HEAD" or f"User {NOBODY} needs a token" in body
    assert [scheduler.get(path) for path in ("/jobs", "/workers", "/events", "/tokens", "/access")] == before
    # The same by root is served.
    assert calls((), "127.0.0.1", scheduler.port, [Call("GET", "/jobs", {})]) == [(200, "[]")]


@root
def test_other_user_is_served_when_listed_or_with_a_token(tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler:
        text = scheduler.post("/tokens", {"scopes": ["read"]})["token"]
        asked = [Call(method, "/jobs", {"Authorization": f"Bearer {text}"}, "{}") for method in ("GET", "POST")]
        (read, _), (submit, body) = calls(AS_NOBODY, "127.0.0.1", scheduler.port, asked)
        assert (read, submit, json.loads(body)["code"]) == (200, 403, "scope")
    (tmp_path / "again").mkdir()
    with Scheduler(tmp_path / "again", "-local-uids", str(NOBODY)) as scheduler:
        assert calls(AS_NOBODY, "127.0.0.1", scheduler.port, [Call("GET", "/jobs", {})]) == [(200, "[]")]


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of another user's, at a place that it can reach."""
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    os.chown(path, NOBODY, NOBODY)
    try:
        if subprocess.run([*AS_NOBODY, "test", "-r", ROOT / "setup.cfg"], timeout=20).returncode:
            pytest.skip(f"another user can't read {ROOT}")
        yield path
    finally:
        shutil.rmtree(path)


def foreign_worker(scheduler: Scheduler, home: Path, *flags: str) -> Program:
    """A worker named w9 of another user."""
    words = [
        os.path.abspath(sys.executable),
        "-P",
        "-m",
        "zsched.commands.worker",
        "-id",
        "w9",
        "-scheduler",
        scheduler.url,
    ]
    return Program("w9", [*AS_NOBODY, *words, "-state-dir", home / "state", *flags], home)


@root
def test_a_worker_of_another_user_ends_with_77_and_the_next_way(scheduler: Scheduler, home: Path) -> None:
    with foreign_worker(scheduler, home) as w9:
        assert w9.exit_code() == 77
        log = w9.log()
    assert (
        "worker w9: refused by the scheduler: this worker needs an access file: run `zsched access new w9 > w9.access`"
        " as the scheduler's user, and start it with -access w9.access\n"
    ) in log
    assert "Traceback" not in log
    assert scheduler.get("/access") == []


@root
@pytest.mark.parametrize("way", ["access", "token-file"])
def test_a_worker_of_another_user_comes_in_by_what_it_was_given(scheduler: Scheduler, home: Path, way: str) -> None:
    path = home / "given"
    path.touch(0o600)
    if way == "access":
        path.write_text(written_access(enrolled(scheduler, "w9")), "ascii")
    else:
        path.write_text(scheduler.post("/tokens", {"scopes": ["worker"]})["token"] + "\n", "ascii")
    os.chown(path, NOBODY, NOBODY)
    with foreign_worker(scheduler, home, f"-{way}", str(path)) as w9:
        active(scheduler, "w9")
        (job,) = scheduler.submit("id -u")
        run = scheduler.finished(job)
        assert run["status"] == "success", w9.log()
        assert f"STDOUT:\n{NOBODY}\n" in run["logs"]
        w9.terminate()
        assert w9.exit_code() == 0


LEAVES = """
import socket, sys
body = b'{"name": "j", "command": "true"}'
head = b"POST /jobs HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body)
for _ in range(20):
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as caller:
        caller.sendall(head + body)
"""


@root
def test_caller_that_sends_and_leaves_is_not_taken_for_root(scheduler: Scheduler) -> None:
    """Of a socket that nobody has any more the kernel says that it is user 0's."""
    assert scheduler.program is not None
    pid = scheduler.program.pid
    before = open_fds(pid)
    leaves = [*AS_NOBODY, os.path.realpath(sys.executable), "-I", "-c", LEAVES, str(scheduler.port)]
    os.kill(pid, signal.SIGSTOP)
    try:
        subprocess.run(leaves, check=True, timeout=20)
    finally:
        os.kill(pid, signal.SIGCONT)
    scheduler.submit("true")
    # All have been answered when none is open any more; a thread that reads keeps the database open.
    until(lambda: open_fds(pid) < before + 10)
    assert len(scheduler.get("/jobs")) == 1
