"""Every test of the contract runs on every engine, and ends with counters and events that agree with the runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.base import ENGINES, Base


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Base]:
    with ENGINES[request.param](tmp_path) as opened:
        yield opened
        opened.end()
