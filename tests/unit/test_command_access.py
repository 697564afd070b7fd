"""Access files and tokens on the command line, where no scheduler is needed."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest

from zsched.commands import access, exits, token, zsched
from zsched.security import tokens
from zsched.store.sqlite.engine import open_reader
from zsched.store.sqlite.lock import Lock


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "[::1]", "LOCALHOST"])
def test_what_only_this_host_can_use_gets_this_machines_name(host: str) -> None:
    assert access.outward(f"tcp://{host}:5555", "box") == "tcp://box:5555"


@pytest.mark.parametrize("host", ["sched.example", "10.0.0.1", "[fe80::1]"])
def test_what_other_hosts_can_use_stays(host: str) -> None:
    assert access.outward(f"tcp://{host}:5555", "box") == f"tcp://{host}:5555"


@pytest.mark.parametrize("name", ["", "localhost", "127.0.1.1", "my box", "a\nb"])
def test_a_machine_without_a_name_for_others_needs_an_endpoint(name: str) -> None:
    with pytest.raises(exits.Failure, match="give --endpoint"):
        access.outward("tcp://localhost:5555", name)


def test_output_of_keys_that_others_can_read_is_reported() -> None:
    assert access.exposure(True, stat.S_IFCHR | 0o620) == "it belongs into a file that only you can read"
    assert "others can read this file" in (access.exposure(False, stat.S_IFREG | 0o644) or "")
    assert "others can read this file" in (access.exposure(False, stat.S_IFREG | 0o640) or "")
    assert access.exposure(False, stat.S_IFREG | 0o600) is None
    assert access.exposure(False, stat.S_IFIFO | 0o666) is None


# token, in a database.


def test_new_prints_only_the_token_and_warns_on_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert zsched.main(["token", "new"]) == 0
    out, err = capsys.readouterr()
    shown = tokens.read(out.removesuffix("\n"))
    assert shown is not None
    assert "no scheduler knows this token yet" in err
    assert shown.text not in err


def test_a_token_added_in_a_database_is_good_and_its_secret_is_not_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db = tmp_path / "x.db"
    argv = ["add", "--scope=submit,read", "--scope", "read", "--expires=1h", "--note=für CI", f"--db={db}"]
    assert token.main(argv) == 0
    out, err = capsys.readouterr()
    shown = tokens.read(out.removesuffix("\n"))
    assert shown is not None
    assert err.startswith(f"zsched: {db} is new: a scheduler takes it by --db {db}\n")
    assert "it is shown only now" in err
    secret = shown.text.rpartition("_")[2]
    assert secret not in err
    reader = open_reader(db)
    kept = reader.token(shown.token_id)
    events = list(reader.events(0, 10))
    reader.close()
    assert kept is not None
    now_ms = time.time_ns() // 1_000_000
    assert tokens.good(shown, kept, now_ms)
    assert not tokens.good(shown, kept, now_ms + 3_600_000)
    assert (sorted(kept.scopes), kept.note) == (["read", "submit"], "für CI")
    assert kept.created_by.endswith(" by --db")
    assert [event.became for event in events] == ["token_added"]
    assert secret.encode() not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert stat.S_IMODE(db.stat().st_mode) == 0o600


def test_a_token_is_revoked_in_a_database_by_its_id_or_its_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db = f"--db={tmp_path / 'x.db'}"
    shown = []
    for _ in range(2):
        token.main(["add", "--scope=read", db])
        shown.append(capsys.readouterr().out.strip())
    first, second = (text.split("_")[1] for text in shown)
    assert token.main(["revoke", first, db]) == 0
    assert token.main(["revoke", db, shown[1]]) == 0
    assert capsys.readouterr() == (f"{first} revoked\n{second} revoked\n", "")
    assert zsched.main(["token", "revoke", first, db]) == 3
    assert capsys.readouterr() == ("", "zsched: No such token, or it was revoked before\n")
    assert token.main(["list", "-q", db]) == 0
    assert capsys.readouterr().out == f"{first}\n{second}\n"


def test_a_wrong_id_is_not_repeated_since_it_may_be_a_secret(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        token.main(["revoke", "zs_0123456789ab_SECRET"])
    assert "SECRET" not in capsys.readouterr().err


def test_a_database_that_another_process_has_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db = tmp_path / "x.db"
    token.main(["add", "--scope=read", f"--db={db}"])
    capsys.readouterr()
    with Lock(db):
        for argv in (["add", "--scope=admin"], ["list"], ["revoke", "0123456789ab"]):
            assert zsched.main(["token", *argv, f"--db={db}"]) == 1
            out, err = capsys.readouterr()
            assert out == ""
            assert err.endswith(": leave --db out, and that scheduler is asked\n")
            assert err.count("\n") == 1


def test_a_database_that_is_not_there_is_made_for_a_new_token_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db = tmp_path / "x.db"
    assert zsched.main(["token", "list", f"--db={db}"]) == 74
    assert zsched.main(["token", "revoke", "0123456789ab", f"--db={db}"]) == 74
    assert capsys.readouterr().err == f"zsched: there is no database {db}: name its file with --db\n" * 2
    assert list(tmp_path.iterdir()) == []


def test_file_that_is_not_our_database_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db = tmp_path / "x.db"
    db.write_text("no database" * 1000)
    assert zsched.main(["token", "list", f"--db={db}"]) == 74
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"zsched: {db}: ")
