"""zsched cancel: cancel jobs.

Usage:
  zsched cancel [options] <selector>...

A pending run never starts. A running one gets TERM, and KILL after its kill grace (10 s), with everything that it
started; `zsched wait` waits for that. A schedule goes on: `zsched end` ends it. Prints each job, or the number of jobs
when there are more than 20. Selectors: 12, 3-8, 1,4,9, last, and all: your own that have not ended.

Options:
  --status=STATUS  Only jobs that are pending, or only those that are running.
  --all-owners     With all: the jobs of all owners. Asks first, on a terminal; elsewhere it needs --yes.
  --yes            Don't ask.
  -q, --quiet      Print nothing on stdout, and no line about jobs that had already ended.
  --json           Print the outcome as JSON: how many jobs, and which.
  --url=URL        Where the scheduler answers: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help       Show this.

Exit codes: 0 done; 1 nothing was left to cancel of a job that was named, it is another owner's, or the answer was no;
2 wrong usage; 3 there is no such job; 4 no scheduler answers.
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
    found = options.parse(__doc__, argv, mixed=True)
    chosen = options.selected(__doc__, found)
    owner = options.owner(__doc__, found, chosen)
    status = options.choice(__doc__, found, "--status", ("pending", "running"))
    asks = owner is None and not found["--yes"]
    if asks and not sys.stdin.isatty():
        options.fail(__doc__, "--all-owners cancels the jobs of all owners: give --yes too")
    with Client(options.text(found, "--url")) as client:
        ids = selection.named(chosen, client)
        if asks:
            from zsched.model.units import counted

            jobs = counted(len(ids | client.unfinished(None, status)), "job")
            if not agreed(f"cancel {jobs} of all owners?"):
                return exits.FAILED
        met: dict[str, Group] = {}
        if len(ids) == 1 and status is None:
            met = single(client, next(iter(ids)), quiet=bool(found["--quiet"]))
        elif ids:
            met = client.bulk("cancel", ids, status=status)
            complain(met, quiet=bool(found["--quiet"]))
        code = exits.NOT_FOUND if "unknown_job" in met else int("finished" in met or "not_owner" in met)
        if chosen.every:
            for name, group in client.bulk("cancel", None, owner=owner, status=status).items():
                before = met.get(name, Group(0, Spans()))
                met[name] = Group(before.size + group.size, before.jobs | group.jobs)
    if found["--json"]:
        table.document({name: {"count": group.size, "jobs": str(group.jobs)} for name, group in met.items()})
    elif not found["--quiet"]:
        show(met)
    return code


def single(client: Client, number: int, *, quiet: bool) -> dict[str, Group]:
    """Cancel one job, and print the scheduler's error where that fails. Returns the outcome, as Client.bulk does."""
    jobs = Spans(((number, number),))
    try:
        job = Job(client, {"id": number}).cancel()
    except NotFound:
        exits.say(f"there is no job {number}")
        return {"unknown_job": Group(1, jobs)}
    except Refused as error:
        if error.code not in ("finished", "not_owner"):
            raise
        if error.code != "finished" or not quiet:
            exits.say(str(error))
        return {error.code: Group(1, jobs)}
    return {"done" if job.done else "ending": Group(1, jobs)}


def complain(met: Mapping[str, Group], *, quiet: bool) -> None:
    """Say which jobs were not cancelled, and why."""
    sentences = {
        "finished": "{count} had already ended: {jobs}",
        "not_owner": "not allowed: {jobs} belong to other owners; a token needs the scope operate to act on them",
        "unknown_job": "there is no job {jobs}",
    }
    for name, sentence in sentences.items():
        if name in met and not (quiet and name == "finished"):
            shown = met[name].jobs.head(JOBS_SHOWN_MAX)
            more = "" if len(shown) == met[name].size else " and others"
            exits.say(sentence.format(count=met[name].size, jobs=f"{shown}{more}"))


def show(met: Mapping[str, Group]) -> None:
    """Print what was cancelled: a line for each job, or for many how many they are."""
    words = {"done": "cancelled", "ending": "cancelling"}
    groups = {word: met[name] for name, word in words.items() if name in met}
    if sum(group.size for group in groups.values()) > JOBS_SHOWN_MAX:
        print(", ".join(f"{group.size} {word}" for word, group in groups.items()))
        return
    for number, word in sorted((number, word) for word, group in groups.items() for number in group.jobs):
        print(number, word)


def agreed(question: str) -> bool:
    """Ask on the terminal. Anything but yes is no, and so is the end of the input."""
    print(f"zsched: {question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
