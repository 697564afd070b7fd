"""A database on PostgreSQL for a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import postgres


@pytest.fixture
def database() -> Iterator[str]:
    """The URL of an empty database."""
    with postgres.server().database(empty=True) as url:
        yield url
