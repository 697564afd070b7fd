"""Suggestions for misspelled names, in error messages. Pure."""

from __future__ import annotations

from collections.abc import Iterable


def suggestion(word: str, names: Iterable[str], otherwise: str, *, form: str = "{}", cutoff: float = 0.6) -> str:
    """The remedy for an unknown name: the nearest name, written by `form`, or else what `otherwise` says."""
    near = nearest(word, names, cutoff)
    return f"did you mean {form.format(near)}?" if near else otherwise


def nearest(word: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The name that is most similar to a misspelled word. None if all are less similar than `cutoff` (0 to 1)."""
    # Most commands never need it.
    import difflib

    return next(iter(difflib.get_close_matches(word, list(names), n=1, cutoff=cutoff)), None)
