"""Whose jobs the commands mean, and the bounds of tokens, with a real scheduler and several callers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import count

import pytest

from tests.system.session import Scheduler, until
from tests.system.test_command_access import ADMIN, asked, private
from tests.system.test_command_line import Cli

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow

_names = count(1)


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A scheduler that serves nobody without a token. Commands have that of an administrator."""
    folder = tmp_path_factory.mktemp("owners")
    file = private(folder / "admin.token", ADMIN + "\n")
    with Scheduler(folder, "-local-trust", "none", "-admin-token-file", str(file)) as scheduler:
        yield Cli(scheduler, folder, ZSCHED_TOKEN=ADMIN)


def add(cli: Cli, *argv: str) -> tuple[str, str]:
    """A new token that reads and submits: its name and its text."""
    name = f"t{next(_names)}"
    code, out, err = asked(cli, "token", "add", "--scope=read,submit", f"--name={name}", *argv)
    assert code == 0, err
    return name, out.strip()


def numbers(out: str) -> list[int]:
    return [job["id"] for job in json.loads(out)]


def submitted(cli: Cli, token: str, *argv: str) -> int:
    code, out, err = asked(cli, "submit", "-q", *argv, "true", token=token)
    assert code == 0, err
    return int(out)


def test_all_means_the_callers_own_jobs(cli: Cli) -> None:
    (_, ann), (bob_name, bob) = add(cli), add(cli)
    mine = [submitted(cli, ann) for _ in range(3)]
    theirs = [submitted(cli, bob) for _ in range(2)]
    code, out, err = asked(cli, "cancel", "all", "--json", token=ann)
    assert (code, json.loads(out), err) == (0, {"done": {"count": 3, "jobs": f"{mine[0]}-{mine[2]}"}}, "")
    assert asked(cli, "cancel", "all", token=ann) == (0, "", "")
    code, out, _ = asked(cli, "list", "--owner=me", "--status=pending", "--json", token=bob)
    assert numbers(out) == theirs[::-1]
    code, out, _ = asked(cli, "list", "--owner", f"token:{bob_name}", token=ann)
    assert (code, out.count(f"  token:{bob_name}  ")) == (0, 2)
    code, out, _ = asked(cli, "show", str(theirs[0]), token=ann)
    assert re.search(rf"^owner +token:{bob_name}$", out, re.MULTILINE)
    # None of the caller's own is left: there is nothing to wait for.
    assert asked(cli, "wait", "all", "--timeout=1s", token=ann) == (0, "", "")
    assert asked(cli, "wait", "all", "--all-owners", "--timeout=100ms", token=ann)[0] == 124


def test_another_owners_job_is_refused_and_the_others_are_cancelled(cli: Cli) -> None:
    (_, ann), (name, bob) = add(cli), add(cli)
    theirs, mine = submitted(cli, bob), submitted(cli, ann)
    code, out, err = asked(cli, "cancel", f"{theirs},{mine}", token=ann)
    said = f"zsched: not allowed: {theirs} belong to other owners; a token needs the scope operate to act on them\n"
    assert (code, out, err) == (1, f"{mine} cancelled\n", said)
    said = f"zsched: Job {theirs} belongs to token:{name}: a token needs the scope operate to act on it\n"
    assert asked(cli, "cancel", str(theirs), token=ann) == (1, "", said)


def test_all_owners_asks_on_a_terminal_and_needs_yes_elsewhere(cli: Cli) -> None:
    _, ann = add(cli)
    job = submitted(cli, ann)
    code, out, err = asked(cli, "cancel", "all", "--all-owners")
    assert (code, out) == (2, "")
    assert err.startswith("zsched cancel: --all-owners cancels the jobs of all owners: give --yes too\n")
    code, out, err = asked(cli, "cancel", str(job), "--all-owners", "--yes")
    assert (code, err.partition("\n")[0]) == (2, "zsched cancel: --all-owners is for the selector all")
    terminal = cli.terminal("cancel", "all", "--all-owners", "--status", "running")
    terminal.type("n\n")
    assert "cancel 0 jobs of all owners? [y/N]" in terminal.text()
    assert terminal.process.wait() == 1
    for answer in ("n\n", "\n", "yess\n"):
        terminal = cli.terminal("cancel", "all", "--all-owners")
        terminal.type(answer)
        assert re.search(r"cancel [1-9]\d* jobs? of all owners\? \[y/N\]", terminal.text())
        assert terminal.process.wait() == 1
        assert json.loads(asked(cli, "show", str(job), "--json")[1])["status"] == "pending"
    terminal = cli.terminal("cancel", "all", "--all-owners")
    terminal.type("y\n")
    assert f"{job} cancelled" in terminal.text()
    assert terminal.process.wait() == 0
    job = submitted(cli, ann)
    assert asked(cli, "cancel", "all", "--all-owners", "--yes") == (0, f"{job} cancelled\n", "")


