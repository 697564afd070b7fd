"""What the OpenAPI document says of an answer. Every answer that a test gets over REST is held against it, so that the
document can't say other than what is done.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import jsonschema_rs
from falcon import testing

from zsched.api.app import NEEDS
from zsched.api.openapi import document

# What the gate may say to any call, also of a method or to a path that is not there.
GATE = (400, 401, 403, 429)
JSON, PROBLEM = "application/json", "application/problem+json"


def strict(value: Any) -> Any:
    """The same with no member allowed that is not named: new ones may be added, but only together with the document."""
    if isinstance(value, list):
        return [strict(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    inside = {name: strict(inner) for name, inner in value.items()}
    return {"additionalProperties": False, **inside} if "properties" in value else inside


DOCUMENT = document(NEEDS)
COMPONENTS = strict(DOCUMENT["components"])
# A path with fewer names in it goes first: /workers/register is no worker.
PATTERNS = [
    (re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path).replace(r"\{path\}", ".+"))), path)
    for path in sorted(DOCUMENT["paths"], key=lambda path: path.count("{"))
]


def resolved(value: dict[str, Any]) -> dict[str, Any]:
    """A part of the document, also where it stands among the components."""
    found = value
    if (place := value.get("$ref")) is not None:
        _, _, kind, name = place.split("/")
        found = DOCUMENT["components"][kind][name]
    return found


def template(path: str) -> str | None:
    """The documented path that a request's path is one of."""
    bare = path.partition("?")[0]
    bare = bare[:1] + bare[1:].removesuffix("/")
    return next((name for pattern, name in PATTERNS if pattern.fullmatch(bare)), None)


def hold_against(answer: testing.Result, method: str, path: str) -> None:
    """Fails unless the document has this answer to this call: its status, its media type, its body."""
    # The server refuses an empty segment before the router sees it (system/test_smuggling.py). The router alone takes
    # //healthz for /healthz, and /jobs//cancel for that of a job.
    if "//" in path.partition("?")[0]:
        return
    found = template(path)
    item = DOCUMENT["paths"].get(found, {})
    operation = item.get("get" if method == "HEAD" else method.lower())
    status = answer.status_code
    if operation is not None and found is not None:
        assert str(status) in operation["responses"] or (method == "HEAD" and status == 405), (method, path, status)
    elif method == "OPTIONS" and status == 200:
        assert answer.content == b""
        return
    else:
        assert status in (*GATE, 404 if found is None else 405), (method, path, status)
    called = answer.headers["X-Request-Id"]
    if answer.content:
        told = operation["responses"].get(str(status)) if operation is not None else None
        contents = resolved(told or {"$ref": f"#/components/responses/Error{status}"})["content"]
        media = answer.headers["Content-Type"].partition(";")[0]
        assert media in contents, (method, path, status, media)
        if media in (JSON, PROBLEM):
            validator(json.dumps(contents[media]["schema"])).validate(answer.json)
            assert status < 400 or answer.json["request_id"] == called, (method, path, status)


@cache
def validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    """Of a schema by its text."""
    return jsonschema_rs.Draft202012Validator({**json.loads(schema), "components": COMPONENTS}, validate_formats=True)
