"""How a worker learns where its scheduler's ZeroMQ port is, and has its key bound to its name."""

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

# Both for connecting and for each read of the answer. Nothing else waits meanwhile: without a session there is
# nothing to do.
_TIMEOUT_S = 3.0


class EnrolError(Exception):
    """No endpoint was given. The sentence is for a log line; trying again later may help."""


class NameTakenError(EnrolError):
    """A worker of this name was connected until now. The next answers tell whether it is alive."""


class EnrolRefusedError(EnrolError):
    """The scheduler won't have this worker: trying again does not help. The sentence says what does."""


class KeyRefusedError(EnrolRefusedError):
    """The scheduler accepts this worker under a new key only."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to connect. `server_key` is the scheduler's public key, empty where connections are not encrypted. `db` is
    its database, empty if unknown: another one at the same endpoint is another place, and needs a new connection.
    """

    endpoint: str
    server_key: str = ""
    db: str = ""


def enrol(scheduler: str, worker: str, public_key: str, token: str = "") -> Place:
    """Ask the scheduler at a URL, or at the default endpoint for an empty text; with a token if there is one.

    Sends nothing to a server that is not proven to be the scheduler: it could send commands to this worker. Raises
    EnrolError after at most some seconds.
    """
    place = endpoint.parse(scheduler)
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        with closing(place.connect(_TIMEOUT_S)) as connection:
            connection.request(
                "POST",
                f"{place.base}/workers/enrol",
                body=json.dumps({"worker_id": worker, "public_key": public_key}),
                headers=headers,
            )
            answer = connection.getresponse()
            return _place(answer.status, answer.read(BODY_BYTES_MAX), worker)
    except UntrustedError as error:
        raise EnrolError(f"{error}, or give this worker an access file (-access)") from error
    except (OSError, UnicodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else None
        raise EnrolError(f"can't reach {place.url}: {cause or error}") from error
    except HTTPException as error:
        why = f"{place.url} does not answer as a scheduler does"
        raise EnrolError(f"{why}: {type(error).__name__}; is this https?") from error


def _place(status: int, body: bytes, worker: str) -> Place:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise EnrolError(f"the scheduler's answer {status} to enrol is no JSON object")
    if status not in (200, 201):
        raise _refusal(status, str(answer.get("code", "")), str(answer.get("error", "")), worker)
    endpoint, server_key, db = (answer.get(name, "") for name in ("endpoint", "server_key", "db"))
    if not isinstance(endpoint, str) or not is_endpoint(endpoint) or not isinstance(db, str):
        raise EnrolError("the scheduler's answer to enrol has no endpoint tcp://HOST:PORT")
    if server_key == "" and not is_loopback(urlsplit(endpoint).hostname or ""):
        raise EnrolError(f"the scheduler names no key of its own for {endpoint}, and that is not this host: not safe")
    if server_key != "" and (not isinstance(server_key, str) or not is_key(server_key)):
        raise EnrolError("the scheduler's answer to enrol has a server_key that is not a key")
    return Place(endpoint, server_key, db)


def _refusal(status: int, code: str, error: str, worker: str) -> EnrolError:
    """What a refused enrol means for this worker."""
    match status, code:
        case 403, "protected_mode":
            return EnrolRefusedError(
                f"this worker needs an access file: run `zsched access new {worker} > {worker}.access` as the"
                f" scheduler's user, and start it with -access {worker}.access"
            )
        case ((401 | 403), _):
            return EnrolRefusedError(f"invalid token for enrolling: {error}")
        case 409, "key_revoked":
            return KeyRefusedError("this worker's key was revoked")
        case 409, "key_taken":
            return KeyRefusedError("this worker's key belongs to another worker")
        case 409, "name_in_use":
            return EnrolRefusedError(f"a worker named {worker} is connected and alive: give this one another -id")
        case 409, "name_taken":
            return NameTakenError(f"a worker named {worker} was connected until now")
    return EnrolError(f"the scheduler answers {status} to enrol: {error}")
