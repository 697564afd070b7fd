"""Virtual jobs: what a command means here. The command's text is all that a worker gets, as in the real thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, cast

Poison = Literal["guard", "machine", "host"]
# Where a child of a job is: in its job's group, in a group of its own, or in a session of its own. Once its parent has
# ended, the last two are orphans; a daemon has let its parent end at once.
Place = Literal["group", "left", "session", "daemon"]
_POISONS: Final[tuple[Poison, ...]] = ("guard", "machine", "host")
PLACES: Final[tuple[Place, ...]] = ("group", "left", "session", "daemon")

# Each database numbers its jobs and runs from 1. For the simulation's own books those of the next one go on from here.
WORLD: Final = 10**6

# Until its host boots.
FOREVER: Final = 10**9


@dataclass(frozen=True, slots=True)
class Child:
    """A process that the job's main process starts at once. `holds`: it has the job's outputs open."""

    place: Place
    lasts_ms: int
    deaf: bool = False
    holds: bool = True
    sticks_ms: int = 0

    @property
    def text(self) -> str:
        return f"{self.place}/{self.lasts_ms}/{int(self.deaf)}/{int(self.holds)}/{self.sticks_ms}"


@dataclass(frozen=True, slots=True)
class Script:
    """`lasts_ms` and then `code`; `deaf` to TERM; `kills` what it runs on: the guard alone, guard and agent, or the
    whole host, which then boots anew; `sticks_ms`: so long it lives on when it was killed, as on a dead network disk.
    `world`: which database its job is in, 0 for the first. `mutes_ms`: it closes its outputs then. Only the attempts up
    to `attempts` of some `tasks` exit with `code`, the others with 0; no tasks: all of them.
    """

    lasts_ms: int
    code: int = 0
    deaf: bool = False
    kills: Poison | None = None
    sticks_ms: int = 0
    world: int = 0
    mutes_ms: int = FOREVER
    children: tuple[Child, ...] = ()
    tasks: tuple[int, ...] = ()
    attempts: int = FOREVER

    def code_of(self, task: int, attempt: int) -> int:
        """The exit code of a run."""
        return self.code if attempt <= self.attempts and (not self.tasks or task in self.tasks) else 0

    @property
    def command(self) -> str:
        own = f"{self.lasts_ms} {self.code} {int(self.deaf)} {self.kills or '-'} {self.sticks_ms} {self.world}"
        some = f"{self.mutes_ms} {','.join(map(str, self.tasks)) or '-'} {self.attempts}"
        return " ".join([own, some, *(child.text for child in self.children)])

    def __str__(self) -> str:
        """For people: what is not as usual."""
        facts = [f"{self.lasts_ms} ms, exit {self.code}"]
        facts += ["deaf to TERM"] if self.deaf else []
        facts += [f"kills the {self.kills}"] if self.kills else []
        facts += [f"outlives KILL by {self.sticks_ms} ms"] if self.sticks_ms else []
        facts += [f"a child of {child.lasts_ms} ms ({child.place})" for child in self.children]
        return ", ".join(facts)


def script(command: str) -> Script:
    """The script that a command's text is."""
    lasts, code, deaf, kills, sticks, world, mutes, tasks, attempts, *children = command.split()
    poison = None if kills == "-" else cast("Poison", kills)
    assert poison is None or poison in _POISONS
    family = tuple(map(_child, children))
    own = Script(int(lasts), int(code), deaf == "1", poison, int(sticks), int(world), int(mutes), family)
    return replace(own, tasks=_tasks(tasks), attempts=int(attempts))


def _tasks(text: str) -> tuple[int, ...]:
    return () if text == "-" else tuple(map(int, text.split(",")))


def _child(text: str) -> Child:
    place, lasts, *rest = text.split("/")
    assert place in PLACES
    deaf, holds, sticks = rest or ("0", "1", "0")
    return Child(place, int(lasts), deaf == "1", holds == "1", int(sticks))


def script_of(options: Mapping[str, str]) -> Script:
    """The script of a canonical story: lasts=500 code=1 tasks=0,3 attempts=2 deaf kills=guard sticks=900
    child=left/50,daemon/90
    """
    return Script(
        int(options.get("lasts", "1000")),
        int(options.get("code", "0")),
        "deaf" in options,
        cast("Poison | None", options.get("kills")),
        int(options.get("sticks", "0")),
        children=tuple(map(_child, filter(None, options.get("child", "").split(",")))),
        tasks=_tasks(options.get("tasks", "-")),
        attempts=int(options.get("attempts", FOREVER)),
    )


def name_of(world: int) -> str:
    """The identity of a world's database."""
    return f"world{world}"


def world_of(db: str) -> int:
    """The world of a database; -1 for none. A restored copy of the first goes on in its world."""
    if not db.startswith("world"):
        return 0 if db else -1
    return int(db.removeprefix("world"))
