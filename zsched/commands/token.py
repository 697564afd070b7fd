"""zsched token: who may call from elsewhere.

Usage:
  zsched token add [--scope=SCOPE]... [--expires=DURATION --note=TEXT --db=FILE --url=URL]
  zsched token list [--quiet --json --db=FILE --url=URL]
  zsched token revoke [--db=FILE --url=URL] <id>
  zsched token new

`add` makes a token and prints it, this once: the scheduler keeps only what it recognizes it by. `revoke` makes one
worthless, from the next call on. `new` prints a token that no scheduler knows yet, for admin_token_file. Programs of
the scheduler's own user on its own host need none.

Options:
  --scope=SCOPE...    What it is good for: read, submit, worker (enrol workers, be one over REST), or admin, which is
                      all. Several times, or with commas: --scope read,submit.
  --expires=DURATION  Good for so long: 12h, 30d. Without it, until it is revoked.
  --note=TEXT         Whose it is, or what for; `list` shows it.
  --db=FILE           Don't ask a scheduler; work on its database, while it does not run.
  -q, --quiet         Print ids only.
  --json              Print the tokens as a JSON array.
  --url=URL           Where the scheduler answers: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help          Show this.

Exit codes: 0 done; 1 it is not allowed, or a scheduler has the database; 2 wrong usage; 3 there is no such token; 4 no
scheduler answers; 74 the database can't be used.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from zsched.client import Client, View
from zsched.commands import exits, options, table

if TYPE_CHECKING:
    from pathlib import Path

    from zsched.store.contract import Store

# A token's id, or the text of the whole token, whose secret then goes no further.
_ID: Final = re.compile(r"(?:zs_)?([0-9a-f]{12})(?:_[0-9a-f]*)?", re.ASCII)


class Tokens(Protocol):
    """Where the tokens are: with a scheduler, or in a database."""

    def add(self, asked: View) -> View:
        """Make a token as POST /tokens takes it; returns it as that answers, with its text in `token`."""

    def all(self) -> list[View]:
        """All that were ever made, oldest first."""

    def revoke(self, token_id: str) -> None:
        """Make one worthless. Raises NotFound or Failure when there is none."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    found = options.parse(__doc__, argv, mixed=True)
    if found["new"]:
        return fresh()
    if found["add"]:
        return added(found)
    return revoked(found) if found["revoke"] else listed(found)


def fresh() -> int:
    """`new`."""
    from zsched import tokens

    print(tokens.new().text, flush=True)
    exits.say("no scheduler knows this token yet: write it to a file (umask 077) that admin_token_file names")
    return 0


def added(found: Mapping[str, options.Value]) -> int:
    """`add`. The token alone is on stdout."""
    asked = wanted(found)
    with opened(found, make=True) as tokens:
        made = tokens.add(asked)
    print(made["token"], flush=True)
    until = f", until {table.moment(made['expires_at'])}" if "expires_at" in made else ""
    exits.say(f"token {made['id']} ({', '.join(made['scopes'])}{until}): it is shown only now, so keep it safe")
    return 0


def listed(found: Mapping[str, options.Value]) -> int:
    """`list`."""
    with opened(found) as tokens:
        views = tokens.all()
    if found["--json"]:
        table.document(views)
    elif found["--quiet"]:
        for view in views:
            print(view["id"])
    else:
        rows = [
            (
                *(view["id"], ", ".join(view["scopes"])),
                *(table.moment(view[name]) if name in view else None for name in ("expires_at", "revoked_at")),
                *(table.moment(view["created_at"]), view["created_by"], view["note"]),
            )
            for view in views
        ]
        table.show(("token", "scopes", "expires", "revoked", "made", "by", "note"), rows)
    return 0


def revoked(found: Mapping[str, options.Value]) -> int:
    """`revoke`."""
    match = _ID.fullmatch(options.text(found, "<id>") or "")
    if match is None:
        options.fail(__doc__, "that is no token's id; `zsched token list` shows them")
    with opened(found) as tokens:
        tokens.revoke(match[1])
    print(f"{match[1]} revoked")
    return 0


