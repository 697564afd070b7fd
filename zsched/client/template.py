"""Commands for the tasks of an array: `{}` stands for the entry of a task.

The scheduler never edits a command. So `{}` becomes `"$ZSCHED_ENTRY"`, which the shell of each task expands: no entry
is ever parsed as shell code. In `argv`, the worker replaces `{}` itself. Pure; imports nothing of zsched.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

# Stands for a task's entry.
PLACE: Final = "{}"
VARIABLE: Final = "ZSCHED_ENTRY"
INDEX: Final = "ZSCHED_TASK"
_VARIABLE: Final = re.compile(r"\$\{?ZSCHED_[A-Z_]+")
ENTRY: Final = f'"${VARIABLE}"'
# The command of an array whose entries are command lines themselves.
EACH_COMMAND: Final = f"eval {ENTRY}"
# Makes an entry of several quoted arguments $1, $2 and so on.
_SPLIT: Final = f'eval "set -- ${VARIABLE}"; '

# Tokens that change the meaning of the text after them. Inside of double quotes, a single quote is not among them.
_TOKENS: Final = r"\\.|\$\(\(|\$\(|\$\{|<<<|<<|(?<![^\s;&|()])#[^\n]*|[(){}\"`\n]"
_QUOTED: Final = r"'[^']*'?"
# Where the shell does not take an expansion for one word, or makes none.
_INSIDE: Final = {
    "'": "quotes",
    '"': "quotes",
    "`": "backquotes",
    "${": "${…}",
    "$((": "$((…))",
    "<<": "a here-document",
}
# A here-document begins with the next line.
_AWAITED: Final = "<<…"
# After these, another word would be a command.
_ENDS: Final = (";", "&", "|", "(", ")", "{", "}")
_SHELLS: Final = frozenset({"sh", "bash", "dash", "ksh", "zsh", "fish", "ash"})


def fill(command: str, variable: str = VARIABLE) -> str:
    """A command line for sh with a variable in place of each `{}`. Raises ValueError for a `{}` inside quotes."""
    return "".join(_replace(command, {PLACE: f'"${variable}"'}))


def for_line(command: str) -> str:
    """A command line for sh with the entry in place of each `{}`, or as its last argument if it has no place for it.
    Raises ValueError for a `{}` inside quotes, and for a command that has no last argument.
    """
    parts = _replace(command.rstrip(), {PLACE: ENTRY})
    filled = "".join(parts)
    if VARIABLE in filled:
        return filled
    if "\n" in filled or filled.endswith(_ENDS) or any(part.startswith("#") for part in parts[-2:]):
        raise ValueError(f"nothing says where the entry of each task goes: write {{}} there, or use ${VARIABLE}")
    return f"{filled} {ENTRY}"


def for_words(words: Sequence[str]) -> str:
    """The same for a program and its arguments, which are quoted for sh. A single word is a command line."""
    if len(words) == 1:
        return for_line(words[0])
    filled = _fill_words(words, VARIABLE)
    return filled if VARIABLE in filled else f"{filled} {ENTRY}"


def for_indexes(words: Sequence[str]) -> str:
    """The command line of an array without entries: `{}` is the index of the task. Raises ValueError."""
    return fill(words[0], INDEX) if len(words) == 1 else _fill_words(words, INDEX)


def unexpanded(words: Sequence[str]) -> str | None:
    """A variable of the task's environment that stays as it is, because several words are quoted for sh."""
    inner = {code for _, _, code in _inner(words)}
    found = (_VARIABLE.search(word) for word in words if len(words) > 1 and word not in inner)
    return next((match[0] for match in found if match), None)


def _inner(words: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """The words that another shell takes for code: that shell, its option, and the word."""
    for program, option, code in zip(words, words[1:], words[2:], strict=False):
        shell = os.path.basename(program)
        if shell in _SHELLS and re.fullmatch("-[a-z]*c", option):
            yield shell, option, code


def _fill_words(words: Sequence[str], variable: str) -> str:
    for shell, option, code in _inner(words):
        if PLACE in code:
            raise ValueError(f'{{}} in the code after {shell} {option} would be run as code: write "${variable}" there')
    parts = (
        f'"${variable}"'.join(map(_quote, word.split(PLACE))) if PLACE in word else shlex.quote(word) for word in words
    )
    return " ".join(parts)


def for_argv(words: Sequence[str]) -> list[str]:
    """A program and its arguments without a shell: `{}` stays in them, and comes last if it is in none."""
    return [*words] if any(PLACE in word for word in words) else [*words, PLACE]


def demand_no_place(words: Sequence[str]) -> None:
    """Raises ValueError if a program of an array without entries has a place: nobody would fill it in."""
    if any(PLACE in word for word in words):
        raise ValueError(
            f"{{}} stands for an entry here, and not for the index of a task, which is in ${INDEX}: use a shell"
        )


def for_several(command: str, count: int) -> str:
    """A command line for entries of several arguments: `{1}` is the first argument, and so on. Raises ValueError."""
    if PLACE in command:
        raise ValueError(f"{{}} stands for one argument, and there are {count}: write {{1}} to {{{count}}}")
    places = {f"{{{place}}}": f'"${{{place}}}"' for place in range(1, count + 1)}
    return "".join([_SPLIT, *_replace(command, places)])


def entry_of_several(arguments: Sequence[str]) -> str:
    """The entry of a task that has several arguments."""
    return shlex.join(arguments)


def _quote(text: str) -> str:
    return shlex.quote(text) if text else ""


def _replace(command: str, places: Mapping[str, str]) -> list[str]:
    """The parts of a command with the places replaced. Raises ValueError for one inside quotes. A comment is a part."""
    either = "|".join([*map(re.escape, places), _TOKENS])
    outside, inside = re.compile(f"{either}|{_QUOTED}", re.DOTALL), re.compile(either, re.DOTALL)
    parts, end, open_ = list[str](), 0, [""]
    while (match := (inside if open_[-1] in ('"', "`") else outside).search(command, end)) is not None:
        mark = match[0]
        parts += command[end : match.start()], places.get(mark, mark)
        end = match.end()
        if mark in places:
            _demand_outside(mark, open_[-1])
        elif mark[0] == "'":
            for place in filter(mark.__contains__, places):
                _demand_outside(place, "'")
        else:
            _enter_or_leave(mark, open_)
    return [*parts, command[end:]]


def _enter_or_leave(mark: str, open_: list[str]) -> None:
    """A mark may begin or end something: change the stack of open ones."""
    inside = open_[-1]
    if inside in ("`", "<<"):
        if mark == inside == "`":
            open_.pop()
    elif mark in ("$(", "${", "`") or (mark == '"' != inside):
        open_.append(mark)
    elif mark == "$((":
        open_ += mark, mark
    elif (mark, inside) in (('"', '"'), ("}", "${"), (")", "$("), (")", "("), (")", "$((")):
        open_.pop()
    elif mark == "(" and inside != '"':
        open_.append("$((" if inside == "$((" else "(")
    elif mark == "<<" and inside not in ('"', "$(("):
        open_[0] = _AWAITED
    elif mark == "\n" and open_[0] == _AWAITED:
        open_.append("<<")


def _demand_outside(place: str, inside: str) -> None:
    """Raises ValueError if a place is where its argument would not be one word."""
    if inside in _INSIDE:
        raise ValueError(
            f"{place} stands inside {_INSIDE[inside]}: write it outside, where it is quoted by itself, or use"
            f" ${VARIABLE}; \\{place} stays {place}"
        )
