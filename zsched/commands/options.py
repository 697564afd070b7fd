"""Command lines: docopt reads them by the manual page; this module makes them forgiving in form and strict in names.

Called by every program. A long option takes one dash or two, its value a space or `=`, and the last one given counts:
`-port 8080`, `-port=8080`, `--port 8080`. A name must be exact. Wrong usage ends the program: one line that says what
is wrong, the usage, exit code 2; `--help` and `--version` end it with 0.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, TypeVar

from docopt import DocoptExit, docopt

from zsched import __version__

# Commands that are run by hand have no configuration, and shall be there at once.
if TYPE_CHECKING:
    from pathlib import Path

    from zsched.commands.selection import Selection
    from zsched.config.config import Loaded

EXIT_USAGE: Final = 2

# What has more is no number of anything here, and JSON would not carry it.
_DIGITS_MAX: Final = 16

# What docopt finds for one name of the manual page: a value, a switch, how often, several values, nothing.
Value = str | bool | int | list[str] | None
WordT = TypeVar("WordT", bound=str)
ConfigT = TypeVar("ConfigT")

# A line of the manual page that declares an option: `  -q, --quiet  …` or `  --port=PORT  …`.
_DECLARED: Final = re.compile(r"^ +(?:-(\w)(?: [A-Z]+)?, )?--([a-z][a-z0-9-]*)(=\S+)?", re.MULTILINE)
_PROGRAM: Final = re.compile(r"^usage:\s+(\S+(?: [a-z]+)?)", re.MULTILINE | re.IGNORECASE)


def parse(doc: str, argv: Sequence[str], *, mixed: bool = False, lead: int = 0) -> dict[str, Value]:
    """Read the arguments of a program by its manual page; options by long name with dashes, as docopt has it.

    Options stand before the first word that is none, so that a command's own options stay its own; where no command
    is taken they may be `mixed` with the words. `lead`: the number of words in front of the command, with which options
    may be mixed.
    """
    try:
        declared = _declared(doc)
        given, words = anywhere(argv, declared, None if mixed else lead) if mixed or lead else exact(argv, declared)
        if "--help" in given:
            print(doc.strip(), flush=True)
            raise SystemExit(0)
        if "--version" in given:
            print(f"zsched {__version__}", flush=True)
            raise SystemExit(0)
        # Positionally, so that docopt and its kept fork docopt-ng, which renamed these arguments, both do.
        return dict(docopt(doc, [*given, *program(doc).split()[1:], *words], False, None, True))
    except DocoptExit:
        from zsched.commands.usage import misfit

        fail(doc, misfit(doc, program(doc), given, words))
    except ValueError as error:
        fail(doc, str(error))


def load(
    doc: str,
    argv: Sequence[str],
    section: str,
    loader: Callable[[Mapping[str, str], Path | None, Mapping[str, str]], Loaded[ConfigT]],
) -> Loaded[ConfigT]:
    """The configuration of a program whose manual page has `--config=FILE` and every key of a section as an option."""
    from pathlib import Path

    from zsched.config.config import ConfigError
    from zsched.config.settings import keys_of

    found = parse(doc, argv)
    named = {key.flag: found[f"--{key.flag}"] for key in keys_of(section)}
    file = found["--config"]
    try:
        return loader(
            {flag: text for flag, text in named.items() if isinstance(text, str)},
            Path(file) if isinstance(file, str) else None,
            os.environ,
        )
    except ConfigError as error:
        fail(doc, str(error))


def text(found: Mapping[str, Value], name: str) -> str | None:
    """The value of an option or argument; None when it was not given."""
    value = found[name]
    assert value is None or isinstance(value, str)
    return value


def words(found: Mapping[str, Value], name: str) -> list[str]:
    """The values of an argument that may be given several times; without the `--` in front of them."""
    value = found[name]
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


def choice(doc: str, found: Mapping[str, Value], name: str, words: tuple[WordT, ...]) -> WordT | None:
    """The value of an option that is one of some words; None when it was not given. Another value is wrong usage."""
    value = text(found, name)
    for word in words:
        if value == word:
            return word
    if value is not None:
        fail(doc, f"invalid {name} {value!r}: use {', '.join(words)}")
    return None


def number(doc: str, found: Mapping[str, Value], name: str, least: int = 1, also: str = "") -> int | None:
    """The value of an option as a whole number; None when it was not given. Another value is wrong usage. `also`: what
    else the option takes, for that sentence.
    """
    value = text(found, name)
    if value is None:
        return None
    whole = value.isascii() and value.isdigit()
    if whole and len(value) > _DIGITS_MAX:
        fail(doc, f"{name}: {value} is too large")
    if not whole or int(value) < least:
        fail(doc, f"{name}: {value!r} is no whole number of {least} or more{also}")
    return int(value)


def seconds(doc: str, found: Mapping[str, Value], name: str) -> float | None:
    """The value of an option that is a duration; None when it was not given. Another value is wrong usage."""
    value = text(found, name)
    if value is None:
        return None
    from zsched.model.units import parse_duration_ms

    try:
        return parse_duration_ms(value) / 1000
    except ValueError as error:
        fail(doc, f"{name}: {error}")


def selected(doc: str, found: Mapping[str, Value]) -> Selection:
    """The jobs that the argument <selector> names. What names none is wrong usage."""
    from zsched.commands import selection

    try:
        return selection.parse(words(found, "<selector>"))
    except ValueError as error:
        fail(doc, str(error))


def owner(doc: str, found: Mapping[str, Value], chosen: Selection) -> str | None:
    """The owner whose jobs `all` means, for selection.resolve. `--all-owners` without `all` is wrong usage."""
    if not found["--all-owners"]:
        return "me"
    if not chosen.every:
        fail(doc, "--all-owners is for the selector all")
    return None


def single(doc: str, found: Mapping[str, Value]) -> Selection:
    """The job that the argument <job> names. What names none or several is wrong usage."""
    from zsched.commands import selection

    try:
        return selection.single(text(found, "<job>") or "")
    except ValueError as error:
        fail(doc, str(error))


def fail(doc: str, sentence: str) -> NoReturn:
    """End the program for wrong usage: the sentence, then the usage, on stderr; exit code 2."""
    usage = re.search(r"^usage:.*?(?=\n\s*\n|\Z)", doc, re.MULTILINE | re.IGNORECASE | re.DOTALL)
    print(f"{program(doc)}: {sentence}\n{usage[0] if usage else ''}", file=sys.stderr)
    raise SystemExit(EXIT_USAGE)


def program(doc: str) -> str:
    """The program's name, with the subcommand's if it is one, as the manual page's usage has it."""
    match = _PROGRAM.search(doc)
    assert match is not None
    return match[1]


