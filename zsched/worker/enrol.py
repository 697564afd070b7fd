"""How a worker learns where its scheduler's ZeroMQ port is."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from urllib.parse import urlsplit

from zsched.limits import BODY_BYTES_MAX

# Both for connecting and for each read of the answer. Nothing else waits meanwhile: without a session there is
# nothing to do.
_TIMEOUT_S = 3.0


class EnrolError(Exception):
    """No endpoint was given. The sentence is for a log line; trying again later may help."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to connect. `db` is the scheduler's database, empty when it did not say."""

    endpoint: str
    db: str = ""


def enrol(scheduler: str, worker: str) -> Place:
    """Ask the scheduler at an http:// URL; a tcp:// URL is a place already.

    Raises EnrolError after at most some seconds.
    """
    parts = urlsplit(scheduler)
    if parts.scheme == "tcp":
        return Place(scheduler)
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
    try:
        connection.request(
            "POST",
            f"{parts.path.rstrip('/')}/workers/enrol",
            body=json.dumps({"worker_id": worker}),
            headers={"Content-Type": "application/json", "Accept": "application/json"},
        )
        answer = connection.getresponse()
        return _place(answer.status, answer.read(BODY_BYTES_MAX))
    except OSError as error:
        raise EnrolError(f"{scheduler} can't be reached: {error.strerror or error}") from error
    except http.client.HTTPException as error:
        raise EnrolError(f"{scheduler} does not answer as a scheduler does: {type(error).__name__}") from error
    finally:
        connection.close()


def _place(status: int, body: bytes) -> Place:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise EnrolError(f"the scheduler's answer {status} to enrol is no JSON object")
    endpoint, db = answer.get("endpoint"), answer.get("db", "")
    if status not in (200, 201):
        raise EnrolError(f"the scheduler answers {status} to enrol: {answer.get('error', '')}")
    if not isinstance(endpoint, str) or not endpoint.startswith("tcp://") or not isinstance(db, str):
        raise EnrolError("the scheduler's answer to enrol has no endpoint that begins with tcp://")
    return Place(endpoint, db)
