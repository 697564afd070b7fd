"""A scheduler's core at work on a database whose power will be cut, and what is found in it afterwards.

After each turn the database's whole content is noted. Whatever a cut leaves must be the content after some turn, to the
last row, and after no earlier one than the last that was committed: then nothing that anybody was told is missing, no
turn is half there, and nothing that had ended is open again.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Final, Literal
from unittest.mock import patch

from tests.faults.cuts import CorruptError, LostError, Tally, cut, in_memory
from tests.faults.images import Medium
from tests.faults.recording import recorded_sqlite
from tests.unit.world import TIMEOUT_MS, WALL_MS, Peer, World
from zsched import protocol
from zsched.store.check import check
from zsched.store.contract import StoreError
from zsched.store.sqlite import engine as sqlite
from zsched.store.sqlite.engine import SqliteEngine, open_reader
from zsched.store.writer import Writer

log = logging.getLogger(__name__)

NAME: Final = "scheduler.db"

# So few that checkpoints come every few turns.
CHECKPOINT_PAGES: Final = 60

# What is put in the place of the store's own setting.
Weaker = Literal["NORMAL", "OFF"]


class Core(World):
    """A scheduler's core on a disk that is watched. `turns` knows each content by its last turn."""

    def __init__(self, folder: Path, medium: Medium, weaker: Weaker | None) -> None:
        self.path = folder / NAME
        self.turns: dict[bytes, int] = {}
        self.acked: Counter[str] = Counter()
        self._medium = medium
        self._weaker = weaker
        super().__init__(db=self.path)
        self._weaken()

    def _weaken(self) -> None:
        if self._weaker is not None:
            self.engine.execute(f"PRAGMA synchronous = {self._weaker}")

    def turn(self, work: Callable[[], object] = lambda: None, *, drained: bool = True) -> object:
        reply = super().turn(work, drained=drained)
        count = self.acked["turns"] = self.acked["turns"] + 1
        self._medium.told(count)
        self.turns[content(self.engine)] = count
        return reply

    def reopen(self, *, closed: bool) -> None:
        """A new scheduler opens the database, after a clean end or after a kill."""
        if closed:
            self.store.close()
            self.engine = SqliteEngine(self.path)
        else:
            killed, self.engine = self.engine, SqliteEngine(self.path)
            killed.close()
        self.engine.check()
        self.engine.migrate(self.wall_ms)
        self._weaken()
        self.store = Writer(self.engine)
        self.restart()


def work(core: Core, rounds: int, chance: Random) -> None:
    """Rounds of what schedulers do: submits, claims, starts, results, cancels, losses, restarts."""
    peers = [Peer(core, name, slots=4).join() for name in ("w1", "w2")]
    with closing(open_reader(core.path)) as reader:
        for _ in range(rounds // 2):
            _round(core, peers, chance)
            assert sum(reader.totals().values()) > 0
        # The reader looks on, so nothing is moved into the database when the store is closed.
        core.reopen(closed=True)
        peers = _return(core, peers)
        _round(core, peers, chance)
    for closed in (True, False):
        core.reopen(closed=closed)
        peers = _return(core, peers)
        for _ in range(rounds // 4):
            _round(core, peers, chance)
    core.store.close()


def _round(core: Core, peers: list[Peer], chance: Random) -> None:
    """In one of ten a worker falls silent, and comes back with nothing in hand."""
    jobs = core.submit(chance.randint(1, 4), command="x" * chance.choice((10, 10, 9_000)))
    core.acked["jobs"] += len(jobs)
    if chance.random() < 0.4:
        core.cancel(chance.choice(jobs))
        core.acked["cancels"] += 1
    for peer in peers:
        _obey(core, peer)
        for run_id in [run_id for run_id, phase in peer.held.items() if phase == "waiting"]:
            peer.start(run_id)
    silent = chance.choice(peers) if chance.random() < 0.1 else None
    for peer in peers:
        for run_id in list(peer.held):
            if peer is not silent and chance.random() < 0.7:
                peer.finish(run_id, exit_code=chance.choice((0, 0, 1)))
                core.acked["results"] += 1
        _obey(core, peer)
    if silent is not None:
        core.wait(TIMEOUT_MS + 1_000, *(peer for peer in peers if peer is not silent))
        core.acked["losses"] += len(silent.held)
        core.sent_to(silent.peer)
        incarnation = f"after {core.mono_ms}"
        peers[peers.index(silent)] = Peer(core, silent.name, slots=4, incarnation=incarnation).join()
    core.jump(1_000)
    core.turn()


def _obey(core: Core, peer: Peer) -> None:
    """Take what was sent, runs among it; a cancelled run ends when its result is told, as any other."""
    frames = core.sent_to(peer.peer)
    core.untake(peer.peer, [frame for frame in frames if isinstance(frame, protocol.Dispatch)])
    peer.take()


def _return(core: Core, peers: list[Peer]) -> list[Peer]:
    """The workers register with the new scheduler, with what they hold."""
    for peer in peers:
        core.sent_to(peer.peer)
        peer.register()
        peer.ready()
    return peers


def content(engine: SqliteEngine) -> bytes:
    """A digest of every row of every table."""
    digest = hashlib.sha256()
    for (table,) in engine.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"):
        digest.update(f"{table}\n".encode())
        for row in sorted(engine.execute(f'SELECT * FROM "{table}"'), key=repr):
            digest.update(f"{row}\n".encode())
    return digest.digest()


def cut_store(*, rounds: int, count: int, seed: int, weaker: Weaker | None = None) -> Tally:
    """Let a scheduler's core work, cut its power at `count` moments, and look at what is left."""
    chance = Random(seed)
    medium = Medium()
    with in_memory() as folder, patch.object(sqlite, "CHECKPOINT_PAGES", CHECKPOINT_PAGES):
        with recorded_sqlite(medium, folder):
            core = Core(folder, medium, weaker)
            work(core, rounds, chance)
        log.info("synchronous = %s: acked %s", weaker or "as ever", dict(core.acked))
        return cut(
            medium,
            count,
            chance,
            recorded=recorded_sqlite,
            reopen=lambda folder: _open(folder).close(),
            look=lambda folder, told: _look(folder, told, core.turns, chance),
        )


def _open(folder: Path) -> SqliteEngine:
    """As a scheduler's start does it. Raises CorruptError."""
    try:
        engine = SqliteEngine(folder / NAME)
        try:
            engine.check()
            engine.migrate(WALL_MS)
        except StoreError:
            engine.close()
            raise
    except StoreError as error:
        raise CorruptError(error) from error
    return engine


def _look(folder: Path, told: int, turns: dict[bytes, int], chance: Random) -> None:
    # The file of shared memory is never synced: anything may be in it.
    if chance.random() < 0.5:
        (folder / f"{NAME}-shm").write_bytes(chance.randbytes(32_768))
    with closing(_open(folder)) as engine:
        try:
            findings = check(engine)
            if findings.count:
                raise CorruptError(findings.sentences[0])
            found = turns.get(content(engine)) if findings.events else 0
        except (StoreError, UnicodeDecodeError) as error:
            raise CorruptError(error) from error
    if found is None and told:
        raise CorruptError("its content is that of no turn")
    if found is not None and found < told:
        raise LostError(f"turn {told} was acked, turn {found} is the last there")
