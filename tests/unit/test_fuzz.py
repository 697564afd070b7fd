"""Whatever bytes come in, what reads them gives a value or its own refusal, never another exception, and soon.

Each kind of input is tried some hundred or thousand times; with ZSCHED_FUZZ_SECONDS each for so long. `pytest -rP`
shows the figures.
"""

from __future__ import annotations

import json
import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import pytest
from falcon import testing
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from msgspec import Struct

from tests.unit import damage
from tests.unit.document import hold_against
from tests.unit.rest import Rest
from tests.unit.test_protocol import SCHEDULER_FRAMES, WORKER_FRAMES, scheduler_frames, worker_frames
from zsched.api import body
from zsched.api.app import NEEDS, make_app
from zsched.api.context import CallerPolicy, Context, Facts
from zsched.api.gate import LOCAL_ADDRESS, PEER_UID, Trust
from zsched.api.problem import Problem
from zsched.model.faults import SpecError
from zsched.model.spec import JobBody, job_spec
from zsched.protocol import ProtocolError, SchedulerFrame, WorkerFrame, pack, unpack_from_scheduler, unpack_from_worker
from zsched.store.sqlite.engine import open_reader

log = logging.getLogger(__name__)

SECONDS = float(os.environ.get("ZSCHED_FUZZ_SECONDS", "0"))
# Of one input that is damaged, so many are made: drawing is slower than reading.
MADE_EACH = 50
READ_S_MAX = 1.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60 + 3 * SECONDS)]


def fuzz(kind: str, inputs: st.SearchStrategy[Any], read: Callable[[Any], int], examples: int = 60) -> None:
    """Have read what is made; `read` returns how many inputs that were."""
    count, began_s = 0, time.monotonic()

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs)
    def once(made: Any) -> None:
        nonlocal count
        count += read(made)

    while True:
        once()
        if time.monotonic() - began_s >= SECONDS:
            break
    log.info("%-24s %9d in %.0f s", kind, count, time.monotonic() - began_s)


@pytest.fixture(autouse=True)
def figures(caplog: pytest.LogCaptureFixture) -> None:
    """INFO is where the figures are; what the gate logs is not looked at."""
    caplog.set_level("INFO", logger=__name__)


# --- frames ----------------------------------------------------------------------------------------------------------

frames = worker_frames | scheduler_frames
seeds = st.integers(0, 2**32)
# What msgpack can carry, with integers and text that frames may not have.
integers = st.integers(-(2**63), 2**64 - 1)
values = st.recursive(
    st.none() | st.booleans() | integers | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | integers, inner, max_size=4),
    max_leaves=20,
)
names = sorted({name for kind in (*WORKER_FRAMES, *SCHEDULER_FRAMES) for name in kind.__struct_fields__})
# Maps that look like frames: a real type and real keys, with anything at all as values.
almost_frames = st.fixed_dictionaries(
    {"t": st.sampled_from([kind.__struct_config__.tag for kind in (*WORKER_FRAMES, *SCHEDULER_FRAMES)])},
    optional=dict.fromkeys(names, values),
)


def frame_or_refused(body: bytes) -> int:
    """By both readers."""
    for unpack, kinds in ((unpack_from_worker, WorkerFrame), (unpack_from_scheduler, SchedulerFrame)):
        began_s = time.thread_time()
        with suppress(ProtocolError):
            frame = unpack(body)
            assert isinstance(frame, kinds)
            # What was read can be written, and says the same again.
            assert unpack(pack(frame)) == frame
        assert time.thread_time() - began_s < READ_S_MAX
    return 1


def damaged_frames(kind: str, made: tuple[Any, Any, int]) -> int:
    first, second, seed = made
    chance, packed, other = random.Random(seed), pack(first), pack(second)
    for _ in range(MADE_EACH):
        if kind == "swaps":
            swapped = damage.swapped(chance, msgpack.unpackb(packed), damage.MSGPACK_VALUES)
            damaged = bytes(msgpack.packb(swapped))
        else:
            damaged = damage.BYTES[kind](chance, packed, other)
        note(f"{damaged!r}")
        frame_or_refused(damaged)
    return MADE_EACH


@pytest.mark.parametrize("kind", [*damage.BYTES, "swaps"])
def test_a_frame_that_was_damaged_is_a_frame_or_refused(kind: str) -> None:
    fuzz(f"frames, {kind}", st.tuples(frames, frames, seeds), partial(damaged_frames, kind))


FRAME_INPUTS: dict[str, st.SearchStrategy[bytes]] = {
    "bytes": st.binary(max_size=400),
    "msgpack": values.map(msgpack.packb),
    "right keys": almost_frames.map(msgpack.packb),
    "deep": st.builds(
        lambda head, count, end: head * count + end,
        st.binary(min_size=1, max_size=3),
        st.integers(1, 20_000),
        st.binary(max_size=9),
    ),
}


