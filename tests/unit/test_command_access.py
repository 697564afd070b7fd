"""Access files and tokens on the command line, where no scheduler is needed."""

from __future__ import annotations

import stat
from typing import cast

import pytest

from zsched.client.client import Client
from zsched.commands import access, exits, token, zsched
from zsched.security import keys, tokens


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "[::1]", "LOCALHOST"])
def test_what_only_this_host_can_use_gets_this_machines_name(host: str) -> None:
    assert access.for_other_hosts(f"tcp://{host}:5555", "box") == "tcp://box:5555"


@pytest.mark.parametrize("host", ["sched.example", "10.0.0.1", "[fe80::1]"])
def test_what_other_hosts_can_use_stays(host: str) -> None:
    assert access.for_other_hosts(f"tcp://{host}:5555", "box") == f"tcp://{host}:5555"


@pytest.mark.parametrize("name", ["", "localhost", "127.0.1.1", "my box", "a\nb"])
def test_a_machine_without_a_name_for_others_needs_an_endpoint(name: str) -> None:
    with pytest.raises(exits.Failure, match="give --endpoint"):
        access.for_other_hosts("tcp://localhost:5555", name)


def test_output_of_keys_that_others_can_read_is_reported() -> None:
    assert access.warn_of_readers(True, stat.S_IFCHR | 0o620) == "write it into a file that only you can read"
    assert "others can read this file" in (access.warn_of_readers(False, stat.S_IFREG | 0o644) or "")
    assert "others can read this file" in (access.warn_of_readers(False, stat.S_IFREG | 0o640) or "")
    assert access.warn_of_readers(False, stat.S_IFREG | 0o600) is None
    assert access.warn_of_readers(False, stat.S_IFIFO | 0o666) is None


def test_new_prints_only_the_token_and_warns_on_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert zsched.main(["token", "new"]) == 0
    out, err = capsys.readouterr()
    shown = tokens.read(out.removesuffix("\n"))
    assert shown is not None
    assert "no scheduler knows this token yet" in err
    assert shown.text not in err


def test_a_wrong_id_is_not_repeated_since_it_may_be_a_secret(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        token.main(["revoke", "zs_0123456789ab_SECRET"])
    assert "SECRET" not in capsys.readouterr().err


# --- several schedulers -----------------------------------------------------------------------------------------------

OLD_KEY, KEY_A, KEY_B = (keys.new_pair().public for _ in range(3))


class FakeClient:
    """A scheduler that lists these."""

    def __init__(self, *schedulers: tuple[str, str, str, str]) -> None:
        self._schedulers = schedulers

    def stats(self) -> dict[str, object]:
        names = ("role", "host", "server_key", "last_seen_at")
        views = [dict(zip(names, values, strict=True)) for values in self._schedulers]
        return {"schedulers": [{**view, "endpoint": f"tcp://{view['host']}:5555"} for view in views]}


def test_scheduler_that_was_started_again_is_listed_once_by_its_new_key() -> None:
    """What a process that was killed has published stays for an hour."""
    client = FakeClient(
        ("active", "a", KEY_A, "2026-11-28T07:00:00.000Z"),
        ("standby", "a", KEY_A, "2026-11-28T07:00:01.000Z"),
        ("standby", "b", KEY_B, "2026-11-28T07:00:00.000Z"),
        ("standby", "b", OLD_KEY, "2026-11-28T06:30:00.000Z"),
    )
    assert access.standby_servers(cast("Client", client)) == [keys.Server("tcp://b:5555", KEY_B)]
