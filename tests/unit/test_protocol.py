"""Every frame comes back as it was packed, and what is none is refused. Made-up ones: test_fuzz.py."""

from __future__ import annotations

import datetime
import tracemalloc
from collections.abc import Callable
from typing import Any, get_args

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsched import protocol
from zsched.model.files import File
from zsched.model.limits import (
    FRAME_FROM_WORKER_BYTES_MAX,
    FRAME_KEYS_MAX,
    FRAME_LIST_MAX,
    FRAME_TO_WORKER_BYTES_MAX,
    FRAME_VALUES_MAX,
    INTEGER_MAX,
    OUTPUT_BYTES_MAX,
    RESULTS_PER_FRAME_MAX,
    SLOTS_MAX,
    WINDOW_MAX,
    WORKER_FACTS_BYTES_MAX,
)
from zsched.model.types import StreamName, Verdict
from zsched.protocol import (
    Heartbeat,
    Held,
    Output,
    ProtocolError,
    Ready,
    Register,
    Result,
    Return,
    RunResult,
    SchedulerFrame,
    WorkerFrame,
    pack,
    unpack_from_scheduler,
    unpack_from_worker,
)

WORKER_FRAMES = get_args(WorkerFrame)
SCHEDULER_FRAMES = get_args(SchedulerFrame)

# --- what is packed comes back ---------------------------------------------------------------------------------------

numbers = st.integers(0, INTEGER_MAX)
run_ids = st.integers(1, INTEGER_MAX)
words = st.text(max_size=64)
lines = st.text(max_size=1024)
runs = st.lists(run_ids, max_size=5).map(tuple)
some_runs = st.lists(run_ids, min_size=1, max_size=5).map(tuple)
phases = st.sampled_from(get_args(protocol.Phase))
held = st.lists(st.builds(Held, run_ids, phases), max_size=5).map(tuple)
outputs = st.builds(Output, st.binary(max_size=50), st.binary(max_size=50), numbers)
some_files = st.lists(
    st.builds(File, st.text(min_size=1, max_size=50), st.binary(max_size=50), st.integers(0, 0o777)), max_size=3
).map(tuple)
results = st.builds(
    RunResult,
    run=run_ids,
    status=st.sampled_from(["success", "failed"]),
    reason=st.sampled_from(["exit", "signal", "timeout", "cancelled", "spawn_error"]),
    finished_ms=numbers,
    started_ms=st.none() | numbers,
    exit_code=st.none() | st.integers(-(2**31), 2**31),
    signal=st.none() | st.integers(1, 128),
    detail=lines,
    stdout=outputs,
    stderr=outputs,
    files=some_files,
    parts=numbers,
    left_out=numbers,
)
orders = st.builds(
    protocol.RunOrder,
    run=run_ids,
    job=run_ids,
    task=numbers,
    attempt=numbers,
    command=st.text(),
    grace_ms=numbers,
    output_bytes_max=numbers,
    timeout_ms=st.none() | numbers,
    probation=st.booleans(),
    files=some_files,
    artifacts=st.none() | st.lists(st.text(), max_size=3).map(tuple),
)
worker_frames = st.one_of(
    st.builds(
        Register,
        v=st.just(1),
        versions=st.lists(numbers, max_size=3).map(tuple),
        worker=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,127}", fullmatch=True),
        incarnation=words,
        boot_id=words,
        lock=st.tuples(numbers, numbers),
        slots=st.integers(1, SLOTS_MAX),
        heartbeat_ms=numbers,
        db=words,
        host=st.text(max_size=255),
        agent=words,
        can=st.lists(words, max_size=3).map(tuple),
        labels=st.dictionaries(words, words, max_size=3),
        runs=held,
    ),
    st.builds(
        Heartbeat,
        v=st.just(1),
        s=words,
        seq=numbers,
        n=numbers,
        window=numbers,
        ahead=numbers,
        runs=held,
        load_milli=numbers,
        disk_free_bytes=numbers,
    ),
    st.builds(protocol.Ready, v=st.just(1), s=words, window=numbers, ahead=numbers),
    st.builds(protocol.Started, v=st.just(1), s=words, run=run_ids, pid=numbers, at_ms=numbers),
    st.builds(Result, v=st.just(1), s=words, results=st.lists(results, min_size=1, max_size=3).map(tuple)),
    st.builds(protocol.Artifacts, v=st.just(1), s=words, run=run_ids, n=numbers, files=some_files.filter(len)),
    st.builds(protocol.Return, v=st.just(1), s=words, runs=some_runs),
    st.builds(
        protocol.Log,
        v=st.just(1),
        s=words,
        run=run_ids,
        stream=st.sampled_from(get_args(StreamName)),
        offset=numbers,
        data=st.binary(max_size=100),
    ),
    st.builds(protocol.WorkerBye, v=st.just(1), s=words, reason=words),
)
verdicts = st.lists(st.tuples(run_ids, st.sampled_from(get_args(Verdict))), max_size=5).map(tuple)
scheduler_frames = st.one_of(
    st.builds(
        protocol.Registered,
        v=st.just(1),
        s=words,
        ep=numbers,
        db=words,
        heartbeat_ms=numbers,
        timeout_ms=numbers,
        keep=runs,
        kill=runs,
    ),
    st.builds(protocol.HeartbeatAck, v=st.just(1), s=words, ep=numbers, seq=numbers, kill=runs, cancel=runs),
    st.builds(
        protocol.Dispatch, v=st.just(1), s=words, ep=numbers, n=numbers, runs=st.lists(orders, max_size=3).map(tuple)
    ),
    st.builds(protocol.ResultAck, v=st.just(1), s=words, ep=numbers, verdicts=verdicts),
    st.builds(protocol.Cancel, v=st.just(1), s=words, ep=numbers, runs=runs),
    st.builds(
        protocol.Watch, v=st.just(1), s=words, ep=numbers, run=run_ids, stdout=numbers, stderr=numbers, for_ms=numbers
    ),
    st.builds(protocol.SchedulerBye, v=st.just(1), s=words, ep=numbers, reason=words),
    st.builds(
        protocol.Error,
        v=st.just(1),
        code=st.sampled_from(get_args(protocol.ErrorCode)),
        fatal=st.booleans(),
        detail=lines,
    ),
)


