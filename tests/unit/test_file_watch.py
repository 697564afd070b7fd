"""The watch over the folder beside the database: what the log says when files there can't be written again."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from zsched.maintenance.displacement import FileWatch
from zsched.model.limits import FILE_CHECK_MS
from zsched.store.contract import StoreLocked
from zsched.store.sqlite.engine import open_writer
from zsched.store.sqlite.lock import Lock


def test_lasting_failure_is_logged_once_and_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Lock(tmp_path / "s.db") as lock, closing(open_writer(lock.path, 0, lock)) as store:
        watch = FileWatch(store.verify, lambda: ["lock"] if lock.keep() else [])
        watch.look(0)
        lock.folder.joinpath("lock").unlink()
        lock.folder.rmdir()
        lock.folder.touch()
        for look in range(1, 4):
            watch.look(look * FILE_CHECK_MS)
        failed = "files were removed from the database's folder, and can't be written again: "
        assert caplog.messages == [f"{failed}[Errno 17] File exists: '{lock.folder}'"]
        lock.folder.unlink()
        lock.folder.mkdir(mode=0o755)
        watch.look(4 * FILE_CHECK_MS)
        assert f"run chmod 700 {lock.folder}" in caplog.messages[1]
        lock.folder.chmod(0o700)
        watch.look(5 * FILE_CHECK_MS)
        assert caplog.messages[2:] == ["files were removed from the database's folder, and are written again: lock"]
        watch.look(6 * FILE_CHECK_MS)
        assert len(caplog.messages) == 3
        # Nobody else gets it.
        with pytest.raises(StoreLocked):
            Lock(lock.path)
