"""REST: whom a job runs as, and its own variables, of which the secret ones are never shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.rest import Rest
from zsched.security.vault import Vault

SECRET = "correct-horse-battery"


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Rest]:
    with Rest(tmp_path) as opened:
        opened.context.seal = Vault(tmp_path / "secret.key").seal
        yield opened


def test_a_job_shows_its_user_and_its_variables_but_no_secret(rest: Rest, tmp_path: Path) -> None:
    job = rest.submit(user="alice", env={"A": "1", "B": ""}, secret_env={"TOKEN": SECRET})

    texts = [rest.get(path).text for path in (f"/jobs/{job}", "/jobs", f"/jobs/{job}/runs", "/events", "/stats")]
    texts.append(rest.post("/jobs", {"name": "j", "command": "true", "secret_env": {"TOKEN": SECRET}}).text)
    texts.append(rest.post(f"/jobs/{job}/cancel").text)

    view = rest.get(f"/jobs/{job}").json
    assert (view["user"], view["env"], view["secret_env"]) == ("alice", {"A": "1", "B": ""}, {"TOKEN": "***"})
    assert not any(SECRET in text for text in texts)
    rest.stop()
    assert not any(SECRET.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"user": "a b"}, "#/user"),
        ({"user": 1000}, "#/user"),
        ({"env": ["A"]}, "#/env"),
        ({"env": {"A": 1}}, "#/env"),
        ({"env": {"A": None}}, "#/env"),
        ({"env": {"A/B": "x"}}, "#/env/A~1B"),
        ({"env": {"ZSCHED_RUN_ID": "1"}}, "#/env/ZSCHED_RUN_ID"),
        ({"env": {"A": "x" * 65_536}}, "#/env"),
        ({"env": {"A": "a\0"}}, "#/env/A"),
        ({"secret_env": {"A": "2small"}}, "#/secret_env/A"),
        ({"secret_env": {"A": ["correct-horse-battery"]}}, "#/secret_env"),
        ({"secret_env": "correct-horse-battery"}, "#/secret_env"),
    ],
)
def test_what_can_not_be_is_refused_with_its_place_and_no_value(
    rest: Rest, fields: dict[str, object], pointer: str
) -> None:
    answer = rest.post("/jobs", {"name": "j", "command": "true", **fields})
    assert answer.status_code == 400
    assert answer.json["errors"][0]["pointer"].startswith(pointer)
    assert not any(value in answer.text for value in (SECRET, "2small"))


def test_a_secret_that_can_not_be_kept_is_503_and_nothing_is_stored(rest: Rest, tmp_path: Path) -> None:
    (tmp_path / "bad.key").write_text("no key", "ascii")
    (tmp_path / "bad.key").chmod(0o600)
    rest.context.seal = Vault(tmp_path / "bad.key").seal
    answer = rest.post("/jobs", {"name": "j", "command": "true", "secret_env": {"A": SECRET}})
    assert (answer.status_code, answer.json["code"]) == (503, "no_secrets")
    assert rest.get("/jobs").json == []
    rest.submit()


def test_a_worker_that_polls_gets_user_and_variables_when_it_knows_of_them(rest: Rest) -> None:
    rest.submit(user="alice", env={"A": "1"})
    rest.register("plain")
    assert rest.get("/workers/plain/next").json == {"job": None}
    rest.register("able", can=["env", "user", "secret_env"])
    job = rest.take("able")
    assert (job["user"], job["env"]) == ("alice", {"A": "1"})
    rest.submit(secret_env={"A": SECRET})
    rest.report(job["id"], "able", "success")
    assert rest.get("/workers/able/next").json == {"job": None}
