"""A token: its one form, and for how long it is good."""

from __future__ import annotations

import hashlib

import pytest
from msgspec.structs import replace

from zsched.model.access import Scope, Token
from zsched.security import tokens

NOW = 1_700_000_000_000
ID, SECRET = "0123456789ab", "0123456789abcdef" * 4
TEXT = f"zs_{ID}_{SECRET}"


def kept(text: str = TEXT) -> Token:
    shown = tokens.read(text)
    assert shown is not None
    return Token(
        token_id=shown.token_id,
        digest=shown.digest,
        scopes=frozenset({Scope.READ}),
        note="",
        created_ms=NOW,
        created_by="test",
    )


def good(text: str, token: Token | None, now_ms: int = NOW) -> bool:
    shown = tokens.read(text)
    assert shown is not None
    return tokens.good(shown, token, now_ms)


def test_a_new_token_has_the_one_form_and_is_like_no_other() -> None:
    made = [tokens.new() for _ in range(100)]
    assert len({shown.text for shown in made}) == len({shown.token_id for shown in made}) == 100
    for shown in made:
        assert tokens.read(shown.text) == shown
        assert good(shown.text, kept(shown.text))
        # 32 bytes of secret.
        assert len(shown.text) == len("zs_") + 12 + len("_") + 64


def test_what_is_kept_is_the_digest_of_the_secret_and_never_the_secret() -> None:
    token = kept()
    assert token.digest == hashlib.sha256(SECRET.encode()).digest()
    assert SECRET not in repr(token)
    assert SECRET.encode() not in token.digest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "zs",
        "zs_",
        TEXT[:-1],
        TEXT + "0",
        TEXT + "\n",
        " " + TEXT,
        TEXT.upper(),
        f"ZS_{ID}_{SECRET}",
        f"zs_{ID.upper()}_{SECRET}",
        f"zs_{ID}_{SECRET.upper()}",
        f"zs_{ID[:-1]}_{SECRET}",
        f"zs_{ID}{SECRET}",
        f"zs-{ID}-{SECRET}",
        f"{ID}_{SECRET}",
        SECRET,
        TEXT.replace("0", "g"),
        # A digit, but none of ours.
        TEXT.replace("0", "\N{ARABIC-INDIC DIGIT ZERO}"),
        TEXT.replace("0", "\N{FULLWIDTH DIGIT ZERO}"),
        TEXT + "\0",
        f"{TEXT}, {TEXT}",
        "zs_" + "0" * 100_000,
    ],
)
def test_token_that_differs_by_a_character_is_refused(text: str) -> None:
    assert tokens.read(text) is None


def test_only_the_right_secret_of_the_right_id_is_good() -> None:
    assert good(TEXT, kept())
    assert not good(TEXT, None)
    for at in range(len(SECRET)):
        wrong = SECRET[:at] + ("1" if SECRET[at] == "0" else "0") + SECRET[at + 1 :]
        assert not good(f"zs_{ID}_{wrong}", kept())


def test_unknown_id_accepts_no_token() -> None:
    """What is compared with in its place has to be no digest that somebody could reach."""
    assert not tokens.good(tokens.Shown(TEXT, ID, bytes(32)), None, NOW)


def test_it_is_good_until_the_very_millisecond_of_its_end() -> None:
    token = replace(kept(), expires_ms=NOW + 1_000)
    assert good(TEXT, token, NOW + 999)
    assert not good(TEXT, token, NOW + 1_000)
    assert not good(TEXT, token, NOW + 1_001)
    assert good(TEXT, replace(token, expires_ms=None), NOW + 10**12)


def test_a_revoked_one_is_never_good_again() -> None:
    for revoked_ms in (0, NOW - 1, NOW, NOW + 1):
        assert not good(TEXT, replace(kept(), revoked_ms=revoked_ms))
