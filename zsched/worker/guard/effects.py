"""What the guard's core asks of its shell, and what the shell reports back. Pure.

The shell obeys in the order *write, send, sync*: see shell.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from zsched.protocol import RunResult
from zsched.worker.guard.life import Run
from zsched.worker.messages import FromGuard


@dataclass(slots=True)
class Effects:
    """Orders of the core, which the shell obeys and clears. The lists are in the order of their decisions.

    `signals`: (process group, signal). `warnings`: (main process, signal before the timeout). `kills`: orphans that get
    KILL. `starts`: runs to start; the shell answers each with on_spawned, on_spawn_error or on_no_room. `forget` and
    `write`: results of the current database. `aside`: results of other databases. `send`: messages for the agent.

    `late`: runs whose artifacts come too late. The shell gives them up.

    `enter`: the database that becomes the current one; the shell answers with on_entered before it handles another
    message. `discard`: databases without results from now on. `kill_agent` and `stopping` (a line for the service
    manager) come with the end of the worker.
    """

    signals: list[tuple[int, int]] = field(default_factory=list)
    warnings: list[tuple[int, int]] = field(default_factory=list)
    kills: list[int] = field(default_factory=list)
    starts: list[Run] = field(default_factory=list)
    late: list[Run] = field(default_factory=list)
    forget: list[int] = field(default_factory=list)
    write: list[RunResult] = field(default_factory=list)
    aside: list[tuple[str, RunResult]] = field(default_factory=list)
    send: list[FromGuard] = field(default_factory=list)
    enter: str | None = None
    discard: list[str] = field(default_factory=list)
    kill_agent: bool = False
    stopping: str = ""


@dataclass(frozen=True, slots=True)
class Orphan:
    """A child of the guard that it did not start.

    `session` is 0 when the process is gone. `mark`: the run mark in its environment, empty without one; None: unknown.
    """

    pid: int
    session: int
    mark: str | None
