"""The three hosts of docs/security.md, with the settings as they stand there. Here they are one, in three folders."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.system.process import ROOT
from tests.system.session import SCHEDULER, Program, Scheduler, shell, until

TEXT = (ROOT / "docs" / "security.md").read_text("utf-8")


def settings(section: str) -> list[str]:
    """The INI texts of the document with this section, in order."""
    return [text for text in re.findall(r"```ini\n(.*?)```", TEXT, re.DOTALL) if text.startswith(f"[{section}]")]


@pytest.mark.slow
def test_three_hosts_connect_by_settings_files_and_access_files(tmp_path: Path) -> None:
    hosts = [tmp_path / name for name in ("host-1", "host-2", "host-3")]
    for host, text in zip(hosts, [*settings("scheduler"), *settings("worker")], strict=True):
        host.mkdir()
        (host / "zsched.ini").write_text(text.replace("host-1.example.org", "localhost"), "ascii")
    with Scheduler(hosts[0], argv=[*SCHEDULER, "-config", "zsched.ini"]) as scheduler:
        # None but an access file tells where the scheduler is, and a key that nobody gave comes in nowhere.
        nowhere = "http://localhost:1"
        worker = [sys.executable, "-P", "-m", "zsched.commands.worker", "-config", "zsched.ini", "-scheduler", nowhere]
        zsched = f"{sys.executable} -P -m zsched.commands.zsched"
        endpoint = f"tcp://127.0.0.1:{scheduler.zmq_port}"
        for number in (2, 3):
            name = f"worker-{number}"
            line = f"umask 077; {zsched} access new {name} --endpoint {endpoint} --url {scheduler.url} > {name}.access"
            done = shell(line, hosts[number - 1])
            assert done.returncode == 0, done.stderr
        with Program("worker", worker, hosts[1]), Program("worker", worker, hosts[2]):
            until(lambda: scheduler.workers() == {"worker-2": "active", "worker-3": "active"})
            assert {scheduler.finished(job)["status"] for job in scheduler.submit("true", "true")} == {"success"}
