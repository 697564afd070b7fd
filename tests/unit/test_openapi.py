"""The OpenAPI document: it is one, it has all that there is, and it says of it what is true."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import falcon
import jsonschema_rs
import pytest
import schemathesis
from falcon import testing
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.document import COMPONENTS, DOCUMENT, hold_against, validator
from tests.unit.rest import Rest
from zsched import __version__
from zsched.api.app import NEEDS
from zsched.api.operations import OPERATIONS
from zsched.model.spec import JobBody
from zsched.model.units import parse_duration_ms

ALL = [
    (path, method, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
]


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Rest]:
    with Rest(tmp_path) as started:
        yield started


def parts(value: Any) -> Iterator[dict[str, Any]]:
    """Every object within."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from parts(inner)


def test_it_is_answered_as_json_and_is_an_openapi_document(rest: Rest) -> None:
    answer = rest.get("/openapi.json")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json == DOCUMENT
    assert (answer.json["openapi"], answer.json["info"]["version"]) == ("3.1.0", __version__)
    schemathesis.openapi.from_dict(answer.json).validate()
    for schema in answer.json["components"]["schemas"].values():
        assert jsonschema_rs.meta.is_valid(schema)


def test_every_reference_leads_somewhere() -> None:
    for part in parts(DOCUMENT):
        if "$ref" in part:
            _, _, kind, name = part["$ref"].split("/")
            assert name in DOCUMENT["components"][kind]


def test_it_has_every_route_with_its_scope_and_nothing_else() -> None:
    told = {(path, method.upper()): operation.get("x-scopes") for path, method, operation in ALL}
    assert told == {
        (path.replace(":path}", "}"), method): list(needed[method]) if needed else None
        for path, needed in NEEDS.items()
        for method in needed or ("GET",)
    }
    assert {call.replace(":path}", "}") for call in OPERATIONS} == {f"{method} {path}" for path, method in told}


@pytest.mark.parametrize(("path", "method", "operation"), ALL, ids=[f"{one[1]} {one[0]}" for one in ALL])
def test_operations_state_their_purpose_and_scope(path: str, method: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    scopes = operation.get("x-scopes")
    assert operation["security"] == ([] if scopes is None else [*({"token": [scope]} for scope in scopes), {}])
    assert {name for name in operation["responses"] if name < "300"} in ({"200"}, {"201"})
    names = re.findall(r"\{(\w+)\}", path)
    assert [one["name"] for one in DOCUMENT["paths"][path].get("parameters", [])] == names
    assert "requestBody" not in operation or "413" in operation["responses"]


@pytest.mark.parametrize("name", sorted(name for name in COMPONENTS["schemas"] if name.endswith("Body")))
def test_numbers_in_requests_have_bounds(name: str) -> None:
    numbers = [part for part in parts(COMPONENTS["schemas"][name]) if part.get("type") in ("integer", "number")]
    assert all({"minimum", "maximum"} <= part.keys() for part in numbers), numbers


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [operation["operationId"] for _, _, operation in ALL]
    assert len(set(names)) == len(names)


def test_what_the_document_says_of_a_job_is_said_of_its_fields() -> None:
    told = DOCUMENT["components"]["schemas"]["JobBody"]
    assert set(told["properties"]) == set(JobBody.__struct_fields__)
    assert told["additionalProperties"] is False


def test_every_example_is_what_its_schema_says_and_is_taken(rest: Rest) -> None:
    rest.submit()
    rest.register("w1")
    rest.take("w1")
    recurring = rest.submit(schedule="0 0 1 1 *")
    for path, method, operation in ALL:
        if "requestBody" not in operation:
            continue
        told = operation["requestBody"]["content"]["application/json"]
        validator(json.dumps(told["schema"])).validate(told["example"])
        job = recurring if method == "patch" else 1
        answer = rest.call(
            method.upper(), path.replace("{job}", str(job)).replace("{queue}", "nightly"), json=told["example"]
        )
        assert answer.status_code < 300, (path, answer.text)


@given(st.from_regex(DOCUMENT["components"]["parameters"]["wait"]["schema"]["pattern"], fullmatch=True))
def test_what_the_document_takes_for_a_duration_is_one(text: str) -> None:
    try:
        parse_duration_ms(text)
    except ValueError as error:
        assert len(text) > 64 or "too long" in str(error)  # noqa: PT017


@given(st.text() | st.sampled_from(["1h30m", "5s", "0", "1.5d", "7µs", "", "5", "-5s", "1e3s", "5 s", "5S", "٣s"]))
def test_what_is_a_duration_is_one_by_the_document(text: str) -> None:
    try:
        parse_duration_ms(text)
    except ValueError:
        return
    assert validator(json.dumps(DOCUMENT["components"]["parameters"]["wait"]["schema"])).is_valid(text)


# --- what holds answers against it ------------------------------------------------------------------------------------


def test_an_answer_other_than_documented_is_noticed() -> None:
    version = {"name": "zsched", "version": "1", "role": "active"}
    hold_against(made(200, version), "GET", "/version")
    for status, value, method, path in (
        (200, version | {"new": 1}, "GET", "/version"),
        (200, {"name": "zsched"}, "GET", "/version"),
        (201, version, "GET", "/version"),
        (404, version, "GET", "/version"),
        (409, version, "GET", "/version"),
        (200, [version], "GET", "/jobs"),
        (200, version, "PUT", "/version"),
        (200, version, "GET", "/versions"),
    ):
        with pytest.raises((AssertionError, jsonschema_rs.ValidationError)):
            hold_against(made(status, value), method, path)


def test_no_member_of_an_answer_goes_unnamed() -> None:
    for name, schema in COMPONENTS["schemas"].items():
        assert "properties" not in schema or schema["additionalProperties"] is False, name


def made(status: int, value: object) -> testing.Result:
    """An answer of nobody's."""

    class Handler:
        def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
            resp.status = status
            resp.media = value
            resp.set_header("X-Request-Id", "0")

    app: falcon.App[falcon.Request, falcon.Response] = falcon.App()
    app.add_route("/", Handler())
    return testing.simulate_request(app, "GET", "/")
