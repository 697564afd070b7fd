"""Which ready run goes to which worker. Data flows one way: ready demands and the workers' room in, claims out.

Free slots are filled first, over all workers alike; only then do plain runs go **ahead** to workers that ask for some,
so that a slot never waits for the network between two short runs.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from zsched.model.demand import Demand, why_unfit
from zsched.model.limits import CLAIM_BYTES_MAX, CLAIM_LARGE_RUNS_MAX, CLAIM_RUNS_MAX
from zsched.model.types import DemandId, Now
from zsched.scheduler.dispatcher.session import Session
from zsched.store.contract import Claim, Claimed, Ready, Store

# Where claimed runs go: the session, and the runs for it. `_Hand` returns whether more may be claimed in this turn.
Hand = Callable[[Session, Sequence[Claimed]], None]
_Hand = Callable[[Session, Sequence[Claimed]], bool]
Room = Callable[[Store, Session], int]

_LOWEST_PRIORITY: Final = -(2**31)


def place(store: Store, sessions: Iterable[Session], lease_ms: int, now: Now, hand: Hand) -> bool:
    """Hand ready runs to the workers that have room for them. `lease_ms`: how long a lease is from now on.

    Returns whether it has stopped at CLAIM_BYTES_MAX, so that the next turn must go on.
    """
    size = 0

    def count_and_hand(session: Session, claimed: Sequence[Claimed]) -> bool:
        nonlocal size
        size += sum(run.size for run in claimed)
        hand(session, claimed)
        return size < CLAIM_BYTES_MAX

    for room in (free_slots, ahead_room):
        if not _fill(store, sessions, room, lease_ms, now, count_and_hand):
            break
    return size >= CLAIM_BYTES_MAX


def claim_one(store: Store, session: Session, now: Now) -> Claimed | None:
    """The best ready run for a worker that polls, now its own; None when nothing fits it."""
    for ready in store.ready(now.wall_ms):
        if _fits(store, ready, session):
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
    """How many more runs of a suspect demand may be on probation on the worker; see losses.py for its bounds."""
    held = store.load(session.name)
    return min(demand.probation, held.together or demand.probation, 1 + session.survived) - held.probation


def _fits(store: Store, ready: Ready, session: Session) -> bool:
    if ready.demand.probation and probation_room(store, session, ready.demand) <= 0:
        return False
    return why_unfit(ready.demand, session.worker) is None


def _fill(store: Store, sessions: Iterable[Session], room: Room, lease_ms: int, now: Now, hand: _Hand) -> bool:
    """Fill one kind of room, the best demand first, until no room or no run that fits is left.

    False: nothing is ready any more, or nothing more may be claimed in this turn.
    """
    open_ = [
        session
        for session in sessions
        if session.window
        and not session.withheld
        and session.paused_until_ms <= now.mono_ms
        and room(store, session) > 0
    ]
    passed: set[DemandId] = set()
    while open_:
        found = store.ready(now.wall_ms)
        if not found:
            return False
        ready = [one for one in found if one.demand_id not in passed and (one.demand.plain or room is free_slots)]
        if not ready:
            return True
        best, *others = ready
        # Runs of another demand may be better than the later ones of this: none below the next best priority is taken
        # now.
        floor = max((one.priority for one in others), default=_LOWEST_PRIORITY)
        taken, more = _spread(store, best, floor, open_, room, lease_ms, now, hand)
        if not more:
            return False
        if not taken:
            passed.add(best.demand_id)
        open_ = [session for session in open_ if room(store, session) > 0]
    return True


def _spread(
    store: Store, best: Ready, floor: int, sessions: Sequence[Session], room: Room, lease_ms: int, now: Now, hand: _Hand
) -> tuple[int, bool]:
    """Share one demand's ready runs among the workers that fit it, those with most room first; returns how many, and
    whether more may be claimed in this turn.
    """
    most_room_first = [
        (-room(store, session), place, session) for place, session in enumerate(sessions) if _fits(store, best, session)
    ]
    heapq.heapify(most_room_first)
    waiting = store.ready_count(best.demand_id, sum(-entry[0] for entry in most_room_first))
    taken, more = 0, True
    while more and waiting > 0 and most_room_first:
        # An even share, rounded up, of what waits; all of its room when there is enough for everybody.
        share = -(-waiting // len(most_room_first))
        negative_room, _, session = heapq.heappop(most_room_first)
        count = min(-negative_room, share)
        if best.demand.probation:
            count = min(count, probation_room(store, session, best.demand))
        got, more = _claim(store, best, floor, session, count, lease_ms, now, hand)
        taken += got
        waiting -= count
    return taken, more


def _claim(
    store: Store, best: Ready, floor: int, session: Session, count: int, lease_ms: int, now: Now, hand: _Hand
) -> tuple[int, bool]:
    """Claim count runs for a worker, in pieces that one statement may take; returns how many there were, and whether
    more may be claimed in this turn.
    """
    got, more = 0, True
    most = CLAIM_LARGE_RUNS_MAX if best.demand.needs else CLAIM_RUNS_MAX
    lease = lease_ms if best.demand.leased else None
    for piece in (min(most, count - done) for done in range(0, count, most)):
        session.n += 1
        wanted = Claim(
            worker_id=session.name,
            demand_id=best.demand_id,
            count=piece,
            floor=floor,
            handed_n=session.n,
            lease_ms=lease,
            ends=False,
        )
        claimed = store.claim(wanted, now.wall_ms)
        got += len(claimed)
        if claimed:
            more = hand(session, claimed)
        if not more:
            break
    return got, more
