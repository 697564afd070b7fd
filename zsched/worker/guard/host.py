"""What the guard needs from its host. `system` is the real one, and the simulator has another."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from zsched.protocol import RunOrder
from zsched.worker.guard.life import Exit
from zsched.worker.messages import FromAgent, Message
from zsched.worker.process.spawn import Spawned


class Host(Protocol):
    """Clocks, events, processes and pipes of jobs, and the agent. No call blocks but `poll` and `sweep`.

    At most one agent lives at a time. Its process id is never in what `strays` returns.
    """

    def mono_ms(self) -> int:
        """The steady clock; see host/clock.py."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970 UTC."""

    # --- events ---

    def poll(self, wait_ms: int | None) -> list[tuple[int, int]]:
        """Wait for events for that long, None: without end. Returns (descriptor, epoll's flags), at most
        GUARD_EVENTS_MAX, of watched pipes, `signals_fd` and `agent_fd`.
        """

    @property
    def signals_fd(self) -> int:
        """Ready when `signals` has something to return."""

    @property
    def agent_fd(self) -> int | None:
        """Ready when `receive` has something to return. None without a channel."""

    @property
    def terminal(self) -> bool:
        """Whether the process has a controlling terminal, which sends SIGHUP when it closes."""

    def signals(self) -> list[int]:
        """The signals that this process got since the last call, in order."""

    # --- jobs ---

    def spawn(self, order: RunOrder) -> Spawned:
        """Start the run's command. Raises SpawnError or NoRoomError, and then nothing was started."""

    def take_notes(self, spawned: Spawned) -> tuple[bytes, bytes]:
        """What the shell in front of a run has reported, and the run's message; empty without. Once, after its end."""

    def tidy(self, spawned: Spawned, order: RunOrder, *, collect: bool) -> int | None:
        """Remove a run's scratch folder, if it has one, by a helper process. Once, after `take_notes`. `collect`: read
        its artifacts before. Returns a pipe like those of outputs, from which they come; None: nothing comes.
        """

    def end_helper(self, fd: int, *, kill: bool) -> None:
        """Close a pipe of `tidy`. `kill`: end its helper, which hangs."""

    def watch(self, fd: int) -> None:
        """Report in `poll` when that pipe can be read."""

    def read(self, fd: int) -> bytes | None:
        """Read a pipe once. None: it is empty; b"": it is closed by its writers."""

    def close(self, fd: int) -> None:
        """Close a watched pipe."""

    def signal_group(self, pid: int, number: int) -> None:
        """Send to the process group of a main process. Does nothing when the group is gone or not ours."""

    def signal_main(self, pid: int, number: int) -> None:
        """Send to a main process alone. Does nothing when it is gone or not ours."""

    def kill(self, pid: int) -> None:
        """KILL to a child of the guard. Does nothing when it is gone or not ours."""

    def next_ended(self) -> Exit | None:
        """A child that has ended and is not reaped; it stays a zombie until `reap`. None without one."""

    def reap(self, pid: int) -> None:
        """Remove a zombie."""

    def strays(self, mains: Collection[int]) -> list[int]:
        """The guard's children besides these and the agent: orphans of jobs."""

    def session(self, pid: int) -> int:
        """The session of a process; 0 when it is gone."""

    def mark_of(self, pid: int) -> str | None:
        """The run mark of a process of this worker, empty without one; None: unknown."""

    def sweep(self) -> None:
        """Kill all processes of this worker's jobs, and wait for their end."""

    # --- the agent ---

    def spawn_agent(self) -> int:
        """Start an agent with a new channel. Returns its process id. Raises OSError."""

    def agent_stopped(self) -> bool:
        """Whether a signal has stopped the agent."""

    def kill_agent(self) -> None:
        """KILL to the agent, if one lives."""

    def put(self, message: Message) -> None:
        """Queue a message for the agent. Dropped without a channel."""

    def flush(self) -> None:
        """Send queued messages as far as the channel takes them; the rest when the agent reads again."""

    @property
    def backed_up(self) -> bool:
        """Whether messages wait for the agent to read."""

    def receive(self) -> list[FromAgent] | None:
        """The agent's messages so far; None when it has closed its end: the channel is closed by then."""
