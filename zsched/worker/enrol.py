"""How a worker learns where its scheduler's ZeroMQ port is, and has its key bound to its name."""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from zsched import peer
from zsched.keys import is_endpoint, is_key
from zsched.limits import BODY_BYTES_MAX

# Both for connecting and for each read of the answer. Nothing else waits meanwhile: without a session there is
# nothing to do.
_TIMEOUT_S = 3.0
# Between two looks at whether the other end has accepted.
_ACCEPT_S = 0.002


class EnrolError(Exception):
    """No endpoint was given. The sentence is for a log line; trying again later may help."""


class EnrolRefusedError(EnrolError):
    """The scheduler won't have this worker: trying again does not help. The sentence says what does."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to connect. `server_key` is the scheduler's public key, empty where connections are not encrypted; `db` its
    database, empty when it did not say.
    """

    endpoint: str
    server_key: str = ""
    db: str = ""


def enrol(scheduler: str, worker: str, public_key: str, token: str = "") -> Place:
    """Ask the scheduler at an http:// URL, with a token if there is one.

    Raises EnrolError after at most some seconds.
    """
    parts = urlsplit(scheduler)
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection.connect()
        if not token:
            _demand_ours(connection.sock, scheduler)
        connection.request(
            "POST",
            f"{parts.path.rstrip('/')}/workers/enrol",
            body=json.dumps({"worker_id": worker, "public_key": public_key}),
            headers=headers,
        )
        answer = connection.getresponse()
        return _place(answer.status, answer.read(BODY_BYTES_MAX), worker)
    except OSError as error:
        raise EnrolError(f"{scheduler} can't be reached: {error.strerror or error}") from error
    except http.client.HTTPException as error:
        raise EnrolError(f"{scheduler} does not answer as a scheduler does: {type(error).__name__}") from error
    finally:
        connection.close()


def _demand_ours(connection: socket.socket, scheduler: str) -> None:
    """While the scheduler is down, any user of this host can take its port, and hand its worker commands to run.

    Raises EnrolError unless the other end, where that is on this host, is root's or of our own user.
    """
    ours, theirs = (peer.end(*name[:2]) for name in (connection.getsockname(), connection.getpeername()))
    if not theirs.address.is_loopback:
        return
    until_s = time.monotonic() + _TIMEOUT_S
    # Until a program has accepted the connection, its end is nobody's.
    while (uid := peer.uid_of(theirs, ours)) is None and time.monotonic() < until_s:
        time.sleep(_ACCEPT_S)
    if uid not in (0, os.geteuid()):
        who = "nobody knows whom" if uid is None else f"user {uid}"
        raise EnrolError(
            f"what listens at {scheduler} belongs to {who}, neither to root nor to this worker's user: to trust it,"
            " give this worker an access file (-access) or a token (-token-file)"
        )


def _place(status: int, body: bytes, worker: str) -> Place:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise EnrolError(f"the scheduler's answer {status} to enrol is no JSON object")
    if status in (401, 403):
        raise EnrolRefusedError(
            f"the scheduler does not let this worker enrol ({answer.get('error', status)}): run"
            f" `zsched access new {worker} > {worker}.access` as the scheduler's user, and name that file with -access"
        )
    if status == 409 and answer.get("code") in ("key_revoked", "key_taken"):
        raise EnrolRefusedError(f"the scheduler refuses this worker's key: {answer.get('error')}")
    if status not in (200, 201):
        raise EnrolError(f"the scheduler answers {status} to enrol: {answer.get('error', '')}")
    endpoint, server_key, db = (answer.get(name, "") for name in ("endpoint", "server_key", "db"))
    if not isinstance(endpoint, str) or not is_endpoint(endpoint) or not isinstance(db, str):
        raise EnrolError("the scheduler's answer to enrol has no endpoint tcp://HOST:PORT")
    if server_key == "" and not _loopback(endpoint):
        raise EnrolError(f"the scheduler names no key of its own for {endpoint}, and that is not this host: not safe")
    if server_key != "" and (not isinstance(server_key, str) or not is_key(server_key)):
        raise EnrolError("the scheduler's answer to enrol has a server_key that is none")
    return Place(endpoint, server_key, db)


def _loopback(endpoint: str) -> bool:
    """Whether an endpoint is on this host."""
    host = urlsplit(endpoint).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
