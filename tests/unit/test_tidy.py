"""Rules of size, words, bounds and names, read from the sources. Each exception stands here with its reason.

A rule is a function of source text that returns violations, so that the rule itself is tested on small sources. An
exception that is no longer needed is a failure too: delete it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import pytest

from tests import rooms

ROOT = Path(__file__).parents[2]

MODULE_LINES = 400
FUNCTION_LINES = 60
PARAMETERS = 6
ATTRIBUTES = 15
TEST_NAME_CHARS = 70

# --- Exceptions: `path` or `path:qualified.name`, and the reason ------------------------------------------------------

LONG_MODULES: Mapping[str, str] = {
    "api/http/server.py": "to be split",
    "client/client.py": "to be split",
    "commands/scheduler.py": "to be split",
    "model/types.py": "to be split",
    "protocol.py": "to be split",
    "scheduler/connections.py": "to be split",
    "scheduler/dispatcher/commands.py": "to be split",
    "scheduler/dispatcher/core.py": "to be split",
    "store/contract.py": "to be split",
    "store/sqlite/engine.py": "to be split",
    "worker/agent/agent.py": "to be split",
    "worker/guard/guard.py": "to be split",
    "worker/guard/runs.py": "to be split",
}
LONG_FUNCTIONS: Mapping[str, str] = {
    "commands/scheduler.py:_serve": "to be split",
}
MANY_PARAMETERS: Mapping[str, str] = {
    "api/context.py:Context.__init__": "to be split",
    "api/http/server.py:Server.__init__": "to be split",
    "client/client.py:Client.ask": "to be split",
    "scheduler/dispatcher/core.py:Dispatcher.__init__": "to be split",
    "scheduler/dispatcher/losses.py:lose_run": "to be split",
    "scheduler/dispatcher/placement.py:_spread": "to be split",
    "scheduler/dispatcher/placement.py:_claim": "to be split",
    "scheduler/port.py:Port.__init__": "to be split",
    "store/claims.py:Claims.claim": "to be split",
    "store/contract.py:Store.claim": "to be split",
    "store/core.py:Core._end": "to be split",
    "store/ledger.py:Ledger.record_transition": "to be split",
    "store/ledger.py:Ledger.event": "to be split",
}
MANY_ATTRIBUTES: Mapping[str, str] = {
    "scheduler/dispatcher/core.py:Dispatcher": "to be split",
    "scheduler/dispatcher/session.py:Session": "to be split",
    "scheduler/loop.py:Loop": "to be split",
    "worker/agent/agent.py:Agent": "to be split",
    "worker/guard/guard.py:Guard": "to be split",
    "worker/guard/runs.py:Runs": "to be split",
}
# Constants named as bounds that stand outside model/limits.
OTHER_BOUNDS: Mapping[str, str] = {
    "api/http/listeners.py:_PATH_BYTES_MAX": "the kernel's: unix(7), the path of a socket",
    "client/http.py:LOOK_S_MAX": "the end of a back-off; next to its begin and factor",
    "commands/options.py:_DIGITS_MAX": "the digits of the largest integer of JSON",
    "commands/scheduler.py:_M_ARENA_MAX": "the C library's: a parameter's name, mallopt(3)",
    "host/files.py:_LINKS_MAX": "the kernel's: path_resolution(7)",
    "protocol.py:INTEGER_MAX": "the format's: the largest integer of JSON",
    "scheduler/connections.py:_SHORT_BYTES_MAX": "the format's: a short frame of ZMTP 3.1",
    "security/endpoint.py:_PAUSE_S_MAX": "the end of a back-off; next to its begin and factor",
    "security/endpoint.py:_SOCKET_PATH_BYTES_MAX": "the kernel's: unix(7), the path of a socket",
    "store/sqlite/head.py:_COOKIE_LAG_MAX": "a tolerance when files are compared, no resource",
    "worker/guard/journal.py:_WORD_MAX": "the format's: names of files",
    "worker/guard/runs.py:_DRAIN_BYTES_MAX": "the kernel's: fs.pipe-max-size",
    "worker/process/spawn.py:_OOM_MAX": "the kernel's: oom_score_adj, proc(5)",
}
# Words that a file may still use, separated by commas. All of them: to be reworded.
OTHER_WORDS: Mapping[str, str] = {
    "zsched/api/body.py": "is no json, is no character",
    "zsched/api/forwarded.py": "is no trusted",
    "zsched/api/gate.py": "is no program",
    "zsched/api/http/listeners.py": "beside, anew",
    "zsched/api/http/parser.py": "are no chunk",
    "zsched/api/http/server.py": "are none",
    "zsched/api/idempotency.py": "caller who",
    "zsched/api/many.py": "so many",
    "zsched/api/operations.py": "beside",
    "zsched/api/views.py": "so many",
    "zsched/client/arguments.py": "is no union, is no number",
    "zsched/client/client.py": "is no utf, is none, is no url, is no error",
    "zsched/client/http.py": "is no token",
    "zsched/commands/access.py": "is no worker, is none",
    "zsched/commands/db.py": "beside, is no error",
    "zsched/commands/demo.py": "so many",
    "zsched/commands/exits.py": "told, is no job",
    "zsched/commands/key.py": "anew",
    "zsched/commands/options.py": "is no number, is none, is no whole",
    "zsched/commands/run.py": "told",
    "zsched/commands/scheduler.py": "beside",
    "zsched/commands/summary.py": "told",
    "zsched/commands/token.py": "is no token",
    "zsched/commands/up.py": "told",
    "zsched/commands/watching.py": "so many, of what",
    "zsched/commands/zsched.py": "told",
    "zsched/config/layers.py": "is none",
    "zsched/config/settings.py": "is no value",
    "zsched/host/files.py": "is no link",
    "zsched/host/notify.py": "told",
    "zsched/maintenance/backup.py": "beside, is no file, is no backup",
    "zsched/maintenance/rotation.py": "anew",
    "zsched/model/schedule.py": "so many",
    "zsched/model/spec.py": "is no limit, told",
    "zsched/model/types.py": "beside",
    "zsched/scheduler/connections.py": "of what, is no socket, is no whole",
    "zsched/scheduler/dispatcher/access.py": "are no secret",
    "zsched/scheduler/dispatcher/core.py": "anew",
    "zsched/scheduler/dispatcher/foreign.py": "beside",
    "zsched/scheduler/dispatcher/hearing.py": "is no sign",
    "zsched/scheduler/dispatcher/losses.py": "beside",
    "zsched/scheduler/dispatcher/orders.py": "of what",
    "zsched/scheduler/dispatcher/placement.py": "of what",
    "zsched/scheduler/dispatcher/polling.py": "anew, is no end",
    "zsched/scheduler/dispatcher/why.py": "beside",
    "zsched/scheduler/inbox.py": "beside, caller who, is no error",
    "zsched/scheduler/listeners.py": "beside",
    "zsched/scheduler/live.py": "anew, so often",
    "zsched/scheduler/loop.py": "so many",
    "zsched/scheduler/port.py": "told",
    "zsched/security/endpoint.py": "is no url",
    "zsched/security/keys.py": "anew, is no tcp, is no key, is no file",
    "zsched/security/peer.py": "is no end",
    "zsched/security/tokens.py": "is none",
    "zsched/security/trust.py": "whom",
    "zsched/security/vault.py": "beside, is no base64, are no valueerror, is no key",
    "zsched/store/check.py": "beside, told",
    "zsched/store/contract.py": "beside",
    "zsched/store/ledger.py": "anew",
    "zsched/store/reseal.py": "anew, are no variables",
    "zsched/store/sqlite/copies.py": "beside, is no database",
    "zsched/store/sqlite/engine.py": "is none, beside",
    "zsched/store/sqlite/head.py": "is no database",
    "zsched/store/sqlite/lock.py": "beside, is no database",
    "zsched/worker/agent/enrol.py": "is no json",
    "zsched/worker/agent/main.py": "of what",
    "zsched/worker/agent/pace.py": "so many, anew",
    "zsched/worker/agent/reports.py": "told",
    "zsched/worker/guard/foreign.py": "told",
    "zsched/worker/guard/guard.py": "beside, told",
    "zsched/worker/guard/journal.py": "of what, is no reason, beside",
    "zsched/worker/guard/runs.py": "is no proof",
    "zsched/worker/guard/timeslice.py": "beside",
    "zsched/worker/guard/watches.py": "told",
    "zsched/worker/lease.py": "anew, told",
    "zsched/worker/messages.py": "of what",
    "zsched/worker/process/capture.py": "so many",
    "zsched/worker/process/orphans.py": "are no job, told",
    "zsched/worker/process/rlimits.py": "of what",
    "zsched/worker/process/spawn.py": "whom, is no variable",
    "zsched/worker/process/sweep.py": "told",
    "zsched/worker/state.py": "is no private, anew",
}

# --- Rules ------------------------------------------------------------------------------------------------------------

# CONTRIBUTING.md has the terms that replace these. `there is no job` is plain English, `that is no job` is not.
BANNED = re.compile(
    r"\b(?:anew|lest|so many|so often|whom|of what|told|beside"
    r"|(?<!there )(?:is|are) (?:(?-i:none)\b|no (?!longer\b|more\b|less\b)\w+)"
    r"|(?:agent|caller|client|connection|guard|process|program|run|scheduler|server|worker)s? who)\b",
    re.IGNORECASE,
)
BANNED_IN_TEST_NAMES = re.compile(
    r"(?:^test|_)(anew|lest|told|who|whom|nobody|of_what|so_many|so_often|beside|is_no(?!_longer|_more)|is_none"
    r"|are_none|are_no(?!_longer|_more))(?=_|$)"
)

Measure = Callable[[str], Mapping[str, int]]
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Function = ast.FunctionDef | ast.AsyncFunctionDef


def definitions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, Definition]]:
    """Every class and function below a node with its qualified name, in the order of the source."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition):
            name = f"{prefix}{child.name}"
            yield name, child
            yield from definitions(child, f"{name}.")
        else:
            yield from definitions(child, prefix)


