"""zsched submit: submit a job, or one for each line of a file.

Usage:
  zsched submit [--tag=TAG]... [--limit=LIMIT]... [--env=VARIABLE]... [--secret-env=VARIABLE]... [--put=FILE]...
                [--get=PATTERN]... [options] [<cmd>...]

A single word is a command line for sh: `zsched submit 'make && make test'`. Several words are a program and its
arguments, which are quoted for sh: `zsched submit ls -la`. Put zsched's options before the command; everything after
its first word is passed to it. The job's ID is printed once the job is on the scheduler's disk.

Options:
  --name=NAME         Job name (the first 60 characters of the command).
  --tag=TAG...        Tag the job with a word, such as nightly or team=data, for `zsched list --tag`. May be repeated.
  --queue=QUEUE       Queue of the job; only workers that serve it run the job (default).
  --priority=NUMBER   From -1000 to 1000; jobs with a higher one start first (0).
  --limit=KEY=COUNT...
                      Start only while fewer than COUNT runs with this KEY are running, such as db=3. May be repeated.
  --unique=KEY        Submit nothing while a job with this KEY has not ended: print the ID of that job.
  --timeout=DURATION  Stop and fail a run that takes longer.
  --kill-grace=DURATION
                      Time between SIGTERM and SIGKILL when the job is stopped (10s).
  --signal=SIGNAL@DURATION
                      Send the main process a signal this long before its --timeout, such as USR1@60s.
  --retries=COUNT     Number of retries after a failure (0).
  --backoff=DURATION  Pause before the first retry; it doubles before each further one (5s).
  --retry-on=FAILURES
                      Retry only these failures, such as 75,100-120,TERM,timeout: exit codes, signals, timeout,
                      spawn_error (all failures).
  --on-lost=ACTION    If its worker is lost: requeue the job, or fail it, so that it starts at most once (requeue).
  --on-disconnect=ACTION
                      If its worker loses the scheduler: continue the run, or stop it before the job may start on
                      another worker (continue).
  --crash-limit=COUNT
                      Fail the job after this many crashes of its workers, or `never` (5).
  --no-shell          Execute <cmd> as a program and its arguments, without a shell.
  --cwd=DIR           Run in this folder of the worker's host; without it there the job fails. By default your folder is
                      used where it exists and the job's user may enter it, else the worker's folder.
  --umask=MODE        Mask of new files' permissions, in octal (yours).
  --stdin             Pass our stdin to the job: UTF-8, at most 1 MiB.
  --put=FILE...       Copy FILE into the job's scratch folder, $ZSCHED_SCRATCH. The job runs there unless --cwd is given
                      FILE:PATH gives it a path there. Of a folder, all files are copied. 1 MiB in all. May be repeated.
  --get=PATTERN...    Keep the files of the scratch folder that match PATTERN, such as 'plots/*.png', for
                      `zsched artifacts`: 1 MiB in all. May be repeated.
  --at=TIME           Start no earlier, such as 2030-01-02T03:04:05Z.
  --delay=DURATION    Start no earlier than this after the submit.
  --deadline=WHEN     Start no later: a time, or a duration after the submit. Then a job that still waits fails.
  --user=USER         User to run as, if the worker may run jobs as that user (the worker's own user).
  --env=VARIABLE...   Set an environment variable of the job: NAME=VALUE. May be repeated.
  --secret-env=VARIABLE...
                      Set a secret variable, from your environment (NAME) or from a file (NAME=@FILE). Its value is
                      stored encrypted, never shown, and masked in the job's output. May be repeated.
  --cron=FIELDS       Run on a schedule, a cron expression in UTC such as '*/5 * * * *'.
  --run-now           With --cron, also run now.
  --each-line=FILE    Submit a job for each line of FILE, or of stdin for `-`. {} in <cmd> is the line, quoted for sh.
                      Without {} the line is the last argument. Without <cmd> the line is the command. Empty lines are
                      skipped.
  --idempotency-key=KEY
                      Make the submit repeatable: for seven days, the same KEY with the same jobs prints the jobs that
                      were stored, and submits nothing (a random key).
  --hold              Start nothing until `zsched release`.
  --wait              Wait until all jobs have finished.
  --dry-run           Print what would be submitted, and submit nothing.
  -q, --quiet         Print only job IDs, one on each line.
  --range             Print job IDs as ranges, such as 1-5000, for `zsched wait` and `zsched cancel`.
  --json              Print the jobs as JSON.
  --url=URL           The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help          Show this.

Ctrl-C stops waiting; the jobs keep running.

Exit codes: 0 done; 1 refused; 2 wrong usage; 4 no scheduler answers; 130 interrupted. With --wait and one job: the
job's exit code, 128+n if signal n ended it, 124 if it took longer than --timeout. With --wait and several jobs: 0 if
all succeeded, else 1. With --wait, 125 means that zsched itself failed.
"""

