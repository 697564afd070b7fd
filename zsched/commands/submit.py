"""zsched submit: submit a job, an array of tasks, or the jobs of a flow file.

Usage:
  zsched submit [--tag=TAG]... [--limit=LIMIT]... [--label=LABEL]... [--env=VARIABLE]... [--secret-env=VARIABLE]...
                [--put=FILE]... [--get=PATTERN]... [options] [<cmd>...]

A single word is a command line for sh: `zsched submit 'make && make test'`. Several words are a program and its
arguments, which are quoted for sh: `zsched submit ls -la`. Put zsched's options before the command; everything after
its first word is passed to it. The job's ID is printed once the job is on the scheduler's disk.

With --file it submits the jobs of a flow: a TOML or JSON file in which each job is a table [jobs.NAME] with the fields
of docs/rest.md, such as command = "make" and after = ["fetch", "train:any"].

Options:
  --name=NAME         Job name (the first 60 characters of the command).
  --tag=TAG...        Tag the job with a word, such as nightly or team=data, for `zsched list --tag`. May be repeated.
  --queue=QUEUE       Queue of the job; only workers that serve it run the job (default).
  --label=NAME=VALUE...
                      Run on a worker with this label, such as disk=ssd, worker=w1 or host=db-3. May be repeated.
  --priority=NUMBER   From -1000 to 1000; jobs with a higher one start first (0).
  --limit=KEY=COUNT...
                      Start only while fewer than COUNT runs with this KEY are running, such as db=3. May be repeated.
  --unique=KEY        Submit nothing while a job with this KEY has not ended: print the ID of that job.
  --after=JOBS        Start when these jobs have ended: 12 (with success), 12:failed, 12:any, 12.3 (one task), 12:same
                      (task by task). Several with commas. If one ends otherwise, this job fails (dependency).
  --file=FILE         Submit the jobs of a flow file, `-` for stdin, all or none.
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
  --put=FILE...       Copy FILE into the job's scratch folder, $ZSCHED_SCRATCH, where it runs unless --cwd is given.
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
  --array=TASKS       Run as an array: a task for each index, such as 0-15, 0-15:4 (every fourth) or 1,3,7-9. At most
                      N at once: 0-15%N. {} in <cmd> is the index, which is also $ZSCHED_TASK.
  --each=FILE         Run as an array: a task for each line of FILE, or of stdin for `-`. {} in <cmd> is the line, as
                      one argument, which is also $ZSCHED_ENTRY. Without {} the line is the last argument. Without
                      <cmd> the line is the command. Empty lines are skipped. At most N at once: --array=%N.
  --each-line=FILE    The same as --each.
  --each-worker       Submit one job for each active worker, for that worker alone: the workers that serve --queue and
                      have each --label.
  --max-fails=COUNT   Of an array: when more tasks than this have failed, start no further ones.
  --idempotency-key=KEY
                      Make the submit repeatable: for seven days, the same KEY with the same job prints the job that
                      was stored, and submits nothing (a random key).
  --hold              Start nothing until `zsched release`.
  --wait              Wait until the job has finished.
  --dry-run           Print what would be submitted, and submit nothing.
  -q, --quiet         Print only the job's ID.
  --range             The same as --quiet.
  --json              Print the job as JSON.
  --url=URL           The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help          Show this.

Ctrl-C stops waiting; the job keeps running.

Exit codes: 0 done; 1 refused; 2 wrong usage; 4 no scheduler answers; 130 interrupted. With --wait: the job's exit code,
128+n if signal n ended it, 124 if it took longer than --timeout; of an array 0 if all tasks succeeded, else 1; 125
means that zsched itself failed.
"""

from __future__ import annotations

import codecs
import os
import secrets
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import chain
from typing import TypeVar

from zsched.client import everywhere, template
from zsched.client.client import PATIENCE_S, Client, ClientError, Fields, Job, Refused, View, spec
from zsched.commands import exits, flow, options, placement, table, turn, variables, waiting
from zsched.commands.line import command_line
from zsched.model import spans
from zsched.model.limits import ENTRY_BYTES_MAX, IDEMPOTENCY_KEY_CHARS_MAX

ValueT = TypeVar("ValueT")


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
    """Submit the job, or those of a flow file. Raises ClientError, Failure."""
    key = key_of(arguments)
    if options.text(arguments, "--file") is not None:
        return flow.main(__doc__, arguments, key)
    body = read_job(arguments)
    file, as_json = file_of(arguments), bool(arguments["--json"])
    entries: Iterator[str] | None = None
    if file is not None:
        first = next(entries := lines(file), None)
        if first is None:
            exits.say(f"{flow.named(file)} has no line that is not empty, so nothing is submitted")
            return 0
        entries = chain([first], entries)
    if arguments["--dry-run"]:
        show(body, entries, as_json=as_json)
        return 0
    with Client(options.text(arguments, "--url")) as client:
        if arguments["--each-worker"]:
            return submit_each_worker(client, body, key, arguments)
        job = store(client, body, entries, key)
        if not as_json:
            print(number(job, arguments), flush=True)
        code = wait(job, arguments) if arguments["--wait"] else 0
        if as_json:
            table.document(job.view)
        return code


