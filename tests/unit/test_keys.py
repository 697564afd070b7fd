"""Keys in files: who may read them, what is refused, and what comes back as it was written."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import zmq
from zmq.utils import z85

from zsched.host.files import PrivateFileError, read_private
from zsched.security import keys
from zsched.security.keys import Access, Pair, Server, is_key, new_pair, own_pair, read_access

Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
LOOSE = [0o640, 0o604, 0o660, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666, 0o777]
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "curve.key"


def private(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(0o600)
    return path


def access(pair: Pair, *, worker: str = "worker-2", server_key: str | None = None) -> Access:
    return Access(worker, "tcp://scheduler.example:5555", server_key or new_pair().public, pair)


# --- one key ---------------------------------------------------------------------------------------------------------


def test_new_pair_belongs_together_and_no_representation_has_its_secret() -> None:
    pair = new_pair()
    assert is_key(pair.public)
    assert is_key(pair.secret)
    assert zmq.curve_public(pair.secret.encode()).decode() == pair.public
    assert new_pair() != pair
    assert pair.secret not in repr(pair)
    assert pair.secret not in repr(access(pair))


def test_every_character_of_z85_stands_in_a_key() -> None:
    assert len(Z85) == 85
    for char in Z85:
        assert is_key("0000" + char + "0" * 35)
        assert is_key(char + "0" * 39) == (Z85.index(char) * 85**4 < 2**32)
    for char in "\"',;_`|~\\ \n\0\N{FULLWIDTH DIGIT ZERO}":
        assert not is_key("0000" + char + "0" * 35)


@pytest.mark.parametrize("text", ["", "0" * 39, "0" * 41, "0" * 80, "0" * 40 + "\n", "#" * 40, "%nSc1" * 8])
def test_invalid_key_returns_none(text: str) -> None:
    """Five characters can say more than 32 bits: the last of these is one more than they hold."""
    assert not is_key(text)


def test_the_greatest_key_is_one() -> None:
    assert is_key("%nSc0" * 8)
    assert z85.decode("%nSc0" * 8) == b"\xff" * 32


# --- the file of a key -----------------------------------------------------------------------------------------------


def test_the_own_pair_is_made_once_for_its_owner_alone_and_stays(path: Path) -> None:
    before = os.umask(0)
    try:
        pair = own_pair(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert own_pair(path) == pair
    assert path.read_text("ascii").strip() == pair.secret
    assert [file.name for file in path.parent.iterdir()] == ["curve.key"]


@pytest.mark.parametrize("mode", LOOSE, ids=oct)
def test_a_file_that_others_can_touch_is_refused_and_left_as_it_is(path: Path, mode: int) -> None:
    own_pair(path)
    before = path.read_bytes()
    path.chmod(mode)
    with pytest.raises(PrivateFileError, match=r"insecure permissions on .*curve\.key \(mode .*run chmod 600"):
        own_pair(path)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (before, mode)
    path.chmod(0o400)
    own_pair(path)


def test_named_pipe_without_a_writer_is_not_waited_for(path: Path) -> None:
    """Any user may have put it there."""
    os.mkfifo(path, 0o666)
    path.chmod(0o666)
    with pytest.raises(PrivateFileError, match="insecure permissions on"):
        read_private(path)
    path.chmod(0o600)
    assert read_private(path) == ""


def test_pipe_of_our_own_is_read_to_its_end() -> None:
    """A shell's `-access <(...)` is one."""
    read, write = os.pipe()
    with open(read, "rb"):
        with open(write, "w", encoding="ascii") as writer:
            writer.write("text")
        assert read_private(Path(f"/dev/fd/{read}")) == "text"


@root
def test_a_file_of_another_user_is_refused(path: Path) -> None:
    own_pair(path)
    os.chown(path, 65_534, 65_534)
    with pytest.raises(PrivateFileError, match=r"insecure owner of .*curve\.key \(user 65534\)"):
        own_pair(path)


