"""Options of `submit` and `run` about when a job has its turn, and where: queue, labels, priority, limits, unique."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from zsched.client.client import Fields
from zsched.commands import options

# Longer numbers are out of bounds anyway, and Python reads no number of more than 4,300 digits.
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,16}")
_COUNT: Final = re.compile(r"[0-9]{1,16}")


def read(doc: str, arguments: Mapping[str, options.Value]) -> Fields:
    """The options as fields of a job. Wrong usage ends the program; REST checks names and bounds."""
    fields: Fields = {
        "queue": options.text(arguments, "--queue"),
        "priority": read_priority(doc, options.text(arguments, "--priority")),
        "unique": options.text(arguments, "--unique"),
    }
    if labels := _labels(doc, arguments["--label"]):
        fields["labels"] = labels
    if limits := _limits(doc, arguments["--limit"]):
        fields["limits"] = limits
    return fields


def read_priority(doc: str, given: str | None, option: str = "--priority") -> int | None:
    """A priority that an option gives; None if it is absent. Wrong usage ends the program."""
    if given is None:
        return None
    if _WHOLE.fullmatch(given) is None:
        options.fail(doc, f"{option} takes a number, such as 10 or -10, not {given[:64]!r}")
    return int(given)


def _labels(doc: str, given: options.Value) -> dict[str, str]:
    assert isinstance(given, list)
    labels: dict[str, str] = {}
    for label in given:
        name, equals, value = label.partition("=")
        if not equals or labels.setdefault(name, value) != value:
            options.fail(doc, f"--label takes NAME=VALUE, such as disk=ssd, each name once, not {label[:64]!r}")
    return labels


def _limits(doc: str, given: options.Value) -> dict[str, int]:
    assert isinstance(given, list)
    limits: dict[str, int] = {}
    for limit in given:
        key, _, count = limit.rpartition("=")
        if not key or _COUNT.fullmatch(count) is None:
            options.fail(doc, f"--limit takes KEY=COUNT, such as db=3, not {limit[:64]!r}")
        limits[key] = int(count)
    return limits