def test_a_revoked_tokens_jobs_go_on_until_they_are_ended(cli: Cli) -> None:
    name, ann = add(cli)
    token_id = ann.split("_")[1]
    jobs = [submitted(cli, ann) for _ in range(2)]
    cron = submitted(cli, ann, "--cron", "0 0 1 1 *")
    code, out, err = asked(cli, "token", "revoke", name)
    assert (code, out) == (0, f"{token_id} revoked\n")
    end = f"zsched token revoke --with-jobs {token_id}"
    assert err == f"zsched: what it has submitted goes on (jobs: 2, schedules: 1); `{end}` ends it\n"
    code, out, err = asked(cli, *end.split()[1:])
    assert (code, out) == (0, f"{token_id} revoked\n")
    assert err.startswith("zsched: its jobs are being cancelled and its schedules ended")

    def ended() -> bool:
        views = [json.loads(asked(cli, "show", str(job), "--json")[1]) for job in (*jobs, cron)]
        return [view["status"] for view in views[:2]] == ["cancelled"] * 2 and "next_fire_at" not in views[2]

    until(ended)


def test_a_tokens_bounds_are_made_shown_and_held(cli: Cli) -> None:
    bounds = ("--run-as=build", "--pending-max=1", "--schedules-max=0", "--priority-max=-5")
    name, ann = add(cli, *bounds, "--worker=gpu-*", "--worker=w1", "--slots-max", "4", "--expires=never")
    listed = asked(cli, "token", "list")[1]
    row = next(line for line in listed.splitlines() if f"  {name}  " in line)
    assert row.endswith("as build, 1 pending, 0 schedules, priority up to -5, workers gpu-* w1, 4 slots")
    code, _, err = asked(cli, "submit", "true", token=ann)
    refusal = "Invalid priority 0: this token allows at most -5; give priority -5 or less, or use another token"
    assert (code, err) == (1, f"zsched: {refusal}\n")
    submitted(cli, ann, "--priority=-5")
    code, _, err = asked(cli, "submit", "--priority=-5", "true", token=ann)
    assert (code, "1 job of this token may be pending" in err) == (1, True)
    code, _, err = asked(cli, "submit", "--priority=-5", "--user", "root", "true", token=ann)
    assert (code, err) == (1, "zsched: Jobs of this token run as build, not as root: leave user out\n")
    asked(cli, "cancel", "all", token=ann)
    code, _, err = asked(cli, "submit", "--priority=-5", "--cron", "* * * * *", "true", token=ann)
    assert (code, "This token may have 0 recurring jobs" in err) == (1, True)
    (view,) = [one for one in json.loads(asked(cli, "token", "list", "--json")[1]) if one["name"] == name]
    assert "expires_at" not in view
    until(lambda: "last_used_at" in asked(cli, "token", "list", "--json")[1])


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["--name=a b"], 2, "name: 1 to 64 letters, digits and . _ - (a letter or digit first), unlike an id"),
        (["--run-as=a b"], 2, "run_as: a user's name: a letter, then letters, digits and . _ -"),
        (["--worker=[a]"], 2, "workers.0: a worker's name, in which * stands for any characters and ? for one"),
        (["--pending-max=999999"], 2, "pending_max: Expected `int` <= 100000"),
        (["--priority-max=high"], 2, "--priority-max takes a number, such as 10 or -10, not 'high'"),
        (["--name=twice"], 1, "A token named twice exists or was revoked: take another name"),
    ],
)
def test_an_invalid_token_is_refused_with_the_reason(cli: Cli, argv: list[str], code: int, said: str) -> None:
    asked(cli, "token", "add", "--scope=read", "--name=twice")
    made, out, err = asked(cli, "token", "add", "--scope=read", *argv)
    assert (made, out) == (code, "")
    assert said in err
