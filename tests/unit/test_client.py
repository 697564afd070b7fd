"""The Python client where it needs no scheduler: what it sends, and what it makes of what it is given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import zsched
from zsched.api.body import _too_many_values
from zsched.client.client import (
    Client,
    ClientError,
    Job,
    View,
    batches,
    spec,
)
from zsched.client.http import own_token
from zsched.client.submission import NAME_CHARS
from zsched.model.limits import JOBS_PER_SUBMIT_MAX, SUBMIT_BYTES_MAX, SUBMIT_VALUES_MAX, TOKEN_FILE_BYTES_MAX


def test_a_job_without_a_name_is_called_by_the_beginning_of_its_command() -> None:
    assert spec("make\n  test")["name"] == "make test"
    assert spec("x" * 100)["name"] == "x" * (NAME_CHARS - 1) + "…"
    assert spec("make", name="ci")["name"] == "ci"


def test_only_what_was_asked_for_is_sent() -> None:
    assert spec("ls") == {"name": "ls", "command": "ls"}
    assert spec("ls", timeout=5, schedule="* * * * *", run_now=True) == {
        "name": "ls",
        "command": "ls",
        "timeout": 5,
        "schedule": "* * * * *",
        "run_now": True,
    }


def test_many_jobs_are_as_few_requests_as_can_carry_them_in_order() -> None:
    bodies: list[View] = [{"n": number} for number in range(JOBS_PER_SUBMIT_MAX + 5)]
    assert [len(batch) for batch in batches(bodies)] == [JOBS_PER_SUBMIT_MAX, 5]
    assert [body for batch in batches(bodies) for body in batch] == bodies
    assert list(batches([])) == []


def test_a_request_stays_below_its_size_unless_one_job_alone_is_larger() -> None:
    third: View = {"command": "x" * (SUBMIT_BYTES_MAX // 3)}
    huge: View = {"command": "x" * (SUBMIT_BYTES_MAX + 1)}
    assert [len(batch) for batch in batches([third, third, third, huge, third])] == [2, 1, 1, 1]


@pytest.mark.slow
def test_a_request_has_fewer_json_values_than_the_scheduler_takes() -> None:
    names = (SUBMIT_VALUES_MAX // 4 - 4) // 2
    body = {"name": "j", "env": {f"V{number}": "" for number in range(names)}}
    assert [len(batch) for batch in batches([body] * 9)] == [3, 3, 3]
    for batch in batches([body] * 9):
        assert not _too_many_values(json.dumps(list(batch)).encode())


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://localhost", "http://", "http://[::1", "http://h:port"])
def test_invalid_url_of_a_scheduler_is_refused_with_the_form(url: str) -> None:
    with pytest.raises(ClientError, match="write it like http://localhost:8080"):
        Client(url)


@pytest.mark.parametrize("url", ["unix:api.sock", "unix:", "unix://host/api.sock"])
def test_socket_url_without_a_whole_path_is_refused(url: str) -> None:
    with pytest.raises(ClientError, match="write it like unix:/PATH"):
        Client(url)


def test_url_of_a_socket_names_its_path() -> None:
    assert Client("unix:/srv/s.db.d/api.sock").url == "unix:/srv/s.db.d/api.sock"
    assert Client("unix:///srv/s.db.d/api.sock").url == "unix:/srv/s.db.d/api.sock"


def test_url_comes_from_the_caller_then_environment_then_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZSCHED_URL", "http://there:1/")
    assert Client("http://here:2").url == "http://here:2"
    assert Client().url == "http://there:1"
    monkeypatch.delenv("ZSCHED_URL")
    assert Client().url == "http://localhost:8080"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a person's own token, without one."""
    for name in ("ZSCHED_TOKEN", "ZSCHED_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "zsched").mkdir()
    return tmp_path / "zsched"


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_token_comes_from_the_environment_then_named_file_then_own_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert own_token() == ""
    written(home / "token", "own\n")
    assert own_token() == "own"
    monkeypatch.setenv("ZSCHED_TOKEN_FILE", str(written(home / "other", "  named \n")))
    assert own_token() == "named"
    monkeypatch.setenv("ZSCHED_TOKEN", "given ")
    assert own_token() == "given"
    monkeypatch.setenv("ZSCHED_TOKEN", "")
    assert own_token() == ""


def test_the_own_token_is_in_the_home_folder_where_no_other_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = home / ".config" / "zsched"
    config.mkdir(parents=True)
    written(config / "token", "home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert own_token() == "home"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert own_token() == "home"
    # What is no folder has no file in it.
    monkeypatch.setenv("XDG_CONFIG_HOME", "/dev/null")
    assert own_token() == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to have a file of another user")
def test_token_file_of_another_user_is_refused(home: Path) -> None:
    path = written(home / "token", "secret")
    os.chown(path, 65_534, 65_534)
    with pytest.raises(ClientError, match=f"insecure owner of {path} \\(user 65534\\)"):
        Client()


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o620, 0o601])
def test_a_token_that_others_can_read_is_refused(home: Path, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(home / "token", "secret", mode)
    with pytest.raises(ClientError, match=f"insecure permissions on {path} \\(mode [0-7]+\\): .*run chmod 600 {path}"):
        Client()
    monkeypatch.setenv("ZSCHED_TOKEN_FILE", str(path))
    with pytest.raises(ClientError, match="insecure permissions on"):
        Client()
    # Where another token counts, nobody looks at the file.
    Client(token="another")
    Client(token="")


def test_a_token_file_that_is_named_must_be_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZSCHED_TOKEN_FILE", str(home / "missing"))
    with pytest.raises(ClientError, match=r"missing can't be read: No such file or directory"):
        Client()
    monkeypatch.setenv("ZSCHED_TOKEN_FILE", str(home))
    home.chmod(0o700)
    with pytest.raises(ClientError, match="zsched is not a regular file"):
        Client()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to have a link of another user")
@pytest.mark.parametrize("owner", [0, 65_534])
@pytest.mark.parametrize("named", [False, True])
def test_token_file_by_a_foreign_link_in_a_shared_folder_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, owner: int, named: bool
) -> None:
    written(home / "other", "secret")
    shared = home / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    link = shared / "zsched"
    link.symlink_to(home)
    os.chown(link, owner, owner, follow_symlinks=False)
    if named:
        monkeypatch.setenv("ZSCHED_TOKEN_FILE", str(link / "other"))
    else:
        written(home / "token", "secret")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(shared))
    if owner == 0:
        assert own_token() == "secret"
        return
    with pytest.raises(ClientError, match=f"insecure link {link} ") as refused:
        own_token()
    assert "secret" not in str(refused.value)


