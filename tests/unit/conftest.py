"""The scheduler's core for the dialogues."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.world import World


@pytest.fixture
def world() -> Iterator[World]:
    """A scheduler's core on an empty database; in the end nothing unexpected was sent."""
    opened = World()
    yield opened
    opened.end()
