"""Every test here takes long, and shows its figures with `pytest -rP`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.stage import length_s


@pytest.fixture(autouse=True)
def figures(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """INFO is where the figures are."""
    with caplog.at_level("INFO"):
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.faults)
            # The fault itself may last twice its length, and what it has left undone is finished after it.
            item.add_marker(pytest.mark.timeout(240 + 3 * length_s(10)))
