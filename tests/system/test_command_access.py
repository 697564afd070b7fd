"""`zsched token`, `zsched access` and the client's own token, with a real scheduler."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.process import PROGRAM, WorkerProcess
from tests.system.session import DEADLINE_S, Program, Scheduler, until
from tests.system.test_command_line import ZSCHED, Cli
from zsched.security import keys, tokens

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow

ADMIN = tokens.new().text


def asked(cli: Cli, *argv: str, token: str = ADMIN, **env: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command of somebody who has a token."""
    with cli.start(*argv, extra={"ZSCHED_TOKEN": token, **env}) as process:
        out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out.decode(), err.decode()


def private(path: Path, text: str) -> Path:
    path.touch(0o600)
    path.write_text(text)
    return path


def files(folder: Path) -> bytes:
    """All that the scheduler keeps, and what it logged."""
    return b"".join(path.read_bytes() for path in folder.rglob("scheduler*") if path.is_file())


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A scheduler that serves nobody without a token."""
    folder = tmp_path_factory.mktemp("access")
    file = private(folder / "admin.token", ADMIN + "\n")
    with Scheduler(folder, "-local-trust", "none", "-admin-token-file", str(file)) as scheduler:
        yield Cli(scheduler, folder)


# token.


def test_token_is_shown_once_grants_its_scopes_and_ends_when_revoked(cli: Cli) -> None:
    code, out, err = asked(cli, "token", "add", "--scope", "read", "--expires=30d", "--note=for a test")
    shown = tokens.read(out.removesuffix("\n"))
    assert code == 0
    assert shown is not None
    said = rf"zsched: token {shown.token_id} \(read, until 2\d{{3}}-.*Z\): it is shown only now, so keep it safe\n"
    assert re.fullmatch(said, err)

    assert asked(cli, "list", token=shown.text)[0] == 0
    said = "zsched: POST /jobs needs the scope submit; this token has read\n"
    assert asked(cli, "submit", "true", token=shown.text) == (1, "", said)
    assert asked(cli, "token", "list", token=shown.text)[0] == 1

    listed = asked(cli, "token", "list")[1]
    assert re.search(rf"^{shown.token_id} +read  .*for a test$", listed, re.MULTILINE)
    assert shown.token_id in asked(cli, "token", "list", "-q")[1].splitlines()
    views = {view["id"]: view for view in json.loads(asked(cli, "token", "list", "--json")[1])}
    assert (views[shown.token_id]["scopes"], views[shown.token_id]["note"]) == (["read"], "for a test")
    secret = shown.text.rpartition("_")[2]
    assert secret not in listed + json.dumps(views)
    assert secret.encode() not in files(cli.scheduler.folder)

    assert asked(cli, "token", "revoke", shown.token_id) == (0, f"{shown.token_id} revoked\n", "")
    code, out, err = asked(cli, "list", token=shown.text)
    assert (code, out) == (1, "")
    assert re.fullmatch(r"zsched: This token is not known, has expired or was revoked; .*\n", err)
    said = "zsched: No such token, or it was revoked before\n"
    assert asked(cli, "token", "revoke", shown.token_id) == (3, "", said)


def test_command_without_a_token_prints_the_refusal_of_the_scheduler(cli: Cli) -> None:
    for argv in (["list"], ["submit", "true"], ["token", "add", "--scope=admin"], ["access", "new", "w"]):
        code, out, err = asked(cli, *argv, token="")
        assert (code, out) == (1, ""), argv
        assert re.fullmatch(r"zsched: Callers without a token are not served: run `zsched token add .*\n", err), argv


def test_the_token_of_a_file_is_used_unless_others_can_read_it(cli: Cli, tmp_path: Path) -> None:
    def run(**env: str) -> tuple[int, str, str]:
        with cli.start("list", "-q", argv=["env", "-u", "ZSCHED_TOKEN", *ZSCHED], extra=env) as process:
            out, err = process.communicate(timeout=DEADLINE_S)
        return process.returncode, out.decode(), err.decode()

    (tmp_path / "zsched").mkdir()
    own = private(tmp_path / "zsched" / "token", ADMIN + "\n")
    assert run()[0] == 1
    assert run(XDG_CONFIG_HOME=str(tmp_path))[0] == 0
    assert run(ZSCHED_TOKEN_FILE=str(own))[0] == 0
    own.chmod(0o644)
    said = (
        f"zsched: insecure permissions on {own} (mode 644): others can read the token in it;"
        f" run chmod 600 {own}, or get a new token\n"
    )
    assert run(XDG_CONFIG_HOME=str(tmp_path)) == (2, "", said)
    assert run(ZSCHED_TOKEN_FILE=str(own)) == (2, "", said)


# access.


def test_access_file_has_a_key_pair_whose_secret_is_nowhere_else(cli: Cli, tmp_path: Path) -> None:
    path = private(tmp_path / "w2.access", "")
    with path.open("wb") as file, cli.start("access", "new", "w2", stdout=file, extra={"ZSCHED_TOKEN": ADMIN}) as made:
        _, err = made.communicate(timeout=DEADLINE_S)
    assert made.returncode == 0
    access = keys.read_access(path)
    port = cli.scheduler.zmq_port
    assert (access.worker, access.endpoint) == ("w2", f"tcp://{socket.gethostname()}:{port}")
    said = f"zsched: the scheduler names tcp://localhost:{port}, which other hosts can't use: the file has "
    assert err.decode() == f"{said}{access.endpoint}; --endpoint gives another\n"
    assert access.pair.secret.encode() not in files(cli.scheduler.folder)
    bound = {view["public_key"]: view for view in json.loads(asked(cli, "access", "list", "--json")[1])}
    assert bound[access.pair.public]["worker_id"] == "w2"
    assert re.search(r"^w2 +\S{40}  2", asked(cli, "access", "list")[1], re.MULTILINE)
    assert access.pair.secret not in json.dumps(bound)


def test_an_endpoint_that_is_given_is_taken_as_it_is(cli: Cli, tmp_path: Path) -> None:
    code, out, err = asked(cli, "access", "new", "w3", "--endpoint", "tcp://sched.example:5555")
    assert (code, err) == (0, "")
    access = keys.read_access(private(tmp_path / "w3.access", out))
    assert access.endpoint == "tcp://sched.example:5555"


def test_access_file_that_others_can_read_and_a_terminal_cause_warnings(cli: Cli, tmp_path: Path) -> None:
    argv = ["access", "new", "w4", "--endpoint=tcp://h:1"]
    hint = "(umask 077; zsched access new w4 > w4.access)\n"
    path = tmp_path / "w4.access"
    path.touch()
    path.chmod(0o644)
    with path.open("wb") as file, cli.start(*argv, stdout=file, extra={"ZSCHED_TOKEN": ADMIN}) as process:
        _, err = process.communicate(timeout=DEADLINE_S)
    assert err.decode() == f"zsched: others can read this file, and a worker will refuse it; use: {hint}"
    code, out, said = asked(cli, *argv)
    assert (code, out) == (1, "")
    assert "worker w4 has a key, which no new file replaces: run `zsched access revoke w4` first" in said
    assert asked(cli, "access", "revoke", "w4") == (0, "w4 revoked\n", "")
    shown = Cli(cli.scheduler, tmp_path, ZSCHED_TOKEN=ADMIN).terminal(*argv)
    assert f"zsched: write it into a file that only you can read: {hint.strip()}" in shown.text()
    assert shown.process.wait() == 0


def test_revoked_key_is_reported_and_an_unknown_one_is_exit_code_3(cli: Cli) -> None:
    assert asked(cli, "access", "new", "a@b:1")[0] == 0
    assert "a@b:1" in asked(cli, "access", "list", "-q")[1].splitlines()
    assert asked(cli, "access", "revoke", "a@b:1") == (0, "a@b:1 revoked\n", "")
    assert "a@b:1" not in asked(cli, "access", "list", "-q")[1].splitlines()
    assert re.search(r"^a@b:1 .*Z$", asked(cli, "access", "list")[1], re.MULTILINE)
    assert asked(cli, "access", "revoke", "a@b:1") == (3, "", "zsched: Worker a@b:1 has no key\n")


def test_scheduler_whose_workers_need_no_keys_issues_no_access_file(tmp_path: Path) -> None:
    with Scheduler(tmp_path, "-worker-security", "none", "-zmq-host", "127.0.0.1") as scheduler:
        said = "zsched: this scheduler takes workers of its own host only, without keys (worker_security = none)\n"
        assert Cli(scheduler, tmp_path)("access", "new", "w1") == (1, "", said)


def test_worker_connects_by_its_access_file_alone_until_it_is_revoked(tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler:
        cli = Cli(scheduler, tmp_path)
        endpoint = f"tcp://127.0.0.1:{scheduler.zmq_port}"
        path = private(tmp_path / "w1.access", cli.good("access", "new", "w1", f"--endpoint={endpoint}"))
        with WorkerProcess(endpoint, tmp_path, access=str(path)):
            until(lambda: scheduler.workers() == {"w1": "active"})
            code, out, err = cli("access", "new", "w1")
            assert (code, out) == (1, "")
            assert err.endswith(" run `zsched access revoke w1` first; that ends its session\n")
            cli.good("access", "revoke", "w1")
            until(lambda: scheduler.workers() == {"w1": "inactive"})
            assert cli("access", "new", "w1")[0] == 0


def test_worker_takes_its_name_and_its_state_folder_from_its_access_file(tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler:
        cli = Cli(scheduler, tmp_path)
        endpoint = f"tcp://127.0.0.1:{scheduler.zmq_port}"
        path = private(tmp_path / "w2.access", cli.good("access", "new", "w2", f"--endpoint={endpoint}"))
        with Program("w2", [*PROGRAM, "-access", path], tmp_path) as worker:
            until(lambda: scheduler.workers() == {"w2": "active"})
            worker.terminate()
            assert worker.exit_code() == 0
        assert (tmp_path / "state" / "zsched" / f"127.0.0.1_{scheduler.zmq_port}" / "w2" / "spool_id").exists()
