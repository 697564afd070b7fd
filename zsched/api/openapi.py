"""/openapi.json: the REST API as an OpenAPI 3.1 document, generated from routes, request bodies and answers.

operations.py adds what routes and types do not contain. A route without an entry there fails at the first request, and
so in every test.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import falcon
import msgspec

from zsched import __version__
from zsched.api import shapes
from zsched.api.context import parameters
from zsched.api.gate import Needs, Scopes
from zsched.api.http.parser import NDJSON
from zsched.api.members import FLOW_AFTER, JOB, PAUSE, PROGRAM, SELECT
from zsched.api.operation import Operation
from zsched.api.operations import OPERATIONS
from zsched.api.queries import DURATION, QUERY, Schema
from zsched.model.fields import WorkerName
from zsched.model.flow import FLOW_NAME
from zsched.model.limits import (
    BODY_VALUES_MAX,
    IDEMPOTENCY_KEY_CHARS_MAX,
    INTEGER_MAX,
    JOBS_PER_SUBMIT_MAX,
    MIB,
    PAGE_BYTES_MAX,
    REQUEST_ID_CHARS_MAX,
    TOKEN_LIFE_MS_DEFAULT,
)
from zsched.model.names import QUEUE_NAME
from zsched.model.units import format_duration_ms
from zsched.security.tokens import NEVER

_PREFIX: Final = "#/components/schemas/"
# A path without a scope is read.
_OPEN: Final[Mapping[str, None]] = {"GET": None}
_ABOUT: Final = f"""\
A job is a shell command, so a call needs a token with one of the scopes in `x-scopes`, sent as
`Authorization: Bearer TOKEN`. With `submit` alone a token acts on its own jobs only.
Programs on the scheduler's own host need none.

HEAD answers as GET does, without the body, except at `/workers/{{worker}}/next`. Any other method is 405, and `Allow`
names the others. Malformed HTTP is 400, a head of more than 32 KiB 431. Later releases may add members to answers.

Every answer has an `X-Request-Id`: that of the request, if it is 1 to 64 letters, digits and `._-`, else a random one.