def test_link_to_private_file_is_checked_at_its_target(path: Path) -> None:
    real = path.with_name("elsewhere")
    private(real, b"text")
    path.symlink_to(real)
    assert read_private(path) == "text"
    real.chmod(0o644)
    with pytest.raises(PrivateFileError, match="insecure permissions on"):
        read_private(path)


def test_link_in_place_of_own_key_is_refused(path: Path) -> None:
    real = path.with_name("elsewhere")
    own_pair(real)
    path.symlink_to(real)
    with pytest.raises(PrivateFileError, match=f"insecure file {path}: it is a link"):
        own_pair(path)


@root
def test_link_of_another_user_in_an_open_folder_is_refused(path: Path) -> None:
    real = path.with_name("elsewhere")
    private(real, b"text")
    path.parent.chmod(0o1777)
    path.symlink_to(real)
    os.lchown(path, 65_534, 65_534)
    with pytest.raises(PrivateFileError, match=f"insecure link {path} \\(of user 65534\\)"):
        read_private(path)
    # Only the owner of such a folder can put links into it.
    path.parent.chmod(0o755)
    assert read_private(path) == "text"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"0" * 39,
        b"0" * 41,
        b"#" * 40,
        b"\xff" * 40,
        b"0" * 20 + b"\n" + b"0" * 20,
        b"0" * 1_000_000,
        b"\0" * 40,
    ],
    ids=["empty", "a line", "short", "long", "too much", "no text", "two lines", "huge", "zeros"],
)
def test_a_damaged_file_is_refused_with_the_remedy_and_kept(path: Path, content: bytes) -> None:
    """Half written, it would be so after a crash, were it not made aside and renamed."""
    private(path, content)
    with pytest.raises(PrivateFileError, match=r"curve\.key: (delete the file|not ASCII)"):
        own_pair(path)
    assert path.read_bytes() == content


def test_a_file_is_whole_or_not_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(PrivateFileError, match="can't be written: No space left"):
            own_pair(path)
    assert list(path.parent.iterdir()) == []
    own_pair(path)


def test_unreadable_or_unwritable_file_is_reported_in_a_sentence(path: Path) -> None:
    path.mkdir()
    with pytest.raises(PrivateFileError, match="can't be read: Is a directory"):
        own_pair(path)
    with pytest.raises(PrivateFileError, match="can't be written: No such file"):
        own_pair(path.with_name("nowhere") / "curve.key")


# --- the access file -------------------------------------------------------------------------------------------------


def test_an_access_file_comes_back_as_it_was_written(path: Path) -> None:
    for worker in ("worker-2", "a", "user@host:1", "A.b_c-" + "x" * 122):
        written = access(new_pair(), worker=worker)
        assert read_access(private(path, keys.written_access(written))) == written


def test_access_file_of_several_schedulers_comes_back(path: Path) -> None:
    others = tuple(Server(f"tcp://{host}:5555", new_pair().public) for host in ("b.example", "[2001:db8::1]"))
    written = replace(access(new_pair()), others=others)
    assert read_access(private(path, keys.written_access(written))) == written


def test_access_file_has_one_server_key_if_all_are_equal(path: Path) -> None:
    alone = access(new_pair())
    written = replace(alone, others=(Server("tcp://b:5555", alone.server_key),))
    text = keys.written_access(written)
    assert f"server_key = {alone.server_key}\n" in text
    assert "endpoint = tcp://scheduler.example:5555, tcp://b:5555\n" in text
    assert read_access(private(path, text)) == written


def test_access_file_with_a_wrong_number_of_server_keys_is_refused(path: Path) -> None:
    others = tuple(Server(f"tcp://{host}:5555", new_pair().public) for host in "bc")
    text = keys.written_access(replace(access(new_pair()), others=others))
    with pytest.raises(PrivateFileError, match="give one key for each endpoint, or one for all"):
        read_access(private(path, text.replace(f", {others[1].key}", "")))


