"""The layering: who may import whom, and what the deterministic part may not touch. Read from the sources.

`commands → api, loop, worker, store → dispatcher, worker.agent → protocol, matching, schedule, store.contract → model`:
imports point down this list, and a module that stands in no room of the table is an error, so a new one must be placed.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Who stands where, from the bottom up: a room, and the rooms below it that it may use. What is in one room may use the
# rest of it. A module stands in the room with the longest name that it begins with; `zsched` itself holds the version.
WORDS = ("zsched", "zsched.limits", "zsched.units", "zsched.rate", "zsched.spans")
PURE = ("zsched.protocol", "zsched.matching", "zsched.schedule", "zsched.spec", "zsched.store.contract")
# The parts of the agent: they are the worker's, and as deterministic as the agent itself.
AGENT = (
    "zsched.worker.lease",
    "zsched.worker.messages",
    "zsched.worker.pace",
    "zsched.worker.renewal",
    "zsched.worker.reports",
    "zsched.worker.agent",
)
SETTINGS = ("zsched.settings", "zsched.config")
ROOMS: dict[str, tuple[str, ...]] = {
    # Numbers, words and the version: used by all, using nothing.
    "zsched": (),
    "zsched.limits": (),
    "zsched.units": (),
    "zsched.rate": (),
    "zsched.spans": (),
    "zsched.logs": ("zsched.limits", "zsched.rate"),
    "zsched.notify": (),
    "zsched.files": (),
    "zsched.access_file": (),
    # Pure.
    "zsched.model": WORDS,
    "zsched.protocol": (*WORDS, "zsched.model"),
    "zsched.matching": (*WORDS, "zsched.model"),
    "zsched.schedule": (*WORDS, "zsched.model"),
    "zsched.spec": (*WORDS, "zsched.model", "zsched.schedule"),
    "zsched.store.contract": (*WORDS, "zsched.model", "zsched.matching"),
    # Deterministic.
    "zsched.dispatcher": (*WORDS, *PURE, "zsched.model"),
    "zsched.worker.messages": (*WORDS, "zsched.protocol", "zsched.model"),
    "zsched.worker.lease": (),
    "zsched.worker.pace": WORDS,
    "zsched.worker.renewal": ("zsched.worker.lease",),
    "zsched.worker.reports": (*WORDS, "zsched.protocol", "zsched.model", "zsched.worker.pace"),
    "zsched.worker.agent": (*WORDS, *PURE, "zsched.model", *AGENT[:-1]),
    # The world: files, clocks, sockets, processes.
    "zsched.peer": (),
    "zsched.owners": (),
    "zsched.trust": ("zsched.peer",),
    "zsched.endpoint": ("zsched.limits", "zsched.peer", "zsched.trust"),
    "zsched.wire": ("zsched.endpoint", "zsched.files", "zsched.trust"),
    "zsched.arguments": (),
    "zsched.many": ("zsched.wire", "zsched.spans"),
    "zsched.client": ("zsched.arguments", "zsched.wire", "zsched.spans", "zsched.many"),
    "zsched.settings": (*WORDS, "zsched.endpoint"),
    "zsched.config": (*WORDS, "zsched.settings", "zsched.endpoint", "zsched.files", "zsched.access_file"),
    "zsched.standard": (),
    "zsched.keys": ("zsched.files", "zsched.access_file"),
    "zsched.tokens": ("zsched.model",),
    "zsched.vault": ("zsched.keys",),
    "zsched.store": (*WORDS, *PURE, "zsched.model", "zsched.files"),
    "zsched.listeners": (),
    "zsched.shares": ("zsched.limits",),
    "zsched.connections": ("zsched.limits", "zsched.listeners", "zsched.peer", "zsched.rate"),
    "zsched.port": (
        *("zsched.limits", "zsched.keys", "zsched.rate"),
        *("zsched.connections", "zsched.listeners"),
    ),
    "zsched.worker": (
        *WORDS,
        *SETTINGS,
        "zsched.logs",
        "zsched.endpoint",
        "zsched.trust",
        "zsched.standard",
        "zsched.notify",
        "zsched.files",
        "zsched.keys",
        "zsched.access_file",
        "zsched.protocol",
        "zsched.model",
        *AGENT,
    ),
    "zsched.inbox": (*WORDS, *PURE, "zsched.model", "zsched.dispatcher"),
    "zsched.live": (*WORDS, "zsched.protocol", "zsched.model"),
    "zsched.loop": (
        *WORDS,
        *SETTINGS,
        *PURE,
        "zsched.model",
        "zsched.dispatcher",
        "zsched.store",
        "zsched.inbox",
        "zsched.live",
        "zsched.logs",
    ),
    "zsched.api": (
        *WORDS,
        *SETTINGS,
        *PURE,
        "zsched.model",
        "zsched.dispatcher",
        "zsched.store",
        "zsched.inbox",
        "zsched.live",
        "zsched.loop",
        "zsched.keys",
        "zsched.owners",
        "zsched.peer",
        "zsched.tokens",
    ),
}
ROOMS["zsched.rotation"] = (
    *("zsched.files", "zsched.keys", "zsched.vault", "zsched.model"),
    *("zsched.store", "zsched.store.contract"),
)
ROOMS["zsched.backup"] = (
    "zsched",
    "zsched.files",
    "zsched.keys",
    "zsched.limits",
    "zsched.store",
    "zsched.store.contract",
)
ROOMS["zsched.commands"] = tuple(ROOMS)

DETERMINISTIC = (*WORDS, "zsched.model", *PURE, "zsched.dispatcher", *AGENT)
FORBIDDEN = frozenset(
    {
        *("time", "random", "secrets", "uuid", "socket", "select", "selectors", "threading", "multiprocessing"),
        *(
            "subprocess",
            "asyncio",
            "os",
            "pathlib",
            "zmq",
            "cryptography",
            "apsw",
            "sqlite3",
            "psycopg",
            "falcon",
            "waitress",
        ),
    }
)
# Reading the clock by another name.
CLOCKS = frozenset({"now", "utcnow", "today"})

# The root package hands out the client to who asks for it, and imports it only then.
LATE = {"zsched": ("zsched.client",)}

# A package's own file runs when any of its modules is imported, so those with deterministic modules hold nothing.
EMPTY = ("zsched.store", "zsched.worker", "zsched.commands")


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted((ROOT / "zsched").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def room(module: str) -> str:
    """The room of a module. Raises LookupError when the table has none; the root package is a room for itself alone."""
    rooms = [name for name in ROOMS if name != "zsched" and (module == name or module.startswith(name + "."))]
    if not rooms and module != "zsched":
        raise LookupError(f"{module} stands in no room of the table; place it")
    return max(rooms, key=len, default="zsched")


def imports(tree: ast.Module, module: str, package: bool) -> Iterator[str]:
    """The full names of what a module imports, anywhere in it; of `from package import module` the module's name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")
                kept = above[: len(above) - node.level + (1 if package else 0)]
                base = ".".join([*kept, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in MODULES else base


def faults(module: str, source: str, package: bool = False) -> list[str]:
    """What is wrong with the imports of a module, as sentences."""
    here = room(module)
    tree = ast.parse(source)
    found = []
    for name in imports(tree, module, package):
        if name.split(".")[0] == "zsched":
            there = room(name)
            if there != here and there not in (*ROOMS[here], *LATE.get(module, ())):
                found.append(f"{module} imports {name}, which is not below it")
        elif here in DETERMINISTIC and name.split(".")[0] in FORBIDDEN:
            found.append(f"{module} is deterministic and imports {name}")
    if here in DETERMINISTIC:
        found += [
            f"{module} is deterministic and reads the clock by .{node.func.attr}()"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CLOCKS
        ]
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_is_below_it(module: str) -> None:
    path = MODULES[module]
    assert faults(module, path.read_text(encoding="utf-8"), path.name == "__init__.py") == []


@pytest.mark.parametrize("package", EMPTY)
def test_a_package_with_modules_of_several_layers_holds_nothing_but_its_docstring(package: str) -> None:
    body = ast.parse(MODULES[package].read_text(encoding="utf-8")).body
    rest = [node for node in body[1:] if not (isinstance(node, ast.ImportFrom) and node.module == "__future__")]
    assert rest == []


def test_the_table_points_down_only() -> None:
    order: list[str] = []
    for name, uses in ROOMS.items():
        assert set(uses) <= set(order), f"{name} uses what stands after it in the table"
        order.append(name)


def test_the_deterministic_modules_use_none_but_each_other() -> None:
    for name in DETERMINISTIC:
        assert set(ROOMS[name]) <= set(DETERMINISTIC)


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("zsched.model", "import zsched.protocol", "not below"),
        ("zsched.protocol", "from zsched import dispatcher, loop", "imports zsched"),
        ("zsched.dispatcher.turn", "def f():\n    import time", "deterministic"),
        ("zsched.worker.agent", "from os.path import join", "deterministic"),
        ("zsched.worker.agent", "from .guard import Guard", "not below"),
        ("zsched.schedule", "from datetime import datetime\ndatetime.now()", "reads the clock"),
        ("zsched.store.sqlite", "from ..api import app", "not below"),
    ],
)
def test_an_import_that_points_up_or_out_is_found(module: str, source: str, fault: str) -> None:
    found = faults(module, source)
    assert found
    assert fault in found[0]


def test_a_module_without_a_room_is_found() -> None:
    with pytest.raises(LookupError, match=r"zsched\.helpers stands in no room"):
        faults("zsched.helpers", "")


def test_the_forbidden_modules_of_the_standard_library_are_spelled_right() -> None:
    known = sys.stdlib_module_names | {"zmq", "cryptography", "apsw", "psycopg", "falcon", "waitress"}
    assert known >= FORBIDDEN
