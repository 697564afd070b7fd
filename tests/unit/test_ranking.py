"""The order of ready demands while claims change the shares of their owners."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from zsched.model.demand import Demand
from zsched.model.types import DemandId, RunId
from zsched.scheduler.dispatcher import ranking
from zsched.scheduler.dispatcher.ranking import Ranking
from zsched.store.contract import Ready


def offer(run_id: int, queue: str, owner: str, priority: int, age: int, share: int = 0) -> Ready:
    rank = (-priority, age if owner else run_id, share, run_id)
    return Ready(DemandId(run_id), Demand(queue=queue, owner=owner), priority, RunId(run_id), rank)


class Model:
    """The same by sorting all of them each time."""

    def __init__(self, offers: list[Ready]) -> None:
        self.left = offers
        self.passed: list[Ready] = []

    @property
    def best(self) -> Ready | None:
        self.left.sort(key=lambda each: each.rank)
        return self.left[0] if self.left else None

    def claimed(self, taken: int, following: Ready | None) -> None:
        best = self.left.pop(0)
        self.left += [following] if following is not None else []
        demand = best.demand
        for place, each in enumerate(self.left):
            if demand.owner and (each.demand.queue, each.demand.owner) == (demand.queue, demand.owner):
                self.left[place] = replace(each, rank=(*each.rank[:2], best.rank[2] + taken, each.rank[3]))


@pytest.mark.parametrize("seed", range(60))
def test_claims_follow_the_order_of_all_demands(seed: int) -> None:
    draw = Random(seed)
    wide = seed % 2
    ages: dict[tuple[str, int], int] = {}
    shares: dict[tuple[str, str], int] = {}
    offers = []
    for run_id in range(1, 60):
        queue, owner, priority = draw.choice("pq"), draw.choice(["", "a", "b", "c"]), draw.randrange(4 if wide else 1)
        age = ages.setdefault((queue, priority), run_id) if owner else run_id
        share = shares.setdefault((queue, owner), draw.randrange(3)) if owner else 0
        offers.append(offer(run_id, queue, owner, priority, age, share))
    draw.shuffle(offers)
    ours, model = Ranking(offers, {}), Model(list(offers))
    following_id = 100
    while (best := model.best) is not None:
        assert ours.best == best
        if draw.random() < 0.2:
            ours.skip()
            model.passed.append(model.left.pop(0))
            continue
        taken, following = draw.randrange(1, 4), None
        if draw.random() < 0.6:
            following_id += 1
            priority = draw.randrange(best.priority + 1)
            place = best.demand.queue, priority
            age = ages.setdefault(place, following_id) if best.demand.owner else following_id
            share = best.rank[2] + taken if best.demand.owner else 0
            following = offer(following_id, best.demand.queue, best.demand.owner, priority, age, share)
        ours.claimed(taken, following)
        model.claimed(taken, following)
    assert ours.best is None
    assert {each.run_id for each in ours} == {each.run_id for each in model.passed}


def test_a_claim_moves_one_demand_of_an_owner_with_many(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = []

    def count(each: Ready, **changes: object) -> Ready:
        moved.append(each)
        return replace(each, **changes)  # type: ignore[arg-type]

    monkeypatch.setattr(ranking, "replace", count)
    ours = Ranking([offer(run_id, "q", "ann", 0, 1) for run_id in range(1, 1_000)], {})
    for _ in range(10):
        assert ours.best is not None
        ours.claimed(1, None)
    assert len(moved) <= 10