@pytest.mark.parametrize("kind", FRAME_INPUTS)
def test_what_is_made_up_is_a_frame_or_refused(kind: str) -> None:
    fuzz(f"frames, {kind}", FRAME_INPUTS[kind], frame_or_refused, examples=100)


# --- bodies ----------------------------------------------------------------------------------------------------------

SHAPES: tuple[type[Struct], ...] = (
    JobBody,
    body.LogBody,
    body.RegisterBody,
    body.WorkerBody,
    body.EnrolBody,
    body.TokenBody,
)
BODIES: tuple[dict[str, Any], ...] = (
    {"name": "j", "command": "true", "schedule": "*/5 * * * *", "run_now": True, "timeout": "1h30m"},
    {"name": "j", "command": "true", "timeout": 60},
    {"worker_id": "w1", "status": "success", "logs": "a\nb", "exit_code": 0, "run_id": 7},
    {"worker_id": "w1", "slots": 4, "can": ["env", "cwd"], "labels": {"disk": "ssd", "a/b~c": ""}},
    {"worker_id": "w1", "public_key": "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"},
    {"scopes": ["read", "admin"], "note": "é 😀", "expires": "30d"},
)
a_body = st.sampled_from(BODIES)


def body_or_refused(text: bytes) -> int:
    """As JSON, and in the shape of every endpoint."""
    began_s = time.thread_time()
    with suppress(Problem):
        value = body.parse(text)
        assert value == json.loads(text)
        for shape in SHAPES:
            with suppress(Problem, SpecError):
                made = body.convert(value, shape, "#")
                if isinstance(made, JobBody):
                    job_spec(made)
    assert time.thread_time() - began_s < READ_S_MAX
    return 1


def damaged_bodies(kind: str, made: tuple[Any, Any, int]) -> int:
    first, second, seed = made
    chance, other = random.Random(seed), json.dumps(second).encode()
    for _ in range(MADE_EACH):
        if kind == "swaps":
            damaged = json.dumps(damage.swapped(chance, first, damage.VALUES)).encode()
        else:
            damaged = damage.BYTES[kind](chance, json.dumps(first, ensure_ascii=bool(seed & 1)).encode(), other)
        note(f"{damaged!r}")
        body_or_refused(damaged)
    return MADE_EACH


@pytest.mark.parametrize("kind", [*damage.BYTES, "swaps"])
def test_a_body_that_was_damaged_is_one_or_refused(kind: str) -> None:
    fuzz(f"bodies, {kind}", st.tuples(a_body, a_body, seeds), partial(damaged_bodies, kind))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
BODY_INPUTS: dict[str, st.SearchStrategy[bytes]] = {
    "bytes": st.binary(max_size=400),
    "json": json_values.map(lambda value: json.dumps(value).encode()),
    "right keys": st.fixed_dictionaries(
        {}, optional=dict.fromkeys(sorted({name for one in BODIES for name in one}), json_values)
    ).map(lambda value: json.dumps(value).encode()),
    "deep": st.builds(
        lambda head, count, end: (head * count + end).encode(),
        st.sampled_from(["[", '{"a":', "[[],", '[{"":', "-", "9", "9.", "\\u", '"', " "]),
        st.integers(1, 20_000),
        st.text(max_size=5),
    ),
}


@pytest.mark.parametrize("kind", BODY_INPUTS)
def test_a_made_up_body_is_one_or_refused(kind: str) -> None:
    fuzz(f"bodies, {kind}", BODY_INPUTS[kind], body_or_refused, examples=100)


# --- the gate --------------------------------------------------------------------------------------------------------