@given(worker_frames)
def test_a_workers_frame_comes_back(frame: WorkerFrame) -> None:
    assert unpack_from_worker(pack(frame)) == frame


@given(scheduler_frames)
def test_a_schedulers_frame_comes_back(frame: SchedulerFrame) -> None:
    assert unpack_from_scheduler(pack(frame)) == frame


def test_every_type_is_tried_above() -> None:
    tried = {kind.__name__ for kind in (*WORKER_FRAMES, *SCHEDULER_FRAMES)}
    assert tried == {
        *("Register", "Heartbeat", "Ready", "Started", "Result", "Artifacts", "Return", "Log", "WorkerBye"),
        *("Registered", "HeartbeatAck", "Dispatch", "ResultAck", "Cancel", "Watch", "SchedulerBye", "Error"),
    }


def test_a_neighbouring_release_may_add_keys() -> None:
    body = msgpack.packb({"t": "ready", "v": 1, "s": "s", "window": 1, "ahead": 0, "colour": "blue"})
    assert unpack_from_worker(body) == protocol.Ready(s="s", window=1, ahead=0)


# --- what msgpack lets pass and no frame may have --------------------------------------------------------------------

READY = {"t": "ready", "s": "s", "window": 1, "ahead": 0}


def repeated_key() -> bytes:
    body = bytes(msgpack.packb(READY))
    # A fixmap of four pairs becomes one of five.
    return bytes([body[0] + 1]) + body[1:] + bytes(msgpack.packb("ahead")) + bytes(msgpack.packb(0))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        msgpack.packb(1),
        msgpack.packb(None),
        msgpack.packb("ready"),
        msgpack.packb([READY]),
        msgpack.packb(READY) + b"\0",
        msgpack.packb(READY)[:-1],
        msgpack.packb(READY | {"t": "run"}),
        msgpack.packb(READY | {"t": "nothing"}),
        msgpack.packb(READY | {"s": b"s"}),
        msgpack.packb(READY | {"window": 1.0}),
        msgpack.packb(READY | {"window": float("nan")}),
        msgpack.packb(READY | {"window": True}),
        msgpack.packb(READY | {"window": -1}),
        msgpack.packb(READY | {"window": 2**53 + 1}),
        msgpack.packb(READY | {"window": msgpack.ExtType(5, b"x")}),
        msgpack.packb(READY | {"x": msgpack.ExtType(5, b"x")}),
        msgpack.packb(READY | {"window": datetime.datetime.now(datetime.UTC)}, datetime=True),
        msgpack.packb({name: value for name, value in READY.items() if name != "s"}),
        repeated_key(),
        b"\xdf\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b"\x81" * 2_000,
        b"\x81\x90\x01",
        b"\xa2\xff\xfe",
        b"\0" * (FRAME_FROM_WORKER_BYTES_MAX + 1),
    ],
    ids=range(26),
)
def test_invalid_frame_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack_from_worker(body)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "-a", "a\n", "a" * 129, "é", "a\0"])
def test_a_workers_name_is_one_plain_word(name: str) -> None:
    fields: dict[str, Any] = {
        "t": "register",
        "versions": [1],
        "worker": name,
        "incarnation": "i",
        "boot_id": "b",
        "lock": [1, 2],
        "slots": 1,
        "heartbeat_ms": 1,
    }
    with pytest.raises(ProtocolError):
        unpack_from_worker(msgpack.packb(fields))
    assert isinstance(unpack_from_worker(msgpack.packb(fields | {"worker": "w-1.a@b:c"})), Register)


