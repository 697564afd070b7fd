"""zsched token: manage the tokens of API clients.

Usage:
  zsched token add [--scope=SCOPE]... [--worker=NAME]... [--name=NAME --expires=DURATION --note=TEXT --run-as=USER
      --pending-max=COUNT --schedules-max=COUNT --slots-max=COUNT --db=FILE --url=URL]
  zsched token list [--quiet --json --db=FILE --url=URL]
  zsched token revoke [--with-jobs --db=FILE --url=URL] <id>
  zsched token new

`add` makes a token and prints it once; the scheduler stores only a hash. `revoke` invalidates a token immediately; <id>
is its ID or its name. `new` prints a token that no scheduler knows yet, for admin_token_file. Programs that run as the
scheduler's user on its host need no token.

Options:
  --scope=SCOPE...    What it allows: read; submit (submit jobs, and act on its own); operate (act on all jobs); worker
                      (enrol workers, or act as a worker over REST); admin (everything). May be repeated, or separated
                      by commas: --scope read,submit.
  --name=NAME         Unique name, shown as the owner of its jobs. No later token can have it (the ID).
  --expires=DURATION  Lifetime: 12h, 30d, never (90d).
  --note=TEXT         Who or what it is for; `list` shows it.
  --run-as=USER       Run its jobs as this user; they can't choose another.
  --pending-max=COUNT
                      Limit of its pending jobs.
  --schedules-max=COUNT
                      Limit of its jobs with a schedule.
  --worker=NAME...    Restrict it to workers with this name: w1, or a pattern, gpu-*. May be repeated.
  --slots-max=COUNT   Limit of the slots of each worker that it enrols.
  --with-jobs         Also cancel the jobs of the token and end its schedules.
  --db=FILE           Work on the database of a scheduler that is not running.
  -q, --quiet         Print only IDs.
  --json              Print the tokens as a JSON array.
  --url=URL           The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help          Show this.

Exit codes: 0 done; 1 it is not allowed, or a scheduler has the database; 2 wrong usage; 3 there is no such token; 4 no
scheduler answers; 74 the database can't be used.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from zsched.client.client import Client, View
from zsched.commands import exits, options, table
from zsched.security import owners

if TYPE_CHECKING:
    from pathlib import Path

    from zsched.store.contract import Store

# A token's id, or the text of the whole token, whose secret then goes no further.
_ID: Final = re.compile(r"(?:zs_)?([0-9a-f]{12})(?:_[0-9a-f]*)?", re.ASCII)


# What `list` shows of a token's life.
_TIMES: Final = ("expires_at", "revoked_at", "last_used_at")


class Tokens(Protocol):
    """Where the tokens are: with a scheduler, or in a database."""

    def add(self, asked: View) -> View:
        """Make a token as POST /tokens takes it; returns it as that answers, with its text in `token`."""

    def all(self) -> list[View]:
        """All that were ever made, oldest first."""

    def revoke(self, token: str, *, jobs: bool) -> View:
        """Make one worthless, by its id or its name, and its jobs too; returns it as DELETE /tokens/{id} answers.

        Raises NotFound or Failure when there is none.
        """


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
    from zsched.security import tokens

    print(tokens.new().text, flush=True)
    exits.say("no scheduler knows this token yet: write it to a file (umask 077) that admin_token_file names")
    return 0


def added(found: Mapping[str, options.Value]) -> int:
    """`add`. The token alone is on stdout."""
    asked = wanted(found)
    with opened(found, make=True) as tokens:
        made = tokens.add(asked)
    print(made["token"], flush=True)
    until = f", until {table.moment(made['expires_at'])}" if "expires_at" in made else ", never expires"
    named = "" if made["name"] == made["id"] else f" {made['name']}"
    exits.say(f"token {made['id']}{named} ({', '.join(made['scopes'])}{until}): it is shown only now, so keep it safe")
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
                *(view["id"], None if view["name"] == view["id"] else view["name"], ", ".join(view["scopes"])),
                *(table.moment(view[time]) if time in view else None for time in _TIMES),
                *(table.moment(view["created_at"]), view["created_by"], bounds(view), view["note"]),
            )
            for view in views
        ]
        names = ("token", "name", "scopes", "expires", "revoked", "last used", "made", "by", "bounds", "note")
        table.show(names, rows)
    return 0


def bounds(view: View) -> str:
    """What a token is bounded to, in a few words."""
    from zsched.model.units import counted

    words: dict[str, Callable[[Any], str]] = {
        "run_as": "as {}".format,
        "pending_max": "{} pending".format,
        "schedules_max": lambda most: counted(most, "schedule"),
        "workers": lambda names: f"workers {' '.join(names)}",
        "slots_max": lambda most: counted(most, "slot"),
    }
    return ", ".join(said(view[name]) for name, said in words.items() if name in view)


def revoked(found: Mapping[str, options.Value]) -> int:
    """`revoke`."""
    from zsched.security.tokens import NAME

    given = options.text(found, "<id>") or ""
    match = _ID.fullmatch(given)
    if match is None and (given.startswith("zs_") or re.match(NAME, given) is None):
        options.fail(__doc__, "that is no token's id or name; `zsched token list` shows them")
    with_jobs = bool(found["--with-jobs"])
    with opened(found) as tokens:
        view = tokens.revoke(given if match is None else match[1], jobs=with_jobs)
    print(f"{view['id']} revoked")
    left = f"jobs: {view['live_jobs']}, schedules: {view['live_schedules']}"
    if with_jobs:
        exits.say(f"its jobs are being cancelled and its schedules ended; at this moment still there: {left}")
    elif view["live_jobs"] or view["live_schedules"]:
        exits.say(f"what it has submitted goes on ({left}); `zsched token revoke --with-jobs {view['id']}` ends it")
    return 0


def wanted(found: Mapping[str, options.Value]) -> View:
    """The token that is asked for, as POST /tokens takes it. What can't be one is wrong usage."""
    from zsched.model.access import Scope
    from zsched.model.limits import NOTE_CHARS_MAX, TOKEN_LIFE_MS_MAX
    from zsched.model.units import format_duration_ms
    from zsched.security.tokens import NEVER

    scopes = [word for given in options.words(found, "--scope") for word in given.split(",")]
    for word in scopes:
        if word not in list(Scope):
            options.fail(__doc__, f"invalid --scope {word!r}: use {', '.join(Scope)}")
    if not scopes:
        options.fail(__doc__, f"missing --scope: use {', '.join(Scope)}")
    asked: View = {"scopes": sorted(set(scopes))}
    note = options.text(found, "--note")
    if note is not None:
        if not note.isprintable() or len(note) > NOTE_CHARS_MAX:
            options.fail(__doc__, f"--note: at most {NOTE_CHARS_MAX} printable characters")
        asked["note"] = note
    for option in ("--name", "--run-as"):
        if (value := options.text(found, option)) is not None:
            asked[_field(option)] = value
    for option, least in (("--pending-max", 1), ("--schedules-max", 0), ("--slots-max", 1)):
        if (count := options.number(__doc__, found, option, least)) is not None:
            asked[_field(option)] = count
    if workers := options.words(found, "--worker"):
        asked["workers"] = workers
    if options.text(found, "--expires") == NEVER:
        asked["expires"] = NEVER
        return asked
    life_s = options.seconds(__doc__, found, "--expires")
    if life_s is not None:
        if not 0 < life_s * 1000 <= TOKEN_LIFE_MS_MAX:
            options.fail(__doc__, f"--expires: more than nothing, at most {format_duration_ms(TOKEN_LIFE_MS_MAX)}")
        asked["expires"] = options.text(found, "--expires")
    return asked


