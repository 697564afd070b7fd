"""Virtual jobs: what a command means here. The command's text is all that a worker gets, as in the real thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Poison = Literal["guard", "machine", "host"]

# Each database numbers its jobs and runs from 1. For the simulation's own books those of the next one go on from here.
WORLD: Final = 10**6

# Until its host boots.
FOREVER: Final = 10**9


@dataclass(frozen=True, slots=True)
class Script:
    """`lasts_ms` and then `code`; `deaf` to TERM; `kills` what it runs on: the guard alone, guard and agent, or the
    whole host, which then boots anew; `sticks_ms`: so long it lives on when it was killed, as on a dead network disk.
    `world`: which database its job is in, 0 for the first.
    """

    lasts_ms: int
    code: int = 0
    deaf: bool = False
    kills: Poison | None = None
    sticks_ms: int = 0
    world: int = 0

    @property
    def command(self) -> str:
        return f"{self.lasts_ms} {self.code} {int(self.deaf)} {self.kills or '-'} {self.sticks_ms} {self.world}"


def script(command: str) -> Script:
    """The script that a command's text is."""
    lasts, code, deaf, kills, sticks, world = command.split()
    poison: dict[str, Poison | None] = {"-": None, "guard": "guard", "machine": "machine", "host": "host"}
    return Script(int(lasts), int(code), deaf == "1", poison[kills], int(sticks), int(world))


def name_of(world: int) -> str:
    """The identity of a world's database."""
    return f"world{world}"


def world_of(db: str) -> int:
    """The world of a database; -1 for none. A restored copy of the first goes on in its world."""
    if not db.startswith("world"):
        return 0 if db else -1
    return int(db.removeprefix("world"))
