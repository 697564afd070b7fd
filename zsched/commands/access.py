"""zsched access: manage worker keys.

Usage:
  zsched access new [--endpoint=ENDPOINT]... [--url=URL] <worker>
  zsched access list [--quiet --json --url=URL]
  zsched access revoke [--url=URL] <worker>

`new` prints an access file, the credentials of a worker on another host: the scheduler's address and public key, and a
new key pair. With schedulers that stand by, it has the addresses and keys of all. Only the public key of the pair is
sent to the scheduler. Anyone who can read the file can act as that worker, so keep it private:

  (umask 077; zsched access new worker-2 > worker-2.access)

Start the worker with -access FILE, or set `access = FILE` in worker.ini. Workers that run as the scheduler's user on
its host need no access file. `revoke` invalidates a worker's key and ends its session at once. Revoke the old key of a
worker before you make a new file for it.

Options:
  --endpoint=ENDPOINT...
                       Address at which the worker reaches a scheduler's worker port: tcp://HOST:PORT. May be repeated
                       (those that the schedulers report, with the host's name in place of localhost).
  -q, --quiet          Print only names.
  --json               Print the keys as a JSON array.
  --url=URL            The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help           Show this.

Exit codes: 0 done; 1 not allowed, or impossible; 2 wrong usage; 3 the worker has no key; 4 no scheduler
answers.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from zsched.client.client import Client, Refused
from zsched.commands import exits, options, table
from zsched.model.hosts import is_loopback
from zsched.model.names import WORKER_NAME
from zsched.security.access_file import is_endpoint

if TYPE_CHECKING:
    from zsched.security.keys import Server


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, mixed=True)
    worker = options.text(arguments, "<worker>")
    if worker is not None and not WORKER_NAME.fullmatch(worker):
        options.fail(__doc__, f"invalid worker name {worker!r}: use letters, digits, . _ @ : and -")
    with Client(options.text(arguments, "--url")) as client:
        if worker is None:
            return show(client, arguments)
        if not arguments["new"]:
            return revoke(client, worker)
        return create(client, worker, [read_endpoint(text) for text in options.words(arguments, "--endpoint")])


def read_endpoint(text: str) -> str:
    """A value of --endpoint. An invalid one ends the program as wrong usage."""
    if not is_endpoint(text):
        options.fail(__doc__, f"invalid --endpoint {text!r}: use tcp://HOST:PORT, such as tcp://host:5555")
    return text


def create(client: Client, worker: str, endpoints: Sequence[str]) -> int:
    """`new`. Print the access file to stdout; its secret key is stored nowhere."""
    # It imports ZeroMQ, which takes longer than the rest of the command.
    from zsched.security import keys

    pair = keys.new_pair()
    try:
        body = {"worker_id": worker, "public_key": pair.public, "access_file": True}
        place = client.ask("POST", "/workers/enrol", body).json()
    except Refused as error:
        if error.code != "name_has_key":
            raise
        raise exits.Failure(
            f"worker {worker} has a key, which no new file replaces: run `zsched access revoke {worker}` first;"
            " that ends its session"
        ) from None
    if "server_key" not in place:
        raise exits.Failure("this scheduler takes workers of its own host only, without keys (worker_security = none)")
    if not keys.is_key(str(place["server_key"])) or not is_endpoint(str(place.get("endpoint"))):
        raise exits.Failure("invalid answer of the scheduler: its public key or its worker port is missing")
    others = standby_servers(client)
    if endpoints:
        servers = with_keys(worker, endpoints, keys.Server(place["endpoint"], place["server_key"]), others)
    else:
        reachable = for_other_hosts(place["endpoint"], socket.gethostname())
        if reachable != place["endpoint"]:
            reason = f"the scheduler names {place['endpoint']}, which other hosts can't use"
            exits.say(f"{reason}: the file has {reachable}; --endpoint gives another")
        servers = [keys.Server(reachable, place["server_key"])]
        servers += [other for other in others if other.endpoint != reachable]
    access = keys.Access(worker, servers[0].endpoint, servers[0].key, pair, tuple(servers[1:]))
    print(keys.written_access(access), end="", flush=True)
    warning = warn_of_readers(sys.stdout.isatty(), os.fstat(sys.stdout.fileno()).st_mode)
    if warning is not None:
        exits.say(f"{warning}: (umask 077; zsched access new {worker} > {worker}.access)")
    return 0


def standby_servers(client: Client) -> list[Server]:
    """The worker ports of the schedulers that stand by, as they have published them."""
    from zsched.security import keys

    try:
        views = client.stats().get("schedulers", [])
    except Refused as error:
        if error.code != "scope":
            raise
        exits.say("this token may not read the list of schedulers: the file has the active one alone")
        return []
    # A process that was killed is listed for an hour, also when another one has its place since.
    latest = {
        (view["endpoint"], view["host"]): view
        for view in sorted(views, key=lambda view: (view["role"] == "active", view["last_seen_at"]))
    }
    return [
        keys.Server(for_other_hosts(endpoint, host), view["server_key"])
        for (endpoint, host), view in latest.items()
        if view["role"] == "standby" and keys.is_key(view["server_key"]) and is_endpoint(endpoint)
    ]


def with_keys(worker: str, endpoints: Sequence[str], active: Server, others: Sequence[Server]) -> list[Server]:
    """The given endpoints with their servers' keys. Raises Failure when one is unknown. The worker is enrolled."""
    from zsched.security import keys

    known = {server.endpoint: server.key for server in (*others, active)}
    if len(endpoints) > 1 and len(set(known.values())) > 1:
        for endpoint in endpoints:
            if endpoint not in known:
                listed = ", ".join(known)
                raise exits.Failure(
                    f"unknown key of {endpoint}: run `zsched access revoke {worker}`, and use the addresses that"
                    f" schedulers report, {listed}"
                )
    return [keys.Server(endpoint, known.get(endpoint, active.key)) for endpoint in endpoints]


