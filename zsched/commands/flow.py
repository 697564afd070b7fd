"""Flow files: named jobs that wait for each other, as TOML or JSON. They are submitted by `zsched submit --file`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, time
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from zsched.commands import exits, options, placement, table, variables, waiting
from zsched.commands.exits import Failure
from zsched.model import spans
from zsched.model.limits import JOBS_SHOWN_MAX

if TYPE_CHECKING:
    from zsched.client.client import Client, Job, Refused, View

# Options of `submit` that go with --file.
_OPTIONS: Final = (
    *("submit", "--file", "--wait", "--dry-run", "--quiet", "--range", "--json", "--idempotency-key", "--url"),
)


def main(doc: str, arguments: Mapping[str, options.Value], key: str) -> int:
    """`zsched submit --file`; returns the exit code. Wrong usage ends the program. Raises ClientError, Failure."""
    from zsched.client.client import Client

    file = options.text(arguments, "--file") or "-"
    for name, value in arguments.items():
        if value and name not in _OPTIONS:
            sentence = "<cmd> stands in the file" if name == "<cmd>" else f"{name} is not for --file"
            options.fail(doc, f"{sentence}: write what a job needs into its table [jobs.NAME]")
    jobs = with_own_place(read(file))
    if arguments["--dry-run"]:
        show(jobs, as_json=bool(arguments["--json"]))
        return 0
    with Client(options.text(arguments, "--url")) as client:
        stored = submit(client, file, jobs, key)
        ids = spans.of_numbers(job.id for job in stored.values())
        if not arguments["--json"]:
            shown = str(ids) if arguments["--range"] else "\n".join(map(str, ids))
            first = next(iter(stored.values())).view["flow"]
            plain = f"flow {first}, job{'s' * (len(ids) > 1)} {ids}"
            print(shown if arguments["--quiet"] or arguments["--range"] else plain, flush=True)
        code = wait(client, list(stored.values()), arguments) if arguments["--wait"] else 0
        if arguments["--json"]:
            table.document({name: client.get(job.id).view for name, job in stored.items()})
        return code


def wait(client: Client, jobs: Sequence[Job], arguments: Mapping[str, options.Value]) -> int:
    """Wait for the jobs; returns the exit code. Raises ClientError."""
    quiet = bool(arguments["--quiet"] or arguments["--range"])
    known = {job.id: job for job in jobs}
    ids = spans.of_numbers(known)
    if len(ids) > JOBS_SHOWN_MAX and not arguments["--json"]:
        counts = waiting.wait_for_counts(client, ids, None, quiet=quiet)
        return int(bool(counts["failed"] or counts["cancelled"]))
    codes: dict[int, int] = {}
    with waiting.hint_on_interrupt(lambda: ids - spans.of_numbers(codes)):
        for job in waiting.as_completed(client, ids):
            known[job.id].view = job.view
            code = codes[job.id] = exits.of_job(job)
            if not quiet and not arguments["--json"]:
                print(waiting.line(job), flush=True)
                exits.say_note(job)
            elif code in (exits.TIMEOUT, exits.OWN_FAULT):
                exits.say(f"job {waiting.line(job)}")
    return next(iter(codes.values())) if len(codes) == 1 else int(any(codes.values()))


def read(file: str) -> dict[str, View]:
    """The jobs of a flow file by name, as REST takes them; `-` is stdin. Raises Failure."""
    parsed = _parsed(file, _content(file))
    file = named(file)
    jobs = parsed.get("jobs")
    found = [
        f"unknown {key!r}: a flow file has nothing but jobs, each as [jobs.NAME]" for key in parsed if key != "jobs"
    ]
    if not isinstance(jobs, dict) or not jobs:
        jobs = {}
        found = found or ["no jobs: write each as [jobs.NAME] with a command"]
    found += [
        f"jobs.{name} is not a table: write [jobs.{name}] with a command"
        for name, job in jobs.items()
        if not isinstance(job, dict)
    ]
    for sentence in found[:-1]:
        exits.say(f"{file}: {sentence}")
    if found:
        raise Failure(f"{file}: {found[-1]}", exits.USAGE)
    return {name: {key: _as_json(value) for key, value in job.items()} for name, job in jobs.items()}


def named(file: str) -> str:
    """A file in messages."""
    return "stdin" if file == "-" else file


def _content(file: str) -> str:
    if file == "-" and sys.stdin is None:
        raise Failure("stdin is closed, and --file is to read it", exits.USAGE)
    try:
        if file == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(file, "rb") as opened:
                data = opened.read()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise Failure(f"can't read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Failure(f"{named(file)}: the file is not UTF-8", exits.USAGE) from None


def _parsed(file: str, content: str) -> dict[str, Any]:
    """The file's document: JSON if its name or its first character says so, else TOML. Raises Failure."""
    import json
    import tomllib

    suffix = PurePath(file).suffix.lower()
    is_json = suffix == ".json" or (suffix != ".toml" and content.lstrip()[:1] == "{")
    try:
        parsed = json.loads(content, object_pairs_hook=_unique) if is_json else tomllib.loads(content)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Failure(f"{named(file)}: invalid JSON: {error.msg} ({where})", exits.USAGE) from None
    except (ValueError, RecursionError) as error:
        kind = "JSON" if is_json else "TOML"
        raise Failure(f"{named(file)}: invalid {kind}: {error}", exits.USAGE) from None
    return parsed if isinstance(parsed, dict) else {}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise ValueError(f"the key {twice!r} stands there twice")
    return found