def module_lines(source: str) -> dict[str, int]:
    return {"": len(source.splitlines())}


def function_lines(source: str) -> dict[str, int]:
    """Lines of each function, without its decorators."""
    return {
        name: (node.end_lineno or 0) - node.lineno + 1
        for name, node in definitions(ast.parse(source))
        if isinstance(node, Function)
    }


def parameters(source: str) -> dict[str, int]:
    """Parameters of each function that a caller passes: `self` and `cls` of a method do not count."""
    counts = {}
    for name, node in definitions(ast.parse(source)):
        if isinstance(node, Function):
            names = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            counts[name] = len(names) - (names[:1] in (["self"], ["cls"]))
    return counts


def attributes(source: str) -> dict[str, int]:
    """Attributes of each class: what its methods assign on `self`, and the fields of a dataclass that is not frozen."""
    counts = {}
    for name, node in definitions(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            decorators = [ast.unparse(one) for one in node.decorator_list]
            mutable = any("dataclass" in one and "frozen=True" not in one for one in decorators)
            fields = {ast.unparse(part.target) for part in node.body if isinstance(part, ast.AnnAssign)}
            assigned = {
                part.attr
                for part in ast.walk(node)
                if isinstance(part, ast.Attribute)
                and isinstance(part.ctx, ast.Store)
                and ast.unparse(part.value) == "self"
            }
            counts[name] = len(assigned | fields if mutable else assigned)
    return counts


def bounds(source: str) -> set[str]:
    """Constants of a module that are named as bounds."""
    names = set()
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names |= {target.id for target in targets if isinstance(target, ast.Name) and target.id.endswith("_MAX")}
    return names


def banned_words(text: str) -> dict[str, list[int]]:
    """The banned words of a text in lower case, each with the numbers of its lines."""
    words: dict[str, list[int]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        for match in BANNED.finditer(line):
            words.setdefault(match[0].lower(), []).append(number)
    return words


def names_of_tests(source: str) -> list[str]:
    return [
        name.rpartition(".")[2]
        for name, node in definitions(ast.parse(source))
        if isinstance(node, Function) and node.name.startswith("test_")
    ]


def violations(sizes: Mapping[str, int], bound: int, exceptions: Collection[str]) -> list[str]:
    """What is larger than allowed, and exceptions that are not needed."""
    large = [f"{name}: {size} > {bound}" for name, size in sizes.items() if size > bound and name not in exceptions]
    return large + [f"{name}: delete its exception" for name in exceptions if sizes.get(name, 0) <= bound]


def bad_words(words: Mapping[str, list[int]], exceptions: Collection[str]) -> list[str]:
    """Each banned word that is no exception, with its lines; and exceptions that are not needed."""
    bad = [f"{word!r} in line {numbers}" for word, numbers in words.items() if word not in exceptions]
    return bad + [f"{word!r}: delete its exception" for word in exceptions if word not in words]


def bad_test_names(names: Collection[str]) -> list[str]:
    return [name for name in names if len(name) > TEST_NAME_CHARS or BANNED_IN_TEST_NAMES.search(name)]


# --- The sources ------------------------------------------------------------------------------------------------------

PATHS = {path.relative_to(ROOT / "zsched").as_posix(): path for path in sorted((ROOT / "zsched").rglob("*.py"))}
TEXTS = {name: path.read_text("utf-8") for name, path in PATHS.items()}
PROSE = {
    **{f"zsched/{name}": text for name, text in TEXTS.items()},
    **{name: (ROOT / name).read_text("utf-8") for name in ("README.md", "CONTRIBUTING.md")},
}
TESTS = {path.relative_to(ROOT).as_posix(): path for path in sorted((ROOT / "tests").rglob("test_*.py"))}


@pytest.mark.parametrize(
    ("measure", "bound", "exceptions"),
    [
        pytest.param(module_lines, MODULE_LINES, LONG_MODULES, id="module_lines"),
        pytest.param(function_lines, FUNCTION_LINES, LONG_FUNCTIONS, id="function_lines"),
        pytest.param(parameters, PARAMETERS, MANY_PARAMETERS, id="parameters"),
        pytest.param(attributes, ATTRIBUTES, MANY_ATTRIBUTES, id="attributes"),
    ],
)
def test_sizes_are_within_their_bounds(measure: Measure, bound: int, exceptions: Mapping[str, str]) -> None:
    sizes = {
        f"{name}:{inner}".removesuffix(":"): size
        for name, text in TEXTS.items()
        for inner, size in measure(text).items()
    }
    assert "\n".join(violations(sizes, bound, exceptions)) == ""


def test_bounds_stand_in_limits() -> None:
    outside = {
        f"{name}:{bound}"
        for name, text in TEXTS.items()
        if not name.startswith("model/limits/")
        for bound in bounds(text)
    }
    assert "\n".join(sorted(outside ^ OTHER_BOUNDS.keys())) == ""


def test_modules_are_listed_in_architecture() -> None:
    """`python -m tests.rooms --write` updates the list."""
    assert rooms.PAGE.read_text("utf-8") == rooms.page()
    assert [name for name, path in PATHS.items() if not rooms.first_sentence(path)] == []


@pytest.mark.parametrize("name", PROSE)
def test_prose_uses_the_terms_of_the_field(name: str) -> None:
    exceptions = OTHER_WORDS.get(name)
    assert "\n".join(bad_words(banned_words(PROSE[name]), exceptions.split(", ") if exceptions else ())) == ""


def test_exceptions_of_words_name_files_that_exist() -> None:
    assert OTHER_WORDS.keys() - PROSE.keys() == set()


@pytest.mark.parametrize("name", TESTS)
def test_names_of_tests_are_short_and_plain(name: str) -> None:
    assert "\n".join(bad_test_names(names_of_tests(TESTS[name].read_text("utf-8")))) == ""


# --- The rules find violations ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measure", "source", "sizes"),
    [
        (module_lines, "a = 1\n\nb = 2\n", {"": 3}),
        (function_lines, "@cache\ndef f():\n    a = 1\n    return a\n", {"f": 3}),
        (function_lines, "class C:\n    def f(self):\n        def g():\n            pass\n", {"C.f": 3, "C.f.g": 2}),
        (function_lines, "if A:\n    async def f():\n        pass\n", {"f": 2}),
        (parameters, "def f(a, /, b, *, c): ...\n", {"f": 3}),
        (
            parameters,
            "class C:\n    def f(self, a, b=1): ...\n    @classmethod\n    def g(cls): ...\n",
            {"C.f": 2, "C.g": 0},
        ),
        (parameters, "class A:\n    def f(self, a): ...\nclass B:\n    def f(self): ...\n", {"A.f": 1, "B.f": 0}),
        (attributes, "class C:\n    def f(self):\n        self.a = self.b = 1\n        self.a += self.c\n", {"C": 2}),
        (
            attributes,
            "class C:\n    def f(self):\n        self.a, other.b = 1, 2\n        for self.d in (): ...\n",
            {"C": 2},
        ),
        (attributes, "class C:\n    def f(self):\n        self.a: int = 1\n        self.b.c = 2\n", {"C": 1}),
        (attributes, "@dataclass(slots=True)\nclass C:\n    a: int\n    b: int = 0\n", {"C": 2}),
        (attributes, "@dataclass(frozen=True)\nclass C:\n    a: int\n    b: int = 0\n", {"C": 0}),
    ],
)
def test_sizes_are_measured(measure: Measure, source: str, sizes: Mapping[str, int]) -> None:
    assert measure(source) == sizes


@pytest.mark.parametrize(
    ("sizes", "exceptions", "faults"),
    [
        ({"a.py": 5}, (), []),
        ({"a.py": 6}, (), ["a.py: 6 > 5"]),
        ({"a.py": 6}, ("a.py",), []),
        ({"a.py": 5}, ("a.py",), ["a.py: delete its exception"]),
        ({}, ("gone.py",), ["gone.py: delete its exception"]),
    ],
)
def test_sizes_beyond_the_bound_are_violations(
    sizes: dict[str, int], exceptions: tuple[str, ...], faults: list[str]
) -> None:
    assert violations(sizes, 5, exceptions) == faults


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("A_MAX = 1\nB_MAX: Final = 2\n_C_MAX: Final[int] = 3\n", {"A_MAX", "B_MAX", "_C_MAX"}),
        ("from zsched.model.limits import A_MAX\nB = A_MAX\nMAX = 1\nA_MAX_S = 1\n", set()),
        ("def f():\n    A_MAX = 1\n", set()),
    ],
)
def test_bounds_are_found_by_their_names(source: str, names: set[str]) -> None:
    assert bounds(source) == names


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It is sent anew.\n# Anew", {"anew": [1, 2]}),
        ("The agent is told of what runs", {"told": [1], "of what": [1]}),
        ("a name that is no job", {"is no job": [1]}),
        ("of these are none; 5 is none", {"are none": [1], "is none": [1]}),
        ("the worker who asks, workers who ask", {"worker who": [1], "workers who": [1]}),
        ("So many are read, lest so often", {"so many": [1], "lest": [1], "so often": [1]}),
        ("beside it, to whom", {"beside": [1], "whom": [1]}),
        ("def told(error): ...", {"told": [1]}),
        ("there is no job 5; it is no longer there; there are none; a is None", {}),
        ("is not lost; a person who asks; untold; besides; the latest; what of it", {}),
    ],
)
def test_banned_words_are_found(text: str, words: dict[str, list[int]]) -> None:
    assert banned_words(text) == words


@pytest.mark.parametrize(
    ("exceptions", "faults"),
    [
        ((), ["'told' in line [2, 4]"]),
        (("told",), []),
        (("anew",), ["'told' in line [2, 4]", "'anew': delete its exception"]),
    ],
)
def test_exceptions_of_words_are_of_a_word(exceptions: tuple[str, ...], faults: list[str]) -> None:
    assert bad_words({"told": [2, 4]}, exceptions) == faults


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("test_" + "a" * 65, False),
        ("test_" + "a" * 66, True),
        ("test_worker_is_told_to_stop", True),
        ("test_what_is_no_number_is_refused", True),
        ("test_nobody_waits", True),
        ("test_run_is_sent_anew", True),
        ("test_lock_is_no_longer_held", False),
        ("test_whole_file_is_read", False),
    ],
)
def test_names_of_tests_are_judged(name: str, bad: bool) -> None:
    source = f"class TestX:\n    def {name}(self): ...\ndef helper(): ...\n"
    assert bad_test_names(names_of_tests(source)) == ([name] if bad else [])
