"""A job's own variables on the command line: what is secret never stands there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zsched.commands import options, submit, zsched

SECRET = "correct-horse-battery"


def dry(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, object]:
    """What would be submitted."""
    assert submit.main([*argv, "--dry-run", "--json", "true"]) == 0
    made: dict[str, object] = json.loads(capsys.readouterr().out)
    return made


def test_variables_may_be_given_several_times_and_have_any_value(capsys: pytest.CaptureFixture[str]) -> None:
    made = dry(capsys, "--env", "A=1", "--env=B=x=y z", "--env", "C=", "--env", "A=2", "--user", "alice")
    assert made["env"] == {"A": "2", "B": "x=y z", "C": ""}
    assert made["user"] == "alice"
    assert "env" not in dry(capsys)


def test_secret_comes_from_the_environment_or_a_file_and_is_not_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    (tmp_path / "key").write_text(f"{SECRET}\n{SECRET}\n")
    given = ("--secret-env", "TOKEN", "--secret-env", f"KEY=@{tmp_path}/key")
    assert dry(capsys, *given)["secret_env"] == {"TOKEN": "***", "KEY": "***"}
    found = options.parse(submit.__doc__ or "", [*given, "true"])
    body = submit.read_job(found)
    assert body["secret_env"] == {"TOKEN": SECRET, "KEY": f"{SECRET}\n{SECRET}"}


@pytest.mark.parametrize(
    "argv",
    [("--env", "A"), ("--env", "1=x"), ("--env", "=x"), ("--secret-env", f"A={SECRET}"), ("--secret-env", "A B")],
)
def test_what_is_written_otherwise_is_wrong_usage_and_not_repeated(
    capsys: pytest.CaptureFixture[str], argv: tuple[str, str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        submit.main([*argv, "true"])
    assert ended.value.code == 2
    assert SECRET not in capsys.readouterr().err


def test_missing_secret_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert zsched.main(["submit", "--secret-env", "NO_SUCH_VARIABLE", "true"]) == 1
    assert "your environment has no NO_SUCH_VARIABLE" in capsys.readouterr().err
    assert zsched.main(["submit", "--secret-env", "A=@/no/such/file", "true"]) == 1
    assert "can't read /no/such/file" in capsys.readouterr().err
