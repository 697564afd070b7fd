"""Command lines: what a person types, and how wrong usage is told."""

from __future__ import annotations

import importlib
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from zsched import __version__
from zsched.commands import options, scheduler, worker, zsched
from zsched.config.config import scheduler_config
from zsched.config.settings import keys_of
from zsched.host import logs

DOC = """a program

Usage:
  program [options] [<cmd>...]

Options:
  --id=NAME      A name.
  --port=PORT    A port.
  -q, --quiet    Say less.
  -n COUNT, --count=COUNT  How many.
  -h, --help     Show this.
  --version      Show the version.
"""
PAGES = {"scheduler": scheduler.__doc__ or "", "worker": worker.__doc__ or ""}


@pytest.mark.parametrize(
    "argv",
    [
        ["-port", "80"],
        ["-port=80"],
        ["--port", "80"],
        ["--port=80"],
        ["-port", "1", "-port", "80"],
    ],
)
def test_a_long_option_takes_one_dash_or_two_and_the_last_one_counts(argv: list[str]) -> None:
    assert options.parse(DOC, argv)["--port"] == "80"


@pytest.mark.parametrize("argv", [["-q", "-n", "3"], ["--quiet", "-n=3"], ["-quiet", "-count", "3"]])
def test_letters_stay_letters(argv: list[str]) -> None:
    found = options.parse(DOC, argv)
    assert found["--quiet"] is True
    assert found["--count"] == "3"


def test_a_value_may_begin_with_a_dash_or_be_empty(capsys: pytest.CaptureFixture[str]) -> None:
    found = options.parse(DOC, ["-id", "-port", "-port="])
    assert found["--id"] == "-port"
    assert found["--port"] == ""


@pytest.mark.parametrize("argv", [["-q", "ls", "-port", "-x"], ["-q", "--", "ls", "-port", "-x"]])
def test_the_words_of_a_command_are_left_alone(argv: list[str]) -> None:
    found = options.parse(DOC, argv)
    assert found["--quiet"] is True
    assert found["--port"] is None
    words = found["<cmd>"]
    assert isinstance(words, list)
    assert [word for word in words if word != "--"] == ["ls", "-port", "-x"]


LED = DOC.replace("[<cmd>...]", "<job> [<cmd>...]")


@pytest.mark.parametrize(
    ("argv", "quiet", "words"),
    [
        (["-q", "12", "ls", "-q"], True, ["ls", "-q"]),
        (["12", "-q", "ls", "-port", "1"], True, ["ls", "-port", "1"]),
        (["12", "-q", "--", "-x"], True, ["-x"]),
        (["12", "ls", "-q"], False, ["ls", "-q"]),
        (["--", "12", "ls", "-q"], False, ["ls", "-q"]),
        (["12", "-q"], True, []),
    ],
)
def test_options_may_follow_a_word_that_leads_a_command(argv: list[str], quiet: bool, words: list[str]) -> None:
    found = options.parse(LED, argv, lead=1)
    assert (found["<job>"], found["--quiet"], options.words(found, "<cmd>")) == ("12", quiet, words)
    assert found["--port"] is None


REPEATED = """a program

Usage:
  program [--to=NAME]... [--port=PORT] [<word>]

Options:
  --to=NAME...  A name, or several.
  --port=PORT   A port.
"""


@pytest.mark.parametrize("mixed", [False, True])
def test_an_option_that_its_page_has_repeat_keeps_all_its_values(mixed: bool) -> None:
    argv = ["-to", "a", "--port=1", "--to=b", "--port=2", *(["w", "--to", "c"] if mixed else ["w"])]
    found = options.parse(REPEATED, argv, mixed=mixed)
    assert options.words(found, "--to") == ["a", "b", "c"][: 3 if mixed else 2]
    assert found["--port"] == "2"
    assert options.words(options.parse(REPEATED, []), "--to") == []


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["-prot", "80"], "no option -prot; did you mean -port?"),
        (["--por=80"], "no option --por; did you mean --port?"),
        (["-xyz"], "no option -xyz; --help lists them all"),
        (["--port"], "--port needs a value"),
        (["-port"], "-port needs a value"),
        (["-quiet=yes"], "-quiet takes no value"),
    ],
)
def test_wrong_usage_is_one_line_then_the_usage_and_exits_2(
    argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        options.parse(DOC, argv)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"program: {sentence}\nUsage:\n  program [options] [<cmd>...]\n")


def test_the_page_of_a_subcommand_reads_what_stands_after_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    doc = "Usage:\n  zsched demo [options] [<word>]\n\nOptions:\n  --fast  Hurry.\n"
    found = options.parse(doc, ["-fast", "x"])
    assert (found["--fast"], found["<word>"]) == (True, "x")
    with pytest.raises(SystemExit):
        options.parse(doc, ["-fats"])
    assert capsys.readouterr().err.startswith("zsched demo: no option -fats; did you mean -fast?\n")