# Values, and whether a local caller's request may have them; None: not there.
REMOTES = {"127.0.0.1": True, "::1": True, "::ffff:127.0.0.1": True, "192.0.2.7": False, "": False, "::": False}
HOSTS = {"localhost": True, "127.0.0.1:8080": True, "[::1]": True, "example.com": False, "": False, "a, b": False}
ORIGINS = {None: True, "http://example.com": False, "null": False, "": False}
SITES = {None: True, "same-origin": True, "cross-site": False, "same-site": False}
PROXIES = {
    None: True,
    "HTTP_FORWARDED": False,
    "HTTP_X_FORWARDED_FOR": False,
    "HTTP_VIA": False,
    "HTTP_X_REAL_IP": False,
}
TRUSTS = {
    "uid": Trust(),
    "others": Trust(uids=frozenset({1234})),
    "any": Trust("any"),
    "none": Trust("none"),
    "insecure": Trust(insecure=True),
}
PATHS = [path.translate({ord("{"): None, ord("}"): None}) for path in NEEDS] + ["/jobs/1", "/jobs/1/runs", "/runs/1"]
headers = st.text(st.characters(max_codepoint=255), max_size=40)
callers = st.fixed_dictionaries(
    {
        "trust": st.sampled_from(sorted(TRUSTS)),
        "method": st.sampled_from(["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT"]),
        "path": st.sampled_from(PATHS) | headers.map(lambda text: f"/{text}"),
        "query": st.just("") | headers,
        "remote": st.sampled_from(list(REMOTES)),
        "local": st.sampled_from(list(REMOTES)),
        "host": st.sampled_from(list(HOSTS)) | headers,
        "origin": st.sampled_from(list(ORIGINS)),
        "site": st.sampled_from(list(SITES)),
        "proxy": st.sampled_from(list(PROXIES)),
        "uid": st.sampled_from([os.geteuid(), 0, 1234, 4321, None]),
        "token": st.sampled_from([None, None, None, "good", "damaged", "other"]),
        "text": headers,
        "seed": seeds,
        "body": st.just(b"") | st.binary(max_size=50),
    }
)


class Gate:
    """The app behind each trust, and a good token."""

    def __init__(self, folder: Path, rest: Rest) -> None:
        facts = Facts(db="", zmq_host="127.0.0.1", zmq_port=1, ready=lambda: True)
        reader = partial(open_reader, folder / "scheduler.db")
        self._apps = {
            name: make_app(Context(rest.inbox, reader, facts, policy=CallerPolicy(trust)))
            for name, trust in TRUSTS.items()
        }
        answer = rest.post("/tokens", {"scopes": ["admin"]})
        self.token: str = answer.json["token"]

    def ask(self, caller: dict[str, Any]) -> int:
        """One request, straight to the app: no library looks at it before."""
        environ = testing.create_environ(method=caller["method"], body=caller["body"].decode("latin-1"))
        environ |= {
            "PATH_INFO": caller["path"],
            "QUERY_STRING": caller["query"],
            "REMOTE_ADDR": caller["remote"],
            LOCAL_ADDRESS: caller["local"],
            PEER_UID: lambda: caller["uid"],
            "HTTP_HOST": caller["host"],
        }
        named = {"HTTP_ORIGIN": caller["origin"], "HTTP_SEC_FETCH_SITE": caller["site"]}
        environ |= {name: value for name, value in named.items() if value is not None}
        if caller["proxy"] is not None:
            environ[caller["proxy"]] = "127.0.0.1"
        shown = {
            "good": f"Bearer {self.token}",
            "damaged": f"Bearer {damaged_text(self.token, caller['seed'])}",
            "other": caller["text"],
        }
        if caller["token"] is not None:
            environ["HTTP_AUTHORIZATION"] = shown[caller["token"]]
        told: list[tuple[str, list[tuple[str, str]]]] = []
        content = b"".join(
            self._apps[caller["trust"]](environ, lambda status, headers, *_: told.append((status, headers)))  # type: ignore[arg-type]
        )
        [(status, fields)] = told
        result = testing.Result([content], status, fields)
        hold_against(result, caller["method"], caller["path"].replace("?", "%3F"))
        entered = result.status_code not in (400, 401, 403, 429)
        if entered and caller["token"] != "good":
            assert may_enter(caller) or caller["path"].rstrip("/") in ("/healthz", "/readyz"), result.text
        return 1


def damaged_text(text: str, seed: int) -> str:
    """Never what it was."""
    chance = random.Random(seed)
    made = damage.BYTES[chance.choice(list(damage.BYTES))](chance, text.encode(), text.encode()).decode("latin-1")
    return made if made.strip() != text else made[:-1]


def may_enter(caller: dict[str, Any]) -> bool:
    """Whether somebody like this may be served without a token, by what the documentation says; a made up Host may."""
    if caller["token"] is not None:
        return False
    ours = ORIGINS[caller["origin"]] or caller["origin"] == f"http://{caller['host']}"
    if not (ours and SITES[caller["site"]]):
        return False
    if caller["trust"] == "insecure":
        return True
    local = REMOTES[caller["remote"]] and REMOTES[caller["local"]] and PROXIES[caller["proxy"]]
    uids = {"uid": (0, os.geteuid()), "others": (0, os.geteuid(), 1234), "any": (caller["uid"],), "none": ()}
    return local and HOSTS.get(caller["host"], True) and caller["uid"] in uids[caller["trust"]]


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with Rest(tmp_path) as rest:
        yield Gate(tmp_path, rest)


@pytest.mark.slow
def test_every_caller_gets_an_answer_and_only_allowed_ones_get_in(gate: Gate) -> None:
    fuzz("gate, callers", callers, gate.ask, examples=1_000)
