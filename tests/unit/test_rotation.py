"""The scheduler's keys are replaced: interrupted at any step, all goes on working, and the same call completes it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from zsched.host.files import PrivateFileError, write_private
from zsched.maintenance.rotation import NEXT, Issue, NoKeyError, UnknownWorkerError, rotate_curve, rotate_secret
from zsched.model.access import KeyOrigin
from zsched.model.types import JobSpec, WorkerId
from zsched.security.keys import new_pair, own_pair, read_access
from zsched.security.vault import Vault
from zsched.store import reseal as resealing
from zsched.store.reseal import Resealed
from zsched.store.sqlite.engine import SqliteEngine, open_reader, open_writer
from zsched.store.sqlite.lock import Lock
from zsched.store.writer import Writer

pytestmark = pytest.mark.slow

NOW = 1_700_000_000_000
ENDPOINT = "tcp://scheduler.example:5555"
W1, W2, W3 = map(WorkerId, ("w1", "w2", "w3"))


class Interrupted(BaseException):
    """As SIGKILL: nobody catches it."""


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "scheduler.db"


@pytest.fixture
def folder(db: Path) -> Path:
    with Lock(db) as lock, closing(open_writer(db, NOW)):
        return lock.folder


def interrupting(patched: pytest.MonkeyPatch, step: int, *calls: tuple[Any, str]) -> None:
    """Interrupt one of these calls: by an even step before it is done, by an odd one after it."""
    count = itertools.count()

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **named: Any) -> Any:
            now = next(count) == step // 2
            if now and step % 2 == 0:
                raise Interrupted
            result = call(*given, **named)
            if now:
                raise Interrupted
            return result

        return counted

    for owner, name in calls:
        patched.setattr(owner, name, wrapped(getattr(owner, name)))


# --- secret.key ------------------------------------------------------------------------------------------------------

VALUES = [{"TOKEN": f"correct horse {number}", "KEY": f"battery {number}"} for number in range(5)]


@pytest.fixture
def sealed(db: Path, folder: Path) -> list[dict[str, str]]:
    """A database with some jobs that have secrets, and one that has none."""
    vault = Vault(folder / "secret.key")
    made = [{name: vault.seal(name, value) for name, value in values.items()} for values in VALUES]
    with closing(open_writer(db, NOW)) as store:
        store.begin()
        specs = [JobSpec(name="a", command="true", secret_env=one) for one in made]
        store.submit([*specs, JobSpec(name="a", command="true")], [None] * 6, "test", NOW)
        store.commit()
    return made


def stored(db: Path) -> list[dict[str, str]]:
    with closing(open_reader(db)) as reader:
        return [dict(job.secret_env) for job in reversed(list(reader.jobs(None, 100, 0))) if job.secret_env is not None]


def opened(db: Path, folder: Path) -> list[dict[str, str]]:
    vault = Vault(folder / "secret.key")
    return [{name: vault.open(name, value) for name, value in one.items()} for one in stored(db)]


def rotated(db: Path, folder: Path) -> Resealed:
    with closing(SqliteEngine(db)) as engine:
        engine.overwrite_deleted()
        return rotate_secret(folder, engine)


def test_secrets_are_sealed_by_the_new_key_alone(db: Path, folder: Path, sealed: list[dict[str, str]]) -> None:
    old = (folder / "secret.key").read_text("ascii")

    assert rotated(db, folder) == Resealed(jobs=5, unopened=0)

    new = (folder / "secret.key").read_text("ascii")
    assert len(new) == len(old) == 65
    assert new != old
    assert (folder / "secret.key").stat().st_mode & 0o777 == 0o600
    assert opened(db, folder) == VALUES
    (folder / "secret.key").write_text(old, "ascii")
    with pytest.raises(ValueError, match="was sealed with"):
        opened(db, folder)
    # What was sealed by the old key is not in the file any more, also not between its rows.
    kept = b"".join(file.read_bytes() for file in db.parent.iterdir() if file.is_file())
    assert not [value for one in sealed for value in one.values() if value.encode() in kept]


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize("most", [1, 4], ids=["once", "and what goes on too"])
def test_interrupted_rotation_of_secrets_goes_on_from_any_step(
    db: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(resealing, "RESEAL_JOBS_MAX", 2)
    old = (folder / "secret.key").read_text("ascii")
    interrupted = 0
    for step in itertools.count():
        with monkeypatch.context() as patched:
            interrupting(patched, step, (os, "fsync"), (Path, "rename"), (SqliteEngine, "commit"), (Vault, "reseal"))
            try:
                rotated(db, folder)
            except Interrupted:
                interrupted += 1
            else:
                break
        assert opened(db, folder) == VALUES, step
        # A scheduler that starts now seals by the first of the keys.
        vault = Vault(folder / "secret.key")
        assert vault.open("A", vault.seal("A", "12345678")) == "12345678"
        if step % most == 0:
            rotated(db, folder)
            assert len((folder / "secret.key").read_text("ascii")) == 65
            assert opened(db, folder) == VALUES
    # Two files with a sync of file and folder and a rename each, ten secrets, three transactions.
    assert most > 1 or interrupted == 2 * (2 * 3 + 10 + 3)
    assert opened(db, folder) == VALUES
    assert len((folder / "secret.key").read_text("ascii")) == 65
    assert old not in (folder / "secret.key").read_text("ascii")


def test_secrets_that_no_key_opens_stay_and_are_counted(db: Path, folder: Path, sealed: list[dict[str, str]]) -> None:
    (folder / "secret.key").write_text("ab" * 32, "ascii")
    assert rotated(db, folder) == Resealed(jobs=5, unopened=5)
    assert stored(db) == sealed


@pytest.mark.usefixtures("sealed")
def test_old_key_stays_when_the_keys_can_not_be_read(db: Path, folder: Path) -> None:
    before = (folder / "secret.key").read_text("ascii") + "damaged\n"
    (folder / "secret.key").write_text(before, "ascii")
    with pytest.raises(PrivateFileError):
        rotated(db, folder)
    assert (folder / "secret.key").read_text("ascii") == before


def test_without_a_key_there_is_nothing_to_replace(db: Path, folder: Path) -> None:
    with pytest.raises(NoKeyError, match=r"there is no .*secret\.key"):
        rotated(db, folder)
    assert not (folder / "secret.key").exists()


# --- curve.key -------------------------------------------------------------------------------------------------------


@pytest.fixture
def old_keys(db: Path, folder: Path) -> dict[WorkerId, str]:
    """The live keys of three workers."""
    own_pair(folder / "curve.key")
    found = {name: new_pair().public for name in (W1, W2, W3)}
    with closing(open_writer(db, NOW)) as store:
        store.begin()
        for name, public in found.items():
            store.access.bind_key(name, public, KeyOrigin.FILE, "test", NOW)
        store.flush_counters(NOW)
        store.commit()
    return found


def live_keys(db: Path) -> dict[WorkerId, str]:
    with closing(open_reader(db)) as reader:
        return {key.worker_id: key.public_key for key in reader.worker_keys() if key.revoked_ms is None}


def rotated_curve(db: Path, folder: Path, *workers: WorkerId, endpoint: str = ENDPOINT) -> list[Path]:
    with closing(open_writer(db, NOW)) as store:
        return rotate_curve(folder, store, Issue(workers, db.with_name("new"), endpoint), "test", NOW)


def test_named_workers_get_a_file_with_both_new_keys(db: Path, folder: Path, old_keys: dict[WorkerId, str]) -> None:
    before = own_pair(folder / "curve.key")

    made = rotated_curve(db, folder, W2, W3)

    assert made == [db.with_name("new") / "w2.access", db.with_name("new") / "w3.access"]
    assert own_pair(folder / "curve.key") != before
    found = {WorkerId(path.stem): read_access(path) for path in made}
    for name, access in found.items():
        assert (access.worker, access.endpoint) == (name, ENDPOINT)
        assert access.server_key == own_pair(folder / "curve.key").public
    assert live_keys(db) == old_keys | {name: access.pair.public for name, access in found.items()}
    assert {path.stat().st_mode & 0o777 for path in made} == {0o600}


def test_interrupted_rotation_of_curve_goes_on_from_any_step(
    db: Path, folder: Path, old_keys: dict[WorkerId, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = own_pair(folder / "curve.key").public
    interrupted = 0
    for step in itertools.count():
        with monkeypatch.context() as patched:
            interrupting(patched, step, (os, "fsync"), (Path, "rename"), (Writer, "begin"), (Writer, "commit"))
            try:
                rotated_curve(db, folder, W2, W3)
            except Interrupted:
                interrupted += 1
            else:
                break
        server = own_pair(folder / "curve.key").public
        swapped = not (folder / NEXT).exists() and server != before
        if swapped:
            # The last step was done, and what follows is another rotation.
            before = server
        assert server == before
        live = live_keys(db)
        assert live[W1] == old_keys[W1]
        files = {name: db.with_name("new") / f"{name}.access" for name in (W2, W3)}
        issued = {name: read_access(path).pair.public for name, path in files.items() if path.exists()}
        # Both old, or both new: one transaction binds them.
        assert swapped or live == old_keys or live == old_keys | issued
        rotated_curve(db, folder, W2, W3)
        assert not (folder / NEXT).exists()
        before = own_pair(folder / "curve.key").public
        for name, path in files.items():
            access = read_access(path)
            assert (access.server_key, access.pair.public) == (before, live_keys(db)[name])
        old_keys = live_keys(db)
    # Three files with two syncs and a rename each, a transaction, and the key's own rename and sync.
    assert interrupted == 2 * (3 * 3 + 2 + 2)


@pytest.mark.usefixtures("old_keys")
def test_files_of_an_interrupted_rotation_are_kept(db: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        interrupting(patched, 0, (Writer, "begin"))
        with pytest.raises(Interrupted):
            rotated_curve(db, folder, W2)
    path = db.with_name("new") / "w2.access"
    issued = read_access(path)
    rotated_curve(db, folder, W2)
    # It may be on its way to the worker.
    assert read_access(path) == issued
    # Another endpoint, or another rotation, makes another file.
    rotated_curve(db, folder, W2, endpoint="tcp://other.example:5555")
    assert read_access(path).pair != issued.pair


@pytest.mark.usefixtures("old_keys")
def test_what_can_not_be_replaced_is_left_as_it_is(db: Path, folder: Path) -> None:
    before = own_pair(folder / "curve.key")
    with pytest.raises(UnknownWorkerError, match="worker w9 has no key"):
        rotated_curve(db, folder, WorkerId("w9"))
    # A file of that name that is something else.
    db.with_name("new").mkdir()
    write_private(db.with_name("new") / "w2.access", "precious")
    with pytest.raises(PrivateFileError, match="is not an access file"):
        rotated_curve(db, folder, W2)
    assert (db.with_name("new") / "w2.access").read_text("ascii") == "precious"
    assert own_pair(folder / "curve.key") == before


def test_without_a_curve_key_there_is_nothing_to_replace(db: Path, folder: Path) -> None:
    with pytest.raises(NoKeyError, match=r"there is no .*curve\.key"):
        rotated_curve(db, folder)
    assert list(folder.iterdir()) == [folder / "lock"]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.skipif(os.geteuid() != 0 and case != "loose", reason="needs root"))
        for case in ("loose", "another user's", "link", "folder above")
    ],
)
def test_folder_that_others_can_write_in_gets_no_access_file(
    db: Path, folder: Path, old_keys: dict[WorkerId, str], case: str
) -> None:
    """Another user could put a file of its own in the place of one that is on its way to a worker."""
    before, new = own_pair(folder / "curve.key"), db.with_name("new")
    if case == "link":
        shared = db.with_name("shared")
        shared.mkdir()
        shared.chmod(0o1777)
        (shared / "link").symlink_to(db.with_name("else"))
        os.chown(shared / "link", 65_534, 65_534, follow_symlinks=False)
        db.with_name("else").mkdir(0o700)
        new = shared / "link"
    elif case == "folder above":
        db.with_name("above").mkdir()
        db.with_name("above").chmod(0o777)
        new = db.with_name("above") / "new"
    else:
        new.mkdir(0o700)
        if case == "loose":
            new.chmod(0o770)
        else:
            os.chown(new, 65_534, 65_534)
    with (
        closing(open_writer(db, NOW)) as store,
        pytest.raises(PrivateFileError, match=r"insecure (link|owner of|permissions on) "),
    ):
        rotate_curve(folder, store, Issue((W2,), new, ENDPOINT), "test", NOW)
    assert not new.exists() or list(new.iterdir()) == []
    assert own_pair(folder / "curve.key") == before
    assert live_keys(db) == old_keys


def test_folder_that_others_can_read_gets_access_files(db: Path, folder: Path, old_keys: dict[WorkerId, str]) -> None:
    db.with_name("new").mkdir(0o755)
    (path,) = rotated_curve(db, folder, W2)
    assert live_keys(db) == old_keys | {W2: read_access(path).pair.public}
