"""Several hosts: a scheduler on one, callers and workers on the others."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.system.calls import Call, calls
from tests.system.hosts import LINKS, PORT, ZMQ_PORT, FarScheduler, Hosts, access_file, needs_hosts
from tests.system.session import Program, until
from tests.system.test_socket import ask
from tests.unit.test_rest_methods import METHODS, TAKEN, real
from zsched.security import tokens

WORKER = (sys.executable, "-P", "-m", "zsched.commands.worker")

pytestmark = [pytest.mark.slow, needs_hosts]


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    made = Hosts()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def scheduler(hosts: Hosts, tmp_path: Path) -> Iterator[FarScheduler]:
    with FarScheduler(tmp_path, hosts, "-worker-timeout", "3s") as started:
        yield started


def worker(scheduler: FarScheduler, prefix: Sequence[str], name: str, *flags: str) -> Program:
    state = ("-state-dir", str(scheduler.folder / f"{name}-state"), "-heartbeat-interval", "1s", "-slots", "1")
    return Program(name, [*prefix, *WORKER, "-id", name, *state, *flags], scheduler.folder)


# --- callers ---------------------------------------------------------------------------------------------------------

FORGED: list[dict[str, str]] = [
    {},
    {"Host": "localhost"},
    {"Host": "127.0.0.1:8080"},
    {"Host": "localhost", "X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1", "Forwarded": "for=127.0.0.1"},
    {"Host": "localhost", "X-Forwarded-Host": "localhost", "X-Forwarded-Proto": "http", "Via": "1.1 localhost"},
    {"Host": "localhost", "Origin": "http://localhost"},
    {"Host": "localhost", "Authorization": ""},
    {"Host": "localhost", "Authorization": f"Bearer {tokens.new().text}"},
]


@pytest.mark.parametrize("number", range(len(FORGED)))
def test_caller_on_another_host_without_a_token_gets_and_stores_nothing(
    hosts: Hosts, scheduler: FarScheduler, number: int
) -> None:
    forged = FORGED[number]
    looked_at = ("/jobs", "/workers", "/events", "/tokens", "/access")
    scheduler.post("/jobs", {"name": "j", "command": "true"})
    before = [scheduler.get(path) for path in looked_at]
    body = '{"name": "j", "command": "true", "worker_id": "w1", "scopes": ["admin"]}'
    asked = [
        Call(method, real(path), forged, body if method in ("POST", "PUT", "PATCH") else "")
        for path in (*TAKEN, "/", "/nothing", "//jobs", "/jobs/", "/healthz/../jobs")
        for method in sorted({*METHODS, "OPTIONS"})
    ]
    allowed = {401, 429} if "Authorization" in forged else {403}
    for call, (status, _) in zip(asked, calls(hosts.at("b"), LINKS["b"][0], PORT, asked), strict=True):
        expected = {"/healthz": {200, 405}, "/readyz": {200, 405}, "//jobs": {400}}.get(call.path, allowed)
        assert status in expected, (call, status)
    assert [scheduler.get(path) for path in looked_at] == before


def test_scheduler_on_the_default_port_keeps_the_link_for_clients(hosts: Hosts, tmp_path: Path) -> None:
    link = tmp_path / "runtime" / "zsched" / "default.sock"
    (tmp_path / "runtime").mkdir(0o700)
    with FarScheduler(tmp_path, hosts) as scheduler:
        assert link.readlink() == tmp_path / "scheduler.db.d" / "api.sock"
        scheduler.post("/jobs", {"name": "j", "command": "true"})
        status, jobs = ask(link, b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (status, [job["id"] for job in jobs]) == (200, [1])
        assert scheduler.program is not None
        scheduler.program.terminate()
        assert scheduler.program.exit_code() == 0
    assert not link.is_symlink()


def test_from_another_host_a_token_does_what_its_scope_says(hosts: Hosts, scheduler: FarScheduler) -> None:
    def asks(text: str, method: str, path: str, body: str = "") -> int:
        header = {"Authorization": f"Bearer {text}"}
        ((status, _),) = calls(hosts.at("b"), LINKS["b"][0], PORT, [Call(method, path, header, body)])
        return status

    read, submit = (scheduler.post("/tokens", {"scopes": [scope]})["token"] for scope in ("read", "submit"))
    job = '{"name": "j", "command": "true"}'
    assert asks(submit, "POST", "/jobs", job) == 201
    assert asks(read, "GET", "/jobs/1") == 200
    assert asks(read, "POST", "/jobs", job) == 403
    assert asks(submit, "GET", "/jobs/1") == 403
    assert asks(submit, "GET", "/tokens") == 403
    scheduler.ask("DELETE", f"/tokens/{submit.split('_')[1]}")
    assert asks(submit, "POST", "/jobs", job) == 401
    assert len(scheduler.get("/jobs")) == 1


# --- workers ---------------------------------------------------------------------------------------------------------


def test_worker_on_another_host_without_access_ends_with_77_and_a_hint(hosts: Hosts, scheduler: FarScheduler) -> None:
    with worker(scheduler, hosts.at("b"), "w9", "-scheduler", f"http://{LINKS['b'][0]}:{PORT}") as w9:
        assert w9.exit_code() == 77
        assert "this worker needs an access file" in w9.log()
        assert "`zsched access new w9 > w9.access`" in w9.log()
    assert scheduler.get("/access") == []


def test_a_worker_on_another_host_may_enrol_by_a_token(hosts: Hosts, scheduler: FarScheduler) -> None:
    path = scheduler.folder / "token"
    path.touch(0o600)
    path.write_text(scheduler.post("/tokens", {"scopes": ["worker"]})["token"], "ascii")
    flags = ("-scheduler", f"http://{LINKS['b'][0]}:{PORT}", "-token-file", str(path))
    with worker(scheduler, hosts.at("b"), "w9", *flags) as w9:
        run = scheduler.finished(scheduler.submit("cat /proc/net/fib_trie")[0])
        assert (run["status"], run["worker_id"]) == ("success", "w9"), w9.log()
        assert LINKS["b"][1] in run["logs"]


def test_three_hosts_with_three_files_of_settings_do_a_job_on_each(hosts: Hosts, tmp_path: Path) -> None:
    (tmp_path / "scheduler.ini").write_text(
        f"[scheduler]\ndb = scheduler.db\nport = {PORT}\nzmq_port = {ZMQ_PORT}\nworker_timeout = 3s\n", "ascii"
    )
    with ExitStack() as held:
        scheduler = held.enter_context(FarScheduler(tmp_path, hosts, "-config", "scheduler.ini"))
        for host in LINKS:
            name = f"node-{host}"
            path = access_file(scheduler, hosts, name, host)
            ini = tmp_path / f"{name}.ini"
            place = f"tcp://{LINKS[host][0]}:{ZMQ_PORT}"
            ini.write_text(f"[worker]\nid = {name}\nscheduler = {place}\naccess = {path.name}\n", "ascii")
            held.enter_context(worker(scheduler, hosts.at(host), name, "-config", str(ini)))
        until(lambda: scheduler.workers() == {"node-b": "active", "node-c": "active"})
        # Each has one slot, and takes a second of it.
        jobs = scheduler.submit(*["sleep 1; cat /proc/net/fib_trie"] * 2)
        runs = {run["worker_id"]: run for run in map(scheduler.finished, jobs)}
        assert set(runs) == {"node-b", "node-c"}
        for host, (_, address) in LINKS.items():
            assert runs[f"node-{host}"]["status"] == "success"
            assert address in runs[f"node-{host}"]["logs"]
        # One that is sent away does not come back by its file.
        status, _ = scheduler.ask("DELETE", "/access/node-c")
        assert status == 200
        until(lambda: scheduler.workers() == {"node-b": "active", "node-c": "inactive"})
        assert scheduler.finished(scheduler.submit("true")[0])["worker_id"] == "node-b"


def test_an_access_file_is_good_for_its_own_name_alone(hosts: Hosts, scheduler: FarScheduler) -> None:
    path = access_file(scheduler, hosts, "node-b", "b")
    place = f"tcp://{LINKS['b'][0]}:{ZMQ_PORT}"
    with worker(scheduler, hosts.at("b"), "node-c", "-scheduler", place, "-access", str(path)) as other:
        assert other.exit_code() == 77
        assert "is for a worker named node-b, not node-c" in other.log()
    assert scheduler.workers() == {}