def wanted(found: Mapping[str, options.Value]) -> View:
    """The token that is asked for, as POST /tokens takes it. What can't be one is wrong usage."""
    from zsched.limits import NOTE_CHARS_MAX, TOKEN_LIFE_MS_MAX
    from zsched.model import Scope
    from zsched.units import format_duration_ms

    scopes = [word for given in options.words(found, "--scope") for word in given.split(",")]
    for word in scopes:
        if word not in list(Scope):
            options.fail(__doc__, f"--scope: {word!r} is none of {', '.join(Scope)}")
    if not scopes:
        options.fail(__doc__, f"which --scope? There are {', '.join(Scope)}")
    asked: View = {"scopes": sorted(set(scopes))}
    note = options.text(found, "--note")
    if note is not None:
        if not note.isprintable() or len(note) > NOTE_CHARS_MAX:
            options.fail(__doc__, f"--note: at most {NOTE_CHARS_MAX} printable characters")
        asked["note"] = note
    life_s = options.seconds(__doc__, found, "--expires")
    if life_s is not None:
        if not 0 < life_s * 1000 <= TOKEN_LIFE_MS_MAX:
            options.fail(__doc__, f"--expires: more than nothing, at most {format_duration_ms(TOKEN_LIFE_MS_MAX)}")
        asked["expires"] = options.text(found, "--expires")
    return asked


@contextmanager
def opened(found: Mapping[str, options.Value], *, make: bool = False) -> Iterator[Tokens]:
    """The tokens that the command is about; a database that is not there is made only by who adds something.

    Raises Failure.
    """
    url, db = options.text(found, "--url"), options.text(found, "--db")
    if db is None:
        with Client(url) as client:
            yield Asked(client)
        return
    if url is not None:
        options.fail(__doc__, "--db and --url don't go together")
    from zsched.config import ConfigError, scheduler_config
    from zsched.store.contract import StoreError, StoreLocked
    from zsched.store.sqlite import Lock, open_writer

    try:
        path = scheduler_config({"db": db}, None, os.environ).config.db
        if not path.exists():
            if not make:
                raise exits.Failure(f"there is no database {path}", os.EX_IOERR)
            exits.say(f"{path} is new: a scheduler takes it by --db {path}")
        with Lock(path), closing(open_writer(path, _now_ms())) as store:
            yield Kept(store, path)
    except ConfigError as error:
        options.fail(__doc__, str(error))
    except StoreLocked as error:
        raise exits.Failure(f"{error}: leave --db out, and that scheduler is asked") from None
    except StoreError as error:
        raise exits.Failure(f"{db}: {error}", os.EX_IOERR) from None


class Asked:
    """The tokens of a scheduler that runs."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def add(self, asked: View) -> View:
        made: View = self._client.ask("POST", "/tokens", asked).json()
        return made

    def all(self) -> list[View]:
        return list(self._client.rows("/tokens"))

    def revoke(self, token_id: str) -> None:
        self._client.ask("DELETE", f"/tokens/{token_id}")


class Kept:
    """The tokens in a database whose lock we hold."""

    def __init__(self, store: Store, path: Path) -> None:
        self._store = store
        self._path = path
        self._actor = f"user {os.geteuid()} by --db"

    def add(self, asked: View) -> View:
        from zsched import tokens
        from zsched.api import views
        from zsched.dispatcher import access
        from zsched.dispatcher.commands import AddToken
        from zsched.model import Scope, Token
        from zsched.units import parse_duration_ms

        shown = tokens.new()
        now_ms = _now_ms()
        token = Token(
            token_id=shown.token_id,
            digest=shown.digest,
            scopes=frozenset(map(Scope, asked["scopes"])),
            note=asked.get("note", ""),
            created_ms=now_ms,
            created_by=self._actor,
            expires_ms=now_ms + parse_duration_ms(asked["expires"]) if "expires" in asked else None,
        )
        with self._turn(now_ms):
            access.add_token(self._store, AddToken(token))
        return {"token": shown.text, **views.token(token)}

    def all(self) -> list[View]:
        from zsched.api import views
        from zsched.store.sqlite import open_reader

        with closing(open_reader(self._path)) as reader:
            return [views.token(token) for token in reader.tokens()]

    def revoke(self, token_id: str) -> None:
        from zsched.dispatcher import access
        from zsched.dispatcher.commands import NotFoundError, RevokeToken
        from zsched.model import Now

        now_ms = _now_ms()
        try:
            with self._turn(now_ms):
                access.revoke_token(self._store, RevokeToken(token_id, self._actor), Now(0, now_ms))
        except NotFoundError as error:
            raise exits.Failure(str(error), exits.NOT_FOUND) from None

    @contextmanager
    def _turn(self, now_ms: int) -> Iterator[None]:
        """A transaction. What it leaves to be settled is settled."""
        self._store.begin()
        try:
            yield
            self._store.settle(now_ms)
            self._store.commit()
        except BaseException:
            self._store.rollback()
            raise


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
