"""Enrolment over REST: the worker gets its scheduler's ZeroMQ endpoint, and the scheduler binds its key to its name."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPException
from urllib.parse import urlsplit

from zsched.model.hosts import is_loopback
from zsched.model.limits import BODY_BYTES_MAX
from zsched.security import endpoint
from zsched.security.access_file import is_endpoint
from zsched.security.keys import is_key
from zsched.security.trust import UntrustedError


class EnrolError(Exception):
    """Enrolment failed. The sentence is for a log line; a later attempt may succeed."""


class NameTakenError(EnrolError):
    """A worker of this name was connected until now. Later answers say whether it is alive."""


class StandbyError(EnrolError):
    """The scheduler stands by. `active`: the URL that it names as the active one's, empty if unknown."""

    def __init__(self, active: str) -> None:
        super().__init__("it stands by" + (f", and names {active} as active" if active else ""))
        self.active = active


class EnrolRefusedError(EnrolError):
    """The scheduler refuses this worker for good. The sentence names the remedy. `everywhere`: any other scheduler of
    the database does so too.
    """

    def __init__(self, sentence: str, *, everywhere: bool = True) -> None:
        super().__init__(sentence)
        self.everywhere = everywhere


class KeyRefusedError(EnrolRefusedError):
    """The scheduler accepts this worker under a new key only."""


@dataclass(frozen=True, slots=True)
class Target:
    """The endpoint to connect to. `server_key`: the scheduler's public key, empty without encryption. `db`: its
    database, empty if unknown.
    """

    endpoint: str
    server_key: str = ""
    db: str = ""


def enrol(scheduler: str, worker: str, public_key: str, token: str, *, timeout_s: float) -> Target:
    """Enrol at the scheduler's URL; an empty one means the default endpoint. `token`: empty without one. `timeout_s`:
    for connecting, and for each read of the answer.

    Sends nothing to a server that is not proven to be the scheduler, because that could send commands to this worker.
    Raises EnrolError.
    """
    server = endpoint.parse(scheduler)
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        with closing(server.connect(timeout_s)) as connection:
            connection.request(
                "POST",
                f"{server.base}/workers/enrol",
                body=json.dumps({"worker_id": worker, "public_key": public_key}),
                headers=headers,
            )
            answer = connection.getresponse()
            return _target(answer.status, answer.read(BODY_BYTES_MAX), worker)
    except UntrustedError as error:
        raise EnrolError(f"{error}, or give this worker an access file (-access)") from error
    except (OSError, UnicodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else None
        raise EnrolError(f"can't reach {server.url}: {cause or error}") from error
    except HTTPException as error:
        why = f"{server.url} does not answer as a scheduler does"
        raise EnrolError(f"{why}: {type(error).__name__}; is this https?") from error


def _target(status: int, body: bytes, worker: str) -> Target:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise EnrolError(f"invalid answer {status} to enrol: not a JSON object; is this the scheduler's address?")
    if status not in (200, 201):
        if answer.get("code") == "standby":
            raise StandbyError(str(answer.get("active", "")))
        raise _refusal(status, str(answer.get("code", "")), str(answer.get("error", "")), worker)
    endpoint, server_key, db = (answer.get(name, "") for name in ("endpoint", "server_key", "db"))
    if not isinstance(endpoint, str) or not is_endpoint(endpoint) or not isinstance(db, str):
        raise EnrolError("invalid answer to enrol: its endpoint is not tcp://HOST:PORT")
    if server_key == "" and not is_loopback(urlsplit(endpoint).hostname or ""):
        raise EnrolError(f"insecure answer to enrol: no server key for {endpoint}, which is not on this host")
    if server_key != "" and (not isinstance(server_key, str) or not is_key(server_key)):
        raise EnrolError("invalid answer to enrol: its server_key is not a CURVE key")
    return Target(endpoint, server_key, db)


def _refusal(status: int, code: str, error: str, worker: str) -> EnrolError:
    """The error for a refused enrolment."""
    match status, code:
        case 403, "protected_mode":
            return EnrolRefusedError(
                f"this worker needs an access file: run `zsched access new {worker} > {worker}.access` as the"
                f" scheduler's user, and start it with -access {worker}.access",
                everywhere=False,
            )
        case ((401 | 403), _):
            return EnrolRefusedError(f"invalid token for enrolling: {error}", everywhere=False)
        case 409, "key_revoked":
            return KeyRefusedError("this worker's key was revoked")
        case 409, "key_taken":
            return KeyRefusedError("this worker's key belongs to another worker")
        case 409, "name_in_use":
            return EnrolRefusedError(f"a worker named {worker} is connected and alive: give this one another -id")
        case 409, "name_taken":
            return NameTakenError(f"a worker named {worker} was connected until now")
    return EnrolError(f"the scheduler answers {status} to enrol: {error}")