def test_token_file_that_is_not_a_regular_file_is_refused_at_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(home / "token", 0o600)
    for named in (None, str(home / "token")):
        if named:
            monkeypatch.setenv("ZSCHED_TOKEN_FILE", named)
        with pytest.raises(ClientError, match="token is not a regular file"):
            own_token()


@pytest.mark.parametrize("text", ["two words", "secret\r\nX-Evil: 1", "geheimß", "s" * TOKEN_FILE_BYTES_MAX, "a\x1bb"])
def test_token_that_no_header_can_carry_is_refused_and_not_shown(home: Path, text: str) -> None:
    written(home / "token", text)
    with pytest.raises(ClientError, match=r"invalid token in .*/token") as caught:
        Client()
    assert text[:6] not in str(caught.value)
    with pytest.raises(ClientError, match="invalid token in the argument token"):
        Client(token=text)


def test_empty_token_file_is_ignored_unless_it_was_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(home / "token", "\n")
    assert own_token() == ""
    monkeypatch.setenv("ZSCHED_TOKEN_FILE", str(path))
    with pytest.raises(ClientError, match=f"{path} is empty: write a token into it"):
        Client()


def test_job_is_read_as_the_scheduler_sent_it() -> None:
    run = {"run_id": 9, "exit_code": 3, "reason": "exit"}
    job = Job(Client(), {"id": 4, "name": "n", "command": "c", "status": "failed", "last_run": run})
    assert (job.id, job.name, job.command, job.status, job.done) == (4, "n", "c", "failed", True)
    assert (job.exit_code, job.signal, job.reason, job.run) == (3, None, "exit", run)
    assert repr(job) == "<Job 4 failed: 'n'>"
    pending = Job(Client(), {"id": 5, "name": "n", "command": "c", "status": "pending"})
    assert (pending.done, pending.exit_code, pending.run) == (False, None, {})


# Arguments of a wrong type. Nothing listens on port 1, so a call that gets through ends otherwise.
untyped: Any = zsched


