"""zsched submit: submit a job, or one for each line of a file.

Usage:
  zsched submit [--env=VARIABLE]... [--secret-env=VARIABLE]... [options] [<cmd>...]

A single word is a command line for sh: `zsched submit 'make && make test'`. Several words are a program and its
arguments, which are quoted for sh: `zsched submit ls -la`. Put zsched's options before the command; everything after
its first word is passed to it. The job's ID is printed once the job is on the scheduler's disk.

Options:
  --name=NAME         Job name (the first 60 characters of the command).
  --timeout=DURATION  Stop and fail a run that takes longer.
  --kill-grace=DURATION
                      Time between SIGTERM and SIGKILL when the job is stopped (10s).
  --retries=COUNT     Number of retries after a failure (0).
  --backoff=DURATION  Pause before the first retry; it doubles before each further one (5s).
  --on-lost=ACTION    When its worker is lost: requeue the job, or fail it, so that it starts at most once (requeue).
  --on-disconnect=ACTION
                      While its worker can't reach the scheduler: continue, or stop before it may start elsewhere
                      (continue).
  --crash-limit=COUNT
                      Fail the job after it may have killed this many workers, or `never` (5).
  --user=USER         User to run as, if the worker may run jobs as that user (the worker's own user).
  --env=VARIABLE...   Set an environment variable of the job: NAME=VALUE. May be repeated.
  --secret-env=VARIABLE...
                      Set one to a secret value, from your environment (NAME) or from a file (NAME=@FILE). It is stored
                      encrypted, never shown, and masked in the job's output. May be repeated.
  --cron=FIELDS       Run on a schedule: five cron fields in UTC, such as '*/5 * * * *'.
  --run-now           With --cron, also run now.
  --each-line=FILE    Submit a job for each line of FILE, or of stdin for `-`. {} in <cmd> is the line, quoted for sh;
                      without {} the line comes last; without <cmd> the line is the command. Empty lines are skipped.
  --idempotency-key=KEY
                      Submit once: with the same KEY and the same jobs again, within seven days, these are shown and
                      nothing is submitted (random).
  --wait              Wait until all jobs have finished.
  --dry-run           Print what would be submitted, and submit nothing.
  -q, --quiet         Print only job IDs, one on each line.
  --range             Print job IDs as ranges, such as 1-5000: what `zsched wait` and `zsched cancel` take.
  --json              Print the jobs as JSON.
  --url=URL           The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help          Show this.

Ctrl-C stops waiting; the jobs keep running.

Exit codes: 0 done; 1 refused; 2 wrong usage; 4 no scheduler answers; 130 interrupted. With --wait: the job's exit code,
128+n when signal n ended it, 124 when it took longer than --timeout; for several jobs 0 when all succeeded, else 1; 125
when zsched itself failed.
"""

from __future__ import annotations

import codecs
import secrets
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

from zsched.client.client import PATIENCE_S, Client, ClientError, Job, PolicyFields, Refused, View, batches, spec
from zsched.commands import exits, options, table, variables, waiting
from zsched.commands.line import command_line, for_input
from zsched.model import spans
from zsched.model.limits import COMMAND_BYTES_MAX, JOBS_SHOWN_MAX, SUBMIT_KEY_CHARS_MAX


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    found = options.parse(__doc__, argv)
    options.warn_of_own(__doc__, argv, options.words(found, "<cmd>"))
    try:
        return submit(found)
    except (ClientError, exits.Failure, OSError) as error:
        if not found["--wait"]:
            raise
        raise exits.in_place_of_job(error) from None


def submit(found: Mapping[str, options.Value]) -> int:
    """Submit what was asked for. Raises ClientError, Failure."""
    bodies = wanted(found)
    one = found["--each-line"] is None
    if found["--dry-run"]:
        if found["--json"]:
            shown = [variables.masked(body) for body in bodies]
            table.document(shown[0] if one else shown)
        else:
            for body in bodies:
                print(body["command"])
        return 0
    with Client(options.text(found, "--url")) as client:
        jobs: list[Job] = []
        for place, batch in enumerate(batches(bodies)):
            stored = stored_jobs(client, batch, key_of(found, place), patient=not one)
            jobs += stored
            if not found["--json"]:
                # At once: what comes after may fail, and these are stored.
                print(numbers(stored, found), flush=True)
        code = wait(client, jobs, found) if found["--wait"] else 0
        if found["--json"]:
            views = [job.view for job in jobs]
            table.document(views[0] if one else views)
        return code


