"""Functions made from their source, as `dataclasses` makes `__init__`. Pure.

Lists have thousands of rows: a function that names each field runs in a third of the time of a loop over descriptions.
The sources consist of names from descriptions alone, never of input. tests/golden/sources.txt shows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def function(name: str, parameter: str, body: Sequence[str], names: Mapping[str, object]) -> Any:
    """A function of one argument; `names` is all that its source can use. Its source is its `__doc__`."""
    source = "\n    ".join([f"def {name}({parameter}):", *body])
    scope = dict(names)
    exec(source, scope)  # noqa: S102
    made: Any = scope[name]
    made.__doc__ = source
    return made