from __future__ import annotations

import codecs
import secrets
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

from zsched.client.client import PATIENCE_S, Client, ClientError, Fields, Job, Refused, View, batches, spec
from zsched.commands import exits, options, placement, table, turn, variables, waiting
from zsched.commands.line import argv_for_input, command_line, for_input
from zsched.model import spans
from zsched.model.limits import COMMAND_BYTES_MAX, JOBS_SHOWN_MAX, SUBMIT_KEY_CHARS_MAX


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv)
    options.warn_of_own(__doc__, argv, options.words(arguments, "<cmd>"))
    try:
        return submit(arguments)
    except (ClientError, exits.Failure, OSError) as error:
        if not arguments["--wait"]:
            raise
        raise exits.in_place_of_job(error) from None


def submit(arguments: Mapping[str, options.Value]) -> int:
    """Submit the jobs. Raises ClientError, Failure."""
    bodies = read_jobs(arguments)
    single = arguments["--each-line"] is None
    if arguments["--dry-run"]:
        if arguments["--json"]:
            shown = [variables.mask_secrets(body) for body in bodies]
            table.document(shown[0] if single else shown)
        else:
            for body in bodies:
                print(body["command"] if "command" in body else command_line(body["argv"]))
        return 0
    with Client(options.text(arguments, "--url")) as client:
        jobs: list[Job] = []
        for place, batch in enumerate(batches(bodies)):
            stored = store_jobs(client, batch, key_of(arguments, place), patient=not single)
            jobs += stored
            if not arguments["--json"]:
                # At once: the next request may fail, and these jobs are stored.
                print(numbers(stored, arguments), flush=True)
        code = wait(client, jobs, arguments) if arguments["--wait"] else 0
        if arguments["--json"]:
            views = [job.view for job in jobs]
            table.document(views[0] if single else views)
        return code


def read_jobs(arguments: Mapping[str, options.Value]) -> list[View]:
    """The jobs to submit, as REST takes them. Wrong usage ends the program. Raises Failure."""
    words = options.words(arguments, "<cmd>")
    file = options.text(arguments, "--each-line")
    cron = options.text(arguments, "--cron")
    if not words and file is None:
        options.fail(__doc__, "missing <cmd>, such as 'make test'")
    for option in ("--name", "--cron"):
        # A script's variable may be unset; without cron fields the job would run at once.
        if (value := options.text(arguments, option)) is not None and not value.strip():
            options.fail(__doc__, f"{option} is empty")
    if arguments["--run-now"] and cron is None:
        options.fail(__doc__, "--run-now goes with --cron: other jobs run at once anyway")
    if arguments["--hold"] and cron is not None:
        options.fail(__doc__, "--hold is for jobs without --cron: use `zsched pause` for a recurring job")
    if arguments["--wait"] and cron is not None:
        options.fail(__doc__, "a job with --cron never ends, so there is nothing to --wait for")
    if arguments["--stdin"] and file == "-":
        options.fail(__doc__, "--stdin and --each-line=- both read stdin: name a file for --each-line")
    bare = bool(arguments["--no-shell"])
    if bare and not words:
        options.fail(__doc__, "--no-shell needs <cmd>: a line of a file is a command for sh")
    key = options.text(arguments, "--idempotency-key")
    if key is not None and not (key.isascii() and key.isprintable() and 1 <= len(key) <= SUBMIT_KEY_CHARS_MAX):
        options.fail(__doc__, f"--idempotency-key: 1 to {SUBMIT_KEY_CHARS_MAX} printable ASCII characters")
    fields = placement.read(arguments)
    fields.update(policy(arguments))
    fields.update(turn.read(__doc__, arguments))
    fields["name"], fields["schedule"] = options.text(arguments, "--name"), cron
    fields["run_now"], fields["user"] = bool(arguments["--run-now"]), options.text(arguments, "--user")
    fields["tags"], fields["hold"] = options.words(arguments, "--tag"), bool(arguments["--hold"])
    fields["env"] = variables.read_plain(__doc__, arguments)
    fields["secret_env"] = variables.read_secret(__doc__, arguments)

    def body(command: str | Sequence[str]) -> View:
        return spec(command, **fields)

    if file is None:
        return [body(words if bare else command_line(words))]
    bodies = []
    for place, line in lines(file):
        try:
            bodies.append(body(argv_for_input(words, line) if bare else for_input(words, line)))
        except ClientError as error:
            raise exits.Failure(f"line {place} of {file}: {error}", exits.USAGE) from None
        if (size := len(bodies[-1].get("command", "").encode())) > COMMAND_BYTES_MAX:
            sentence = f"line {place} of {file}: its command has {size} bytes, at most {COMMAND_BYTES_MAX} are taken"
            raise exits.Failure(sentence, exits.USAGE)
    return bodies