def read_job(arguments: Mapping[str, options.Value]) -> View:
    """The job to submit, as REST takes it, without entries. Wrong usage ends the program. Raises Failure."""
    words, file = options.words(arguments, "<cmd>"), file_of(arguments)
    check_options(arguments, words, file)
    fields = placement.read(arguments)
    fields.update(policy(arguments))
    fields.update(turn.read(__doc__, arguments))
    fields["name"], fields["schedule"] = options.text(arguments, "--name"), options.text(arguments, "--cron")
    fields["run_now"], fields["user"] = bool(arguments["--run-now"]), options.text(arguments, "--user")
    if (after := options.text(arguments, "--after")) is not None:
        fields["after"] = after.split(",")
    fields["tags"], fields["hold"] = options.words(arguments, "--tag"), bool(arguments["--hold"])
    fields["array"] = options.text(arguments, "--array")
    fields["max_fails"] = options.number(__doc__, arguments, "--max-fails", least=0)
    fields["env"] = variables.read_plain(__doc__, arguments)
    fields["secret_env"] = variables.read_secret(__doc__, arguments)
    if not words:
        fields["name"] = fields["name"] or ("stdin" if file in (None, "-") else os.path.basename(file))
        return spec(template.EACH_COMMAND, **fields)
    tasks = file is not None or fields["array"] is not None
    if arguments["--no-shell"]:
        if file is None and tasks:
            filled(template.demand_no_place, words)
        return spec(words, **fields) | ({"argv": template.for_argv(words)} if file is not None else {})
    # The name comes from the command as it was written.
    line = command_line(words)
    body = spec(line.replace(shlex.quote(template.PLACE), template.PLACE) if tasks else line, **fields)
    if tasks:
        body["command"] = filled(template.for_indexes if file is None else template.for_words, words)
    if tasks and (variable := template.unexpanded(words)) is not None:
        exits.say(f"{variable} is quoted, so it stays as it is: write the command as one word to have it expanded")
    return body


def filled(fill: Callable[[Sequence[str]], ValueT], words: Sequence[str]) -> ValueT:
    """The words after a step of template.py. What it refuses is wrong usage, which ends the program."""
    try:
        return fill(words)
    except ValueError as error:
        options.fail(__doc__, str(error))


def file_of(arguments: Mapping[str, options.Value]) -> str | None:
    """The file of the entries."""
    return options.text(arguments, "--each") or options.text(arguments, "--each-line")


def check_options(arguments: Mapping[str, options.Value], words: Sequence[str], file: str | None) -> None:
    """Wrong usage ends the program."""
    cron, array = options.text(arguments, "--cron"), options.text(arguments, "--array")
    if not words and file is None:
        options.fail(__doc__, "missing <cmd>, such as 'make test'")
    # Without cron fields the job would run at once.
    options.demand_filled(__doc__, arguments, "--name", "--cron", "--cwd", "--array", "--each", "--each-line")
    if arguments["--run-now"] and cron is None:
        options.fail(__doc__, "--run-now goes with --cron: other jobs run at once anyway")
    if arguments["--hold"] and cron is not None:
        options.fail(__doc__, "--hold is for jobs without --cron: use `zsched pause` for a recurring job")
    if arguments["--wait"] and cron is not None:
        options.fail(__doc__, "a job with --cron never ends, so there is nothing to --wait for")
    if None not in (arguments["--each"], arguments["--each-line"]):
        options.fail(__doc__, "--each and --each-line are the same: give one of them")
    if arguments["--max-fails"] is not None and file is None and array is None:
        options.fail(__doc__, "--max-fails goes with --array or --each")
    if array is not None and array.startswith("%") and file is None:
        options.fail(__doc__, f"--array={array} says only how many tasks run at once: write 0-15{array}, or add --each")
    if arguments["--each-worker"] and (file is not None or arguments["--unique"] is not None):
        options.fail(__doc__, "--each-worker submits several jobs: give no --each and no --unique key")
    if arguments["--stdin"] and file == "-":
        options.fail(__doc__, "--stdin and --each=- both read stdin: name a file for --each")
    if arguments["--no-shell"] and not words:
        options.fail(__doc__, "--no-shell needs <cmd>: a line of a file is a command for sh")