def _field(option: str) -> str:
    """The field of POST /tokens that an option gives."""
    return option.removeprefix("--").replace("-", "_")


@contextmanager
def opened(found: Mapping[str, options.Value], *, make: bool = False) -> Iterator[Tokens]:
    """The tokens that the command is about; a missing database is made only where `make` is set.

    Raises Failure.
    """
    url, db = options.text(found, "--url"), options.text(found, "--db")
    if db is None:
        with Client(url) as client:
            yield Asked(client)
        return
    if url is not None:
        options.fail(__doc__, "--db and --url don't go together")
    from zsched.config.config import ConfigError, scheduler_config
    from zsched.store.contract import StoreError, StoreLocked
    from zsched.store.sqlite.engine import open_writer
    from zsched.store.sqlite.lock import Lock

    try:
        path = scheduler_config({"db": db}, None, os.environ).config.db
        if not make:
            exits.demand_database(path)
        elif not path.exists():
            exits.say(f"{path} is new: a scheduler takes it by --db {path}")
        with Lock(path) as lock, closing(open_writer(path, _now_ms(), lock)) as store:
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

    def revoke(self, token: str, *, jobs: bool) -> View:
        view: View = self._client.ask("DELETE", f"/tokens/{token}{'?jobs=cancel' if jobs else ''}").json()
        return view


class Kept:
    """The tokens in a database whose lock we hold."""

    def __init__(self, store: Store, path: Path) -> None:
        self._store = store
        self._path = path
        self._actor = f"{owners.of_user(os.geteuid())} by --db"

    def add(self, asked: View) -> View:
        from zsched.api import views
        from zsched.api.access import new_token
        from zsched.api.body import TokenBody, convert
        from zsched.api.problem import Problem
        from zsched.scheduler.dispatcher import access
        from zsched.scheduler.dispatcher.commands import AddToken, ConflictError

        now_ms = _now_ms()
        try:
            shown, token = new_token(convert(asked, TokenBody, "#"), self._actor, now_ms)
            with self._turn(now_ms):
                access.add_token(self._store, AddToken(token))
        except Problem as problem:
            raise exits.Failure(problem.detail, exits.USAGE) from None
        except ConflictError as error:
            raise exits.Failure(str(error)) from None
        return {"token": shown.text, **views.token(token)}

    def all(self) -> list[View]:
        from zsched.api import views
        from zsched.store.sqlite.engine import open_reader

        with closing(open_reader(self._path)) as reader:
            return [views.token(token) for token in reader.tokens()]

    def revoke(self, token: str, *, jobs: bool) -> View:
        """The scheduler ends the jobs, when it runs again."""
        from zsched.api import views
        from zsched.model.types import Now
        from zsched.scheduler.dispatcher import access
        from zsched.scheduler.dispatcher.commands import NotFoundError, RevokeToken
        from zsched.store.sqlite.engine import open_reader

        now_ms = _now_ms()
        with closing(open_reader(self._path)) as reader:
            named = reader.token(token) or reader.token_named(token)
            token_id = token if named is None else named.token_id
            try:
                with self._turn(now_ms):
                    access.revoke_token(self._store, RevokeToken(token_id, self._actor, jobs), Now(0, now_ms))
            except NotFoundError as error:
                raise exits.Failure(str(error), exits.NOT_FOUND) from None
            found = reader.token(token_id)
            assert found is not None
            live, schedules = reader.left(found.owner)
        return {**views.token(found), "live_jobs": live, "live_schedules": schedules}

    @contextmanager
    def _turn(self, now_ms: int) -> Iterator[None]:
        """A transaction. What it leaves to be settled is settled."""
        self._store.begin()
        try:
            yield
            self._store.flush_counters(now_ms)
            self._store.commit()
        except BaseException:
            self._store.rollback()
            raise


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
