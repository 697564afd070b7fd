"""A run in the guard: its record, its phases, and the table of its moves. Pure.

The table is the mechanism: a phase changes only in `Run.move`, which raises IllegalMoveError for an event that the
table does not have in that phase. A record exists once for each run of each database, from its order until its result
is acked, or until all its processes are gone if nobody wants its result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal

from zsched.protocol import RunOrder, RunResult
from zsched.worker.guard.outputs import CapturedOutput
from zsched.worker.process.collected import NOTHING, Collected

Why = Literal["timeout", "cancelled", "lease_stop"]


class Phase(StrEnum):
    """Where a run is. The last three have no process and no result in memory."""

    WAITING = "waiting"  # for a slot
    STARTING = "starting"  # the shell was asked to start its process
    RUNNING = "running"
    ENDING = "ending"  # it has got TERM or KILL
    CLOSING = "closing"  # its main process has ended; orphans of it may live
    COLLECTING = "collecting"  # its processes are gone; a helper reads its artifacts
    ENDED = "ended"  # it has a result, which the agent has not got yet
    REPORTED = "reported"  # the agent has its result, or gets it in Hello
    ASIDE = "aside"  # its result is on disk, for a database that is not the current one
    GIVEN_UP = "given up"  # ended without a result, because the worker ends; listed until the goodbye
    DISCARDED = "discarded"  # of a discarded database, ended without a result; listed for its scheduler


class Event(StrEnum):
    """What happens to a run."""

    START = "start"  # a slot is free
    RETURN = "return"  # it goes back to the scheduler unstarted, or its order is void
    SPAWNED = "spawned"
    SPAWN_ERROR = "spawn error"  # it can start on no host
    NO_ROOM = "no room"  # this host can start no process now
    STOP = "stop"  # TERM
    KILL = "kill"  # KILL
    EXIT = "exit"  # its main process has ended
    COLLECT = "collect"  # all its processes are gone, and its artifacts are wanted
    RESULT = "result"  # all its processes are gone, and its result is wanted
    VANISH = "vanish"  # all its processes are gone, and it was dropped
    GIVE_UP = "give up"  # all its processes are gone; the guard had ended it by itself
    DISCARD = "discard"  # its database is discarded, and none of its processes lives
    REPORT = "report"  # the agent gets its result
    FORGET = "forget"  # the scheduler has acked its result, or wants none
    LEAVE = "leave"  # another database becomes the current one
    READ = "read"  # its database is the current one again, and its result was read
    LOSE = "lose"  # its database is the current one again, and has no result of it


# The phases of live runs, which take a slot each; and of those with a result that the scheduler has not acked.
LIVE: Final = frozenset({Phase.STARTING, Phase.RUNNING, Phase.ENDING, Phase.CLOSING, Phase.COLLECTING})
FINISHED: Final = frozenset({Phase.ENDED, Phase.REPORTED})

# (phase, event): the next phase; None: the record is removed.
MOVES: Final[Mapping[tuple[Phase, Event], Phase | None]] = MappingProxyType(
    {
        (Phase.WAITING, Event.START): Phase.STARTING,
        (Phase.WAITING, Event.RETURN): None,
        (Phase.STARTING, Event.SPAWNED): Phase.RUNNING,
        (Phase.STARTING, Event.SPAWN_ERROR): Phase.ENDED,
        (Phase.STARTING, Event.NO_ROOM): None,
        (Phase.RUNNING, Event.STOP): Phase.ENDING,
        (Phase.RUNNING, Event.EXIT): Phase.CLOSING,
        (Phase.ENDING, Event.KILL): Phase.ENDING,
        (Phase.ENDING, Event.EXIT): Phase.CLOSING,
        (Phase.CLOSING, Event.RESULT): Phase.ENDED,
        (Phase.CLOSING, Event.VANISH): None,
        (Phase.CLOSING, Event.GIVE_UP): Phase.GIVEN_UP,
        (Phase.CLOSING, Event.DISCARD): Phase.DISCARDED,
        (Phase.CLOSING, Event.COLLECT): Phase.COLLECTING,
        (Phase.COLLECTING, Event.RESULT): Phase.ENDED,
        (Phase.COLLECTING, Event.VANISH): None,
        (Phase.COLLECTING, Event.GIVE_UP): Phase.GIVEN_UP,
        (Phase.COLLECTING, Event.DISCARD): Phase.DISCARDED,
        (Phase.ENDED, Event.REPORT): Phase.REPORTED,
        (Phase.ENDED, Event.FORGET): None,
        (Phase.ENDED, Event.LEAVE): Phase.ASIDE,
        (Phase.REPORTED, Event.FORGET): None,
        (Phase.REPORTED, Event.LEAVE): Phase.ASIDE,
        (Phase.ASIDE, Event.READ): Phase.REPORTED,
        (Phase.ASIDE, Event.LOSE): None,
        (Phase.ASIDE, Event.DISCARD): Phase.DISCARDED,
        (Phase.GIVEN_UP, Event.LEAVE): None,
        (Phase.DISCARDED, Event.FORGET): None,
    }
)


class IllegalMoveError(Exception):
    """An event that is impossible in the run's phase: a bug of the guard."""


