"""Explain why a command line does not fit its manual page. Pure.

docopt only says that it does not. This module compares the words with the usage lines of the page, where options come
before the words: `zsched token revoke [--with-jobs --url=URL] <id>`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from zsched.model.spelling import nearest, suggestion

_EXAMPLES: Final = {
    "<selector>": ", such as 12, 3-8 or last",
    "<job>": ", such as 12 or last",
    "<cmd>": ", such as 'make test'",
    "<worker>": ", such as worker-2",
}


class _Line(NamedTuple):
    """One usage line: its text, the literal words at its begin, its arguments, and the options that it needs. `rest`:
    the last argument may repeat.
    """

    text: str
    literals: list[str]
    required: list[str]
    options: list[str]
    arguments_max: int
    rest: bool


def explain_misfit(doc: str, program: str, options: Sequence[str], words: Sequence[str]) -> str:
    """Why the words and the options (`--name` or `--name=value`) fit no usage line: a message without a full stop."""
    lines = _lines(doc, program)
    fitting = [line for line in lines if list(words[: len(line.literals)]) == line.literals]
    if not fitting:
        return _wrong_literal(lines, words)
    # `zsched queue share` fits the line `zsched queue` too, which names less of it.
    line = max(fitting, key=lambda fit: len(fit.literals))
    given = words[len(line.literals) :]
    if len(given) < len(line.required):
        missing = line.required[len(given)]
        return f"missing {missing}{_EXAMPLES.get(missing, '')}"
    if len(given) > line.arguments_max and not line.rest:
        extra = given[line.arguments_max]
        option = re.search(rf"^ +--([a-z-]+)=\S+ +.*\b{re.escape(extra)}\b", doc, re.MULTILINE)
        literals = [other.literals[0] for other in lines if other.literals and not line.literals]
        near = f"--{option[1]} {extra}" if option else nearest(extra, literals)
        return f"unexpected argument {extra!r}" + (f"; did you mean {near}?" if near else "")
    given_names = {option.partition("=")[0] for option in options}
    if absent := [option for option in line.options if option.partition("=")[0] not in given_names]:
        return f"missing {absent[0]}"
    for name in (option.partition("=")[0] for option in options):
        # `[options]` stands for those that no usage line names.
        if not _has(line, name) and ("[options]" not in line.text or any(_has(other, name) for other in lines)):
            return f"{name} does not go with {' '.join(line.literals)}"
    return "these arguments do not go together"


def _wrong_literal(lines: Sequence[_Line], words: Sequence[str]) -> str:
    """The error about the first word that no usage line allows."""
    place = 0
    while any(list(words[: place + 1]) == line.literals[: place + 1] for line in lines if len(line.literals) > place):
        place += 1
    known = [line.literals[place] for line in lines if list(words[:place]) == line.literals[:place]]
    known = list(dict.fromkeys(known))
    if place == len(words):
        return f"missing {' or '.join([', '.join(known[:-1]), known[-1]] if known[1:] else known)}"
    return f"unexpected argument {words[place]!r}; " + suggestion(words[place], known, f"use {', '.join(known)}")


def _has(line: _Line, name: str) -> bool:
    """Whether a usage line names an option."""
    return re.search(rf"{name}\b(?!-)", line.text) is not None


def _lines(doc: str, program: str) -> list[_Line]:
    section = re.search(r"^usage:\s*(.*?)(?=\n\s*\n|\Z)", doc, re.MULTILINE | re.IGNORECASE | re.DOTALL)
    assert section is not None
    # A line that is continued on the next begins with the program's name only once.
    texts = re.split(rf"(?:^|\n)\s*{re.escape(program)}(?= |\n|\Z)", section[1])[1:]
    return [_line(text) for text in texts]


def _line(text: str) -> _Line:
    words = re.sub(r"\[(?!<)[^\[\]]*\](\.\.\.)?", "", text)
    arguments = re.findall(r"(\[)?(<\w+>)(\.\.\.)?", words)
    return _Line(
        text=text,
        literals=re.findall(r"(?<!\S)[a-z]+(?!\S)", words),
        required=[name for optional, name, _ in arguments if not optional],
        options=re.findall(r"(?<!\S)--[a-z-]+\S*", words),
        arguments_max=len(arguments),
        rest=any(repeats for *_, repeats in arguments),
    )
