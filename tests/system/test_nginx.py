"""TLS in front of REST by a real nginx, with the file of conf/nginx as it stands there but for its ports and paths."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.process import ROOT
from tests.system.session import DEADLINE_S, Program, Scheduler, free_ports, until
from zsched.model.limits import JOBS_BODY_BYTES_MAX

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow

EXAMPLE = (ROOT / "conf" / "nginx" / "zsched.conf").read_text("ascii")
JOB = {"name": "j", "command": "true"}
# One process, of this user, with all that it writes below its prefix.
MAIN = """
daemon off; master_process off; pid nginx.pid; error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include zsched.conf;
}
"""


def program(name: str, package: str) -> str:
    # Debian has it in a folder that is not in everybody's path.
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not there: apt-get install {package}")
    return found


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


class Front:
    """What callers on other hosts have: a name, a port, and a certificate to trust."""

    def __init__(self, scheduler: Scheduler, port: int, certificate: Path) -> None:
        self.scheduler = scheduler
        self.port = port
        self.certificate = certificate
        self._trust = ssl.create_default_context(cafile=str(certificate))

    def ask(
        self, method: str, path: str, value: object = None, token: str = "", source: str = "127.0.0.1", **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """The status, and the JSON that came with it; empty when it was none. `source`: the address it comes from."""
        connection = http.client.HTTPSConnection(
            "localhost", self.port, timeout=DEADLINE_S, source_address=(source, 0), context=self._trust
        )
        try:
            shown = {"Authorization": f"Bearer {token}"} if token else {}
            body = None if value is None else json.dumps(value)
            named = {name.replace("_", "-"): one for name, one in headers.items()}
            connection.request(method, path, body, {**shown, **named})
            response = connection.getresponse()
            content = response.read()
            is_json = (response.getheader("Content-Type") or "").startswith("application/json")
            return response.status, json.loads(content) if is_json else {}
        finally:
            connection.close()

    def token(self, *scopes: str) -> str:
        """A token that the scheduler's user makes on its own host."""
        text = self.scheduler.post("/tokens", {"scopes": list(scopes)})["token"]
        assert isinstance(text, str)
        return text


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    nginx, openssl = program("nginx", "nginx-light"), program("openssl", "openssl")
    folder = tmp_path_factory.mktemp("front")
    key, certificate = folder / "tls.key", folder / "tls.crt"
    kind = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost"
    named = ("-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate)
    subprocess.run([openssl, "req", *kind.split(), *named], check=True, capture_output=True)
    (port,) = free_ports(1)
    with Scheduler(folder, "-trusted-proxies", "127.0.0.1") as scheduler:
        text = replaced(
            EXAMPLE,
            ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
            ("/etc/zsched/tls.crt", str(certificate)),
            ("/etc/zsched/tls.key", str(key)),
            ("http://127.0.0.1:8080", f"http://127.0.0.1:{scheduler.port}"),
        )
        (folder / "zsched.conf").write_text(text, "ascii")
        (folder / "nginx.conf").write_text(MAIN, "ascii")
        with Program("nginx", [nginx, "-e", "stderr", "-p", folder, "-c", folder / "nginx.conf"], folder) as program_:
            made = Front(scheduler, port, certificate)

            def answers() -> bool:
                assert program_.process.poll() is None, program_.log()
                try:
                    return made.ask("GET", "/healthz")[0] == 200
                except ConnectionRefusedError:
                    return False

            until(answers)
            yield made


def test_caller_behind_the_proxy_needs_a_token(front: Front) -> None:
    status, problem = front.ask("POST", "/jobs", JOB)
    assert (status, problem["code"]) == (403, "protected_mode")
    assert front.ask("POST", "/jobs", JOB, token=front.token("submit"))[0] == 201
    assert front.ask("GET", "/healthz")[0] == 200


@pytest.mark.parametrize("headers", [{}, {"X_Forwarded_For": "127.0.0.1"}, {"X_Forwarded_For": ""}, {"Via": ""}])
def test_forwarded_headers_make_no_caller_local(front: Front, headers: dict[str, str]) -> None:
    # This nginx runs as the scheduler's own user, so nothing but its own header shows that the call was forwarded.
    status, problem = front.ask("POST", "/jobs", JOB, Host="localhost", **headers)
    assert (status, problem["code"]) == (403, "protected_mode")
    assert "forwarded by a proxy" in problem["detail"]


def test_a_token_may_do_through_the_proxy_what_it_may_do(front: Front) -> None:
    token = front.token("read")
    assert front.ask("GET", "/jobs", token=token)[0] == 200
    assert front.ask("POST", "/jobs", JOB, token=token)[1]["code"] == "scope"
    assert front.ask("GET", "/jobs", token=f"{token[:-1]}{'1' if token[-1] == '0' else '0'}")[1]["code"] == "bad_token"


def test_event_has_the_client_address_of_the_proxy_despite_forged_headers(front: Front) -> None:
    token = front.token("submit")
    for forged in ({}, {"X_Forwarded_For": "203.0.113.9"}, {"Forwarded": "for=203.0.113.9"}):
        status, job = front.ask("POST", "/jobs", JOB, token=token, source="127.0.0.2", **forged)
        assert status == 201
        actors = [
            event["actor"] for event in front.scheduler.get("/events?limit=1000") if event.get("job_id") == job["id"]
        ]
        assert actors[0].endswith(" at 127.0.0.2"), (forged, actors)


def test_the_page_of_another_site_gets_nothing_and_our_own_does(front: Front) -> None:
    token = front.token("submit")
    status, problem = front.ask("POST", "/jobs", JOB, token=token, Origin="https://elsewhere.example.org")
    assert (status, problem["code"]) == (403, "protected_mode")
    assert front.ask("POST", "/jobs", JOB, token=token, Origin=f"https://localhost:{front.port}")[0] == 201


def test_a_caller_can_wait_through_the_proxy_and_send_what_zsched_takes(front: Front) -> None:
    token = front.token("submit", "read")
    status, job = front.ask("POST", "/jobs", JOB, token=token)
    assert status == 201
    assert front.ask("GET", f"/jobs/{job['id']}?wait=1s", token=token)[1]["status"] == "pending"
    large = [{"name": "j", "command": ": " + "x" * 90_000}] * 180
    assert JOBS_BODY_BYTES_MAX * 0.9 < len(json.dumps(large)) < JOBS_BODY_BYTES_MAX
    assert front.ask("POST", "/jobs", large, token=token)[0] == 201
    assert front.ask("POST", "/jobs", large * 2, token=token)[0] == 413


def test_a_worker_enrols_through_the_proxy_with_a_token_of_its_scope(front: Front, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text(front.token("worker"), "ascii")
    argv = [sys.executable, "-P", "-m", "zsched.commands.worker", "-id", "w1", "-token-file", str(file)]
    there = ["-scheduler", f"https://localhost:{front.port}"]
    with Program("worker", [*argv, *there], tmp_path, SSL_CERT_FILE=str(front.certificate)):
        job = front.scheduler.submit("echo done")[0]
        assert front.scheduler.finished(job)["status"] == "success"