def show(client: Client, arguments: Mapping[str, options.Value]) -> int:
    """`list`."""
    views = list(client.rows("/access"))
    if arguments["--json"]:
        table.document(views)
    elif arguments["--quiet"]:
        for name in dict.fromkeys(view["worker_id"] for view in views if "revoked_at" not in view):
            print(name)
    else:
        rows = [
            (
                *(
                    view["worker_id"],
                    view["public_key"],
                    table.moment(view["created_at"]),
                    view["created_by"],
                    view["origin"],
                ),
                table.moment(view["revoked_at"]) if "revoked_at" in view else None,
            )
            for view in views
        ]
        table.show(("worker", "public key", "bound", "by", "origin", "revoked"), rows)
    return 0


def revoke(client: Client, worker: str) -> int:
    """`revoke`."""
    client.ask("DELETE", f"/access/{quote(worker, safe='')}")
    print(f"{worker} revoked")
    return 0


def for_other_hosts(endpoint: str, host: str) -> str:
    """The endpoint for a worker on another host: `host`, this machine's name, replaces a loopback address.

    Raises Failure when `host` is a loopback name too.
    """
    name, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    if not _is_local(name):
        return endpoint
    ours = f"tcp://{host}:{port}"
    if not is_endpoint(ours) or _is_local(host):
        raise exits.Failure(f"other hosts can't use {endpoint}, and this machine has no other name: give --endpoint")
    return ours


def warn_of_readers(terminal: bool, mode: int) -> str | None:
    """A warning when others may read secrets on stdout, which is a terminal or has this file mode. None: they can't."""
    if terminal:
        return "write it into a file that only you can read"
    if stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
        return "others can read this file, and a worker will refuse it; use"
    return None


def _is_local(host: str) -> bool:
    return is_loopback(host) or host.lower() == "localhost.localdomain"