def key_of(arguments: Mapping[str, options.Value]) -> str:
    """The idempotency key of the request. Wrong usage ends the program."""
    key = options.text(arguments, "--idempotency-key")
    if key is None:
        return secrets.token_hex(16)
    if key is not None and not (key.isascii() and key.isprintable() and 1 <= len(key) <= IDEMPOTENCY_KEY_CHARS_MAX):
        options.fail(__doc__, f"--idempotency-key: 1 to {IDEMPOTENCY_KEY_CHARS_MAX} printable ASCII characters")
    return key


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


def lines(file: str) -> Iterator[str]:
    """The non-empty lines of a file without their line ends, as they are read. Raises Failure, which names the line."""
    if file == "-" and sys.stdin is None:
        raise exits.Failure("stdin is closed, and --each is to read it", exits.USAGE)
    try:
        with nullcontext(sys.stdin.buffer) if file == "-" else open(file, "rb") as opened:
            for place, given in enumerate(opened, 1):
                # Editors on Windows may write a byte order mark.
                line = given.removeprefix(codecs.BOM_UTF8) if place == 1 else given
                yield from _entry(line.removesuffix(b"\n").removesuffix(b"\r"), f"line {place} of {flow.named(file)}")
    except OSError as error:
        raise exits.Failure(f"can't read {file}: {error.strerror}") from None


def _entry(line: bytes, where: str) -> Iterator[str]:
    """A line as the entry of a task; nothing for an empty one. Raises Failure."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise exits.Failure(f"{where} is not UTF-8, which a job's command must be", exits.USAGE) from None
    if "\0" in text:
        raise exits.Failure(f"{where}: a NUL character can't be passed to a job", exits.USAGE)
    if len(line) > ENTRY_BYTES_MAX:
        sentence = (
            f"{where}: it has {len(line)} bytes, at most {ENTRY_BYTES_MAX} are taken: put what is longer into files"
        )
        raise exits.Failure(sentence, exits.USAGE)
    if text.strip():
        yield text


def show(body: View, entries: Iterator[str] | None, *, as_json: bool) -> None:
    """Print what would be submitted: the job, or the command of each task. Raises Failure before it prints anything."""
    each = None if entries is None else list(entries)
    if as_json:
        table.document(variables.mask_secrets(body if each is None else body | {"each": each}))
        return
    if each is None:
        print(body["command"] if "command" in body else shlex.join(body["argv"]))
    for entry in each or ():
        if "argv" in body:
            print(shlex.join([word.replace(template.PLACE, entry) for word in body["argv"]]))
        elif body["command"] == template.EACH_COMMAND:
            print(entry)
        else:
            print(body["command"].replace(template.ENTRY, shlex.quote(entry)))


def store(client: Client, body: View, entries: Iterator[str] | None, key: str) -> Job:
    """Submit the job. Returns the job that has the unique key, if one has it. Raises ClientError."""
    try:
        if entries is not None:
            return client.submit_lines(body, entries, idempotency_key=key)
        return Job(client, client.ask("POST", "/jobs", body, patience_s=PATIENCE_S, key=key).json())
    except Refused as error:
        if error.existing is None:
            raise
        exits.say(str(error))
        return client.get(error.existing)


def submit_each_worker(client: Client, body: View, key: str, arguments: Mapping[str, options.Value]) -> int:
    """Submit the job for each active worker; returns the exit code. Raises ClientError."""
    jobs = everywhere.submit(client, body, key)
    numbers = spans.of_numbers(job.id for job in jobs.values())
    if arguments["--range"]:
        print(numbers, flush=True)
    elif not arguments["--json"]:
        for worker, job in jobs.items():
            print(str(job.id) if arguments["--quiet"] else f"{number(job, arguments)} on {worker}", flush=True)
    code = flow.wait(client, [*jobs.values()], arguments) if arguments["--wait"] else 0
    if arguments["--json"]:
        table.document([job.view for job in jobs.values()])
    return code


def number(job: Job, arguments: Mapping[str, options.Value]) -> str:
    """The number of the job: for a person, or alone."""
    if arguments["--range"] or arguments["--quiet"]:
        return str(job.id)
    return f"job {job.id} ({job.counts['total']:,} tasks)" if job.counts else f"job {job.id}"


def wait(job: Job, arguments: Mapping[str, options.Value]) -> int:
    """Wait for the job; returns the exit code. Raises ClientError."""
    quiet, as_json = bool(arguments["--quiet"] or arguments["--range"]), bool(arguments["--json"])
    with waiting.hint_on_interrupt(lambda: job.id):
        if job.counts:
            waiting.wait_for_tasks(job, None, quiet=quiet or as_json)
        else:
            job.wait()
    code = exits.of_job(job)
    if not quiet and not as_json:
        print(waiting.line(job), flush=True)
        exits.say_note(job)
    elif code in (exits.TIMEOUT, exits.OWN_FAULT):
        exits.say(f"job {waiting.line(job)}")
    return code
