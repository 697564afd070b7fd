"""Which retention a scheduler starts with: by its settings, and by whether its database is new."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from zsched.config import values
from zsched.config.settings import SchedulerConfig
from zsched.model.limits import KEEP_OTHERS_MS, KEEP_SUCCESS_MS
from zsched.scheduler.dispatcher.retention import Keep
from zsched.serve.active import keep_of
from zsched.store.sqlite import migrations
from zsched.store.sqlite.engine import open_writer

DAY_MS = 86_400_000


def config(success: str, others: str) -> SchedulerConfig:
    return SchedulerConfig(
        db=Path("/s.db"),
        data_dir=None,
        admin_token_file=None,
        keep_success_ms=values.keep(success),
        keep_others_ms=values.keep(others),
    )


@pytest.mark.parametrize(
    ("success", "others", "new", "kept", "warns"),
    [
        ("", "", True, Keep(KEEP_SUCCESS_MS, KEEP_OTHERS_MS), False),
        ("", "", False, Keep(None, None), True),
        ("2d", "", True, Keep(2 * DAY_MS, KEEP_OTHERS_MS), False),
        ("2d", "", False, Keep(2 * DAY_MS, None), True),
        ("never", "never", True, Keep(None, None), False),
        ("never", "never", False, Keep(None, None), False),
        ("2d", "3d", False, Keep(2 * DAY_MS, 3 * DAY_MS), False),
    ],
)
def test_settings_win_over_the_age_of_the_database(
    caplog: pytest.LogCaptureFixture, success: str, others: str, new: bool, kept: Keep, warns: bool
) -> None:
    with caplog.at_level(logging.WARNING):
        assert keep_of(config(success, others), new=new) == kept
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == warns
    assert all("keep_success" in warning and "keep_others" in warning for warning in warnings)


@pytest.mark.parametrize("text", ["0", "999ms", "soon", "-1d"])
def test_invalid_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid|at least"):
        values.keep(text)


def test_a_migrated_database_keeps_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = migrations.schema_steps()
    before = next(place for place, step in enumerate(steps) if "retention" in step)
    with monkeypatch.context() as earlier:
        earlier.setattr(migrations, "schema_steps", lambda: steps[:before])
        store = open_writer(tmp_path / "s.db", 0)
        store.begin()
        store.begin_epoch("host", 1, "0", 0)
        store.commit()
        store.close()
    migrated = open_writer(tmp_path / "s.db", 0)
    assert not migrated.retention.default
    migrated.close()
    new = open_writer(tmp_path / "new.db", 0)
    assert new.retention.default
    new.close()
