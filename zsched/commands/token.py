"""zsched token: manage the tokens of API clients.

Usage:
  zsched token add [--scope=SCOPE]... [--worker=NAME]... [--name=NAME --expires=DURATION --note=TEXT --run-as=USER
      --pending-max=COUNT --schedules-max=COUNT --priority-max=NUMBER --slots-max=COUNT --url=URL]
  zsched token list [--quiet --json --url=URL]
  zsched token revoke [--with-jobs --url=URL] <id>
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
  --priority-max=NUMBER
                      Highest priority of the jobs that it submits, edits or reruns: -1000 to 1000.
  --worker=NAME...    Restrict it to workers with this name: w1, or a pattern, gpu-*. May be repeated.
  --slots-max=COUNT   Limit of the slots of each worker that it enrols.
  --with-jobs         Also cancel the jobs of the token and end its schedules.
  -q, --quiet         Print only IDs.
  --json              Print the tokens as a JSON array.
  --url=URL           The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help          Show this.

Exit codes: 0 done; 1 not allowed; 2 wrong usage; 3 no such token; 4 no scheduler answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from zsched.client.client import Client, View
from zsched.commands import exits, options, table
from zsched.commands.turn import read_priority

# A token's ID, or the text of a whole token, from which only the ID is sent on.
_ID: Final = re.compile(r"(?:zs_)?([0-9a-f]{12})(?:_[0-9a-f]*)?", re.ASCII)

# The times that `list` shows, as REST names them.
_TIMES: Final = ("expires_at", "revoked_at", "last_used_at")


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, mixed=True)
    if arguments["new"]:
        return print_new()
    if arguments["add"]:
        return add(arguments)
    return revoke(arguments) if arguments["revoke"] else show(arguments)


def print_new() -> int:
    """`new`."""
    from zsched.security import tokens

    print(tokens.new().text, flush=True)
    exits.say("no scheduler knows this token yet: write it to a file (umask 077) that admin_token_file names")
    return 0


def add(arguments: Mapping[str, options.Value]) -> int:
    """`add`. Prints only the token to stdout."""
    body = token_body(arguments)
    with Client(options.text(arguments, "--url")) as client:
        view: View = client.ask("POST", "/tokens", body).json()
    print(view["token"], flush=True)
    until = f", until {table.moment(view['expires_at'])}" if "expires_at" in view else ", never expires"
    name = "" if view["name"] == view["id"] else f" {view['name']}"
    exits.say(f"token {view['id']}{name} ({', '.join(view['scopes'])}{until}): it is shown only now, so keep it safe")
    return 0


def show(arguments: Mapping[str, options.Value]) -> int:
    """`list`."""
    with Client(options.text(arguments, "--url")) as client:
        views = list(client.rows("/tokens"))
    if arguments["--json"]:
        table.document(views)
    elif arguments["--quiet"]:
        for view in views:
            print(view["id"])
    else:
        rows = [
            (
                *(view["id"], None if view["name"] == view["id"] else view["name"], ", ".join(view["scopes"])),
                *(table.moment(view[time]) if time in view else None for time in _TIMES),
                *(table.moment(view["created_at"]), view["created_by"], describe_bounds(view), view["note"]),
            )
            for view in views
        ]
        names = ("token", "name", "scopes", "expires", "revoked", "last used", "made", "by", "bounds", "note")
        table.show(names, rows)
    return 0


def describe_bounds(view: View) -> str:
    """The bounds of a token, for a column of `list`."""
    from zsched.model.units import counted

    words: dict[str, Callable[[Any], str]] = {
        "run_as": "as {}".format,
        "pending_max": "{} pending".format,
        "schedules_max": lambda count: counted(count, "schedule"),
        "priority_max": "priority up to {}".format,
        "workers": lambda names: f"workers {' '.join(names)}",
        "slots_max": lambda count: counted(count, "slot"),
    }
    return ", ".join(describe(view[name]) for name, describe in words.items() if name in view)


def revoke(arguments: Mapping[str, options.Value]) -> int:
    """`revoke`."""
    from zsched.security.tokens import NAME

    given = options.text(arguments, "<id>") or ""
    match = _ID.fullmatch(given)
    if match is None and (given.startswith("zs_") or re.match(NAME, given) is None):
        options.fail(__doc__, "invalid token ID or name: `zsched token list` shows them")
    with_jobs = bool(arguments["--with-jobs"])
    path = f"/tokens/{given if match is None else match[1]}{'?jobs=cancel' if with_jobs else ''}"
    with Client(options.text(arguments, "--url")) as client:
        view: View = client.ask("DELETE", path).json()
    print(f"{view['id']} revoked")
    left = f"jobs: {view['live_jobs']}, schedules: {view['live_schedules']}"
    if with_jobs:
        exits.say(f"its jobs are being cancelled and its schedules ended; at this moment still there: {left}")
    elif view["live_jobs"] or view["live_schedules"]:
        exits.say(f"what it has submitted goes on ({left}); `zsched token revoke --with-jobs {view['id']}` ends it")
    return 0


def token_body(arguments: Mapping[str, options.Value]) -> View:
    """The body of POST /tokens. An invalid option ends the program as wrong usage."""
    from zsched.model.access import Scope
    from zsched.model.limits import NOTE_CHARS_MAX, TOKEN_LIFE_MS_MAX
    from zsched.model.units import format_duration_ms
    from zsched.security.tokens import NEVER

    scopes = [word for given in options.words(arguments, "--scope") for word in given.split(",")]
    for word in scopes:
        if word not in list(Scope):
            options.fail(__doc__, f"invalid --scope {word!r}: use {', '.join(Scope)}")
    if not scopes:
        options.fail(__doc__, f"missing --scope: use {', '.join(Scope)}")
    asked: View = {"scopes": sorted(set(scopes))}
    note = options.text(arguments, "--note")
    if note is not None:
        if not note.isprintable() or len(note) > NOTE_CHARS_MAX:
            options.fail(__doc__, f"--note: at most {NOTE_CHARS_MAX} printable characters")
        asked["note"] = note
    for option in ("--name", "--run-as"):
        if (value := options.text(arguments, option)) is not None:
            asked[_field(option)] = value
    for option, least in (("--pending-max", 1), ("--schedules-max", 0), ("--slots-max", 1)):
        if (count := options.number(__doc__, arguments, option, least)) is not None:
            asked[_field(option)] = count
    if (priority := read_priority(__doc__, options.text(arguments, "--priority-max"), "--priority-max")) is not None:
        asked["priority_max"] = priority
    if workers := options.words(arguments, "--worker"):
        asked["workers"] = workers
    if options.text(arguments, "--expires") == NEVER:
        asked["expires"] = NEVER
        return asked
    life_s = options.seconds(__doc__, arguments, "--expires")
    if life_s is not None:
        if not 0 < life_s * 1000 <= TOKEN_LIFE_MS_MAX:
            options.fail(__doc__, f"--expires: more than nothing, at most {format_duration_ms(TOKEN_LIFE_MS_MAX)}")
        asked["expires"] = options.text(arguments, "--expires")
    return asked


def _field(option: str) -> str:
    """The field of POST /tokens that an option gives."""
    return option.removeprefix("--").replace("-", "_")
