"""What schemathesis is told about this product: loaded by its command line, in a process of its own.

ZSCHED_ANSWERS names a file for how often each call was answered how, as lines of JSON: the operation, the method that
was sent, status, count. ZSCHED_TOKEN_ID is the token that is not to be revoked, for all calls come by it.
ZSCHED_RECURRING is a recurring job.
"""

from __future__ import annotations

import atexit
import json
import os
import uuid
from collections import Counter
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import Failure

from zsched.model.units import parse_duration_ms

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
    "not together with",
    # A day such as February 30.
    "invalid time",
    "runs backwards",
    "only with select all",
    # 1.0 is an integer to JSON Schema.
    "got `float`",
)
# Of a job the schema says all about these fields; of the others, which spec.py judges, it says the type.
STATED = {"name", "run_now"}
HELD_MS = 20
# Calls that the job of the examples, which runs once, can't take.
OF_RECURRING = ("PATCH /jobs/{job}", "POST /jobs/{job}/pause", "POST /jobs/{job}/resume")
# The one that executes jobs.
WORKER = "worker-1"

# The key of a submit, as the document has it.
KEY, KEY_EXAMPLE = "Idempotency-Key", "8e03978e-40d5-43dd-bc93-6894a57f9324"

keyed = count()
answers: Counter[tuple[str, str, int]] = Counter()


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """What is made up must do no harm here: a command ends before the made up part of it is read, and nobody is put out
    whom the test needs. No call is held. Of the submits with the document's own key most get another: they would all be
    refused but one.
    """
    for job in case.body if isinstance(case.body, list) else [case.body]:
        command = job.get("command") if isinstance(job, dict) else None
        if isinstance(job, dict) and isinstance(command, str) and command.strip():
            job["command"] = f"exit 0\n{command}"
        argv = job.get("argv") if isinstance(job, dict) else None
        if isinstance(job, dict) and isinstance(argv, list) and argv:
            job["argv"] = ["true", *argv]
    if case.path_parameters.get("token") == os.environ.get("ZSCHED_TOKEN_ID"):
        case.path_parameters["token"] = "0" * 12
    if case.operation.label in OF_RECURRING and case.path_parameters.get("job") == 1:
        case.path_parameters["job"] = int(os.environ["ZSCHED_RECURRING"])
    if case.operation.label == "DELETE /access/{worker}" and case.path_parameters.get("worker") == WORKER:
        case.path_parameters["worker"] = "worker-2"
    if case.headers and case.headers.get(KEY) == KEY_EXAMPLE and next(keyed) % 4:
        case.headers[KEY] = str(uuid.uuid4())
    # The job of the examples must stay.
    if case.operation.label == "POST /jobs/purge" and isinstance(case.body, dict):
        case.body["dry_run"] = True if case.body.get("dry_run") is False else case.body.get("dry_run", True)
    if case.operation.label == "POST /jobs/wait" and isinstance(case.body, dict):
        case.body["timeout"] = f"{HELD_MS}ms" if isinstance(case.body.get("timeout"), str) else HELD_MS / 1000
    with suppress(ValueError):
        if parse_duration_ms(str(case.query.get("wait"))) > HELD_MS:
            case.query["wait"] = f"{HELD_MS}ms"


@schemathesis.hook
def after_call(context: HookContext, case: Case[Any], response: Response) -> None:
    answers[case.operation.label, str(response.request.method), response.status_code] += 1


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """Whether it is one. ST202: what the schemas take was refused; of a key that was used before, no schema can say."""
    if failure.code == "ST202" and response.status_code == 422:
        return bool(response.json()["code"] != "idempotency_key_reused")
    if failure.code != "ST202" or response.status_code != 400:
        return True
    errors = response.json()["errors"]
    of_job = case.operation.label in ("POST /jobs", "PATCH /jobs/{job}")
    if of_job and not any(STATED & set(error["pointer"].split("/")) for error in errors):
        return False
    return not any(part in error["detail"] for error in errors for part in BEYOND_SCHEMAS)


@atexit.register
def write() -> None:
    lines = (json.dumps([*call, times]) for call, times in answers.items())
    Path(os.environ["ZSCHED_ANSWERS"]).write_text("\n".join(lines), "utf-8")
