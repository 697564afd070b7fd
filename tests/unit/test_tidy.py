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
    "worker/agent/agent.py": "the routing of frames and messages; its session, holdings and flow are modules already",
}
LONG_FUNCTIONS: Mapping[str, str] = {}
MANY_PARAMETERS: Mapping[str, str] = {}
MANY_ATTRIBUTES: Mapping[str, str] = {
    "api/http/channel.py:Channel": "some are Waitress's, and the limiter needs the others of each connection",
    "scheduler/dispatcher/core.py:Dispatcher": "one for each handler with a state of its own",
    "scheduler/dispatcher/session.py:Session": "one record of all that a turn may undo of a session",
}
# Constants named as bounds that stand outside model/limits.
OTHER_BOUNDS: Mapping[str, str] = {
    "api/http/listeners.py:_PATH_BYTES_MAX": "the kernel's: unix(7), the path of a socket",
    "client/http.py:LOOK_S_MAX": "the end of a back-off; next to its begin and factor",
    "commands/options.py:_DIGITS_MAX": "the digits of the largest integer of JSON",
    "host/files.py:FILE_BYTES_MAX": "of files that this program writes itself, next to their reader",
    "host/files.py:_LINKS_MAX": "the kernel's: path_resolution(7)",
    "security/endpoint.py:_PAUSE_S_MAX": "the end of a back-off; next to its begin and factor",
    "security/endpoint.py:_SOCKET_PATH_BYTES_MAX": "the kernel's: unix(7), the path of a socket",
    "host/resources.py:_M_ARENA_MAX": "the C library's: mallopt(3)",
    "store/sqlite/head.py:_COOKIE_LAG_MAX": "a tolerance when files are compared, no resource",
    "worker/guard/journal.py:_DB_CHARS_MAX": "the format of a file, next to its pattern",
    "worker/guard/outputs.py:_KEPT_BYTES_MAX": "follows from FRAME_FROM_WORKER_BYTES_MAX",
    "worker/guard/pipes.py:_DRAIN_BYTES_MAX": "the kernel's: fs.pipe-max-size, pipe(7)",
    "worker/guard/timers.py:_PER_RUN_MAX": "a count of the code: the kinds of timers",
    "worker/guard/timers.py:_VOID_MAX": "when a heap is cleaned, no resource",
    "worker/process/spawn.py:_OOM_MAX": "the kernel's: oom_score_adj, proc(5)",
}
# Words that a file may still use, separated by commas. All of them: to be reworded.
OTHER_WORDS: Mapping[str, str] = {
    "zsched/worker/guard/journal.py": "beside",
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