def test_words_that_a_program_does_not_take_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        options.parse(PAGES["worker"], ["-id", "w", "start"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("zsched-worker: ")


@pytest.mark.parametrize("argv", [["-h"], ["-help"], ["--help"], ["-port", "1", "--help"]])
def test_help_is_the_manual_page_on_stdout(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        options.parse(DOC, argv)
    assert caught.value.code == 0
    assert capsys.readouterr() == (DOC.strip() + "\n", "")


def test_version_is_one_line_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        options.parse(DOC, ["-version"])
    assert caught.value.code == 0
    assert capsys.readouterr() == (f"zsched {__version__}\n", "")


@pytest.mark.parametrize("section", ["scheduler", "worker"])
def test_every_key_is_an_option_on_the_manual_page_with_its_default(section: str) -> None:
    for key in keys_of(section):
        match = re.search(rf"^  --{key.flag}={key.metavar} +(.+)$", PAGES[section], re.MULTILINE)
        assert match is not None, f"{section} has no --{key.flag}={key.metavar}"
        assert match[1].endswith(f"({key.default}).") or not key.default


@pytest.mark.parametrize("section", ["scheduler", "worker"])
def test_manual_page_has_an_option_only_for_a_key(section: str) -> None:
    declared = re.findall(r"^  (?:-\w, )?--([a-z-]+)", PAGES[section], re.MULTILINE)
    assert declared == [*(key.flag for key in keys_of(section)), "config", "help", "version"]


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_manual_page_fits_a_terminal_of_120_columns(page: str) -> None:
    assert max(map(len, page.splitlines())) <= 120


def test_a_wrong_setting_is_one_line_then_the_usage_and_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        options.load(PAGES["scheduler"], ["-port", "http"], "scheduler", scheduler_config)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(
        "zsched-scheduler: -port: invalid number 'http': use 0 to 65535\nUsage:\n"
    )


def test_every_command_of_zsched_is_a_module_and_stands_on_its_manual_page() -> None:
    page = zsched.__doc__ or ""
    commands = page.partition("Commands:\n")[2].partition("\n\n")[0]
    assert tuple(re.findall(r"^  (\w+)  ", commands, re.MULTILINE)) == zsched.COMMANDS
    for command in zsched.COMMANDS:
        module = importlib.import_module(f"zsched.commands.{command}")
        assert callable(module.main)
        # docopt takes `usage:` for the begin of its section.
        assert (module.__doc__ or "").startswith(f"zsched {command}{' -' if command == 'usage' else ':'} ")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [([], "missing command; --help lists them all"), (["dem"], "no command dem; did you mean demo?")],
)
def test_zsched_without_a_command_that_exists_is_wrong_usage(
    argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        zsched.main(argv)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(f"zsched: {sentence}\nUsage:\n")


def test_zsched_version_is_one_line_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert zsched.main(["version"]) == 0
    assert capsys.readouterr() == (f"zsched {__version__}\n", "")


# --- Log lines --------------------------------------------------------------------------------------------------------


class Written:
    """A file that log lines go to."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def fileno(self) -> int:
        return self._file.fileno()

    def text(self) -> str:
        """All that was logged."""
        logging.getLogger().handlers[0].flush()
        return Path(self._file.name).read_text("utf-8")


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    """Where log lines go; afterwards the root logger is as it was."""
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    root.handlers.clear()
    with (tmp_path / "log").open("wb") as file:
        yield Written(file)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising


def test_a_record_is_one_line_whatever_it_holds(written: Written) -> None:
    logs.start("INFO", written.fileno())
    logging.getLogger("zsched.x").warning("worker %s lost", "w1\n2026 INFO forged\x1b[2J\x85\u2028")
    line = written.text()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARN zsched\.x: .*\n", line)
    assert line.endswith(r"worker w1\n2026 INFO forged\x1b[2J\x85\u2028 lost" + "\n")


def test_a_traceback_stays_on_the_line_of_its_record(written: Written) -> None:
    logs.start("INFO", written.fileno())
    try:
        raise LookupError("gone")
    except LookupError:
        logging.getLogger("zsched.x").exception("turn failed")
    assert written.text().count("\n") == 1
    assert written.text().endswith(r"LookupError: gone" + "\n")


def test_the_level_is_the_least_that_is_logged(written: Written) -> None:
    logs.start("WARN", written.fileno())
    logging.getLogger("zsched.x").info("no")
    logging.getLogger("zsched.x").error("yes")
    assert written.text().endswith("ERROR zsched.x: yes\n")
    assert "no" not in written.text()


def test_a_program_started_as_a_module_logs_under_its_own_name(written: Written) -> None:
    # pytest is such a program here: python -m pytest.
    spec = sys.modules["__main__"].__spec__
    logs.start("INFO", written.fileno())
    logging.getLogger("__main__").info("here")
    assert written.text().endswith(f"INFO {spec.name if spec else '__main__'}: here\n")
