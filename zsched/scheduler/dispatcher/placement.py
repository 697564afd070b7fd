"""Claims: which ready run goes to which worker. Data flows one way: ready demands and the workers' room in, claims out.

Free slots are filled first, over all workers alike; only then do plain runs go **ahead** to workers that ask for some,
so that a slot never waits for the network between two short runs.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

from zsched.model.demand import Demand, lacks
from zsched.model.limits import CLAIM_BYTES_MAX, CLAIM_INPUT_RUNS_MAX, CLAIM_LARGE_RUNS_MAX, CLAIM_RUNS_MAX
from zsched.model.types import Now
from zsched.scheduler.dispatcher.openings import Openings
from zsched.scheduler.dispatcher.ranking import Ranking
from zsched.scheduler.dispatcher.session import Session
from zsched.store.contract import Claim, Claimed, Ready, Store

# Sends claimed runs to the worker of a session.
Send = Callable[[Session, Sequence[Claimed]], None]
Room = Callable[[Store, Session], int]

# Features of runs that bring as much as an input may have.
_INPUTS: Final = ("files", "stdin")
_LOWEST_PRIORITY: Final = -(2**31)


def place(store: Store, sessions: Iterable[Session], lease_ms: int, now: Now, send: Send) -> bool:
    """Claim ready runs for the workers that have room, and send them. `lease_ms`: the length of a lease that begins
    now.

    Returns whether it has stopped at CLAIM_BYTES_MAX, so that the next turn must go on.
    """
    placing = _Placing(store, lease_ms, now, send)
    for room in (free_slots, ahead_room):
        if not placing.fill(sessions, room):
            break
    return placing.is_full


def claim_one(store: Store, session: Session, now: Now) -> Claimed | None:
    """The best ready run for a worker that polls, now its own; None when nothing fits it."""
    for ready in store.ready(now.wall_ms):
        if fits(store, ready, session):
            wanted = Claim(
                worker_id=session.name,
                demand_id=ready.demand_id,
                count=1,
                floor=ready.priority,
                handed_n=session.n,
                ends=session.polls,
            )
            claimed = store.claim(wanted, now.wall_ms)
            if claimed:
                return claimed[0]
    return None


def free_slots(store: Store, session: Session) -> int:
    """How many runs the worker could start now."""
    return min(session.worker.slots, session.window) - store.load(session.name).running


def ahead_room(store: Store, session: Session) -> int:
    """How many more runs the worker wants to hold, started or not."""
    return min(session.worker.slots + session.ahead, session.window) - store.load(session.name).running


def probation_room(store: Store, session: Session, demand: Demand) -> int:
    """How many more runs of a suspect demand may be on probation on the worker; see losses.py for the bounds."""
    held = store.load(session.name)
    return min(demand.probation, held.together or demand.probation) - held.probation


def fits(store: Store, ready: Ready, session: Session) -> bool:
    """Whether a worker can take a run of the demand, when it has room."""
    if ready.demand.probation and probation_room(store, session, ready.demand) <= 0:
        return False
    return not lacks(ready.demand, session.worker)


def fair_count(shares: Iterable[int], room: int) -> int:
    """How many of `room` runs the first of some owners gets when all shall have equally many, at least 1. `shares`: how
    many each of them has, in order.
    """
    least = level = filled = 0
    for place, share in enumerate(shares):
        if place == 0:
            least = level = share
        elif (share - level) * place >= room - filled:
            return level - least - (filled - room) // place
        else:
            filled += (share - level) * place
            level = share
    count = place + 1
    return level - least - (filled - room) // count


class _Placing:
    """The placement of one turn. It ends when what was claimed reaches CLAIM_BYTES_MAX."""

    def __init__(self, store: Store, lease_ms: int, now: Now, send: Send) -> None:
        self._store = store
        self._lease_ms = lease_ms
        self._now = now
        self._send = send
        self._bytes = 0
        # The ready demands, best first. Only our own claims change what is ready meanwhile.
        self._ready: list[Ready] | None = None
        # The running runs of owners that were claimed, by queue and owner.
        self._shares: dict[tuple[str, str], int] = {}

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be claimed in this turn."""
        return self._bytes >= CLAIM_BYTES_MAX

    def fill(self, sessions: Iterable[Session], room: Room) -> bool:
        """Fill one kind of room, the best demand first, until no room or no run that fits is left.

        False: nothing is ready any more, or nothing more may be claimed in this turn.
        """
        store = self._store
        open_ = Openings(
            session
            for session in sessions
            if session.window
            and not session.withheld
            and session.paused_until_ms <= self._now.mono_ms
            and room(store, session) > 0
        )
        if not open_:
            return True
        if self._ready is None:
            self._ready = store.ready(self._now.wall_ms)
        if not self._ready:
            return False
        ahead = room is not free_slots
        ranking = Ranking((each for each in self._ready if each.demand.plain or not ahead), self._shares)
        # Once a demand was passed, the next ones are first compared with the kinds of workers.
        passed = False
        while open_ and (best := ranking.best) is not None:
            if passed and not open_.take(best.demand):
                ranking.skip()
                continue
            taken = self._spread(best, ranking, open_, room)
            if self.is_full:
                return False
            if taken:
                ranking.claimed(taken, store.ready_next(best))
            else:
                ranking.skip()
                passed = True
        self._ready = [*ranking, *(each for each in self._ready if ahead and not each.demand.plain)]
        return bool(self._ready)

    def _spread(self, best: Ready, ranking: Ranking, open_: Openings, room: Room) -> int:
        """Share the first demand's ready runs among the workers that fit it, those with most room first. Returns how
        many were claimed.
        """
        store = self._store
        most_room_first = [
            (-room(store, session), place, session)
            for place, session in enumerate(open_.with_labels(best.demand.requires.labels))
            if fits(store, best, session)
        ]
        if not most_room_first:
            return 0
        heapq.heapify(most_room_first)
        # Runs of another demand may be better than the later ones of this: none below the next best priority is taken
        # now. An owner of a fair queue may have more than others of a lower priority.
        floor = ranking.next_priority
        most = sum(-entry[0] for entry in most_room_first)
        if best.demand.owner:
            floor = best.priority
            most = fair_count(islice(ranking.shares(), most + 1), most)
        waiting = store.ready_count(best.demand_id, most)
        taken = 0
        while not self.is_full and waiting > 0 and most_room_first:
            # An even share, rounded up, of the waiting runs; all of its room when there is enough for each.
            share = -(-waiting // len(most_room_first))
            negative_room, _, session = heapq.heappop(most_room_first)
            count = min(-negative_room, share)
            if best.demand.probation:
                count = min(count, probation_room(store, session, best.demand))
            taken += self._claim(best, _LOWEST_PRIORITY if floor is None else floor, session, count)
            waiting -= count
            if room(store, session) <= 0:
                open_.close(session)
        return taken

    def _claim(self, best: Ready, floor: int, session: Session, count: int) -> int:
        """Claim and send count runs for a worker, in pieces that one statement may take. Returns how many there were,
        which is fewer when none is left or the turn is full.
        """
        got = 0
        most = CLAIM_LARGE_RUNS_MAX if best.demand.heavy else CLAIM_RUNS_MAX
        if inputs := sum(need in _INPUTS for need in best.demand.needs):
            most = CLAIM_INPUT_RUNS_MAX // inputs
        lease = self._lease_ms if best.demand.leased else None
        for piece in (min(most, count - done) for done in range(0, count, most)):
            session.n += 1
            claim = Claim(
                worker_id=session.name,
                demand_id=best.demand_id,
                count=piece,
                floor=floor,
                handed_n=session.n,
                lease_ms=lease,
                ends=False,
            )
            claimed = self._store.claim(claim, self._now.wall_ms)
            got += len(claimed)
            if claimed:
                self._bytes += sum(run.size for run in claimed)
                self._send(session, claimed)
            if self.is_full:
                break
        return got
