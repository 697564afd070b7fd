"""The curl lines of docs/rest.md, typed as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.system.process import ROOT
from tests.system.session import Scheduler, shell
from tests.unit.test_rest_methods import TAKEN

TEXT = (ROOT / "docs" / "rest.md").read_text("utf-8")
# On a fresh scheduler nobody is called worker-1, and no task has run. The run that w1 reports on has been cancelled by
# an earlier line.
REFUSED = {
    "workers/worker-1": "404",
    "foreign/worker-1/keep": "404",
    "foreign/worker-1/discard": "404",
    "jobs/1/log": "409",
    "jobs/6/log?task=100&stream=stderr'": "404",
    "jobs/10/artifacts/out/sorted.csv": "404",
}


@pytest.mark.slow
def test_every_documented_curl_line_is_understood(tmp_path: Path) -> None:
    lines = re.findall(r"^curl .*$", TEXT, re.MULTILINE)
    assert len(lines) > 15
    with Scheduler(tmp_path) as scheduler:
        for line in lines:
            typed = line.replace("http://localhost:8080", scheduler.url)
            done = shell(f"{typed} -sS -o answer -w '%{{http_code}}'", tmp_path)
            expected = next((code for part, code in REFUSED.items() if f"{part} " in f"{line} "), "20")
            assert done.stdout.startswith(expected), (line, done.stdout, (tmp_path / "answer").read_text("utf-8"))


def test_every_path_is_documented() -> None:
    for path in TAKEN:
        named = re.sub(r"\{\w+\}", "{id}", path).replace("{path:path}", "{path}")
        assert f"`{named}`" in TEXT, named
