"""Frames and messages as a reader of a story wants them: the name, and what is not as usual."""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import NODEFAULT, Struct

from zsched.protocol import (
    Dispatch,
    Heartbeat,
    HeartbeatAck,
    Held,
    ProtocolError,
    RunOrder,
    RunResult,
    unpack_from_scheduler,
    unpack_from_worker,
)
from zsched.worker.messages import Alive

Way = Literal["up", "down"]

# The same in each story, or of no use to its reader: versions, tokens, process ids, wall clocks, paths.
_LEFT_OUT: Final = {
    *("v", "s", "ep", "n", "versions", "sent_ms", "pid", "at_ms", "heard_ms", "poll_ms", "log_level"),
    *("incarnation", "boot_id", "lock", "agent", "can", "labels", "host", "load_milli", "disk_free_bytes"),
    *("state_dir", "spool_id", "scheduler", "access", "token_file", "worker", "ahead", "timeout_ms"),
}


def words(message: Struct) -> str:
    """One line about a frame, or a message between guard and agent."""
    facts = ", ".join(fact for name in message.__struct_fields__ if (fact := _fact(message, name)))
    return facts if isinstance(message, Dispatch) else f"{type(message).__struct_config__.tag} {facts}".rstrip()


def _fact(message: Struct, name: str) -> str:
    value = getattr(message, name)
    usual = value in (None, (), "", False) or value == _default(message, name)
    if name in _LEFT_OUT or (usual and name != "window"):
        return ""
    if name == "verdicts":
        return ", ".join(f"run {run} {verdict}" for run, verdict in value)
    if isinstance(value, tuple) and isinstance(value[0], RunOrder | RunResult):
        return "; ".join(map(_said, value))
    return f"{name} {_said(value)}"


def _default(message: Struct, name: str) -> Any:
    names = message.__struct_fields__
    defaults = (NODEFAULT,) * (len(names) - len(message.__struct_defaults__)) + message.__struct_defaults__
    return defaults[names.index(name)]


def _said(value: object) -> str:
    match value:
        case Held(run, phase):
            return f"{run} ({phase})"
        case RunOrder():
            attempt = f", attempt {value.attempt}" if value.attempt > 1 else ""
            lease = f", lease {value.lease_ms} ms" if value.lease_ms is not None else ""
            return f"run {value.run} of job {value.job}{attempt}{lease}{', on probation' if value.probation else ''}"
        case RunResult():
            end = f"signal {value.signal}" if value.signal is not None else f"exit {value.exit_code}"
            why = end if value.reason in end else f"{value.reason}, {end}"
            return f"run {value.run} {value.status} ({why})"
        case Struct():
            facts = [fact for name in value.__struct_fields__ if (fact := _fact(value, name))]
            return f"[{', '.join(facts)}]"
        case tuple():
            return " ".join(map(_said, value))
        case bool():
            return str(value).lower()
        case _:
            return str(value)


def is_routine(message: Struct) -> bool:
    """Whether it only says that its sender is there."""
    match message:
        case Heartbeat():
            return not (message.stuck or message.foreign or message.leaving)
        case HeartbeatAck():
            return not (message.kill or message.cancel or message.discard)
        case _:
            return isinstance(message, Alive)


def read(body: bytes, way: Way) -> Struct | None:
    """The frame that a body is; None when it is none."""
    try:
        return unpack_from_worker(body) if way == "up" else unpack_from_scheduler(body)
    except ProtocolError:
        return None