def wanted(found: Mapping[str, options.Value]) -> list[View]:
    """The jobs that were asked for, as REST takes them. Wrong usage ends the program. Raises Failure."""
    words = options.words(found, "<cmd>")
    file = options.text(found, "--each-line")
    cron = options.text(found, "--cron")
    if not words and file is None:
        options.fail(__doc__, "missing <cmd>, such as 'make test'")
    for option in ("--name", "--cron"):
        # As where a script's variable is not set: without the fields the job would run at once.
        if (value := options.text(found, option)) is not None and not value.strip():
            options.fail(__doc__, f"{option} is empty")
    if found["--run-now"] and cron is None:
        options.fail(__doc__, "--run-now goes with --cron: other jobs run at once anyway")
    if found["--wait"] and cron is not None:
        options.fail(__doc__, "a job with --cron never ends, so there is nothing to --wait for")
    key = options.text(found, "--idempotency-key")
    if key is not None and not (key.isascii() and key.isprintable() and 1 <= len(key) <= SUBMIT_KEY_CHARS_MAX):
        options.fail(__doc__, f"--idempotency-key: 1 to {SUBMIT_KEY_CHARS_MAX} printable ASCII characters")
    env, secret_env = variables.plain(__doc__, found), variables.secret(__doc__, found)

    def body(command: str) -> View:
        return spec(
            command,
            name=options.text(found, "--name"),
            schedule=cron,
            run_now=bool(found["--run-now"]),
            user=options.text(found, "--user"),
            env=env,
            secret_env=secret_env,
            **policy(found),
        )

    if file is None:
        return [body(command_line(words))]
    bodies = []
    for place, line in lines(file):
        try:
            bodies.append(body(for_input(words, line)))
        except ClientError as error:
            raise exits.Failure(f"line {place} of {file}: {error}", exits.USAGE) from None
        if (size := len(bodies[-1]["command"].encode())) > COMMAND_BYTES_MAX:
            sentence = f"line {place} of {file}: its command has {size} bytes, at most {COMMAND_BYTES_MAX} are taken"
            raise exits.Failure(sentence, exits.USAGE)
    return bodies


def policy(found: Mapping[str, options.Value]) -> PolicyFields:
    """What was said of its time and of its failures. Wrong usage ends the program; what words mean REST says."""
    never = options.text(found, "--crash-limit") == "never"
    fields: PolicyFields = {
        "timeout": options.text(found, "--timeout"),
        "kill_grace": options.text(found, "--kill-grace"),
        "retries": options.number(__doc__, found, "--retries", least=0),
        "crash_limit": "never" if never else options.number(__doc__, found, "--crash-limit", also=", or never"),
        "on_lost": options.choice(__doc__, found, "--on-lost", ("requeue", "fail")),
        "on_disconnect": options.choice(__doc__, found, "--on-disconnect", ("continue", "stop")),
    }
    if (pause := options.text(found, "--backoff")) is not None:
        fields["backoff"] = {"initial": pause}
    return fields


def lines(file: str) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not empty, without their ends, each with its place from 1 on. Raises Failure."""
    if file == "-" and sys.stdin is None:
        raise exits.Failure("stdin is closed, and --each-line is to read it", exits.USAGE)
    try:
        if file == "-":
            content = sys.stdin.buffer.read()
        else:
            with open(file, "rb") as opened:
                content = opened.read()
    except OSError as error:
        raise exits.Failure(f"can't read {file}: {error.strerror}") from None
    # Editors on Windows begin a file with a mark.
    for place, given in enumerate(content.removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        try:
            text = given.removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            raise exits.Failure(f"line {place} of {file} is not UTF-8, which a job's command must be") from None
        if text.strip():
            yield place, text


def key_of(found: Mapping[str, options.Value], place: int) -> str:
    """The key of a request, one of its own for each."""
    key = options.text(found, "--idempotency-key")
    if key is None:
        return secrets.token_hex(16)
    return f"{key}.{place + 1}" if place else key


def stored_jobs(client: Client, bodies: Sequence[View], key: str, patient: bool) -> list[Job]:
    """Submit the jobs of one request. When the scheduler has no room for them, wait if `patient`."""
    while True:
        try:
            # A single one in its own form, so that an error names its field and no place in an array.
            if len(bodies) == 1:
                answer = client.ask("POST", "/jobs", bodies[0], patience_s=PATIENCE_S, key=key)
                return [Job(client, answer.json())]
            return client.submit_all(bodies, idempotency_key=key)
        except Refused as error:
            # 429 says for sure that nothing was stored.
            if error.status != 429 or error.retry_after_s is None or not patient:
                raise
            exits.say(f"{error}; trying again in {error.retry_after_s:g} s")
            time.sleep(error.retry_after_s)


def numbers(jobs: Sequence[Job], found: Mapping[str, options.Value]) -> str:
    """The jobs' numbers for a person, or for a script."""
    ids = spans.of_numbers(job.id for job in jobs)
    if found["--range"]:
        return str(ids)
    if found["--quiet"]:
        return "\n".join(map(str, ids))
    return f"job{'s' if len(jobs) > 1 else ''} {ids}"


def wait(client: Client, jobs: Sequence[Job], found: Mapping[str, options.Value]) -> int:
    """Wait for the jobs; returns the exit code. Raises ClientError."""
    quiet = bool(found["--quiet"] or found["--range"])
    known = {job.id: job for job in jobs}
    ids = spans.of_numbers(known)
    if len(ids) > JOBS_SHOWN_MAX and not found["--json"]:
        counts = waiting.sums(client, ids, None, quiet=quiet)
        return int(bool(counts["failed"] or counts["cancelled"]))
    codes: dict[int, int] = {}
    with waiting.telling(lambda: ids - spans.of_numbers(codes)):
        for job in waiting.each(client, ids):
            known[job.id].view = job.view
            code = codes[job.id] = exits.of_job(job)
            if not quiet and not found["--json"]:
                print(waiting.line(job), flush=True)
            elif code in (exits.TIMEOUT, exits.OWN_FAULT):
                exits.say(f"job {waiting.line(job)}")
    return next(iter(codes.values())) if len(codes) == 1 else int(any(codes.values()))
