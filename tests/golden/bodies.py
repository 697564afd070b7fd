"""One call of each kind over REST, and each entity with every member set: the bodies that answers have."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from falcon import testing

from tests.unit.rest import ME, Rest
from zsched import __version__, protocol
from zsched.api import views
from zsched.model.access import KeyOrigin, Scope, Token, WorkerKey
from zsched.model.after import parse_after
from zsched.model.arrays import Progress, parse_array
from zsched.model.backoff import Backoff
from zsched.model.records import Event, ForeignDecision, ForeignRuns
from zsched.model.requirements import Requirements
from zsched.model.types import (
    Job,
    JobId,
    OnDisconnect,
    OnLost,
    Policy,
    Run,
    RunId,
    RunStatus,
    Stream,
    Worker,
    WorkerId,
    WorkerKind,
    WorkerStatus,
)
from zsched.security.keys import new_pair
from zsched.store.contract import RunOutput

FILE = Path(__file__).with_name("bodies.json")

JOB = {
    "name": "full",
    "command": "make",
    "schedule": "0 0 1 1 *",
    "run_now": True,
    "timeout": "10m",
    "kill_grace": "5s",
    "retries": 2,
    "backoff": {"initial": "1s", "factor": 3, "max": "1m", "jitter": 0},
    "on_lost": "fail",
    "on_disconnect": "stop",
    "crash_limit": "never",
    "user": "alice",
    "env": {"LEVEL": "3"},
}
TOKEN = {
    "scopes": ["submit", "worker"],
    "name": "ci",
    "note": "a note",
    "expires": "30d",
    "run_as": "build",
    "pending_max": 5,
    "schedules_max": 0,
    "priority_max": -10,
    "workers": ["ci-*"],
    "slots_max": 2,
}
WORKER = {"worker_id": "w1", "slots": 2, "can": ["user", "env"], "labels": {"a": "b"}}
_CHANGING = (
    (re.compile(r'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"'), '"TIME"'),
    (re.compile(r'"zs_[^"]+"'), '"SECRET"'),
    (re.compile(r"\b[0-9a-f]{12,64}\b"), "HEX"),
)


def answers(folder: Path) -> dict[str, Any]:
    """Status and body of each answer, by call. What differs from run to run is replaced by a word in capitals."""
    key = new_pair().public
    words = {ME: "OWNER", socket.gethostname(): "HOST", __version__: "VERSION", json.dumps(key)[1:-1]: "KEY"}
    bodies: dict[str, Any] = {}
    for call, answer in _calls(folder, key):
        text = answer.text
        for changing, word in words.items():
            text = text.replace(changing, word)
        for pattern, word in _CHANGING:
            text = pattern.sub(word, text)
        bodies[call] = {"status": answer.status_code, "body": json.loads(text)}
    return bodies


def _calls(folder: Path, key: str) -> Iterator[tuple[str, testing.Result]]:
    with Rest(folder, server_key="S" * 40, threads=4) as rest:
        array = [{"name": "a", "command": "true", "user": "bob", "env": {"A": "1"}}]
        yield "POST /jobs: plain", rest.post("/jobs", {"name": "plain", "command": "true"})
        yield "POST /jobs: full", rest.post("/jobs", JOB)
        yield "POST /jobs: array", rest.post("/jobs", array)
        yield "POST /jobs: refused", rest.post("/jobs", {"name": "plain"})
        yield "GET /jobs/2", rest.get("/jobs/2")
        yield "PATCH /jobs/2", rest.call("PATCH", "/jobs/2", json={"name": "edited"})
        yield "POST /jobs/2/pause", rest.post("/jobs/2/pause")
        yield "POST /jobs/2/resume", rest.post("/jobs/2/resume")
        yield "POST /workers/register", rest.post("/workers/register", WORKER)
        yield "POST /workers/heartbeat", rest.post("/workers/heartbeat", {"worker_id": "w1"})
        yield "GET /workers/w1/next", rest.get("/workers/w1/next")
        rest.report(1, "w1", "running")
        yield "POST /jobs/1/log", rest.report(1, "w1", "failed", logs="no", exit_code=3)
        yield "GET /workers/w1/next: user and env", rest.get("/workers/w1/next")
        rest.report(3, "w1", "success", logs="yes")
        yield "GET /workers/w1/next: none", rest.get("/workers/w1/next")
        yield "GET /runs/1", rest.get("/runs/1")
        yield "GET /jobs/1/runs", rest.get("/jobs/1/runs")
        yield "POST /jobs/wait", rest.post("/jobs/wait", {"select": "1-3,9", "timeout": "0s", "until": "all"})
        yield "POST /jobs/bulk", rest.post("/jobs/bulk", {"action": "pause", "select": "1-3,9"})
        yield "DELETE /jobs/2", rest.call("DELETE", "/jobs/2?cancel=1")
        yield "GET /jobs", rest.get("/jobs")
        rest.connect("z1", (protocol.Foreign("1" * 32, (7, 8), results=1, finished=(5,)),))
        yield "GET /foreign", rest.get("/foreign")
        yield "POST /foreign/z1/keep", rest.post("/foreign/z1/keep")
        yield "GET /workers", rest.get("/workers")
        yield "GET /workers/w1", rest.get("/workers/w1")
        yield "POST /tokens", rest.post("/tokens", TOKEN)
        rest.post("/tokens", {"scopes": ["read"], "name": "plain"})
        yield "DELETE /tokens/ci", rest.call("DELETE", "/tokens/ci?jobs=cancel")
        yield "GET /tokens", rest.get("/tokens")
        yield "POST /workers/enrol", rest.post("/workers/enrol", {"worker_id": "k1", "public_key": key})
        yield "GET /access", rest.get("/access")
        yield "DELETE /access/k1", rest.call("DELETE", "/access/k1")
        yield "GET /events", rest.get("/events")
        yield "GET /stats", rest.get("/stats")
        yield "GET /version", rest.get("/version")


def entities() -> dict[str, Any]:
    """Each entity with every member set."""
    job = Job(
        job_id=JobId(1),
        name="name",
        command="command",
        status=RunStatus.RUNNING,
        created_ms=1_000,
        updated_ms=2_000,
        schedule="* * * * *",
        next_fire_ms=3_000,
        policy=Policy(
            timeout_ms=60_000,
            grace_ms=1_000,
            signal="USR1@10s",
            retries=3,
            retry_on=("75", "TERM"),
            backoff=Backoff(initial_ms=1, factor=1.5, max_ms=2, jitter=0.5),
            on_lost=OnLost.FAIL,
            on_disconnect=OnDisconnect.STOP,
            crash_limit=7,
        ),
        cancel_ms=4_000,
        cancel_reason="cancel reason",
        argv=("command",),
        cwd="/cwd",
        umask="022",
        cwd_hint="/cwd/hint",
        umask_hint="027",
        user="user",
        env={"A": "1"},
        secret_env={"B": "sealed"},
        owner="user:owner",
        priority=5,
        queue="nightly",
        requires=Requirements(labels=(("disk", "ssd"),)),
        limits={"user:owner db": 3},
        unique="user:owner index",
        tags=("tag",),
        run_at_ms=7_000,
        deadline_ms=8_000,
        held_ms=9_000,
        hold_reason="hold reason",
        stdin_bytes=10,
        after=parse_after(["7.1:any"]),
        flow=JobId(1),
        array=parse_array("0-9%2"),
        max_fails=3,
        entries=10,
        tasks=Progress(10, 1, 2, 3, 4, 0),
        artifacts=("*.txt",),
        files_bytes=20,
        removing_ms=10_000,
        paused_ms=5_000,
        ended_ms=6_000,
        live=True,
    )
    run = Run(
        run_id=RunId(2),
        job_id=JobId(1),
        task=3,
        attempt=4,
        status=RunStatus.FAILED,
        created_ms=1_000,
        worker_id=WorkerId("w1"),
        reason="signal",
        detail="detail",
        exit_code=5,
        signal=6,
        crashes=7,
        failures=8,
        returns=9,
        probation=True,
        due_ms=2_000,
        claimed_ms=3_000,
        started_ms=4_000,
        finished_ms=5_000,
        cancel_ms=6_000,
    )
    foreign = ForeignRuns(
        worker_id=WorkerId("w1"),
        db="db",
        running=1,
        results=2,
        runs=(3, 4),
        since_ms=1_000,
        decision=ForeignDecision.DISCARD,
        decided_by="user:admin",
        decided_ms=2_000,
    )
    worker = Worker(
        worker_id=WorkerId("w1"),
        kind=WorkerKind.ZMQ,
        status=WorkerStatus.INACTIVE,
        slots=2,
        registered_ms=1_000,
        last_seen_ms=2_000,
        host="host",
        incarnation="incarnation",
        boot_id="boot",
        lock=(3, 4),
        agent="agent",
        can=("env", "stop"),
        labels={"a": "b"},
        queues=("nightly",),
        leaving_ms=3_000,
    )
    token = Token(
        token_id="id",
        name="name",
        digest=b"digest",
        scopes=frozenset({Scope.SUBMIT, Scope.READ}),
        note="note",
        created_ms=1_000,
        created_by="user:admin",
        expires_ms=2_000,
        revoked_ms=3_000,
        run_as="alice",
        pending_max=4,
        schedules_max=5,
        priority_max=-8,
        workers=("w*", "x1"),
        slots_max=6,
        last_used_ms=7_000,
        ending=True,
    )
    key = WorkerKey(
        public_key="key",
        worker_id=WorkerId("w1"),
        origin=KeyOrigin.FILE,
        created_ms=1_000,
        created_by="user:admin",
        revoked_ms=2_000,
        slots_max=3,
    )
    event = Event(
        event_id=1,
        at_ms=1_000,
        actor="scheduler",
        became="failed",
        job_id=JobId(2),
        runs=(RunId(3), RunId(4)),
        worker_id=WorkerId("w1"),
        was="running",
        reason="exit",
        detail="detail",
    )
    output = RunOutput(False, Stream(head=b"out", total=3), Stream(head=b"err", total=3))
    return {
        "job": views.job(job),
        "run": views.run(run, output),
        "worker": views.worker(worker, [foreign]),
        "foreign": views.foreign(foreign),
        "token": views.token(token),
        "key": views.key(key),
        "event": views.event(event),
    }
