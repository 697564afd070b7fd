"""What schemathesis is told about this product: loaded by its command line, in a process of its own.

ZSCHED_ANSWERS names a file for how often each call was answered how, as lines of JSON: the operation, the method that
was sent, status, count. ZSCHED_TOKEN_ID is the token that is not to be revoked, for all calls come by it.
"""

from __future__ import annotations

import atexit
import json
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import Failure

from zsched.units import parse_duration_ms

# Why what the document's schemas take is refused all the same: for what a schema can't say.
BEYOND_SCHEMAS = (
    "a NUL character",
    "a lone surrogate",
    "is too long; the longest duration",
    "at most ten years",
    "more than nothing",
    "longer than nothing",
    "success means 0",
    "a public key of CURVE",
    "put it into a script",
    # 1.0 is an integer to JSON Schema.
    "got `float`",
)
# Of a job the schema says all about these fields; of the others, which spec.py judges, it says the type.
STATED = {"name", "run_now"}
HELD_MS = 20
# The one that executes jobs.
WORKER = "worker-1"

answers: Counter[tuple[str, str, int]] = Counter()


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """What is made up must do no harm here: a command ends before the made up part of it is read, and nobody is put out
    whom the test needs. No call is held.
    """
    for job in case.body if isinstance(case.body, list) else [case.body]:
        command = job.get("command") if isinstance(job, dict) else None
        if isinstance(job, dict) and isinstance(command, str) and command.strip():
            job["command"] = f"exit 0\n{command}"
    if case.path_parameters.get("token") == os.environ.get("ZSCHED_TOKEN_ID"):
        case.path_parameters["token"] = "0" * 12
    if case.operation.label == "DELETE /access/{worker}" and case.path_parameters.get("worker") == WORKER:
        case.path_parameters["worker"] = "worker-2"
    with suppress(ValueError):
        if parse_duration_ms(str(case.query.get("wait"))) > HELD_MS:
            case.query["wait"] = f"{HELD_MS}ms"


@schemathesis.hook
def after_call(context: HookContext, case: Case[Any], response: Response) -> None:
    answers[case.operation.label, str(response.request.method), response.status_code] += 1


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """Whether it is one. ST202: what the schemas take was refused."""
    if failure.code != "ST202" or response.status_code != 400:
        return True
    errors = response.json()["errors"]
    if case.operation.label == "POST /jobs" and not any(STATED & set(error["pointer"].split("/")) for error in errors):
        return False
    return not any(part in error["detail"] for error in errors for part in BEYOND_SCHEMAS)


@atexit.register
def write() -> None:
    lines = (json.dumps([*call, count]) for call, count in answers.items())
    Path(os.environ["ZSCHED_ANSWERS"]).write_text("\n".join(lines), "utf-8")