# --- what a frame may cost -------------------------------------------------------------------------------------------

# What a neighbouring release may add to a frame: all that msgpack has, and bytes that look like more of it.
ALL_KINDS: list[object] = [
    *(None, True, False, 0, 127, 128, 2**8, 2**16, 2**32, -1, -32, -33, -(2**8), -(2**16), -(2**32), 0.5, []),
    *("", "a", "é" * 10, "a" * 31, "a" * 32, "a" * 2**8, "a" * 2**16),
    *(b"", b"\x91" * 10, b"\xc6" * 2**8, b"\xdd" * 2**16),
    # The one extension that msgpack takes by itself, in its three lengths.
    *(msgpack.Timestamp(0xC6FFFFFF), msgpack.Timestamp(2**33, 0xC6 << 22), msgpack.Timestamp(-(2**62))),
    *([None] * 15, [None] * 16, [None] * 2**14, dict.fromkeys("abcdefghijklmno"), dict.fromkeys("abcdefghijklmnop")),
]


def with_key(value: bytes, key: str = "x", frame: dict[str, Any] = READY) -> bytes:
    """A frame and one key more, whose value is packed already."""
    body = bytes(msgpack.packb(frame))
    return bytes([body[0] + 1]) + body[1:] + bytes(msgpack.packb(key)) + value


def array(values: list[bytes]) -> bytes:
    return b"\xdd" + len(values).to_bytes(4) + b"".join(values)


def groups(value: bytes, count: int, rest: bytes = b"\xc0") -> bytes:
    """So many of the value, and the rest, in arrays of which none is too long."""
    sizes = [min(FRAME_LIST_MAX, count - done) for done in range(0, count, FRAME_LIST_MAX)]
    return array([*(array([value] * size) for size in sizes), rest])