class Fate(StrEnum):
    """Whether the result of a live run is wanted, and if not, why."""

    WANTED = "wanted"
    DROPPED = "dropped"  # by the scheduler of its database
    DISCARDED = "discarded"  # with its database, or dropped before its database was set aside
    GIVEN_UP = "given up"  # by the guard: the worker ends


@dataclass(slots=True)
class Exit:
    """A child of the guard that has ended: by itself with `exit_code`, or by `signal`. The other one is None."""

    pid: int
    exit_code: int | None
    signal: int | None


@dataclass(slots=True, eq=False)
class Process:
    """A run's processes, from the start of the main one until all are gone.

    `start`: which of the guard's starts this was, from 0. `why`: the reason for which the guard ends the run. `exit`:
    how the main process ended, once it is reaped. `killed_ms`: when the guard first sent KILL to it or to its orphans.
    `stuck`: they were killed STUCK_MS ago and do not end. `report`: what the shell in front of the job found, empty if
    it entered the folder. `message`: the beginning of the job's message file. Both are set when the processes are gone.
    `collected`: its artifacts; empty until they are read.
    """

    order: RunOrder
    start: int
    pid: int
    mark: str
    started_ms: int
    outputs: tuple[CapturedOutput, CapturedOutput]
    why: Why | None = None
    exit: Exit | None = None
    finished_ms: int = 0
    killed_ms: int | None = None
    stuck: bool = False
    report: bytes = b""
    message: bytes = b""
    collected: Collected = NOTHING


@dataclass(slots=True, eq=False)
class Run:
    """One run of one database.

    `order` is None for a result that was found on disk. `since_ms`: when the order came. `process` is set while the run
    lives, `result` while it is ENDED or REPORTED.
    """

    db: str
    number: int
    order: RunOrder | None = None
    since_ms: int = 0
    phase: Phase | None = Phase.WAITING
    fate: Fate = Fate.WANTED
    process: Process | None = field(default=None)
    result: RunResult | None = field(default=None)

    @property
    def live(self) -> bool:
        """Whether it takes a slot."""
        return self.phase in LIVE

    @property
    def live_process(self) -> Process:
        """`process`, of a run whose main process was started and that is not over."""
        assert self.process is not None
        return self.process

    def move(self, event: Event) -> Phase | None:
        """Go to the next phase and return it; None: the caller removes the record. Raises IllegalMoveError."""
        phase = self.phase
        assert phase is not None
        try:
            self.phase = MOVES[phase, event]
        except KeyError:
            raise IllegalMoveError(f"run {self.number} is {phase.value}: no {event.value}") from None
        return self.phase