A page of a list has at most {PAGE_BYTES_MAX // MIB} MiB of JSON. Where rows follow, `Link` has the address of the next
page. The JSON of a request has at most {BODY_VALUES_MAX} values, the names of members included.
"""


# The example is the only text that a schema can describe.
_LINES: Final[Schema] = {
    "schema": {
        "description": "Lines of JSON: the job without `each`, and the entry of a task on each further line",
        "type": "string",
        "contentMediaType": NDJSON,
    },
    "example": '{"name": "resize", "command": "wc -c < \\"$ZSCHED_ENTRY\\""}\n"a.svg"\n"b c.svg"\n',
}
_ONCE: Final[Schema] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A request with the same key and body within seven days stores nothing new. Quotes around the key do"
    " not belong to it",
    "schema": {
        "type": "string",
        "pattern": rf"""^("([ !#-\[\]-~]|\\["\\]){{1,{IDEMPOTENCY_KEY_CHARS_MAX}}}\""""
        rf"|[!#-+\--~]([ -+\--~]{{0,{IDEMPOTENCY_KEY_CHARS_MAX - 2}}}[!-+\--~])?)$",
    },
    "example": "8e03978e-40d5-43dd-bc93-6894a57f9324",
}
_KNOWN: Final[Schema] = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The ETag of an earlier answer: if the answer is the same, it is 304 without a body",
    "schema": {"type": "string"},
}
_PATH: Final[Mapping[str, Schema]] = {
    "job": {"schema": {"type": "integer", "minimum": 0}, "example": 1},
    "run": {"schema": {"type": "integer", "minimum": 0}, "example": 1},
    "flow": {"schema": {"type": "integer", "minimum": 0}, "example": 1},
    "path": {"schema": {"type": "string", "minLength": 1}, "example": "result.csv"},
    "worker": {"schema": {}, "examples": {"connected": {"value": "worker-1"}, "polls": {"value": "w1"}}},
    "queue": {"schema": {"type": "string", "pattern": f"^{QUEUE_NAME.pattern}$"}, "example": "default"},
    "token": {"schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}, "example": "0123456789ab"},
}
_REQUEST_ID: Final = "X-Request-Id"
_ID: Final[Schema] = {"type": "string", "pattern": f"^[A-Za-z0-9._-]{{1,{REQUEST_ID_CHARS_MAX}}}$"}
_HEADERS: Final[Mapping[str, Schema]] = {
    "Location": {"description": "The path of the job, when it is one", "schema": {"type": "string"}},
    "Link": {
        "description": 'Where rows follow, the address of the next page: `<…>; rel="next"` (RFC 8288)',
        "schema": {"type": "string", "pattern": '^</[^<>]*>; rel="next"$'},
    },
    "Zsched-Jobs": {
        "description": "Numbers of all jobs of an array, from the first to the last",
        "schema": {"type": "string", "pattern": "^[0-9]+-[0-9]+$"},
    },
    "Idempotency-Replayed": {
        "description": "An earlier request with the same Idempotency-Key has submitted these jobs",
        "schema": {"const": "true"},
    },
    "Zsched-Offset": {"description": "Offset of the body in the stream", "schema": {"type": "integer", "minimum": 0}},
    "Zsched-Next": {
        "description": "The offset to ask for next, or the `after` of the next events",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Zsched-End": {"description": "Whether the stream ends here", "schema": {"enum": ["true", "false"]}},
    "ETag": {"description": "A hash of the body, for If-None-Match", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds", "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {"schema": {"type": "string"}},
    "Allow": {"schema": {"type": "string"}},
    "Content-Disposition": {
        "description": "`attachment`, and a name of letters, digits and `._-`",
        "schema": {"type": "string"},
    },
    _REQUEST_ID: {"description": "The request's id, as in the body of an error and in the log", "schema": _ID},
}
_ERRORS: Final[Mapping[int, tuple[str, tuple[str, ...]]]] = {
    400: ("The body, a parameter or an id can't be read; `errors` says where", ()),
    401: ("The token is unknown, expired or revoked", ("WWW-Authenticate",)),
    403: ("A caller without a token is not on this host, or the token does not allow this", ("WWW-Authenticate",)),
    404: ("It does not exist", ()),
    405: ("The path does not take this method", ("Allow",)),
    408: ("The body has not come in time", ()),
    409: ("Its state does not allow this", ()),
    410: ("What this Idempotency-Key has submitted is not kept any more", ()),
    413: ("The body is too large, or has too many values, or names too many jobs", ()),
    422: ("This Idempotency-Key was used for another request", ()),
    429: ("Too many bad tokens from this address, or too many pending runs", ("Retry-After",)),
    503: (
        "Try again after `Retry-After` seconds; with the code `standby`, ask the scheduler at `active` or another one",
        ("Retry-After",),
    ),
}


# Z85 (ZeroMQ RFC 32).
_KEY: Final[Schema] = {"pattern": r"^(|[0-9a-zA-Z.:+=^!/*?&<>()[\]{}@%$#-]{40})$"}


class Document:
    """/openapi.json"""

    def __init__(self, needs: Needs) -> None:
        self._needs = needs
        self._made: bytes | None = None

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        parameters(req)
        # Two threads that come first may both make it: it is the same.
        if self._made is None:
            self._made = msgspec.json.encode(document(self._needs))
        resp.data = self._made
        resp.content_type = falcon.MEDIA_JSON

    on_head = on_get


def _complete_edit(components: dict[str, Schema]) -> None:
    """Left out is not null: few fields can be removed."""
    edit = components["EditBody"]["properties"]
    components["EditBody"]["properties"] = {name: JOB.get(name, schema) for name, schema in edit.items()} | {
        "command": PROGRAM[0]["properties"]["command"],
        "schedule": {**JOB["schedule"]["anyOf"][0], "minLength": 1, "pattern": r"\S"},
        "kill_grace": {**JOB["kill_grace"], "anyOf": JOB["kill_grace"]["anyOf"][:2]},
    }
    components["EditBody"]["minProperties"] = 1


def _complete_flow(components: dict[str, Schema]) -> None:
    """In a flow the jobs have names, by which they wait for each other."""
    job = {name: schema for name, schema in components["JobBody"].items() if name != "required"}
    properties = {**job["properties"], "after": FLOW_AFTER}
    components["FlowJob"] = {**job, "title": "FlowJob", "properties": properties}
    components["FlowBody"]["properties"]["jobs"] |= {
        "propertyNames": {"pattern": f"^{FLOW_NAME.pattern}$"},
        "additionalProperties": {"$ref": f"{_PREFIX}FlowJob"},
    }


def document(needs: Needs) -> Schema:
    """The document for these routes."""
    types = [kind for call in OPERATIONS.values() for kind in (call.answer, call.takes) if kind is not None]
    schemas_of_types, components = msgspec.json.schema_components(
        [*types, shapes.Error, WorkerName], ref_template=_PREFIX + "{name}"
    )
    *of_types, _, worker = (_ecma(schema) for schema in schemas_of_types)
    components = {name: _ecma(schema) for name, schema in components.items()}
    components["JobBody"]["required"] = ["name"]
    components["JobBody"]["oneOf"] = PROGRAM
    components["JobBody"]["properties"] |= JOB
    _complete_flow(components)
    _complete_edit(components)
    for pause, usual in (("initial", "5s"), ("max", "1h")):
        components["BackoffBody"]["properties"][pause] = {**PAUSE, "default": usual}
    components["EnrolBody"]["properties"]["public_key"] |= _KEY
    for name in ("BulkBody", "WaitBody"):
        components[name]["properties"]["select"] = SELECT
    components["WaitBody"]["properties"]["timeout"] = {
        "description": "A duration, or a number of seconds; values above 20 s count as 20 s",
        "anyOf": [DURATION, {"type": "number", "minimum": 0, "maximum": INTEGER_MAX}],
        "default": "20s",
    }
    components["PurgeBody"]["properties"]["older_than"] = DURATION
    components["TokenBody"]["properties"]["expires"] = {
        "description": f"A duration; {format_duration_ms(TOKEN_LIFE_MS_DEFAULT)} unless given",
        "anyOf": [DURATION, {"const": NEVER}, {"type": "null"}],
        "default": None,
    }
    # By identity: two types may be equal.
    schemas = {id(kind): schema for kind, schema in zip(types, of_types, strict=True)}
    path_parameters = {**_PATH, "worker": {**_PATH["worker"], "schema": worker}}
    paths = {
        path.replace(":path}", "}"): {
            method.lower(): _operation(path, method, scopes, schemas) for method, scopes in (needed or _OPEN).items()
        }
        | _path_item(path, path_parameters)
        for path, needed in needs.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "zsched", "version": __version__, "description": _ABOUT, "license": {"name": "MIT"}},
        "paths": paths,
        "components": {
            "schemas": components,
            "parameters": {name: {"name": name, "in": "query", **schema} for name, schema in QUERY.items()}
            | {_ONCE["name"]: _ONCE, _KNOWN["name"]: _KNOWN},
            "headers": dict(_HEADERS),
            "responses": {f"Error{status}": _error(status) for status in _ERRORS},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "`zsched token add` makes one"}
            },
        },
    }


def _path_item(path: str, known: Mapping[str, Schema]) -> Schema:
    names = re.findall(r"\{(\w+)[:}]", path)
    if not names:
        return {}
    return {"parameters": [{"name": name, "in": "path", "required": True, **known[name]} for name in names]}


def _operation(path: str, method: str, scopes: Scopes | None, schemas: Mapping[int, Schema]) -> Schema:
    operation = OPERATIONS[f"{method} {path}"]
    good: Schema = {"description": "Done" if method != "GET" else "Found", "content": _content(operation, schemas)}
    tagged = method == "GET" and operation.answer is not None and operation.kept
    good["headers"] = _headers((*operation.headers, *(("ETag",) if tagged else ())))
    answers: Schema = {str(operation.status): good}
    if tagged:
        answers["304"] = {"description": "The answer is the one with this ETag", "headers": _headers(("ETag",))}
    for status in _statuses(operation, scopes):
        answers[str(status)] = {"$ref": f"#/components/responses/Error{status}"}
    if operation.lacks:
        answers["404"] = {**_error(404), "description": operation.lacks}
    if operation.conflicts:
        answers["409"] = {**_error(409), "description": operation.conflicts}
    if path == "/readyz":
        answers["503"] = {**good, "description": "Not now"}
    made: Schema = {"operationId": operation.name, "summary": operation.summary}
    of_headers = [header["name"] for header, taken in ((_ONCE, operation.once), (_KNOWN, tagged)) if taken]
    if names := (*operation.query, *of_headers):
        made["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in names]
    if operation.takes is not None:
        content = {"schema": _bounded(schemas[id(operation.takes)]), "example": operation.example}
        media = ("application/json", "application/merge-patch+json") if method == "PATCH" else ("application/json",)
        contents = dict.fromkeys(media, content) | ({NDJSON: _LINES} if operation.lines else {})
        made["requestBody"] = {"required": not operation.optional, "content": contents}
    made["responses"] = answers
    made["security"] = [] if scopes is None else [*({"token": [scope]} for scope in scopes), {}]
    return made if scopes is None else {**made, "x-scopes": list(scopes)}


def _statuses(operation: Operation, scopes: Scopes | None) -> list[int]:
    """The errors without a description of their own. Every call with a scope passes the gate, which reads the store."""
    if scopes is None:
        return [400] if operation.query else []
    of_bodies = ([408] if operation.lines else []) + ([413] if operation.takes is not None else [])
    of_keys = [410, 422] if operation.once else []
    return [400, 401, 403, *of_bodies, *of_keys, 429, 503]


def _content(operation: Operation, schemas: Mapping[int, Schema]) -> Schema:
    if operation.answer is None:
        return {operation.media: {"schema": {"type": "string"}}}
    return {"application/json": {"schema": schemas[id(operation.answer)]}}


def _error(status: int) -> Schema:
    words, headers = _ERRORS[status]
    schema = {"schema": {"$ref": f"{_PREFIX}Error"}}
    made: Schema = {"description": words, "content": {"application/json": schema, "application/problem+json": schema}}
    made["headers"] = _headers(headers)
    return made


def _headers(names: Iterable[str]) -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*names, _REQUEST_ID)}


def _bounded(schema: Schema) -> Schema:
    """A body's schema; an array of jobs in it with its bounds."""
    return {
        name: [
            {**kind, "minItems": 1, "maxItems": JOBS_PER_SUBMIT_MAX} if kind.get("type") == "array" else kind
            for kind in value
        ]
        if name == "anyOf"
        else value
        for name, value in schema.items()
    }


def _ecma(value: Any) -> Any:
    """A schema with the patterns as JSON Schema has them: Python's end of the text is `$` there."""
    if isinstance(value, dict):
        return {name: _ecma(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_ecma(inner) for inner in value]
    return value.replace(r"\Z", "$") if isinstance(value, str) else value
