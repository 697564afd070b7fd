"""Command lines: docopt parses them by the manual page. This module accepts several forms, and exact names only.

Called by every program. A long option takes one dash or two, its value a space or `=`, and the last one given counts:
`-port 8080`, `-port=8080`, `--port 8080`. A name must be exact. Wrong usage ends the program with an error line,
the usage and exit code 2; `--help` and `--version` end it with 0.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, TypeVar

from docopt import DocoptExit, docopt

from zsched import __version__

# Commands run by hand have no configuration and must start fast.
if TYPE_CHECKING:
    from pathlib import Path

    from zsched.commands.selection import Selection
    from zsched.config.config import Loaded

EXIT_USAGE: Final = 2

# Longer numbers are refused: JSON would not carry them exactly.
_DIGITS_MAX: Final = 16

# Options of `submit` alone.
_OF_ARRAYS: Final = ("array", "each", "each-line", "max-fails")

# docopt's value for a name of the manual page: text, a switch, a count, several values, or nothing.
Value = str | bool | int | list[str] | None
WordT = TypeVar("WordT", bound=str)
ConfigT = TypeVar("ConfigT")

# A line of the manual page that declares an option: `  -q, --quiet  …` or `  --port=PORT  …`.
_DECLARED: Final = re.compile(r"^ +(?:-(\w)(?: [A-Z]+)?, )?--([a-z][a-z0-9-]*)(=\S+)?", re.MULTILINE)
_PROGRAM: Final = re.compile(r"^usage:\s+(\S+(?: [a-z]+)?)", re.MULTILINE | re.IGNORECASE)


def parse(doc: str, argv: Sequence[str], *, mixed: bool = False, lead: int = 0) -> dict[str, Value]:
    """Parse arguments by a manual page. The result has options by their long name with dashes, as docopt does.

    Options end at the first other word, because a job's command has options of its own. `mixed`: options may stand
    between and after the words, for pages that take no command. `lead`: the number of words in front of the command;
    options may be mixed with these.
    """
    try:
        declared = _declared(doc)
        given, words = anywhere(argv, declared, None if mixed else lead) if mixed or lead else exact(argv, declared)
        if "--help" in given:
            print(_page(doc), flush=True)
            raise SystemExit(0)
        if "--version" in given:
            print(f"zsched {__version__}", flush=True)
            raise SystemExit(0)
        # Positionally, so that docopt and its kept fork docopt-ng, which renamed these arguments, both do.
        return dict(docopt(doc, [*given, *program(doc).split()[1:], *words], False, None, True))
    except DocoptExit:
        from zsched.commands.misfit import explain_misfit

        fail(doc, explain_misfit(doc, program(doc), given, words))
    except ValueError as error:
        fail(doc, str(error))


def load(
    doc: str,
    argv: Sequence[str],
    section: str,
    loader: Callable[[Mapping[str, str], Path | None, Mapping[str, str]], Loaded[ConfigT]],
) -> Loaded[ConfigT]:
    """The configuration of a program. Its manual page has `--config=FILE`, and an option for each key of `section`."""
    from pathlib import Path

    from zsched.config.config import ConfigError
    from zsched.config.settings import keys_of

    arguments = parse(doc, argv)
    named = {key.flag: arguments[f"--{key.flag}"] for key in keys_of(section)}
    file = arguments["--config"]
    try:
        return loader(
            {flag: text for flag, text in named.items() if isinstance(text, str)},
            Path(file) if isinstance(file, str) else None,
            os.environ,
        )
    except ConfigError as error:
        fail(doc, str(error))


def text(arguments: Mapping[str, Value], name: str) -> str | None:
    """The value of an option or argument; None if it is absent."""
    value = arguments[name]
    assert value is None or isinstance(value, str)
    return value


def words(arguments: Mapping[str, Value], name: str) -> list[str]:
    """The values of a repeatable option or argument, without a leading `--`."""
    value = arguments[name]
    assert isinstance(value, list)
    return value[1:] if value[:1] == ["--"] else value


def warn_of_own(doc: str, argv: Sequence[str], command: Sequence[str]) -> None:
    """Warn on stderr when a word of the command is one of the program's own options, which come before it.

    With `--` before the command there is no warning, unless the command itself begins with such an option.
    """
    behind = command[:1] if "--" in argv else command[1:]
    declared = _declared(doc)
    own = [_dashed(word) for word in behind if word.startswith("--") and _dashed(word).removeprefix("--") in declared]
    if own:
        from zsched.commands.exits import say

        say(
            f"{', '.join(dict.fromkeys(own))}: part of the command, not an option of {program(doc)}, whose options come"
            " before the command; with `--` before the command this warning is not shown"
        )


def demand_filled(doc: str, arguments: Mapping[str, Value], *names: str) -> None:
    """End the program for wrong usage if one of these options is empty: a script's variable may be unset."""
    for name in names:
        value = arguments[name]
        if isinstance(value, str) and not value.strip():
            fail(doc, f"{name} is empty")


