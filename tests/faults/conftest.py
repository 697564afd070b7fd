"""Every test here takes long, and shows its figures with `pytest -rP`."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.stage import length_s


@pytest.fixture(autouse=True)
def figures(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """INFO is where the figures are."""
    with caplog.at_level("INFO"):
        yield


@pytest.fixture(autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One at a time, also when files of tests run side by side: each takes the whole machine and looks at the clock."""
    with (tmp_path_factory.getbasetemp().parent / "faults.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.faults)
            # Each waits for all others; a fault may last twice its length, and what it left undone is finished then.
            item.add_marker(pytest.mark.timeout(600 + 10 * length_s(10)))