def policy(arguments: Mapping[str, options.Value]) -> Fields:
    """The options about time and failures. Wrong usage ends the program; REST checks the values."""
    never = options.text(arguments, "--crash-limit") == "never"
    fields: Fields = {
        "timeout": options.text(arguments, "--timeout"),
        "kill_grace": options.text(arguments, "--kill-grace"),
        "signal": options.text(arguments, "--signal"),
        "retries": options.number(__doc__, arguments, "--retries", least=0),
        "crash_limit": "never" if never else options.number(__doc__, arguments, "--crash-limit", also=", or never"),
        "on_lost": options.choice(__doc__, arguments, "--on-lost", ("requeue", "fail")),
        "on_disconnect": options.choice(__doc__, arguments, "--on-disconnect", ("continue", "stop")),
    }
    if (pause := options.text(arguments, "--backoff")) is not None:
        fields["backoff"] = {"initial": pause}
    if (failures := options.text(arguments, "--retry-on")) is not None:
        fields["retry_on"] = failures.split(",")
    return fields


def lines(file: str) -> Iterator[tuple[int, str]]:
    """The non-empty lines of a file without their line ends, with their numbers from 1. Raises Failure."""
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
    # Editors on Windows may write a byte order mark.
    for place, given in enumerate(content.removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        try:
            text = given.removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            raise exits.Failure(f"line {place} of {file} is not UTF-8, which a job's command must be") from None
        if text.strip():
            yield place, text


def key_of(arguments: Mapping[str, options.Value], place: int) -> str:
    """The idempotency key of a request. Each request has its own."""
    key = options.text(arguments, "--idempotency-key")
    if key is None:
        return secrets.token_hex(16)
    return f"{key}.{place + 1}" if place else key


def store_jobs(client: Client, bodies: Sequence[View], key: str, patient: bool) -> list[Job]:
    """Submit jobs in one request. If the scheduler has no room, and `patient`, wait and try again. Returns the job that
    has the unique key, if one has it.
    """
    while True:
        try:
            # Not as an array of one, so that an error names the field alone.
            if len(bodies) == 1:
                answer = client.ask("POST", "/jobs", bodies[0], patience_s=PATIENCE_S, key=key)
                return [Job(client, answer.json())]
            return client.submit_all(bodies, idempotency_key=key)
        except Refused as error:
            if error.existing is not None:
                exits.say(str(error))
                return [client.get(error.existing)]
            # After a 429 nothing was stored.
            if error.status != 429 or error.retry_after_s is None or not patient:
                raise
            exits.say(f"{error}; trying again in {error.retry_after_s:g} s")
            time.sleep(error.retry_after_s)


def numbers(jobs: Sequence[Job], arguments: Mapping[str, options.Value]) -> str:
    """The numbers of the jobs: for a person, or as --range or --quiet ask for."""
    ids = spans.of_numbers(job.id for job in jobs)
    if arguments["--range"]:
        return str(ids)
    if arguments["--quiet"]:
        return "\n".join(map(str, ids))
    return f"job{'s' if len(jobs) > 1 else ''} {ids}"


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
