"""zsched cancel: cancel jobs.

Usage:
  zsched cancel [options] <selector>...

A pending run never starts. A running one gets TERM; after the job's kill grace, it and everything it started get KILL.
`zsched wait` waits for that. A recurring job keeps its schedule; use `zsched end` to end it. Prints each job, or sums
for more than 20 jobs. Selectors: 12, 3-8, 1,4,9, last and all. `all` means your own jobs that have not ended.

Options:
  --status=STATUS  Cancel only jobs with this status: pending or running.
  --all-owners     With all: the jobs of all owners. Asks first on a terminal; elsewhere it needs --yes.
  --yes            Don't ask.
  -q, --quiet      Print nothing on stdout, and no line about jobs that had already ended.
  --json           Print the outcome as JSON: how many jobs, and which.
  --url=URL        The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help       Show this.

Exit codes: 0 done; 1 a named job had already ended or belongs to another owner, or you did not confirm; 2 wrong usage;
3 there is no such job; 4 no scheduler answers.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from zsched.client.client import Client, Group, Job, NotFound, Refused
from zsched.commands import exits, options, selection, table
from zsched.model.limits import JOBS_SHOWN_MAX
from zsched.model.spans import Spans


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, mixed=True)
    chosen = options.selected(__doc__, arguments)
    owner = options.owner(__doc__, arguments, chosen)
    status = options.choice(__doc__, arguments, "--status", ("pending", "running"))
    asks = owner is None and not arguments["--yes"]
    if asks and not sys.stdin.isatty():
        options.fail(__doc__, "--all-owners cancels the jobs of all owners: give --yes too")
    with Client(options.text(arguments, "--url")) as client:
        ids = selection.resolve_last(chosen, client)
        if asks:
            from zsched.model.units import counted

            jobs = counted(len(ids | client.unfinished(None, status)), "job")
            if not confirm(f"cancel {jobs} of all owners?"):
                return exits.FAILED
        groups: dict[str, Group] = {}
        if len(ids) == 1 and status is None:
            groups = single(client, next(iter(ids)), quiet=bool(arguments["--quiet"]))
        elif ids:
            groups = client.bulk("cancel", ids, status=status)
            complain(groups, quiet=bool(arguments["--quiet"]))
        code = exits.NOT_FOUND if "unknown_job" in groups else int("finished" in groups or "not_owner" in groups)
        if chosen.every:
            for name, group in client.bulk("cancel", None, owner=owner, status=status).items():
                before = groups.get(name, Group(0, Spans()))
                groups[name] = Group(before.size + group.size, before.jobs | group.jobs)
    if arguments["--json"]:
        table.document({name: {"count": group.size, "jobs": str(group.jobs)} for name, group in groups.items()})
    elif not arguments["--quiet"]:
        show(groups)
    return code


def single(client: Client, number: int, *, quiet: bool) -> dict[str, Group]:
    """Cancel one job, or print the scheduler's error. Returns the outcome in the form of Client.bulk."""
    jobs = Spans(((number, number),))
    try:
        job = Job(client, {"id": number}).cancel()
    except NotFound:
        exits.say(f"unknown job {number}")
        return {"unknown_job": Group(1, jobs)}
    except Refused as error:
        if error.code not in ("finished", "not_owner"):
            raise
        if error.code != "finished" or not quiet:
            exits.say(str(error))
        return {error.code: Group(1, jobs)}
    return {"done" if job.done else "ending": Group(1, jobs)}


def complain(groups: Mapping[str, Group], *, quiet: bool) -> None:
    """Print which jobs were not cancelled, and why."""
    sentences = {
        "finished": "{count} had already ended: {jobs}",
        "not_owner": "not allowed: {jobs} belong to other owners; a token needs the scope operate to act on them",
        "unknown_job": "unknown job {jobs}",
    }
    for name, sentence in sentences.items():
        if name in groups and not (quiet and name == "finished"):
            shown = groups[name].jobs.head(JOBS_SHOWN_MAX)
            more = "" if len(shown) == groups[name].size else " and others"
            exits.say(sentence.format(count=groups[name].size, jobs=f"{shown}{more}"))


def show(groups: Mapping[str, Group]) -> None:
    """Print the cancelled jobs: a line for each, or only counts if there are more than JOBS_SHOWN_MAX."""
    words = {"done": "cancelled", "ending": "cancelling"}
    cancelled = {word: groups[name] for name, word in words.items() if name in groups}
    if sum(group.size for group in cancelled.values()) > JOBS_SHOWN_MAX:
        print(", ".join(f"{group.size} {word}" for word, group in cancelled.items()))
        return
    for number, word in sorted((number, word) for word, group in cancelled.items() for number in group.jobs):
        print(number, word)


def confirm(question: str) -> bool:
    """Ask on the terminal. Only y or yes confirms; the end of the input does not."""
    print(f"zsched: {question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
