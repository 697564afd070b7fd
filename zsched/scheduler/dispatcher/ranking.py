"""The order in which ready demands are claimed, while the claims change the shares of their owners.

Of the ready demands that an owner has in a fair queue with one priority, only the oldest is compared with those of
others: the rest are behind it. So a claim moves one demand, however many the owner has.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import takewhile
from operator import attrgetter
from typing import Final

from zsched.store.contract import Ready

_rank: Final = attrgetter("rank")
_age: Final = attrgetter("run_id")

# The queue and the owner of a demand of a fair queue, and its priority.
Group = tuple[str, str, int]


class Ranking:
    """Ready demands, best first, in one pass over them. `shares`: the running runs of owners that were claimed, by
    queue and owner; it is kept up to date.
    """

    def __init__(self, ready: Iterable[Ready], shares: dict[tuple[str, str], int]) -> None:
        self._shares = shares
        # In the order of their ranks. The shares in these are current down to `_entered`: those of an owner with other
        # priorities are looked at when they are the next ones.
        self._rows: list[Ready] = []
        self._heads: dict[Group, Ready] = {}
        self._behind: dict[Group, list[Ready]] = {}
        # The age of the demands of a fair queue, by queue and priority.
        self._ages: dict[tuple[str, int], int] = {}
        # The priority and the age of the first one when it was looked at last.
        self._entered: tuple[int, ...] | None = None
        self._passed: list[Ready] = []
        for offer in ready:
            if offer.demand.owner:
                self._ages.setdefault((offer.demand.queue, offer.priority), offer.rank[1])
                self._behind.setdefault(_group(offer), []).append(offer)
            else:
                self._rows.append(offer)
        for group, behind in self._behind.items():
            behind.sort(key=_age)
            self._heads[group] = self._fresh(behind.pop(0))
        self._rows = sorted([*self._rows, *self._heads.values()], key=_rank)

    def __iter__(self) -> Iterator[Ready]:
        """All that is left, in any order."""
        yield from self._rows
        for behind in self._behind.values():
            yield from behind
        yield from self._passed

    @property
    def best(self) -> Ready | None:
        """The first one that was not passed."""
        if not self._rows:
            return None
        first = self._rows[0]
        if first.demand.owner and first.rank[:2] != self._entered:
            self._entered = first.rank[:2]
            block = [self._fresh(rival) for rival in self._rivals()]
            for rival in block:
                self._heads[_group(rival)] = rival
            self._rows[: len(block)] = sorted(block, key=_rank)
        return self._rows[0]

    @property
    def next_priority(self) -> int | None:
        """The priority of the best one of others; None: there is none."""
        return self._rows[1].priority if len(self._rows) > 1 else None

    def shares(self) -> Iterator[int]:
        """The share of each owner that competes with the best one, in order."""
        return (rival.rank[2] for rival in self._rivals())

    def skip(self) -> None:
        """No open worker takes the best one."""
        best = self._rows.pop(0)
        self._passed.append(best)
        self._advance(best)

    def claimed(self, taken: int, following: Ready | None) -> None:
        """Runs of the best one were claimed. `following`: its next ones."""
        best = self._rows.pop(0)
        if best.demand.owner:
            self._shares[best.demand.queue, best.demand.owner] = best.rank[2] + taken
        self._advance(best)
        if following is not None:
            self._put(following)

    def _advance(self, best: Ready) -> None:
        """The best one is gone: the one behind it comes."""
        if best.demand.owner:
            group = _group(best)
            del self._heads[group]
            if behind := self._behind[group]:
                self._place(behind.pop(0))

    def _put(self, offer: Ready) -> None:
        if not offer.demand.owner:
            insort(self._rows, offer, key=_rank)
            return
        age = self._ages.setdefault((offer.demand.queue, offer.priority), offer.rank[1])
        if age != offer.rank[1]:
            offer = replace(offer, rank=(offer.rank[0], age, *offer.rank[2:]))
        group = _group(offer)
        self._behind.setdefault(group, [])
        head = self._heads.get(group)
        if head is None:
            self._place(offer)
            return
        if offer.run_id < head.run_id:
            del self._rows[bisect_left(self._rows, head.rank, key=_rank)]
            self._place(offer)
            offer = head
        insort(self._behind[group], offer, key=_age)

    def _place(self, offer: Ready) -> None:
        """Put the oldest one of a group among the others."""
        offer = self._heads[_group(offer)] = self._fresh(offer)
        insort(self._rows, offer, key=_rank)

    def _fresh(self, offer: Ready) -> Ready:
        """The offer with the present share of its owner."""
        share = self._shares.get((offer.demand.queue, offer.demand.owner))
        if share is None or share == offer.rank[2]:
            return offer
        return replace(offer, rank=(*offer.rank[:2], share, offer.rank[3]))

    def _rivals(self) -> Iterator[Ready]:
        """The best one of each owner with the priority and the queue of the first one."""
        first = self._rows[0].rank[:2]
        return takewhile(lambda other: other.rank[:2] == first, self._rows)


def _group(offer: Ready) -> Group:
    return offer.demand.queue, offer.demand.owner, offer.priority