def choice(doc: str, arguments: Mapping[str, Value], name: str, words: tuple[WordT, ...]) -> WordT | None:
    """The value of an option that takes one of `words`; None if it is absent. Another value is wrong usage."""
    value = text(arguments, name)
    for word in words:
        if value == word:
            return word
    if value is not None:
        fail(doc, f"invalid {name} {value!r}: use {', '.join(words)}")
    return None


def number(doc: str, arguments: Mapping[str, Value], name: str, least: int = 1, also: str = "") -> int | None:
    """The value of an option as a whole number; None if it is absent. Another value is wrong usage. `also`: other
    values that the option takes, for the error message.
    """
    value = text(arguments, name)
    if value is None:
        return None
    whole = value.isascii() and value.isdigit()
    if whole and len(value) > _DIGITS_MAX:
        fail(doc, f"invalid {name} {value[:64]}: too large")
    if not whole or int(value) < least:
        fail(doc, f"invalid {name} {value!r}: use a whole number, {least} or more{also}")
    return int(value)


def seconds(doc: str, arguments: Mapping[str, Value], name: str) -> float | None:
    """The value of a duration option in seconds; None if it is absent. Another value is wrong usage."""
    value = text(arguments, name)
    if value is None:
        return None
    from zsched.model.units import parse_duration_ms

    try:
        return parse_duration_ms(value) / 1000
    except ValueError as error:
        fail(doc, f"{name}: {error}")


def selected(doc: str, arguments: Mapping[str, Value], *, tasks: bool = False) -> Selection:
    """The jobs that the argument <selector> names; with `tasks`, also tasks of them. An invalid one is wrong usage."""
    from zsched.commands import selection

    try:
        chosen = selection.parse(words(arguments, "<selector>"))
    except ValueError as error:
        fail(doc, str(error))
    if chosen.tasks and not tasks:
        fail(doc, f"{chosen.tasks[0]} names tasks; name whole jobs")
    return chosen


def owner(doc: str, arguments: Mapping[str, Value], chosen: Selection) -> str | None:
    """The owner for the selector `all`: `me`, or None for all owners. `--all-owners` without `all` is wrong usage."""
    if not arguments["--all-owners"]:
        return "me"
    if not chosen.every:
        fail(doc, "--all-owners is for the selector all")
    return None


def single(doc: str, arguments: Mapping[str, Value], *, tasks: bool = False) -> Selection:
    """The job that the argument <job> names; with `tasks`, it may name a task. Anything but exactly one is wrong
    usage.
    """
    from zsched.commands import selection

    try:
        return selection.single(text(arguments, "<job>") or "", tasks=tasks)
    except ValueError as error:
        fail(doc, str(error))


def single_or_flow(doc: str, arguments: Mapping[str, Value]) -> Selection:
    """The job, the task or the flow that the argument <job> names. Anything but exactly one is wrong usage."""
    from zsched.commands import selection

    word = text(arguments, "<job>") or ""
    try:
        return selection.single_flow(word) or selection.single(word, tasks=True)
    except ValueError as error:
        fail(doc, str(error))


