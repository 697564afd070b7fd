"""What workers hold for other databases, and the decisions about it, over REST."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.rest import ME, Rest, problem, receive
from tests.unit.test_rest_pages import following, small, walk
from zsched import protocol
from zsched.protocol import Cancel, Foreign

__all__ = ["small"]


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Rest]:
    with Rest(tmp_path) as started:
        yield started


def held(rest: Rest, path: str = "/foreign") -> list[dict[str, Any]]:
    """What the list has, without the times."""
    answer = rest.get(path)
    assert answer.status_code == 200
    return [{key: value for key, value in row.items() if key not in ("since", "decided_at")} for row in answer.json]


def test_foreign_runs_are_listed_with_their_worker_and_counted_by_readyz(rest: Rest) -> None:
    assert held(rest) == []
    rest.connect("w1", (Foreign("d1", (5, 6), results=3), Foreign("d2", results=1)))
    rest.connect("w2", (Foreign("d1", (7,)),))
    first = {"worker_id": "w1", "db": "d1", "running": 2, "results": 3, "runs": [5, 6]}
    second = {"worker_id": "w1", "db": "d2", "running": 0, "results": 1, "runs": []}
    third = {"worker_id": "w2", "db": "d1", "running": 1, "results": 0, "runs": [7]}
    assert held(rest) == [first, second, third]
    assert held(rest, "/foreign?after=w1%2Fd1") == [second, third]
    shown = [[row["db"] for row in worker["foreign"]] for worker in rest.get("/workers").json]
    assert shown == [["d1", "d2"], ["d1"]]
    assert [row["db"] for row in rest.get("/workers/w2").json["foreign"]] == ["d1"]
    ready, remark = rest.get("/readyz").text.splitlines()
    assert ready == "ready"
    assert remark == "3 foreign runs on 2 workers wait for `zsched foreign keep` or `discard`"


def test_job_whose_only_fitting_worker_has_foreign_runs_names_the_decision(rest: Rest) -> None:
    rest.connect("w1", (Foreign("d1", (7,)),))
    job = rest.submit()
    why = {
        "code": "foreign",
        "detail": "worker w1 could take it, but runs jobs of another database: `zsched foreign` lists them",
    }
    assert rest.get(f"/jobs/{job}").json["why"] == why
    rest.post("/foreign/w1/discard")
    assert rest.get(f"/jobs/{job}").json["why"] == why
    rest.post("/foreign/w1/keep")
    assert rest.get(f"/jobs/{job}").json["why"]["code"] == "no_capacity"


def test_results_of_another_database_hold_no_job_back(rest: Rest) -> None:
    rest.connect("w1", (Foreign("d1", results=2),))
    assert rest.get(f"/jobs/{rest.submit()}").json["why"]["code"] == "no_capacity"


def test_a_worker_without_foreign_runs_has_no_member_for_them(rest: Rest) -> None:
    rest.connect("w1")
    assert "foreign" not in rest.get("/workers/w1").json
    assert rest.get("/readyz").text == "ready\n"


def test_pages_of_foreign_runs_lead_from_each_to_the_next(rest: Rest, small: None) -> None:
    databases = [f"d{number}" for number in range(10, 26)]
    rest.connect("w1", tuple(Foreign(db, tuple(range(1, 60))) for db in databases))
    rest.connect("w2", (Foreign("d1", (7,)),))
    assert following(rest.get("/foreign")) is not None
    found = [(row["worker_id"], row["db"]) for page in walk(rest, "/foreign") for row in page]
    assert found == [*(("w1", db) for db in databases), ("w2", "d1")]


def test_decision_is_stored_with_its_actor(rest: Rest) -> None:
    rest.connect("w1", (Foreign("d1", (5,)),))
    [row] = rest.post("/foreign/w1/keep").json
    assert (row["decision"], row["decided_by"]) == ("keep", f"{ME} at 127.0.0.1")
    assert held(rest)[0]["decision"] == "keep"
    assert rest.get("/readyz").text == "ready\n"
    events = [event["became"] for event in rest.get("/events").json if event["became"].startswith("foreign")]
    assert events == ["foreign_found", "foreign_keep"]


def test_a_discard_reaches_the_worker(rest: Rest) -> None:
    dealer = rest.connect("w1", (Foreign("d1", (5,)),))
    assert rest.post("/foreign/w1/discard").json[0]["decision"] == "discard"
    frame = receive(dealer)
    assert isinstance(frame, Cancel)
    assert frame.discard == ("d1",)
    beat = protocol.Heartbeat(s=frame.s, seq=1, n=0, window=1, ahead=0)
    dealer.send(protocol.pack(beat))
    assert isinstance(receive(dealer), protocol.HeartbeatAck)
    assert held(rest) == []


def test_decision_about_runs_that_are_not_held_is_refused(rest: Rest) -> None:
    rest.connect("w1")
    for name in ("w1", "nobody"):
        problem(
            rest.post(f"/foreign/{name}/keep"), 404, "no_foreign", f"Worker {name} holds nothing of another database"
        )
