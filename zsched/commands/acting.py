"""The common part of `zsched cancel`, `hold`, `release` and `rerun`: one act on the selected jobs, and what it did."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple

from zsched.client.client import Action, Client, Group, Job, NotFound, Refused
from zsched.client.lists import query
from zsched.commands import exits, options, selection, table
from zsched.commands.selection import Tasks
from zsched.model import spans
from zsched.model.limits import JOBS_SHOWN_MAX, PAGE_ROWS_MAX
from zsched.model.spans import Spans

# Refusals of jobs that `all` does not mean: they are not printed, and no failure.
_NOT_MEANT: Final = {"finished", "live", "recurring", "unknown_job"}


class Act(NamedTuple):
    """An act of POST /jobs/bulk. `done`: a word for each outcome that is a success. `refused`: a sentence for each
    refusal. `quiet`: the refusals that --quiet leaves out. `every`: the state of the jobs that `all` stands for; empty
    for those that have not ended. `alone`: `all` is asked for without --all-owners, too. `of_tasks`: single tasks can
    be named. `by_task`: with a status, it acts on those tasks of an array.
    """

    action: Action
    done: Mapping[str, str]
    refused: Mapping[str, str]
    quiet: tuple[str, ...] = ()
    every: str = ""
    alone: bool = False
    of_tasks: bool = True
    by_task: bool = False


def act(doc: str, argv: Sequence[str], what: Act, statuses: tuple[str, ...] = ()) -> int:
    """Run the command; returns its exit code. `statuses`: the values of its option --status, if it has one."""
    arguments = options.parse(doc, argv, mixed=True)
    chosen = options.selected(doc, arguments, tasks=what.of_tasks)
    owner = options.owner(doc, arguments, chosen)
    status = options.choice(doc, arguments, "--status", statuses) if statuses else None
    if arguments.get("--failed"):
        status = "failed"
    reason = options.text(arguments, "--reason") or ""
    asks = not arguments["--yes"] and (owner is None or (what.alone and chosen.every))
    if asks and not sys.stdin.isatty():
        option, whose = ("--all-owners", "the jobs of all owners") if owner is None else ("all", "all your ended jobs")
        options.fail(doc, f"{option} {what.action}s {whose}: give --yes too")
    if chosen.tasks and status is not None and not arguments.get("--failed"):
        options.fail(doc, f"--status is for whole jobs, not for tasks such as {chosen.tasks[0]}")
    quiet = bool(arguments["--quiet"])
    with Client(options.text(arguments, "--url")) as client:
        ids = selection.resolve_last(chosen, client)
        if asks and not confirm(_question(client, what, ids, owner, status)):
            return exits.FAILED
        tasks = on_tasks(client, what, selection.resolve_tasks(chosen, client), arguments)
        groups: dict[str, Group] = {}
        if what.by_task and status is not None:
            every = client.jobs(status, owner=owner) if chosen.every else ()
            ids |= spans.of_numbers(job.id for job in every if job.schedule is None)
            # In the order of the numbers: an array may wait for earlier jobs, which have to run again first.
            for number in sorted(arrays_with(client, ids, status)):
                merge(groups, several(client, what, ids & Spans(((0, number - 1),)), status, reason, quiet=quiet))
                merge(groups, single(client, what, number, reason, quiet=quiet, failed=True))
                ids -= Spans(((0, number),))
        if len(ids) == 1 and status is None:
            groups = single(client, what, next(iter(ids)), reason, quiet=quiet)
        else:
            merge(groups, several(client, what, ids, status, reason, quiet=quiet))
        named = groups.keys() | tasks.keys()
        code = exits.NOT_FOUND if named & {"unknown_job", "unknown_task"} else int(bool(named - what.done.keys()))
        if chosen.every and not (what.by_task and status is not None):
            met = client.bulk(what.action, None, owner=owner, status=status, reason=reason)
            refused = {name: group for name, group in met.items() if name not in {*what.done, *_NOT_MEANT}}
            complain(refused, what, quiet=quiet)
            code = code or int(bool(refused))
            merge(groups, met)
    if arguments["--json"]:
        outcome: dict[str, object] = {
            name: {"count": group.size, "jobs": str(group.jobs)} for name, group in groups.items()
        }
        table.document(outcome | ({"tasks": tasks} if tasks else {}))
    elif not quiet:
        for selector in tasks.get("done", ()):
            print(selector, what.done.get("ending", what.done["done"]))
        show(groups, what)
    return code


def several(
    client: Client, what: Act, ids: Spans, status: str | None, reason: str, *, quiet: bool
) -> Mapping[str, Group]:
    """Act on jobs by one call, and print the refusals. Returns the outcome as Client.bulk does."""
    groups = client.bulk(what.action, ids, status=status, reason=reason) if ids else {}
    complain(groups, what, quiet=quiet)
    return groups


def merge(groups: dict[str, Group], more: Mapping[str, Group]) -> None:
    """Add groups of jobs to others."""
    for name, group in more.items():
        before = groups.get(name, Group(0, Spans()))
        groups[name] = Group(before.size + group.size, before.jobs | group.jobs)


def arrays_with(client: Client, ids: Spans, status: str) -> list[int]:
    """The arrays among jobs that have tasks with a status."""
    pages = (client.rows(f"/jobs?first={first}&last={last}&limit={PAGE_ROWS_MAX}") for first, last in ids.spans)
    return [view["id"] for view in chain.from_iterable(pages) if view.get("tasks", {}).get(status)]


def on_tasks(
    client: Client, what: Act, chosen: Sequence[Tasks], arguments: Mapping[str, options.Value]
) -> dict[str, list[str]]:
    """Act on single tasks. Returns their selectors by outcome; each refusal is printed."""
    reason, failed = options.text(arguments, "--reason") or "", bool(arguments.get("--failed"))
    outcome: dict[str, list[str]] = {}
    for tasks in chosen:
        given = {"task": tasks.indexes, "only": "failed" if failed else None, "reason": reason}
        try:
            client.ask("POST", f"/jobs/{tasks.job}/{what.action}?{query(**given)[1:]}")
            code = "done"
        except Refused as error:
            code = error.code
            if code not in (*what.refused, "unknown_job", "unknown_task", "no_array"):
                raise
            if code not in what.quiet or not arguments["--quiet"]:
                exits.say(f"unknown job {tasks.job}" if code == "unknown_job" else str(error))
        outcome.setdefault(code, []).append(str(tasks))
    return outcome


def _question(client: Client, what: Act, ids: Spans, owner: str | None, status: str | None) -> str:
    if what.every:
        jobs = f"{status or what.every} jobs"
        return f"{what.action} all {jobs} of all owners?" if owner is None else f"{what.action} all your {jobs}?"
    from zsched.model.units import counted

    return f"{what.action} {counted(len(ids | client.unfinished(owner, status)), 'job')} of all owners?"


def single(
    client: Client, what: Act, number: int, reason: str, *, quiet: bool, failed: bool = False
) -> dict[str, Group]:
    """Act on one job, or print the scheduler's error. Returns the outcome in the form of Client.bulk. `failed`: only
    the failed tasks of an array run again.
    """
    jobs = Spans(((number, number),))
    job = Job(client, {"id": number})
    try:
        if failed:
            job.rerun(reason, failed=True)
        else:
            getattr(job, what.action)(reason)
    except NotFound:
        exits.say(f"unknown job {number}")
        return {"unknown_job": Group(1, jobs)}
    except Refused as error:
        if error.code not in what.refused:
            raise
        if error.code not in what.quiet or not quiet:
            exits.say(str(error))
        return {error.code: Group(1, jobs)}
    return {"done" if job.done or "ending" not in what.done else "ending": Group(1, jobs)}


def complain(groups: Mapping[str, Group], what: Act, *, quiet: bool) -> None:
    """Print which jobs were not changed, and why."""
    common = {
        "not_owner": "not allowed: {jobs} belong to other owners; a token needs the scope operate to act on them",
        "unknown_job": "unknown job {jobs}",
    }
    sentences = {**what.refused, **common}
    for name, group in groups.items():
        if name not in what.done and not (quiet and name in what.quiet):
            shown = group.jobs.head(JOBS_SHOWN_MAX)
            more = "" if len(shown) == group.size else " and others"
            sentence = sentences.get(name, "{count} were refused as {name}: {jobs}")
            exits.say(sentence.format(count=group.size, jobs=f"{shown}{more}", name=name))


def show(groups: Mapping[str, Group], what: Act) -> None:
    """Print the changed jobs: a line for each, or only counts if there are more than JOBS_SHOWN_MAX."""
    changed = {word: groups[name] for name, word in what.done.items() if name in groups}
    if sum(group.size for group in changed.values()) > JOBS_SHOWN_MAX:
        print(", ".join(f"{group.size} {word}" for word, group in changed.items()))
        return
    for number, word in sorted((number, word) for word, group in changed.items() for number in group.jobs):
        print(number, word)


def confirm(question: str) -> bool:
    """Ask on the terminal. Only y or yes confirms; the end of the input does not."""
    print(f"zsched: {question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