def _as_json(value: Any) -> Any:
    """A value of TOML, which has dates, as JSON."""
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    return [_as_json(item) for item in value] if isinstance(value, list) else value


def with_own_place(jobs: Mapping[str, View]) -> dict[str, View]:
    """The jobs with our folder and our umask as hints, where they name none. A relative `cwd` is below our folder.
    Raises Failure.
    """
    hints = {"cwd": ("cwd_hint", placement.folder()), "umask": ("umask_hint", placement.own_umask())}
    return {
        name: {hint: value for field, (hint, value) in hints.items() if value and not {field, hint} & job.keys()}
        | job
        | _own_folder(name, job.get("cwd"))
        for name, job in jobs.items()
    }


def _own_folder(name: str, cwd: object) -> View:
    """A job's folder from our own one; empty without a text, which REST refuses."""
    return {"cwd": placement.absolute(cwd, f"job {name}: cwd")} if isinstance(cwd, str) and cwd else {}


def show(jobs: Mapping[str, View], *, as_json: bool) -> None:
    """Print what would be submitted."""
    if as_json:
        table.document({"jobs": {name: variables.mask_secrets(job) for name, job in jobs.items()}})
        return
    for name, job in jobs.items():
        command = job.get("command") or shlex.join(map(str, job.get("argv", ())))
        after = ", ".join(map(str, job.get("after", ())))
        print(f"{name}: {command}{f'  (after {after})' if after else ''}")


def submit(client: Client, file: str, jobs: Mapping[str, View], key: str) -> dict[str, Job]:
    """Submit a flow. Returns its jobs by name. Raises ClientError, and Failure with a line for each fault."""
    from zsched.client.client import Refused

    try:
        return client.submit_flow(jobs, idempotency_key=key)
    except Refused as error:
        if not error.faults:
            raise
        for line in faults(named(file), error):
            exits.say(line)
        raise Failure("", exits.USAGE) from None


def faults(file: str, error: Refused) -> Iterator[str]:
    """A line for each thing that is wrong with a flow: the file, the job, the field, and the remedy."""
    for pointer, detail in error.faults:
        place = [step.replace("~1", "/").replace("~0", "~") for step in pointer.removeprefix("#").split("/")[1:]]
        if place[:1] == ["jobs"] and len(place) > 1:
            # The sentence names the entry.
            field = "after" if place[2:3] == ["after"] else ".".join(place[2:])
            remedy = f"; {_known(place[2])}" if detail == "unknown field" and len(place) == 3 else ""
            yield f"{file}: job {place[1]}: {field}{': ' if field else ''}{detail}{remedy}"
        else:
            yield f"{file}: {'.'.join(place)}{': ' if place else ''}{detail}"


def _known(wrong: str) -> str:
    """The field that a wrong one may mean."""
    from zsched.client.submission import Fields
    from zsched.model.spelling import suggestion

    return suggestion(wrong, ("command", "argv", *Fields.__annotations__), "docs/rest.md lists them")
