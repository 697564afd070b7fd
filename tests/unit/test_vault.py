"""Secrets at rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zsched.host.files import PrivateFileError
from zsched.security.vault import Vault


def test_what_is_sealed_opens_by_the_same_key_and_the_same_name_only(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    sealed = Vault(path).seal("TOKEN", "correct hörse")

    assert Vault(path).open("TOKEN", sealed) == "correct hörse"
    with pytest.raises(ValueError, match="TOKEN2 was sealed with"):
        Vault(path).open("TOKEN2", sealed)
    other = Vault(tmp_path / "other.key")
    other.seal("TOKEN", "something else")
    with pytest.raises(ValueError, match="is not the one"):
        other.open("TOKEN", sealed)


def test_the_same_value_is_sealed_otherwise_each_time(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "secret.key")
    assert len({vault.seal("A", "the same value") for _ in range(100)}) == 100
    assert "same" not in vault.seal("A", "the same value")


def test_the_key_is_made_at_first_need_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    vault = Vault(path)
    assert not path.exists()
    vault.seal("A", "12345678")
    assert path.stat().st_mode & 0o777 == 0o600
    made = path.read_bytes()
    Vault(path).seal("A", "12345678")
    assert path.read_bytes() == made


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    sealed = Vault(path).seal("A", "12345678")
    path.chmod(0o640)
    with pytest.raises(PrivateFileError, match="insecure permissions on"):
        Vault(path).seal("A", "12345678")
    with pytest.raises(ValueError, match="insecure permissions on"):
        Vault(path).open("A", sealed)


def test_lost_key_is_not_replaced_in_order_to_open_something(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    sealed = Vault(path).seal("A", "12345678")
    path.unlink()
    with pytest.raises(ValueError, match="put it back"):
        Vault(path).open("A", sealed)
    assert not path.exists()


@pytest.mark.parametrize("sealed", ["", "x", "AAAA", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "ü", "%"])
def test_what_was_never_sealed_is_an_error_of_one_kind(tmp_path: Path, sealed: str) -> None:
    vault = Vault(tmp_path / "secret.key")
    vault.seal("A", "12345678")
    with pytest.raises(ValueError, match="A was sealed with"):
        vault.open("A", sealed)


def test_damaged_key_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    for text in ("", "zz", os.urandom(16).hex()):
        path.write_text(text, "ascii")
        path.chmod(0o600)
        with pytest.raises(PrivateFileError, match="invalid key in"):
            Vault(path).seal("A", "12345678")