class Option(NamedTuple):
    """An option as a manual page declares it: its long name without dashes, whether it takes a value, and whether all
    of its values count when it is given several times (`--scope=SCOPE...`).
    """

    name: str
    takes_value: bool
    repeats: bool


def exact(argv: Sequence[str], declared: Mapping[str, Option]) -> tuple[list[str], list[str]]:
    """The options before `--` or the first plain word, written as `--name` or `--name=value`, and the rest as it is.

    `declared` has an option under its name and under its letter. Of an option given twice the last counts, as in Go's
    flag package, so that a script may append to a command line; unless its page has it repeat. Raises ValueError with a
    sentence for a name that is not declared, and for a value that is missing or too much.
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
    argv: Sequence[str], declared: Mapping[str, Option], most: int | None = None
) -> tuple[list[str], list[str]]:
    """As `exact` does, but with options between and after the words too, up to `--`. Raises ValueError as it does.

    `most`: after that many words and their options, the rest stays as it is.
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
        if len(words) == most:
            words += rest
            break
        words += rest[:1]
        rest = rest[1:]
    return options, words


def _name(written: str) -> str:
    """The name of an option as `exact` writes it."""
    return written.removeprefix("--").partition("=")[0]


def _declared(doc: str) -> dict[str, Option]:
    declared = {}
    for letter, name, value in _DECLARED.findall(doc):
        declared[name] = Option(name, bool(value), value.endswith("..."))
        if letter:
            declared[letter] = declared[name]
    return declared


def _dashed(word: str) -> str:
    """An option as it was written, without its value."""
    return word.partition("=")[0]


def _suggestion(word: str, declared: Mapping[str, Option]) -> str:
    from zsched.model.spelling import nearest

    name = _dashed(word).lstrip("-")
    # At 0.6, the default, --at would be taken for --wait.
    near = nearest(name, declared, 0.7)
    dashes = _dashed(word).removesuffix(name)
    return f"; did you mean {dashes}{near}?" if near else "; --help lists them all"