@pytest.mark.parametrize(
    ("call", "kind", "sentence"),
    [
        (lambda c: c.submit(["ls", 5]), TypeError, "invalid command[1]: expected str, not int"),
        (lambda c: c.submit(None), TypeError, "invalid command: expected str or list or tuple, not NoneType"),
        (lambda c: c.submit(b"ls"), TypeError, "invalid command: expected str or list or tuple, not bytes"),
        (lambda c: c.submit("ls", timeout=timedelta(1)), TypeError, "invalid timeout: expected str or float or None"),
        (lambda c: c.submit("ls", timeout=float("nan")), ValueError, "invalid timeout: nan is not a finite number"),
        (lambda c: c.submit("ls", retries="3"), TypeError, "invalid retries: expected int or None, not str"),
        (lambda c: c.submit("ls", retries=True), TypeError, "invalid retries: expected int or None, not bool"),
        (lambda c: c.submit("ls", env={"A": 1}), TypeError, "invalid env['A']: expected str, not int"),
        (lambda c: c.submit("ls", env={1: "a"}), TypeError, "invalid name in env: expected str, not int"),
        (lambda c: c.submit("ls", env=["A=b"]), TypeError, "invalid env: expected Mapping or None, not list"),
        (lambda c: c.submit("ls", on_lost="x"), ValueError, "invalid on_lost 'x': use 'requeue' or 'fail'"),
        (lambda c: c.submit("ls", on_lost=1), TypeError, "invalid on_lost: expected 'requeue' or 'fail' or None"),
        (lambda c: c.submit("ls", backoff={"initial": None}), TypeError, "invalid backoff['initial']: expected str"),
        (lambda c: c.submit("ls", timeot=3), TypeError, "unexpected argument 'timeot'; there are timeout, "),
        (lambda c: c.submit("ls", idempotency_key=5), TypeError, "invalid idempotency_key: expected str or None"),
        (lambda c: c.map(5, ["a"]), TypeError, "invalid command: expected str or list or tuple, not int"),
        (lambda c: c.map("ls {}", "abc"), TypeError, "invalid inputs: expected an iterable, not str; put a single"),
        (lambda c: c.map("ls {}", None), TypeError, "invalid inputs: expected an iterable, not NoneType"),
        (lambda c: c.map("ls {}", ["a"], name=5), TypeError, "invalid name: expected str or None, not int"),
        (
            lambda c: c.map("ls {}", ["a"], idempotency_key=5),
            TypeError,
            "invalid idempotency_key: expected str or None",
        ),
        (lambda c: c.map("ls {}"), TypeError, "invalid inputs: expected an iterable, not NoneType"),
        (lambda c: c.map("ls {1}", ["a"], 5), TypeError, "invalid inputs[1]: expected an iterable, not int"),
        (lambda c: c.map("cp {1} {2}", ["a"], []), ValueError, "zip() argument 2 is shorter than argument 1"),
        (
            lambda c: c.map("ls {}", ["a"], ["b"]),
            ValueError,
            "{} stands for one argument, and there are 2: write {1} to {2}",
        ),
        (lambda c: c.map("ls '{}'", ["a"]), ValueError, "{} stands inside quotes"),
        (lambda c: c.submit("ls {}", each="abc"), TypeError, "invalid each: expected an iterable, not str"),
        (lambda c: c.submit("ls {}", each=[{1}]), TypeError, "invalid each[0]: Object of type set is not JSON"),
        (lambda c: c.submit("ls {}", each=[1, float("nan")]), ValueError, "invalid each[1]: Out of range float"),
        (lambda c: c.submit(["ls", "{}"], array="0-3"), ValueError, "{} stands for an entry here, and not for the"),
        (lambda c: c.submit("ls {}", each=[]), zsched.ClientError, "each: there is no entry"),
        (
            lambda c: c.submit("ls {}", each=["a", "b\0"]),
            zsched.ClientError,
            "each[1]: a NUL character can't be stored",
        ),
        (
            lambda c: c.submit("ls {}", each=["x" * 16_385]),
            zsched.ClientError,
            "each[0]: at most 16384 bytes, not 16385",
        ),
        (lambda c: c.submit("ls {}", each=["\udcff"]), zsched.ClientError, "each[0]: not UTF-8"),
        (lambda c: c.submit_all({"command": "ls"}), TypeError, "invalid bodies: expected Sequence, not dict"),
        (lambda c: c.submit_all(["ls"]), TypeError, "invalid bodies[0]: expected Mapping, not str"),
        (lambda c: c.submit_all([{"command": {1}}]), TypeError, "invalid body: Object of type set is not JSON"),
        (lambda c: c.get("12"), TypeError, "invalid job_id: expected int, not str"),
        (lambda c: c.view(None), TypeError, "invalid job_id: expected int, not NoneType"),
        (lambda c: c.jobs(status=3), TypeError, "invalid status: expected str or None, not int"),
        (lambda c: c.jobs(limit="3"), TypeError, "invalid limit: expected int or None, not str"),
        (lambda c: c.jobs(limit=-1), ValueError, "invalid limit -1: use 0 or more"),
        (lambda c: c.jobs(owner=3), TypeError, "invalid owner: expected str or None, not int"),
        (lambda c: list(c.as_completed(5)), TypeError, "invalid jobs: expected an iterable, not int"),
        (lambda c: list(c.as_completed(["5"])), TypeError, "invalid jobs[0]: expected Job or int, not str"),
        (lambda c: list(c.as_completed([5], "3")), TypeError, "invalid timeout: expected float or None, not str"),
        (lambda c: untyped.Job(c, {"id": 5}).wait("3"), TypeError, "invalid timeout: expected float or None, not str"),
        (lambda c: c.run("5"), TypeError, "invalid run_id: expected int, not str"),
        (lambda c: c.log(None), TypeError, "invalid run_id: expected int, not NoneType"),
        (lambda c: c.log(5, "out"), ValueError, "invalid stream 'out': use 'stdout' or 'stderr'"),
        (lambda c: c.log(5, 1), TypeError, "invalid stream: expected 'stdout' or 'stderr', not int"),
        (lambda c: c.read(5, "stdout", "0"), TypeError, "invalid offset: expected int, not str"),
        (lambda c: next(c.follow("5", "stdout")), TypeError, "invalid run_id: expected int, not str"),
        (lambda c: untyped.Job(c, {"id": 5, "last_run": {"run_id": 1}}).logs("x"), ValueError, "invalid stream 'x'"),
        (
            lambda c: untyped.Job(c, {"id": 5}).edit(timeout=timedelta(1)),
            TypeError,
            "invalid timeout: expected str or float",
        ),
        (lambda c: untyped.Job(c, {"id": 5}).edit(name=None), TypeError, "invalid name: expected str, not NoneType"),
        (lambda c: untyped.Job(c, {"id": 5}).edit(user="a"), TypeError, "unexpected argument 'user'"),
        (lambda c: c.ask("GET", 5), TypeError, "invalid path: expected str, not int"),
        (lambda c: c.ask("POST", "/jobs", {1}), TypeError, "invalid body: Object of type set is not JSON"),
        (lambda c: next(c.rows(None)), TypeError, "invalid path: expected str, not NoneType"),
        (lambda c: untyped.Client(8080), TypeError, "invalid url: expected str or Sequence or None, not int"),
        (lambda c: untyped.Client(token=b"t"), TypeError, "invalid token: expected str or None, not bytes"),
    ],
)
def test_argument_of_a_wrong_type_is_named(call: Callable[[Any], object], kind: type[Exception], sentence: str) -> None:
    with Client("http://localhost:1") as client, pytest.raises(kind) as caught:
        call(client)
    assert str(caught.value).startswith(sentence)


def test_types_of_the_package_are_listed_and_imported_on_demand() -> None:
    code = """
import sys, zsched
assert "zsched.client.client" not in sys.modules
names = {"Client", "ClientError", "Job", "NotFound", "Refused", "Unreachable", "Untrusted", "WaitTimeout"}
assert {*names, "__version__"} == set(zsched.__all__), zsched.__all__
assert [name for name in dir(zsched) if not name.startswith("_")] == sorted(names), dir(zsched)
from zsched import *
from zsched.client import client
assert all(globals()[name] is getattr(client, name) for name in names)
assert issubclass(WaitTimeout, TimeoutError)
try:
    zsched.Clinet
except AttributeError as error:
    assert str(error) == "module 'zsched' has no attribute 'Clinet'"
else:
    raise AssertionError
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
