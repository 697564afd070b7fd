"""What a person types, and what the commands show: selectors, command lines, exit codes, text, tables."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
import time
import unicodedata
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pytest

from zsched.client import client as client_module
from zsched.client import cluster
from zsched.client.client import Chunk, Client, ClientError, Group, Job, NotFound, Refused, Unreachable, WaitTimeout
from zsched.client.task import Task
from zsched.commands import (
    acting,
    artifacts,
    exits,
    line,
    options,
    placement,
    selection,
    submit,
    table,
    text,
    watching,
    workers,
    zsched,
)
from zsched.commands.exits import Failure
from zsched.config.layers import settle
from zsched.config.settings import keys_of
from zsched.model.limits import CONTROL_CHARS_MAX
from zsched.model.spans import Spans

DOC = Path(__file__).parents[2] / "docs" / "cli.md"
PAGES = {name: import_module(f"zsched.commands.{name}").__doc__ or "" for name in zsched.COMMANDS}


def job(status: str, **run: object) -> Job:
    """A job as the scheduler shows it."""
    return Job(Client("http://localhost:1"), {"id": 12, "name": "j", "status": status, "last_run": run})


# Selectors.


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["12"], ([12], False, False)),
        (["3-8"], ([3, 4, 5, 6, 7, 8], False, False)),
        (["1,4,9"], ([1, 4, 9], False, False)),
        (["9", "1-2,9", "7-7"], ([1, 2, 7, 9], False, False)),
        (["last"], ([], True, False)),
        (["all"], ([], False, True)),
        (["5,last"], ([5], True, False)),
        (["1-1000000"], (list(range(1, 1_000_001)), False, False)),
    ],
)
def test_a_selector_names_jobs(words: list[str], expected: tuple[list[int], bool, bool]) -> None:
    ids, last, every, flows, tasks = selection.parse(words)
    assert (list(ids), last, every) == expected
    assert not flows
    assert not tasks


def test_selectors_name_flows_among_jobs() -> None:
    chosen = selection.parse(["flow:12,3", "flow:7"])
    assert (list(chosen.ids), list(chosen.flows)) == ([3], [7, 12])
    with pytest.raises(ValueError, match="'flow:x' names no flow; write 12, 3-8, 1,4,9, flow:12, last or all"):
        selection.parse(["flow:x"])
    with pytest.raises(ValueError, match="'flow:' names no flow; write 12, 3-8, 1,4,9, flow:12, last or all"):
        selection.parse(["flow:"])


def test_a_selector_names_tasks_of_a_job() -> None:
    chosen = selection.parse(["12.3", "5,12.4-8", "last.0"])
    assert (list(chosen.ids), chosen.tasks) == ([5], ((12, 3, 3), (12, 4, 8), (None, 0, 0)))
    assert list(map(str, chosen.tasks)) == ["12.3", "12.4-8", "last.0"]
    assert selection.single("12.3", tasks=True).tasks == ((12, 3, 3),)
    with pytest.raises(ValueError, match=r"12\.3 names a task; name a job"):
        selection.single("12.3")
    with pytest.raises(ValueError, match=r"'12\.3-4' names several tasks; name a single one"):
        selection.single("12.3-4", tasks=True)


@pytest.mark.parametrize("word", ["1.", ".5", "1.5.2", "all.3", "1-2.3", "1.-3", "1.99999999999", "3.8-2"])
def test_what_names_no_tasks_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match=r"names no tasks; write 12\.3 or 12\.3-8|runs backwards"):
        selection.parse([word])


@pytest.mark.parametrize("word", ["", "x", "-3", "3-", "1,,2", "8-3", "LAST", "0-99999999999", "1-1000001", "²"])
def test_what_names_no_jobs_or_too_many_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match=r"names no jobs|runs backwards|are too many"):
        selection.parse([word])


@pytest.mark.parametrize("word", ["1-2", "1,2", "all", "1,last", "flow:1"])
def test_where_one_job_is_meant_a_selector_of_several_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="may name several jobs"):
        selection.single(word)


@pytest.mark.parametrize("word", ["12", "7-7", "last"])
def test_where_one_job_is_meant_any_selector_of_one_will_do(word: str) -> None:
    selection.single(word)


# Command lines.


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["make && make test"], "make && make test"),
        (["ls", "-la"], "ls -la"),
        (["echo", "a b", "$HOME"], "echo 'a b' '$HOME'"),
    ],
)
def test_one_word_is_a_line_for_sh_and_several_are_quoted(words: list[str], expected: str) -> None:
    assert line.command_line(words) == expected


@pytest.mark.parametrize(
    "argv",
    [["12", "-f", "--tail", "3"], ["-f", "12", "-tail=3"], ["--tail=9", "-f", "--tail=3", "--", "12"]],
)
def test_options_may_stand_after_the_words_where_no_command_is_taken(argv: list[str]) -> None:
    found = options.parse(PAGES["logs"], argv, mixed=True)
    assert (found["<job>"], found["--follow"], found["--tail"]) == ("12", True, "3")


@pytest.mark.parametrize("argv", [["ls", "-la", "--name=x"], ["--", "ls", "-la", "--name=x"]])
def test_a_submitted_command_keeps_its_own_options(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert submit.main(["--dry-run", *argv]) == 0
    assert capsys.readouterr().out == "ls -la --name=x\n"


def test_dry_run_quotes_a_program_without_a_shell(capsys: pytest.CaptureFixture[str]) -> None:
    assert submit.main(["--dry-run", "--no-shell", "a b"]) == 0
    assert capsys.readouterr().out == "'a b'\n"


@pytest.mark.parametrize(
    ("command", "argv", "sentence"),
    [
        ("submit", [], "missing <cmd>, such as 'make test'"),
        ("submit", ["--on", "5", "ls"], "no option --on; --help lists them all"),
        ("submit", ["--run-now", "ls"], "--run-now goes with --cron"),
        (
            "submit",
            ["--each=a", "echo '{}'"],
            "{} stands inside quotes: write it outside, where it is quoted by itself",
        ),
        ("submit", ["--each=a", "--each-line=b", "ls"], "--each and --each-line are the same"),
        ("submit", ["--each=", "ls"], "--each is empty"),
        ("submit", ["--max-fails=1", "ls"], "--max-fails goes with --array or --each"),
        (
            "submit",
            ["--array=%4", "ls"],
            "--array=%4 says only how many tasks run at once: write 0-15%4, or add --each",
        ),
        ("submit", ["--stdin", "--each=-", "ls"], "--stdin and --each=- both read stdin"),
        ("run", ["--array=0-3", "ls"], "no option --array; an array is submitted by `zsched submit`, with --wait"),
        ("edit", ["12.3", "--name=x"], "12.3 names a task; name a job"),
        ("delete", ["12.3"], "12.3 names tasks; name whole jobs"),
        ("wait", ["12.3", "13"], "12.3 and whole jobs: wait for them by two commands"),
        ("cancel", ["12.3", "--status=running"], "--status is for whole jobs, not for tasks such as 12.3"),
        ("submit", ["--idempotency-key=", "ls"], "--idempotency-key: 1 to 255 printable ASCII characters"),
        ("submit", [f"--idempotency-key={'k' * 256}", "ls"], "--idempotency-key: 1 to 255"),
        ("submit", ["--idempotency-key=ß", "ls"], "--idempotency-key: 1 to 255"),
        ("submit", ["--wait", "--cron=* * * * *", "ls"], "never ends"),
        ("submit", ["--cron=", "ls"], "--cron is empty"),
        ("submit", ["--name", " ", "ls"], "--name is empty"),
        ("submit", ["--retries=x", "ls"], "invalid --retries 'x': use a whole number, 0 or more"),
        ("submit", ["--crash-limit=x", "ls"], "invalid --crash-limit 'x': use a whole number, 1 or more, or never"),
        ("submit", [f"--retries={10**16}", "ls"], "invalid --retries 10000000000000000: too large"),
        ("wait", ["x"], "'x' names no jobs"),
        ("wait", ["--timeout", "5", "1"], "--timeout: invalid duration '5'"),
        ("cancel", [], "missing <selector>, such as 12, 3-8 or last"),
        ("logs", ["1-2"], "may name several jobs"),
        ("logs", ["1", "--tail", "-1"], "invalid --tail '-1': use a whole number, 0 or more"),
        ("list", ["--status", "done"], "invalid --status 'done': use pending, running"),
        ("list", ["--limit", "0"], "invalid --limit '0': use a whole number, 1 or more"),
        ("show", ["all"], "may name several jobs"),
        ("show", ["x"], "'x' names no job; write its number, or last"),
        ("run", [], "missing <cmd>, such as 'make test'"),
        ("list", ["failed"], "unexpected argument 'failed'; did you mean --status failed?"),
        ("list", ["nothing"], "unexpected argument 'nothing'"),
        ("show", [], "missing <job>, such as 12 or last"),
        ("show", ["1", "2"], "unexpected argument '2'"),
        ("key", ["rotate"], "missing secret or curve"),
        ("key", ["rotate", "secret", "worker-1"], "unexpected argument 'worker-1'"),
        ("up", ["--workers", "none"], "invalid --workers 'none': use a whole number"),
        ("up", ["--port", "http"], "-port: invalid number 'http'"),
        ("token", [], "missing add, list, revoke or new"),
        ("token", ["lst"], "unexpected argument 'lst'; did you mean list?"),
        ("token", ["revoke", "--with-jobs"], "missing <id>"),
        ("token", ["add"], "missing --scope: use read, submit, operate, worker, admin"),
        ("token", ["add", "--scope", "read,write"], "invalid --scope 'write': use read, submit"),
        ("token", ["add", "--scope=read", "--scope="], "invalid --scope '': use read, submit"),
        ("token", ["add", "--scope=read", "--expires=30"], "--expires: invalid duration '30'"),
        ("token", ["add", "--scope=read", "--expires=0"], "--expires: more than nothing, at most 3650d"),
        ("token", ["add", "--scope=read", "--expires=3651d"], "--expires: more than nothing, at most 3650d"),
        ("token", ["add", "--scope=read", "--note=a\nb"], "--note: at most 200 printable characters"),
        ("token", ["add", "--scope=read", f"--note={'x' * 201}"], "--note: at most 200 printable characters"),
        ("token", ["revoke", "a b"], "invalid token ID or name"),
        ("token", ["new", "--url=x"], "--url does not go with new"),
        ("token", ["list", "--db=x"], "no option --db"),
        ("access", ["new"], "missing <worker>, such as worker-2"),
        ("access", ["revoke", "w", "--endpoint=tcp://h:1"], "--endpoint does not go with revoke"),
        ("access", ["new", "a/b"], "invalid worker name 'a/b': use letters, digits, . _ @ : and -"),
        ("access", ["new", "w", "--endpoint=host:5555"], "invalid --endpoint 'host:5555': use tcp://HOST:PORT"),
        ("access", ["new", "w", "--endpoint=tcp://h:1\nx = y"], "use tcp://HOST:PORT, such as tcp://host:5555"),
        ("access", ["revoke", "-x"], "no option -x"),
        ("db", ["restore", "--no-keys", "x"], "--no-keys does not go with restore"),
        ("foreign", ["kepp", "w1"], "unexpected argument 'kepp'; did you mean keep?"),
        ("foreign", ["w1"], "unexpected argument 'w1'"),
        ("submit", ["--cwd=", "ls"], "--cwd is empty"),
        ("run", ["--cwd=", "ls"], "--cwd is empty"),
        ("submit", ["--priority", "1_0", "ls"], "--priority takes a number, such as 10 or -10, not '1_0'"),
        ("submit", ["--priority", "9" * 5_000, "ls"], "--priority takes a number"),
        ("submit", ["--limit", "db=" + "9" * 5_000, "ls"], "--limit takes KEY=COUNT, such as db=3, not 'db=999"),
        ("purge", [], "missing --older-than=AGE"),
        ("queue", ["share", "nightly"], "missing --fair=BY"),
        ("queue", ["share", "--fair=owner"], "missing <queue>"),
        ("workers", ["remove"], "missing <worker>, such as worker-2"),
    ],
)
def test_wrong_usage_is_reported_before_anything_is_done(
    command: str, argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        zsched.main([command, *argv])
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"zsched {command}: ")
    assert sentence in err.splitlines()[0]


def test_unknown_command_is_reported_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong, meant in (("sumbit", "submit"), ("ls", "list"), ("ps", "list"), ("stop", "cancel"), ("log", "logs")):
        with pytest.raises(SystemExit) as caught:
            zsched.main([wrong, "x"])
        assert caught.value.code == 2
        assert capsys.readouterr().err.startswith(f"zsched: no command {wrong}; did you mean {meant}?\n")


# Options that stand behind the command.


@pytest.mark.parametrize(
    ("argv", "names"),
    [
        (["echo hi", "--timeout", "5s"], "--timeout"),
        (["echo", "hi", "--timeout=5s", "--dry-run", "--timeout=6s", "-q"], "--timeout, --dry-run"),
        (["--each-line=-", "--", "--dry-run"], "--dry-run"),
        (["--", "--timeout=5s", "echo"], "--timeout"),
    ],
)
def test_own_option_behind_the_command_is_a_warning(
    argv: list[str], names: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\n")))
    assert submit.main(["--dry-run", *argv]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert err == (
        f"zsched: {names}: part of the command, not an option of zsched submit, whose options come before the command;"
        " with `--` before the command this warning is not shown\n"
    )


def test_own_option_behind_the_command_of_edit_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    assert zsched.main(["edit", "--url=http://localhost:1", "12", "./backup.sh", "--timeout", "5s"]) == 4
    assert capsys.readouterr().err.startswith("zsched: --timeout: part of the command, not an option of zsched edit, ")


@pytest.mark.parametrize(
    "argv",
    [["git", "log", "--", "--name"], ["ls", "-la", "-q", "--color"], ["--", "make", "--dry-run"], ["--name=x", "true"]],
)
def test_words_behind_the_command_cause_no_warning(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert submit.main(["--dry-run", *argv]) == 0
    assert capsys.readouterr().err == ""


# A task for each line.


@pytest.mark.parametrize("option", ["--each", "--each-line"])
def test_the_lines_of_a_file_that_are_not_empty_are_tasks(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names"
    names.write_bytes("a b\r\n\n  \nä\nlast".encode())
    given = ["--dry-run", "--timeout=5s", "--array=%2", "--max-fails=0", f"{option}={names}"]
    assert submit.main([*given, "--json", "cat"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["cwd_hint"], len(made["umask_hint"])) == (str(placement.folder()), 4)
    assert (made["name"], made["command"], made["timeout"]) == ("cat", 'cat "$ZSCHED_ENTRY"', "5s")
    assert (made["array"], made["max_fails"], made["each"]) == ("%2", 0, ["a b", "ä", "last"])
    assert submit.main([*given, "--no-shell", "--json", "cat", "-n"]) == 0
    assert json.loads(capsys.readouterr().out)["argv"] == ["cat", "-n", "{}"]
    for command, shown in (
        (["cat", "-n"], "cat -n 'a b'"),
        (["--no-shell", "cat", "{}.x"], "cat 'a b.x'"),
        ([], "a b"),
    ):
        assert submit.main([*given, *command]) == 0
        assert capsys.readouterr().out.splitlines()[0] == shown


def test_an_array_without_a_command_has_the_name_of_its_file(tmp_path: Path) -> None:
    names = tmp_path / "commands.txt"
    body = submit.read_job(options.parse(PAGES["submit"], [f"--each={names}"]))
    assert (body["name"], body["command"]) == ("commands.txt", 'eval "$ZSCHED_ENTRY"')


def test_the_index_stands_where_the_braces_are(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["./sim", "--seed={}"], ["./sim --seed={}"]):
        assert submit.main(["--dry-run", "--array=0-3", *words]) == 0
        assert capsys.readouterr() == ('./sim --seed="$ZSCHED_TASK"\n', "")


def test_a_variable_among_several_words_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert submit.main(["--dry-run", "--array=0-3", "echo", "$ZSCHED_TASK"]) == 0
    out, err = capsys.readouterr()
    assert out == "echo '$ZSCHED_TASK'\n"
    assert err.startswith("zsched: $ZSCHED_TASK is quoted, so it stays as it is: write the command as one word")
    assert submit.main(["--dry-run", "--array=0-3", "sh", "-c", 'echo "$ZSCHED_TASK"']) == 0
    assert capsys.readouterr().err == ""


def test_a_file_without_lines_submits_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "names").write_text("\n \n")
    assert zsched.main(["submit", "--url=http://localhost:1", f"--each={tmp_path}/names"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"zsched: {tmp_path}/names has no line that is not empty, so nothing is submitted\n")


def test_a_line_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "names").write_bytes(b"good\nbad\xff\n")
    with pytest.raises(exits.Failure, match=r"line 2 of .* is not UTF-8"):
        list(submit.lines(str(tmp_path / "names")))


def test_utf8_bom_is_stripped_from_the_first_line_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "names").write_bytes(b"\xef\xbb\xbffirst\r\n\r\nthird")
    assert list(submit.lines(str(tmp_path / "names"))) == ["first", "third"]


@pytest.mark.parametrize(
    ("line", "fault"), [("a\0b", "a NUL character can't be passed"), ("x" * 16_385, "has 16385 bytes, at most 16384")]
)
def test_a_line_that_can_be_no_command_is_named(
    line: str, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "names").write_text(f"good\n\n{line}\n")
    assert zsched.main(["submit", "--dry-run", f"--each-line={tmp_path}/names"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"zsched: line 3 of {tmp_path}/names: ")
    assert fault in err


def test_wrong_line_of_stdin_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"good\nbad\xff\n")))
    with pytest.raises(exits.Failure, match=r"line 2 of stdin is not UTF-8"):
        list(submit.lines("-"))


def test_place_for_an_index_without_a_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        submit.main(["--dry-run", "--array=0-3", "--no-shell", "echo", "{}"])
    assert capsys.readouterr().err.startswith("zsched submit: {} stands for an entry here, and not for the index")


def test_folder_for_artifacts_is_named_when_it_can_not_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(exits.Failure, match=r"the folder .*/file can't be used: File exists"):
        artifacts.save(str(tmp_path / "file"), "out", b"", 0o644)


@pytest.mark.parametrize("command", ["submit", "run"])
def test_command_that_is_not_utf_8_is_reported(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert zsched.main([command, "--url=http://localhost:1", "echo \udcff"]) == 2
    assert capsys.readouterr() == ("", "zsched: a command must be UTF-8\n")


def test_a_file_that_is_not_there_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert zsched.main(["submit", "--each-line=/nowhere/names", "cat"]) == 1
    assert capsys.readouterr() == ("", "zsched: can't read /nowhere/names: No such file or directory\n")


# A cluster of its own.


def test_private_cluster_ignores_settings_of_the_host(tmp_path: Path) -> None:
    plan = cluster.private(tmp_path, workers=1, slots=2)
    texts = {"access": "w.access", "token_file": "token", "users": "root", "admin_token_file": "token", "db": "x.db"}
    hostile = "\n".join(
        [
            f"[{section}]\n"
            + "\n".join(f"{key.name} = {texts[key.name]}" for key in keys_of(section) if key.name in texts)
            for section in ("scheduler", "worker")
        ]
    )
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "all.ini").write_text(hostile)

    def settled(section: str, flags: Sequence[str]) -> dict[str, str]:
        given = dict(flag.removeprefix("--").split("=", 1) for flag in flags)
        found = settle(section, given, None, plan.environ, tmp_path / "host")
        return {name: setting.text for name, setting in found.items()}

    here = {"db": f"{tmp_path}/scheduler.db", "host": "127.0.0.1", "zmq_host": "127.0.0.1"}
    scheduler = settled("scheduler", plan.scheduler)
    defaults = {key.name: key.default for key in keys_of("scheduler")}
    assert scheduler == {**defaults, **here, "port": scheduler["port"], "zmq_port": scheduler["zmq_port"]}
    own = {"id": "worker-1", "state_dir": f"{tmp_path}/worker-1", "slots": "2", "shutdown_grace": "5s"}
    defaults = {key.name: key.default for key in keys_of("worker")}
    assert settled("worker", plan.workers["worker-1"]) == {**defaults, **own}


# Exit codes.


@pytest.mark.parametrize(
    ("ended", "code", "told"),
    [
        (job("success", reason="exit", exit_code=0), 0, "success"),
        (job("failed", reason="exit", exit_code=7), 7, "failed (exit code 7)"),
        (job("failed", reason="signal", signal=9), 137, "failed (signal 9, SIGKILL)"),
        (job("failed", reason="signal", signal=63), 191, "failed (signal 63, no name)"),
        (job("failed", reason="timeout", signal=15), 124, "failed (timeout)"),
        (job("cancelled", reason="cancelled", signal=15), 1, "cancelled"),
        (job("failed", reason="reported"), 1, "failed (reported)"),
        (job("failed", reason="reported", exit_code=4096), 1, "failed (exit code 4096)"),
        (job("failed", reason="crash_limit"), 125, "failed (crash_limit)"),
        (job("failed", reason="spawn_error", detail="no memory"), 125, "failed (spawn_error: no memory)"),
        (job("failed"), 125, "failed"),
    ],
)
def test_ended_job_gives_its_own_exit_code_or_128_and_the_signal(ended: Job, code: int, told: str) -> None:
    assert exits.of_job(ended) == code
    assert exits.describe_end(ended) == told


def test_held_task_is_shown_as_held() -> None:
    view = {"task": 3, "status": "pending", "held": True}
    assert exits.describe_task(Task(Client("http://localhost:1"), 12, view)) == "pending (held)"
    assert exits.describe_task(Task(Client("http://localhost:1"), 12, view | {"status": "success"})) == "success"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (exits.Failure("no", 1), 1),
        (Refused(401, "bad_token", "no"), 1),
        (Refused(403, "scope", "no"), 1),
        (Refused(409, "finished", "no"), 1),
        (Refused(503, "unavailable", "no"), 1),
        (Refused(400, "invalid_request", "no"), 2),
        (ClientError("no URL"), 2),
        (NotFound(404, "unknown_job", "no"), 3),
        (Unreachable("no"), 4),
        (WaitTimeout("no"), 124),
        (OSError(28, "No space left on device"), 1),
    ],
)
def test_each_error_is_one_line_and_has_its_exit_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exits.report(error) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"zsched: .*\n", err)


def test_unreachable_scheduler_is_reported_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    exits.report(Unreachable("no scheduler answers at http://localhost:8080: Connection refused", absent=True))
    assert "; start one with `zsched up`, or name another by --url or ZSCHED_URL" in capsys.readouterr().err
    exits.report(Unreachable("no scheduler answers at http://localhost:8080: timed out"))
    assert capsys.readouterr().err.endswith(": timed out; check --url or ZSCHED_URL\n")


def test_bug_of_the_program_is_not_hidden_in_a_sentence() -> None:
    with pytest.raises(LookupError):
        exits.report(LookupError("bug"))


def test_a_sentence_can_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    exits.say("job \x1b[2J\x9b1m\x07x")
    assert capsys.readouterr().err == "zsched: job x\n"


# Text that jobs wrote.


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07ok\x1b]8;;http://x\x1b\\link", "oklink"),
        ("\x1b(B\x1b7a\x1bc", "a"),
        ("\x9b31mred\x90q\x9cz", "redz"),
        ("10%\r20%\r\nend\r\r\n", "10%\n20%\nend\n"),
        ("a\x00\x07\x08\x7f\x1bz", "a"),
        ("\x1b]never ended\nnext", "]never ended\nnext"),
        ("abc\u202egnp.exe\u2066", "abcgnp.exe"),
        ("a\u061cb\u2028c\u2029d\u200be\ufefff\u00adg\U000e0041h\u2060i", "abcdefghi"),
        ("\u3164\u115f\u1160\uffa0\u034f", ""),
        # Part of a number in Arabic, and seen.
        ("\u0600\u0661", "\u0600\u0661"),
        ("äöü 漢字 🎈", "äöü 漢字 🎈"),
    ],
)
def test_a_terminal_gets_text_without_what_would_steer_it(raw: str, shown: str) -> None:
    assert text.clean(raw) == shown


def test_invisible_characters_are_those_of_unicode() -> None:
    formats = [char for char in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(char) in ("Cf", "Zl", "Zp")]
    # The marks that stand before a number or a word and are drawn (Prepended_Concatenation_Mark).
    drawn = set("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
    assert {char for char in formats if text.clean(char)} == drawn


def test_joiners_of_scripts_and_emoji_are_kept_in_output_but_not_in_names() -> None:
    written = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f468\u200d\U0001f467"
    assert text.Cleaner().feed(written.encode(), end=True) == written
    assert text.line(written) == written.replace("\u200c", "").replace("\u200d", "")


@pytest.mark.parametrize(
    "raw", ["\x1b[1;31mred\x1b[0m ä\n", "\x1b]0;title\x07ok\r\n", "a\rb\x1b]8;;x\x1b\\c 🎈\n", "\x1b[38;5;200mX"]
)
def test_wherever_a_stream_is_cut_it_is_cleaned_as_a_whole(raw: str) -> None:
    data = raw.encode()
    for cut in range(len(data) + 1):
        cleaner = text.Cleaner()
        assert cleaner.feed(data[:cut]) + cleaner.feed(data[cut:], end=True) == text.clean(raw)


def test_a_sequence_without_end_holds_back_no_more_than_its_bound() -> None:
    cleaner = text.Cleaner()
    assert cleaner.feed(b"\x1b]" + b"x" * (CONTROL_CHARS_MAX + 1)).startswith("]xxx")


def test_cleaning_takes_time_in_proportion_to_the_text() -> None:
    before = time.process_time()
    assert text.Cleaner().feed(b"\r" * 100_000 + b"x") == "\nx"
    # Some milliseconds, where looking anew at each character would take half a minute.
    assert time.process_time() - before < 5


def test_a_stream_ends_with_what_was_held_back() -> None:
    cleaner = text.Cleaner()
    assert cleaner.feed(b"50%\r") == "50%"
    assert cleaner.feed(b"\xc3", end=True) == "\n\ufffd"


def test_text_in_a_table_stays_on_its_line() -> None:
    assert text.line("a\n\tb\x1b[1mc\r") == "a bc"


@pytest.mark.parametrize(
    ("data", "count", "expected"),
    [
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc", 2, b"b\nc"),
        (b"a\n", 5, b"a\n"),
        (b"a\nb\n", 0, b""),
        (b"", 3, b""),
    ],
)
def test_the_last_lines(data: bytes, count: int, expected: bytes) -> None:
    assert watching.last_lines(data, count) == expected


# What is shown.


class Screen(io.StringIO):
    """A stdout that says it is a terminal."""

    def isatty(self) -> bool:
        return True


ROWS: Sequence[Sequence[object]] = ((9, "success", "a\x1b[2J [bold]b"), (10, None, "c"))


def test_table_is_plain_columns_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table.show(("job", "status", "name"), ROWS)
    assert capsys.readouterr().out.splitlines() == ["job  status   name", "  9  success  a [bold]b", " 10           c"]


def test_a_table_without_rows_is_its_head(capsys: pytest.CaptureFixture[str]) -> None:
    table.show(("job", "name"), ())
    assert capsys.readouterr().out == "job  name\n"


def test_a_table_on_a_terminal_has_colours_but_none_of_a_jobs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", screen := Screen())
    table.show(("job", "status", "name"), ROWS)
    assert "\x1b[32msuccess" in screen.getvalue()
    assert "\x1b[2J" not in screen.getvalue()
    assert "a [bold]b" in screen.getvalue()


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", screen := Screen())
    table.show(("job", "status", "name"), ROWS)
    assert "\x1b[3" not in screen.getvalue()


def test_json_can_not_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table.document({"name": "\x1b[2J\u202e\x9b"})
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    assert json.loads(out) == {"name": "\x1b[2J\u202e\x9b"}


def test_bytes_are_written_unchanged_without_a_terminal() -> None:
    out = io.TextIOWrapper(io.BytesIO())
    data = b"\x00\xff\x1b[31m\r\n"
    watching.Plain({"stdout": out}).write(1, "stdout", Chunk(0, data, len(data), True), 0)
    out.buffer.seek(0)
    assert out.buffer.read() == data


def test_bytes_that_were_not_kept_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.TextIOWrapper(io.BytesIO())
    watching.Plain({"stdout": out}).write(1, "stdout", Chunk(500, b"x", 501, True), 400)
    assert capsys.readouterr().err == "zsched: 400 bytes of stdout left out here: not kept\n"


def test_signal_during_the_start_of_a_process_counts_when_it_is_noted() -> None:
    noted = False
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        try:
            with cluster.signals_deferred():
                signal.raise_signal(signal.SIGTERM)
                noted = True
            pytest.fail("the signal was lost")
        except KeyboardInterrupt:
            assert noted
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


# The manual pages.


@pytest.mark.parametrize("name", zsched.COMMANDS)
def test_manual_page_lists_exit_codes_fits_a_terminal_and_is_mentioned(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = PAGES[name]
    # docopt takes `usage:` for the begin of its section.
    assert page.startswith(f"zsched {name}{' -' if name == 'usage' else ':'} ")
    assert max(map(len, page.splitlines())) <= 120
    assert "Exit codes:" in page or name == "version"
    assert re.search(rf"^  {name} +[A-Z]", zsched.__doc__ or "", re.MULTILINE)
    with pytest.raises(SystemExit) as caught:
        zsched.main([name, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == page.strip() + "\n"


@pytest.mark.parametrize("name", zsched.COMMANDS)
def test_the_reference_has_every_command_and_option(name: str) -> None:
    sections = re.findall(rf"^### `zsched {name}.*?(?=^##|\Z)", DOC.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert sections
    declared = re.findall(r"^  (?:-\w, )?(--[a-z-]+)", PAGES[name], re.MULTILINE)
    everywhere, text = {"--help", "--url", "--json", "--quiet"}, "".join(sections)
    assert [option for option in declared if option not in text and option not in everywhere] == []


def test_the_module_of_the_client_is_handed_out_by_the_package() -> None:
    package = import_module("zsched")
    assert package.Client is client_module.Client
    with pytest.raises(AttributeError, match="has no attribute 'Clinet'"):
        _ = package.Clinet


def test_worker_that_announced_its_end_is_shown_as_leaving_until_gone() -> None:
    assert workers.state({"status": "active"}) == "active"
    assert workers.state({"status": "active", "leaving_at": "2026-11-24T08:20:00.000Z"}) == "leaving"
    assert workers.state({"status": "inactive", "leaving_at": "2026-11-24T08:20:00.000Z"}) == "inactive"


def test_folder_relative_to_one_that_is_gone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert zsched.main(["submit", "--dry-run", "--cwd", "x", "true"]) == 2
    assert "--cwd x: your own folder is gone" in capsys.readouterr().err
    assert zsched.main(["submit", "--dry-run", "--json", "--cwd", "/x", "true"]) == 0
    assert json.loads(capsys.readouterr().out)["cwd"] == "/x"


def test_refusal_that_the_command_does_not_know_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    groups = {name: Group(1, Spans(((7, 7),))) for name in ("done", "finished", "new_code")}
    act = acting.Act("cancel", {"done": "cancelled"}, {"finished": "{count} had already ended: {jobs}"}, ("finished",))
    acting.complain(groups, act, quiet=True)
    assert capsys.readouterr().err == "zsched: 1 were refused as new_code: 7\n"


def test_files_of_a_folder_are_put_below_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "in").mkdir(parents=True)
    (tmp_path / "data" / "in" / "b").write_text("b")
    (tmp_path / "data" / "a~").write_text("a")
    assert list(placement.own_files(["data"])) == ["data/a~", "data/in/b"]
    assert list(placement.own_files(["data/:x/y"])) == ["x/y/a~", "x/y/in/b"]
    assert list(placement.own_files(["."])) == ["data/a~", "data/in/b"]
    assert list(placement.own_files(["data/in/..", "data/a~:c"])) == ["a~", "in/b", "c"]
    monkeypatch.chdir(tmp_path / "data")
    assert placement.own_files(["."])["in/b"]["base64"] == "Yg=="


def test_folder_that_can_not_be_put_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()

    def refusal() -> str:
        with pytest.raises(Failure) as failure:
            placement.own_files([str(folder)])
        assert failure.value.code == 2
        return str(failure.value).replace(str(folder), "data")

    assert refusal() == "--put: data has no files"
    os.mkfifo(folder / "pipe")
    assert refusal() == "--put: data/pipe is not a regular file"
    (folder / "pipe").unlink()
    (folder / "link").symlink_to(tmp_path)
    assert refusal() == "--put: data/link is a link to a folder: name the folder by its own --put"
    (folder / "link").unlink()
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).write_text("")
    assert refusal().endswith("is not UTF-8: rename it")
    for number in range(257):
        (folder / f"{number}").write_text("")
    (folder / os.fsdecode(b"\xff")).unlink()
    assert refusal() == "--put: data has more than 256 files: pack them into an archive"
