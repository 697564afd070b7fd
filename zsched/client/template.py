"""Commands for the tasks of an array: `{}` stands for the entry of a task.

The scheduler never edits a command. So `{}` becomes `"$ZSCHED_ENTRY"`, which the shell of each task expands: no entry
is ever parsed as shell code. In `argv`, the worker replaces `{}` itself. Pure; imports nothing of zsched.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

# Stands for a task's entry.
PLACE: Final = "{}"
VARIABLE: Final = "ZSCHED_ENTRY"
_ENTRY: Final = f'"${VARIABLE}"'
# The command of an array whose entries are command lines themselves.
EACH_COMMAND: Final = f"eval {_ENTRY}"
# Makes an entry of several quoted arguments $1, $2 and so on.
_SPLIT: Final = f'eval "set -- ${VARIABLE}"; '

# Tokens that change the meaning of the text after them. Inside of double quotes, a single quote is not among them.
_TOKENS: Final = r"\\.|\$\(\(|\$\(|\$\{|<<<|<<|(?<![^\s;&|()])#[^\n]*|[(){}\"`\n]"
_QUOTED: Final = r"'[^']*'?"
# Where the shell does not take an expansion for one word, or makes none.
_INSIDE: Final = {"'": "quotes", '"': "quotes", "`": "backquotes", "${": "${…}", "$((": "$((…))", "<<": "a here-document"}
# A here-document begins with the next line.
_AWAITED: Final = "<<…"
# After these, another word would be a command.
_ENDS: Final = (";", "&", "|", "(", ")", "{", "}")
_SHELLS: Final = frozenset({"sh", "bash", "dash", "ksh", "zsh", "fish", "ash"})


def for_line(command: str) -> str:
    """A command line for sh with the entry in place of each `{}`, or as its last argument if it has no place for it.
    Raises ValueError for a `{}` inside quotes, and for a command that has no last argument.
    """
    filled = _replace(command, {PLACE: _ENTRY})
    if VARIABLE in filled:
        return filled
    if "\n" in filled.strip() or filled.rstrip().endswith(_ENDS):
        raise ValueError(f"nothing says where the entry of each task goes: write {{}} there, or use ${VARIABLE}")
    return f"{filled.rstrip()} {_ENTRY}"


def for_words(words: Sequence[str]) -> str:
    """The same for a program and its arguments, which are quoted for sh. A single word is a command line."""
    if len(words) == 1:
        return for_line(words[0])
    for program, option, code in zip(words, words[1:], words[2:], strict=False):
        shell = os.path.basename(program)
        if PLACE in code and shell in _SHELLS and re.fullmatch("-[a-z]*c", option):
            raise ValueError(f'{{}} in the code after {shell} {option} would be run as code: write "${VARIABLE}" there')
    filled = " ".join(_ENTRY.join(map(_quote, word.split(PLACE))) if PLACE in word else shlex.quote(word) for word in words)
    return filled if VARIABLE in filled else f"{filled} {_ENTRY}"


def for_argv(words: Sequence[str]) -> list[str]:
    """A program and its arguments without a shell: `{}` stays in them, and comes last if it is in none."""
    return [*words] if any(PLACE in word for word in words) else [*words, PLACE]


def for_several(command: str, count: int) -> str:
    """A command line for entries of several arguments: `{1}` is the first argument, and so on. Raises ValueError."""
    if PLACE in command:
        raise ValueError(f"{{}} may be any of {count} arguments: write {{1}} to {{{count}}}")
    places = {f"{{{place}}}": f'"${{{place}}}"' for place in range(1, count + 1)}
    return _SPLIT + _replace(command, places)


def entry_of_several(arguments: Sequence[str]) -> str:
    """The entry of a task that has several arguments."""
    return shlex.join(arguments)


def _quote(text: str) -> str:
    return shlex.quote(text) if text else ""


def _replace(command: str, places: Mapping[str, str]) -> str:
    """Replace the places outside of quotes. Raises ValueError for one inside."""
    either = "|".join([*map(re.escape, places), _TOKENS])
    outside, inside = re.compile(f"{either}|{_QUOTED}", re.DOTALL), re.compile(either, re.DOTALL)
    parts, end, open_ = list[str](), 0, [""]
    while (match := (inside if open_[-1] in ('"', "`") else outside).search(command, end)) is not None:
        token = match[0]
        parts += command[end : match.start()], places.get(token, token)
        end = match.end()
        if token in places:
            _demand_outside(token, open_[-1])
        elif token[0] == "'":
            for place in filter(token.__contains__, places):
                _demand_outside(place, "'")
        else:
            _enter_or_leave(token, open_)
    return "".join([*parts, command[end:]])


def _enter_or_leave(token: str, open_: list[str]) -> None:
    """A token may begin or end something: change the stack of what is open."""
    inside = open_[-1]
    if inside in ("`", "<<"):
        if token == inside == "`":
            open_.pop()
    elif token in ("$(", "${", "`") or (token == '"' != inside):
        open_.append(token)
    elif token == "$((":
        open_ += token, token
    elif (token, inside) in (('"', '"'), ("}", "${"), (")", "$("), (")", "("), (")", "$((")):
        open_.pop()
    elif token == "(" and inside != '"':
        open_.append("$((" if inside == "$((" else "(")
    elif token == "<<" and inside not in ('"', "$(("):
        open_[0] = _AWAITED
    elif token == "\n" and open_[0] == _AWAITED:
        open_.append("<<")


def _demand_outside(place: str, inside: str) -> None:
    """Raises ValueError if a place is where its argument would not be one word."""
    if inside in _INSIDE:
        raise ValueError(
            f"{place} stands inside {_INSIDE[inside]}: write it outside, where it is quoted by itself, or use ${VARIABLE};"
            f" \\{place} stays {place}"
        )