def fail(doc: str, sentence: str) -> NoReturn:
    """End the program for wrong usage: print the message and the usage to stderr; exit code 2."""
    usage = re.search(r"^usage:.*?(?=\n\s*\n|\Z)", doc, re.MULTILINE | re.IGNORECASE | re.DOTALL)
    print(f"{program(doc)}: {sentence}\n{usage[0] if usage else ''}", file=sys.stderr)
    raise SystemExit(EXIT_USAGE)


def _page(doc: str) -> str:
    """The manual page, as wide as the terminal."""
    page = doc.strip()
    if not sys.stdout.isatty():
        return page
    import shutil

    from zsched.commands.manual import fitted

    return fitted(page, shutil.get_terminal_size().columns)


def program(doc: str) -> str:
    """The program's name, with the subcommand if there is one, from the usage of the manual page."""
    match = _PROGRAM.search(doc)
    assert match is not None
    return match[1]


class Option(NamedTuple):
    """An option of a manual page: its long name without dashes, whether it takes a value, and whether it may be
    repeated (`--scope=SCOPE...`).
    """

    name: str
    takes_value: bool
    repeats: bool


def exact(argv: Sequence[str], declared: Mapping[str, Option]) -> tuple[list[str], list[str]]:
    """The options before `--` or the first other word, as `--name` or `--name=value`, and the rest.

    `declared` has each option by its name and by its letter. If an option is given twice, the last one counts, so that
    a script may append to a command line; repeatable options keep all. Raises ValueError with a message for an unknown
    option, and for a missing or unexpected value.
    """
    options: dict[str, list[str]] = {}
    words = list(argv)
    while words and words[0].startswith("-") and words[0] not in ("-", "--"):
        word = words.pop(0)
        name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
        option = declared.get(name)
        if option is None:
            raise ValueError(f"no option {_dashed(word)}{_suggestion(word, declared)}")
        if equals and not option.takes_value:
            raise ValueError(f"{_dashed(word)} takes no value")
        if option.takes_value and not equals:
            if not words:
                raise ValueError(f"{_dashed(word)} needs a value")
            value = words.pop(0)
        before = options.get(option.name, []) if option.repeats else []
        options[option.name] = [*before, f"--{option.name}={value}" if option.takes_value else f"--{option.name}"]
    return [written for several in options.values() for written in several], words


def anywhere(
    argv: Sequence[str], declared: Mapping[str, Option], words_max: int | None = None
) -> tuple[list[str], list[str]]:
    """As `exact`, but options may also stand between and after the words, up to `--`. Raises ValueError.

    `words_max`: arguments after this number of words, and the options before the next one, are left as they are.
    """
    options: list[str] = []
    words: list[str] = []
    rest = list(argv)
    while rest:
        given, rest = exact(rest, declared)
        again = {name for name in map(_name, given) if not declared[name].repeats}
        options = [*(old for old in options if _name(old) not in again), *given]
        if rest[:1] == ["--"]:
            words += rest[1:]
            break
        if len(words) == words_max:
            words += rest
            break
        words += rest[:1]
        rest = rest[1:]
    return options, words


def _name(written: str) -> str:
    """The name of an option in the form that `exact` returns."""
    return written.removeprefix("--").partition("=")[0]


def _declared(doc: str) -> dict[str, Option]:
    declared = {}
    for letter, name, value in _DECLARED.findall(doc):
        declared[name] = Option(name, bool(value), value.endswith("..."))
        if letter:
            declared[letter] = declared[name]
    return declared


def _dashed(word: str) -> str:
    """An option as typed, without its value."""
    return word.partition("=")[0]


def _suggestion(word: str, declared: Mapping[str, Option]) -> str:
    from zsched.model.spelling import suggestion

    name = _dashed(word).lstrip("-")
    if name in _OF_ARRAYS and name not in declared:
        return "; an array is submitted by `zsched submit`, with --wait if you like"
    # At 0.6, the default, --at would be taken for --wait.
    form = _dashed(word).removesuffix(name) + "{}"
    return "; " + suggestion(name, declared, "--help lists them all", form=form, cutoff=0.7)
