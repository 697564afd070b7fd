"""A scheduler's endpoint where nothing is connected: its default socket, and the users whose servers are trusted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zsched.security import trust
from zsched.security.endpoint import default_socket, parse
from zsched.security.trust import RUN_FOLDER, SERVER_USERS, UntrustedError, appointed_user, named_users

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")


def test_default_endpoint_is_the_socket_and_then_tcp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    for place in (parse(None), parse("")):
        assert (place.url, place.host, place.port) == ("http://localhost:8080", "localhost", 8080)
        assert place.socket_path == f"{tmp_path}/zsched/default.sock"


def test_explicit_url_is_used_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert parse("http://localhost:8080").socket_path == ""


def test_default_socket_is_in_the_users_own_runtime_folder(tmp_path: Path) -> None:
    assert default_socket({"XDG_RUNTIME_DIR": f"{tmp_path}/"}) == f"{tmp_path}/zsched/default.sock"
    for folder in ("relative", f"{tmp_path}/missing"):
        assert default_socket({"XDG_RUNTIME_DIR": folder}) == ""
    assert default_socket({}) == (f"{RUN_FOLDER}/default.sock" if os.geteuid() == 0 else "")


@root
def test_runtime_folder_of_another_user_is_ignored(tmp_path: Path) -> None:
    """As after su(1), which leaves the variable."""
    os.chown(tmp_path, 2002, -1)
    assert default_socket({"XDG_RUNTIME_DIR": str(tmp_path)}) == ""


def test_server_users_are_names_or_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "RUN_FOLDER", "/missing/folder")
    monkeypatch.setenv(SERVER_USERS, "root, 2002 2003")
    assert named_users() == {0, 2002, 2003}
    monkeypatch.delenv(SERVER_USERS)
    assert named_users() == frozenset()
    monkeypatch.setenv(SERVER_USERS, "no-such-user")
    with pytest.raises(UntrustedError, match=f"invalid {SERVER_USERS}: no user 'no-such-user'"):
        named_users()


@root
def test_owner_of_a_folder_that_only_root_can_make_is_appointed(tmp_path: Path) -> None:
    folder = tmp_path / "zsched"
    assert appointed_user(str(folder)) is None
    folder.mkdir()
    os.chown(folder, 2002, -1)
    assert appointed_user(str(folder)) == 2002


@root
@pytest.mark.parametrize("case", ["writable", "owned", "link", "file"])
def test_owner_of_a_folder_that_others_can_make_is_not_appointed(tmp_path: Path, case: str) -> None:
    above = tmp_path / "run"
    above.mkdir()
    folder = above / "zsched"
    if case == "link":
        (tmp_path / "elsewhere").mkdir()
        os.chown(tmp_path / "elsewhere", 2002, -1)
        folder.symlink_to(tmp_path / "elsewhere")
        os.chown(folder, 2002, -1, follow_symlinks=False)
    elif case == "file":
        folder.touch()
        os.chown(folder, 2002, -1)
    else:
        folder.mkdir()
        os.chown(folder, 2002, -1)
    if case == "writable":
        above.chmod(0o1777)
    if case == "owned":
        os.chown(above, 2002, -1)
    assert appointed_user(str(folder)) is None