def many(value: bytes) -> bytes:
    """As many of the value as find place in a frame."""
    return groups(value, (FRAME_FROM_WORKER_BYTES_MAX - 1_000) // len(value))


def allowed(value: bytes, values: int, part: int) -> bytes:
    """The value, which is so many values, again and again, and bytes: a part of what a frame may have of each."""
    count = (FRAME_VALUES_MAX - 100) // part // values
    rest = FRAME_FROM_WORKER_BYTES_MAX // part - count * len(value) - 1_000
    return groups(value, count, b"\xc6" + rest.to_bytes(4) + bytes(rest))


KEYS = b"".join(msgpack.packb(f"{key:04}") + b"\x01" for key in range(FRAME_KEYS_MAX - 1))
TOO_MANY: dict[str, Callable[[], bytes]] = {
    "empty lists": lambda: many(b"\x90"),
    "empty maps": lambda: many(b"\x80"),
    "numbers": lambda: many(b"\xcd\x01\x2c"),
    "texts": lambda: many(b"\xa2ab"),
    "lists in lists": lambda: many(b"\x91" * 900 + b"\x90"),
    "maps in maps": lambda: many(b"\x81\xa1a" * 900 + b"\x80"),
    "maps of one key": lambda: many(b"\x81\xa2ab\x01"),
    "maps of many keys": lambda: many(b"\xde\x03\xff" + KEYS),
    # A timestamp that looks like the head of a long binary.
    "what is behind an extension": lambda: array([b"\xd6\xff\xc6\0\x7f\0", many(b"\x90")]),
    "lists that stay open": lambda: (
        (b"\xdd" + FRAME_LIST_MAX.to_bytes(4) + b"\xa2ab" * (FRAME_LIST_MAX - 1)) * 14 + b"\xc0"
    ),
    "maps that stay open": lambda: (b"\xde\4\0" + KEYS + b"\xa1a") * 165 + b"\xc0",
}


@pytest.mark.parametrize("value", TOO_MANY.values(), ids=TOO_MANY)
def test_a_frame_of_very_many_values_is_refused_before_any_of_them_is_made(value: Callable[[], bytes]) -> None:
    for body in (with_key(value()), with_key(value(), "results", {"t": "result", "s": "s"})):
        assert len(body) <= FRAME_FROM_WORKER_BYTES_MAX
        with pytest.raises(ProtocolError, match=f"at most {FRAME_VALUES_MAX} values"):
            unpack_from_worker(body)


def test_memory_of_a_frame_with_the_most_values_is_bounded() -> None:
    # Of all kinds these cost the most. A fifth of them shows what all cost.
    body = with_key(allowed(b"\x81\xa1a" * 900 + b"\x80", 1_801, part=5))
    assert len(body) <= FRAME_FROM_WORKER_BYTES_MAX // 5
    tracemalloc.start()
    try:
        assert isinstance(unpack_from_worker(body), protocol.Ready)
        assert tracemalloc.get_traced_memory()[1] < 20 * FRAME_FROM_WORKER_BYTES_MAX // 5
    finally:
        tracemalloc.stop()


def test_frame_has_a_bounded_number_of_values_of_any_kind() -> None:
    kinds = bytes(msgpack.packb(ALL_KINDS))
    # Their list, they, and what is in some of them.
    kinds_values = 1 + len(ALL_KINDS) + 15 + 16 + 2**14 + 2 * 15 + 2 * 16

    def body(values: int) -> bytes:
        # Ten are the frame and the key, seven the arrays around the others.
        return with_key(groups(b"\xc0", values - 17 - kinds_values, kinds))

    assert len(body(FRAME_VALUES_MAX)) > FRAME_VALUES_MAX
    assert isinstance(unpack_from_worker(body(FRAME_VALUES_MAX)), protocol.Ready)
    with pytest.raises(ProtocolError, match=f"{FRAME_VALUES_MAX} values"):
        unpack_from_worker(body(FRAME_VALUES_MAX + 1))


# The longest words that a session and a worker's name may have.
LONGEST = "é" * 64


def test_longest_legal_lists_of_runs_fit_a_frame() -> None:
    assert WINDOW_MAX < FRAME_LIST_MAX
    runs = [INTEGER_MAX - run for run in range(FRAME_LIST_MAX)]
    held = tuple(Held(run, "finished") for run in runs)
    most = INTEGER_MAX
    heartbeat = Heartbeat(
        s=LONGEST, seq=most, n=most, window=most, ahead=most, runs=held, stuck=tuple(runs), load_milli=most
    )
    register = Register(
        versions=(1,), worker="w" * 128, incarnation=LONGEST, boot_id=LONGEST, lock=(most, most), slots=SLOTS_MAX,
        heartbeat_ms=most, db=LONGEST, sent_ms=most, host="é" * 255, agent=LONGEST, can=(LONGEST,) * 16, runs=held,
    )  # fmt: skip
    for frame in (heartbeat, register, Return(s=LONGEST, runs=tuple(runs))):
        body = pack(frame)
        assert len(body) < FRAME_FROM_WORKER_BYTES_MAX
        assert unpack_from_worker(body) == frame


def test_largest_result_fits_a_frame() -> None:
    half = b"\x90" * (OUTPUT_BYTES_MAX // 2)
    output = Output(half, half, INTEGER_MAX)
    result = Result(
        s=LONGEST,
        results=(
            RunResult(
                INTEGER_MAX, "failed", "spawn_error", INTEGER_MAX, INTEGER_MAX,
                exit_code=-(2**31), signal=128, detail="\U0001f600" * 1024, stdout=output, stderr=output,
            ),
        ),
    )  # fmt: skip
    body = pack(result)
    assert len(body) < FRAME_FROM_WORKER_BYTES_MAX
    assert unpack_from_worker(body) == result


def test_results_in_a_frame_are_bounded() -> None:
    results = tuple(RunResult(run, "success", "exit", 1) for run in range(1, RESULTS_PER_FRAME_MAX + 2))
    assert unpack_from_worker(pack(Result(s="s", results=results[1:]))) == Result(s="s", results=results[1:])
    with pytest.raises(ProtocolError):
        unpack_from_worker(pack(Result(s="s", results=results)))


def test_frames_to_workers_may_be_longer_than_frames_from_them() -> None:
    order = protocol.RunOrder(1, 1, 0, 1, "x" * 2 * FRAME_FROM_WORKER_BYTES_MAX, 1, 1)
    frame = protocol.Dispatch(s="s", ep=1, n=1, runs=(order,))
    assert protocol.unpack_from_scheduler(pack(frame)) == frame
    with pytest.raises(ProtocolError, match="bytes"):
        protocol.unpack_from_scheduler(bytes(FRAME_TO_WORKER_BYTES_MAX + 1))


@pytest.mark.parametrize(
    ("frame", "count"),
    [
        (Result(s="s", results=(RunResult(1, "success", "exit", 1),) * 3), 3),
        (Heartbeat(s="s", seq=1, n=1, window=1, ahead=1, runs=(Held(1, "running"),) * 2, stuck=(1,)), 3),
        (Return(s="s", runs=(1, 2)), 2),
        (Ready(s="s", window=1, ahead=1), 0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_entries_of_a_frame_are_counted(frame: protocol.WorkerFrame, count: int) -> None:
    assert protocol.entries(frame) == count


def test_a_frame_lists_each_foreign_database_once() -> None:
    """The store keeps one row for each: a second one would make the turn fail, with all that is in it."""
    register = {
        "t": "register", "versions": [1], "worker": "w1", "incarnation": "i", "boot_id": "b", "lock": [0, 0],
        "slots": 1, "heartbeat_ms": 1, "db": "d2",
    }  # fmt: skip
    beat = {"t": "heartbeat", "s": "s", "seq": 1, "n": 1, "window": 1, "ahead": 1}
    d1, d2, unnamed = {"db": "d1"}, {"db": "d2"}, {"db": ""}
    for frame, foreign in ((register, [d1, d1]), (register, [d1, d2]), (beat, [d1, d2, d1])):
        with pytest.raises(ProtocolError, match="foreign has a database twice"):
            unpack_from_worker(msgpack.packb({**frame, "foreign": foreign}))
    for frame, foreign in ((register, [d1]), (register, [unnamed]), (beat, [d1, d2])):
        unpack_from_worker(msgpack.packb({**frame, "foreign": foreign}))


def test_what_a_worker_says_of_itself_is_bounded_in_bytes() -> None:
    facts = {
        "t": "register", "versions": [1], "worker": "w1", "incarnation": "i", "boot_id": "b", "lock": [0, 0],
        "slots": 1, "heartbeat_ms": 1,
    }  # fmt: skip
    whole = WORKER_FACTS_BYTES_MAX // 64
    for field in ("can", "labels"):
        words = [f"{number:04}" + "x" * 60 for number in range(whole + 1)]
        value: object = words if field == "can" else dict.fromkeys(words, "")
        with pytest.raises(ProtocolError, match="at most 4096 bytes of UTF-8 together"):
            unpack_from_worker(msgpack.packb({**facts, field: value}))
        fits: object = words[:-1] if field == "can" else dict.fromkeys(words[:-1], "")
        unpack_from_worker(msgpack.packb({**facts, field: fits}))
