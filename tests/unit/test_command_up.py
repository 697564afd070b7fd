"""zsched up: the programs that it starts, and their flags."""

from __future__ import annotations

from pathlib import Path

import pytest

from zsched.commands import options, up


def test_scheduler_on_postgresql_gets_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "data"
    words = ["--db=postgresql://zsched@db.example/zsched", f"--data-dir={folder}", "--port=0"]
    plan = up.make_plan(options.parse(up.__doc__, words, mixed=True))
    assert f"--data-dir={folder}" in plan.scheduler
    assert plan.socket == folder / "api.sock"
