"""A mutant: zsched with one guard taken away, by name. `mutants` and `worker_mutants` list them."""

from __future__ import annotations

from dataclasses import dataclass

from tests.anchors import Edit, excerpt


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    edits: tuple[Edit, ...]
    # The first of the seeds that must notice it.
    first: int = 0


def mutant(name: str, *edits: Edit | tuple[str, str, str], first: int = 0) -> Mutant:
    """`edits`: of tests/anchors.py, each of a function, an SQL text or a table; a tuple of three is an excerpt."""
    return Mutant(name, tuple(edit if isinstance(edit, Edit) else excerpt(*edit) for edit in edits), first)
