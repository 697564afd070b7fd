"""The lock files of bin/: they name one version, with hashes, of each package that setup.cfg asks for.

Whether they are complete only an installation shows: tests/system/test_launchers.py has some. No network here.
"""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]


def ranges(kind: str) -> list[Requirement]:
    """What setup.cfg asks for, to run or to test."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    text = parser["options"]["install_requires"]
    if kind == "test":
        text += "\n" + parser["options.extras_require"]["test"]
    return [Requirement(line) for line in text.splitlines() if line]


def lock(kind: str) -> dict[str, tuple[Version, list[str]]]:
    """By package: its version and its files' hashes. Fails at a line that pins nothing."""
    text = (ROOT / f"bin/requirements-{kind}.txt").read_text("utf-8")
    entries = re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    locked: dict[str, tuple[Version, list[str]]] = {}
    for entry in entries:
        pinned, *hashes = re.split(r"\s+--hash=", entry)
        requirement = Requirement(pinned)
        (version,) = requirement.specifier
        assert version.operator == "==", entry
        assert "*" not in version.version, entry
        locked[canonicalize_name(requirement.name)] = Version(version.version), hashes
    return locked


def missing(asked: list[Requirement], locked: dict[str, tuple[Version, list[str]]]) -> list[str]:
    """The requirements that a lock file does not meet."""
    return [str(one) for one in asked if not met(one, locked.get(canonicalize_name(one.name)))]


def met(asked: Requirement, pin: tuple[Version, list[str]] | None) -> bool:
    return pin is not None and asked.specifier.contains(pin[0])


@pytest.mark.parametrize("kind", ["run", "test"])
def test_lock_file_meets_every_range_of_setup_cfg(kind: str) -> None:
    assert missing(ranges(kind), lock(kind)) == [], "run bin/lock"


def test_unmet_range_is_noticed() -> None:
    asked = [Requirement(text) for text in ("waitress >= 99", "no-such-package", "Falcon >= 4.0.0")]
    assert missing(asked, lock("run")) == ["waitress>=99", "no-such-package"]


@pytest.mark.parametrize("kind", ["run", "test"])
def test_each_locked_package_has_sha256_hashes(kind: str) -> None:
    for name, (_, hashes) in lock(kind).items():
        assert hashes, name
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", text) for text in hashes), name


def test_tests_run_with_the_locked_versions_of_an_installation() -> None:
    tests = lock("test")
    assert {name: tests.get(name) for name in lock("run")} == lock("run")