@pytest.mark.parametrize("place", ["first", "last", "all"])
@pytest.mark.parametrize("char", Z85)
def test_an_access_file_carries_every_character_of_z85(path: Path, char: str, place: str) -> None:
    """A reader of INI files may take some of them for a comment, a section or a variable."""
    block = {"first": char + "0000", "last": "0000" + char, "all": f"0{char * 4}"}[place]
    server_key = block * 8 if is_key(block * 8) else "0000" + char + "0" * 35
    if not is_key(server_key):
        server_key = "0" + char * 4 + "0" * 35
    assert is_key(server_key)
    written = access(new_pair(), server_key=server_key)
    assert read_access(private(path, keys.written_access(written))) == written


def test_an_access_file_with_a_secret_key_of_every_kind_comes_back(path: Path) -> None:
    for first in Z85[:82]:
        secret = f"{first}0000" + new_pair().secret[5:]
        pair = Pair(zmq.curve_public(secret.encode()).decode(), secret)
        written = access(pair)
        assert read_access(private(path, keys.written_access(written))) == written


@pytest.mark.parametrize("missing", ["worker", "endpoint", "server_key", "public_key", "secret_key"])
def test_an_access_file_without_a_field_is_refused_by_its_name(path: Path, missing: str) -> None:
    lines = keys.written_access(access(new_pair())).splitlines()
    text = "\n".join(line for line in lines if not line.startswith(f"{missing} "))
    with pytest.raises(PrivateFileError, match=rf"has no {missing}: make a new one with `zsched access new`"):
        read_access(private(path, text))


@pytest.mark.parametrize("name", ["server_key", "public_key", "secret_key"])
@pytest.mark.parametrize("value", ["", "x", "0" * 40, "#" * 40])
def test_an_access_file_with_a_damaged_key_is_refused(path: Path, name: str, value: str) -> None:
    lines = keys.written_access(access(new_pair())).splitlines()
    text = "\n".join(f"{name} = {value}" if line.startswith(f"{name} ") else line for line in lines)
    if (name, value) == ("server_key", "0" * 40):
        # A key like any other: nobody is there who has its secret.
        assert read_access(private(path, text)).server_key == value
        return
    with pytest.raises(PrivateFileError):
        read_access(private(path, text))


@pytest.mark.parametrize(
    "endpoint", ["", "scheduler", "tcp://", "tcp://host", "ipc:///tmp/x", "tcp://h:0", "tcp://h:x"]
)
def test_access_file_with_an_invalid_endpoint_is_refused(path: Path, endpoint: str) -> None:
    text = keys.written_access(access(new_pair())).replace("tcp://scheduler.example:5555", endpoint)
    with pytest.raises(PrivateFileError, match="endpoint"):
        read_access(private(path, text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[access]",
        "[other]\nworker = w\n",
        "worker = w\n",
        "[access]\nworker = a\nworker = b\n",
        "[access]\n[access]\n",
        "\xff",
        "[access\n",
    ],
)
def test_invalid_access_file_is_refused(path: Path, text: str) -> None:
    with pytest.raises(PrivateFileError, match=r"curve\.key"):
        read_access(private(path, text))


def test_every_half_of_an_access_file_is_refused(path: Path) -> None:
    text = keys.written_access(access(new_pair()))
    for length in range(len(text) - 1):
        with pytest.raises(PrivateFileError):
            read_access(private(path, text[:length]))


@pytest.mark.parametrize("mode", LOOSE, ids=oct)
def test_an_access_file_that_others_can_touch_is_refused(path: Path, mode: int) -> None:
    private(path, keys.written_access(access(new_pair()))).chmod(mode)
    with pytest.raises(PrivateFileError, match="insecure permissions on"):
        read_access(path)


def test_missing_access_file_is_reported_with_the_remedy(path: Path) -> None:
    with pytest.raises(PrivateFileError, match=r"there is no access file .*: make one with `zsched access new`"):
        read_access(path)
