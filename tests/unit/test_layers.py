"""The layering: who may import whom, and what the deterministic part may not touch. Read from the sources.

Imports point down the table of rooms, which are folders. A module that stands in no room of the table is an error, so a
new folder must be placed.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# The rooms from the bottom up: a folder, and the rooms below it that it may use. Modules of a room may use each other.
# A module stands in the room with the longest name that it begins with; `zsched` itself holds the version.
ROOMS: dict[str, tuple[str, ...]] = {
    "zsched": (),
    # Pure.
    "zsched.model": (),
    "zsched.protocol": ("zsched.model",),
    "zsched.store.contract": ("zsched.model",),
    # Deterministic.
    "zsched.scheduler.dispatcher": ("zsched.model", "zsched.protocol", "zsched.store.contract"),
    # The world: files, clocks, sockets, processes.
    "zsched.host": ("zsched.model",),
    "zsched.security": ("zsched.model", "zsched.host"),
    "zsched.config": ("zsched.model", "zsched.host", "zsched.security"),
    "zsched.store": ("zsched.model", "zsched.store.contract"),
    "zsched.store.folder": ("zsched.model", "zsched.host", "zsched.store.contract"),
    "zsched.store.sqlite": (
        *("zsched.model", "zsched.host", "zsched.store.contract", "zsched.store", "zsched.store.folder"),
    ),
    "zsched.store.postgres": ("zsched.model", "zsched.store.contract", "zsched.store", "zsched.store.folder"),
    "zsched.store.choice": (
        *("zsched.model", "zsched.store.contract", "zsched.store"),
        *("zsched.store.sqlite", "zsched.store.postgres"),
    ),
    "zsched.maintenance": (
        *("zsched", "zsched.model", "zsched.host", "zsched.security"),
        *("zsched.store.contract", "zsched.store", "zsched.store.sqlite"),
    ),
    "zsched.scheduler": (
        *("zsched", "zsched.model", "zsched.protocol", "zsched.store.contract", "zsched.scheduler.dispatcher"),
        *("zsched.host", "zsched.security"),
    ),
    "zsched.api": (
        *("zsched", "zsched.model", "zsched.protocol", "zsched.store.contract", "zsched.scheduler.dispatcher"),
        *("zsched.host", "zsched.security", "zsched.scheduler"),
    ),
    "zsched.worker": ("zsched.model", "zsched.protocol", "zsched.host"),
    "zsched.worker.process": ("zsched.model", "zsched.protocol", "zsched.host", "zsched.worker"),
    "zsched.worker.agent": (
        *("zsched", "zsched.model", "zsched.protocol", "zsched.host", "zsched.security"),
        *("zsched.worker", "zsched.worker.process"),
    ),
    "zsched.worker.guard": (
        *("zsched.model", "zsched.protocol", "zsched.host", "zsched.config"),
        *("zsched.worker", "zsched.worker.process"),
    ),
    "zsched.client": ("zsched.model", "zsched.host", "zsched.security", "zsched.config"),
}
# The composition root of the scheduler.
ROOMS["zsched.serve"] = tuple(room for room in ROOMS if not room.startswith(("zsched.worker", "zsched.client")))
ROOMS["zsched.commands"] = tuple(ROOMS)

# Rooms and modules that touch no clock, socket, thread, file or random source. They import only each other.
DETERMINISTIC = (
    *("zsched.model", "zsched.protocol", "zsched.store.contract", "zsched.scheduler.dispatcher"),
    *("zsched.worker.lease", "zsched.worker.messages", "zsched.worker.watchdog"),
    *(f"zsched.worker.process.{name}" for name in ("capture", "collected", "redact")),
    *(
        f"zsched.worker.guard.{name}"
        for name in ("backlog", "core", "database", "effects", "life", "outcome", "outputs")
    ),
    *(f"zsched.worker.guard.{name}" for name in ("reports", "runs", "shutdown", "supervisor", "timers", "watches")),
    *(f"zsched.worker.agent.{name}" for name in ("agent", "flow", "holdings", "liveness", "pace", "parts")),
    *(f"zsched.worker.agent.{name}" for name in ("renewal", "reports", "search", "session")),
)
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
EMPTY = (
    *("zsched.model", "zsched.store", "zsched.scheduler", "zsched.worker", "zsched.worker.agent"),
    *("zsched.worker.guard", "zsched.worker.process", "zsched.commands"),
)


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


def deterministic(module: str) -> bool:
    """Whether a module stands in a deterministic room, or is listed by itself. The version is a constant."""
    return module == "zsched" or any(module == name or module.startswith(name + ".") for name in DETERMINISTIC)


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
            elif module != "zsched" and deterministic(module) and not deterministic(name):
                found.append(f"{module} is deterministic and imports {name}, which is not")
        elif deterministic(module) and name.split(".")[0] in FORBIDDEN:
            found.append(f"{module} is deterministic and imports {name}")
    if deterministic(module):
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


def test_only_one_room_imports_the_http_server_library() -> None:
    """It uses private names of Waitress."""
    users = {
        module
        for module, path in MODULES.items()
        for name in imports(ast.parse(path.read_text(encoding="utf-8")), module, path.name == "__init__.py")
        if name.split(".")[0] == "waitress"
    }
    assert users
    assert [module for module in users if not module.startswith("zsched.api.http.")] == []


@pytest.mark.parametrize("package", EMPTY)
def test_package_with_modules_of_several_layers_holds_only_its_docstring(package: str) -> None:
    body = ast.parse(MODULES[package].read_text(encoding="utf-8")).body
    rest = [node for node in body[1:] if not (isinstance(node, ast.ImportFrom) and node.module == "__future__")]
    assert rest == []


def test_the_table_points_down_only() -> None:
    order: list[str] = []
    for name, uses in ROOMS.items():
        assert set(uses) <= set(order), f"{name} uses what stands after it in the table"
        order.append(name)


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("zsched.model.types", "import zsched.protocol", "not below"),
        ("zsched.protocol", "from zsched.scheduler import dispatcher, loop", "not below"),
        ("zsched.scheduler.dispatcher.turn", "def f():\n    import time", "deterministic"),
        ("zsched.worker.agent.agent", "from os.path import join", "deterministic"),
        ("zsched.worker.agent.agent", "from zsched.worker.agent import main", "deterministic"),
        ("zsched.worker.agent.main", "from ..guard.guard import Guard", "not below"),
        ("zsched.worker.guard.core", "from zsched.worker.guard import system", "deterministic"),
        ("zsched.worker.guard.guard", "from ..agent.pace import Pace", "not below"),
        ("zsched.model.schedule", "from datetime import datetime\ndatetime.now()", "reads the clock"),
        ("zsched.store.reader", "from ..api import app", "not below"),
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
