"""docs/job-fields.md: each field of a job by REST, by the command and by the client, and what is observed.

`python -m tests.examples --write` writes the page. tests/unit/test_examples.py compares the two, and
tests/system/test_examples.py runs each example on real processes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests import pages

PAGE: Final = Path(__file__).parents[1] / "docs" / "job-fields.md"
BEGIN: Final = "<!-- From tests/examples.py: `python -m tests.examples --write` makes it. -->\n"
END: Final = "<!-- End of what is made from tests/examples.py. -->\n"

# Observed where a job waits on purpose.
LATE: Final = "start"
LATER: Final = "more than 1 s after the submit"


class Example(NamedTuple):
    """One field. `body`: the job as REST and the client take it. `line`: the same as a line of a shell. `observed`: the
    members of the job, its last run as `run.…`, and its `output`.
    """

    field: str
    body: Mapping[str, Any]
    line: str
    observed: Mapping[str, object]

    @property
    def call(self) -> str:
        """The call of the client."""
        given = dict(self.body)
        first = given.pop("command", None) or given.pop("argv")
        return f"client.submit({', '.join([repr(first), *(f'{name}={value!r}' for name, value in given.items())])})"

    @property
    def request(self) -> str:
        """The body of the request, with the name that REST needs."""
        return json.dumps({"name": "j"} | dict(self.body))


NEW_YEAR: Final = "0 0 1 1 *"
LINGER: Final = "trap '' TERM; sleep 60"
SAVE: Final = "trap 'echo saved; exit 0' USR1; while :; do sleep 0.05; done"

EXAMPLES: Final = (
    Example("name", {"command": "true", "name": "nightly"}, "zsched submit --name nightly true", {"name": "nightly"}),
    Example("command", {"command": "echo $((6*7))"}, "zsched submit 'echo $((6*7))'", {"output": "42"}),
    Example("argv", {"argv": ["echo", "$HOME"]}, "zsched submit --no-shell echo '$HOME'", {"output": "$HOME"}),
    Example("cwd", {"command": "pwd", "cwd": "/usr"}, "zsched submit --cwd /usr pwd", {"output": "/usr"}),
    Example("cwd_hint", {"command": "pwd", "cwd_hint": "/usr"}, "cd /usr; zsched submit pwd", {"output": "/usr"}),
    Example("umask", {"command": "umask", "umask": "027"}, "zsched submit --umask 027 umask", {"output": "0027"}),
    Example(
        "umask_hint",
        {"command": "umask", "umask_hint": "027"},
        "umask 027; zsched submit umask",
        {"output": "0027"},
    ),
    Example(
        "stdin",
        {"command": "wc -c", "stdin": "hello"},
        "printf hello | zsched submit --stdin 'wc -c'",
        {"output": "5", "stdin_bytes": 5},
    ),
    Example(
        "files",
        {"command": "cat in.txt", "files": {"in.txt": "hello"}},
        "printf hello >in.txt; zsched submit --put in.txt cat in.txt",
        {"output": "hello", "files_bytes": 5},
    ),
    Example(
        "artifacts",
        {"command": "echo 1,2 >out.csv", "artifacts": ["*.csv"]},
        "zsched submit --get '*.csv' 'echo 1,2 >out.csv'",
        {"status": "success", "artifacts": ["*.csv"]},
    ),
    Example(
        "tags",
        {"command": "true", "tags": ["nightly", "team=data"]},
        "zsched submit --tag nightly --tag team=data true",
        {"tags": ["nightly", "team=data"]},
    ),
    Example(
        "priority",
        {"command": "true", "priority": 10},
        "zsched submit --priority 10 true",
        {"priority": 10},
    ),
    Example(
        "queue",
        {"command": "true", "queue": "nightly"},
        "zsched submit --queue nightly true",
        {"status": "success", "queue": "nightly"},
    ),
    Example(
        "labels",
        {"command": "true", "labels": {"worker": "w1"}},
        "zsched submit --label worker=w1 true",
        {"status": "success", "labels": {"worker": "w1"}},
    ),
    Example(
        "limits",
        {"command": "true", "limits": {"db": 3}},
        "zsched submit --limit db=3 true",
        {"status": "success", "limits": {"db": 3}},
    ),
    Example(
        "unique",
        {"command": "sleep 0.1", "unique": "index"},
        "zsched submit --unique index 'sleep 0.1'",
        {"status": "success", "unique": "index"},
    ),
    Example(
        "array",
        {"command": "test $ZSCHED_TASK -lt 3", "array": "0-2%2"},
        "zsched submit --array 0-2%2 'test {} -lt 3'",
        {"status": "success", "array": "0-2%2"},
    ),
    Example(
        "each",
        {"command": 'test -d "$ZSCHED_ENTRY"', "each": ["/usr", "/tmp"]},
        "printf '/usr\\n/tmp\\n' | zsched submit --each - test -d {}",
        {"status": "success", "entries": 2},
    ),
    Example(
        "max_fails",
        {"command": "exit 3", "array": "0-9%1", "max_fails": 0},
        "zsched submit --array 0-9%1 --max-fails 0 'exit 3'",
        {"status": "failed", "max_fails": 0, "tasks.cancelled": 9},
    ),
    Example(
        "env",
        {"command": "echo $LEVEL", "env": {"LEVEL": "3"}},
        "zsched submit --env LEVEL=3 'echo $LEVEL'",
        {"output": "3"},
    ),
    Example(
        "secret_env",
        {"command": "echo $KEY", "secret_env": {"KEY": "correct-horse"}},
        "KEY=correct-horse zsched submit --secret-env KEY 'echo $KEY'",
        {"output": "***", "secret_env": {"KEY": "***"}},
    ),
    Example(
        "user", {"command": "id -un", "user": "nobody"}, "zsched submit --user nobody 'id -un'", {"output": "nobody"}
    ),
    Example(
        "run_at",
        {"command": "true", "run_at": "2099-01-01T00:00:00Z"},
        "zsched submit --at 2099-01-01T00:00:00Z true",
        {"status": "pending", "run.due_at": "2099-01-01T00:00:00.000Z"},
    ),
    Example(
        "hold",
        {"command": "true", "hold": True},
        "zsched submit --hold true",
        {"status": "pending", "why.code": "held"},
    ),
    Example(
        "after",
        {"command": "true", "after": ["1:any"]},
        "zsched submit --after 1:any true",
        {"status": "success", "after": ["1:any"]},
    ),
    Example("delay", {"command": "true", "delay": "1.1s"}, "zsched submit --delay 1.1s true", {LATE: LATER}),
    Example(
        "deadline",
        {"command": "true", "deadline": "2020-01-01T00:00:00Z"},
        "zsched submit --deadline 2020-01-01T00:00:00Z true",
        {"status": "failed", "run.reason": "expired"},
    ),
    Example(
        "timeout",
        {"command": "sleep 60", "timeout": "0.3s"},
        "zsched submit --timeout 0.3s 'sleep 60'",
        {"status": "failed", "run.reason": "timeout", "run.signal": 15},
    ),
    Example(
        "kill_grace",
        {"command": LINGER, "timeout": "0.3s", "kill_grace": "0.2s"},
        f'zsched submit --timeout 0.3s --kill-grace 0.2s "{LINGER}"',
        {"status": "failed", "run.reason": "timeout", "run.signal": 9},
    ),
    Example(
        "signal",
        {"command": SAVE, "timeout": "10s", "signal": "USR1@9.5s"},
        f'zsched submit --timeout 10s --signal USR1@9.5s "{SAVE}"',
        {"status": "success", "output": "saved"},
    ),
    Example(
        "retries",
        {"command": "exit 3", "retries": 2, "backoff": {"initial": "0s"}},
        "zsched submit --retries 2 --backoff 0s 'exit 3'",
        {"status": "failed", "run.attempt": 3, "run.exit_code": 3},
    ),
    Example(
        "backoff",
        {"command": "exit 3", "retries": 1, "backoff": {"initial": "1.3s"}},
        "zsched submit --retries 1 --backoff 1.3s 'exit 3'",
        {"run.attempt": 2, LATE: LATER},
    ),
    Example(
        "retry_on",
        {"command": "exit 3", "retries": 2, "retry_on": [75, "100-120", "TERM"]},
        "zsched submit --retries 2 --retry-on 75,100-120,TERM 'exit 3'",
        {"status": "failed", "run.attempt": 1, "retry_on": [75, "100-120", "TERM"]},
    ),
    Example(
        "on_lost", {"command": "true", "on_lost": "fail"}, "zsched submit --on-lost fail true", {"on_lost": "fail"}
    ),
    Example(
        "on_disconnect",
        {"command": "true", "on_disconnect": "stop"},
        "zsched submit --on-disconnect stop true",
        {"on_disconnect": "stop"},
    ),
    Example(
        "crash_limit", {"command": "true", "crash_limit": 2}, "zsched submit --crash-limit 2 true", {"crash_limit": 2}
    ),
    Example(
        "schedule",
        {"command": "true", "schedule": NEW_YEAR},
        f"zsched submit --cron '{NEW_YEAR}' true",
        {"schedule": NEW_YEAR, "run.status": None},
    ),
    Example(
        "run_now",
        {"command": "true", "schedule": NEW_YEAR, "run_now": True},
        f"zsched submit --cron '{NEW_YEAR}' --run-now true",
        {"schedule": NEW_YEAR, "run.status": "success"},
    ),
)


def table() -> str:
    return "".join(_lines())


def page() -> str:
    return pages.put(PAGE.read_text("utf-8"), BEGIN, f"{table()}\n", END)


def _lines() -> Iterator[str]:
    yield "| field | POST /jobs | shell | client | observed |\n|---|---|---|---|---|\n"
    for example in EXAMPLES:
        codes = " | ".join(f"`{text}`".replace("|", "\\|") for text in (example.request, example.line, example.call))
        yield f"| `{example.field}` | {codes} | {_observed(example.observed)} |\n"


def _observed(observed: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {'absent' if value is None else f'`{value}`'}" for name, value in observed.items())


if __name__ == "__main__":
    pages.main(PAGE, page, table)
