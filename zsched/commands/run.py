"""zsched run: submit a job, stream its output, and exit with its exit code.

Usage:
  zsched run [--limit=LIMIT]... [--label=LABEL]... [--env=VARIABLE]... [--secret-env=VARIABLE]... [--put=FILE]...
             [--get=PATTERN]... [options] <cmd>...

A single word is a command line for sh: `zsched run 'make && make test'`. Several words are a program and its arguments,
which are quoted for sh: `zsched run ls -la`. Put zsched's options before the command. The job's stdout and stderr are
copied to stdout and stderr.

Options:
  --name=NAME         Job name (the first 60 characters of the command).
  --queue=QUEUE       Queue of the job; only workers that serve it run the job (default).
  --label=NAME=VALUE...
                      Run on a worker with this label, such as disk=ssd, worker=w1 or host=db-3. May be repeated.
  --priority=NUMBER   From -1000 to 1000; jobs with a higher one start first (0).
  --limit=KEY=COUNT...
                      Start only while fewer than COUNT runs with this KEY are running, such as db=3. May be repeated.
  --unique=KEY        Submit nothing while a job with this KEY has not ended: follow that job.
  --timeout=DURATION  Stop and fail a run that takes longer.
  --signal=SIGNAL@DURATION
                      Send the main process a signal this long before its --timeout, such as USR1@60s.
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
  --json              Print lines of JSON: each piece of output, then the job.
  --url=URL           The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help          Show this.

The first Ctrl-C cancels the job; the second exits at once, and the job may go on. If the worker is lost, the job starts
again on another worker, and the output of that run follows.

Exit codes: the job's exit code, or 128+n if signal n ended it; 124 if it took longer than --timeout; 130 interrupted;
125 if zsched itself failed (see stderr); 2 wrong usage.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from types import FrameType

from zsched.client.client import Client, ClientError, Fields, Job, Refused
from zsched.commands import exits, options, placement, table, turn, variables
from zsched.commands.line import command_line
from zsched.commands.watching import Plain, Records, Watch, targets


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv)
    options.warn_of_own(__doc__, argv, options.words(arguments, "<cmd>"))
    options.demand_filled(__doc__, arguments, "--name", "--cwd")
    as_json = bool(arguments["--json"])
    try:
        with Client(options.text(arguments, "--url")) as client:
            words = options.words(arguments, "<cmd>")
            fields: Fields = placement.read(arguments)
            fields["name"] = options.text(arguments, "--name")
            fields["timeout"] = options.text(arguments, "--timeout")
            fields["signal"] = options.text(arguments, "--signal")
            fields.update(turn.read(__doc__, arguments))
            fields["user"] = options.text(arguments, "--user")
            fields["env"] = variables.read_plain(__doc__, arguments)
            fields["secret_env"] = variables.read_secret(__doc__, arguments)
            return Attendance(client, as_json).run(words if arguments["--no-shell"] else command_line(words), fields)
    except (ClientError, exits.Failure, OSError) as error:
        raise exits.in_place_of_job(error) from None


class Attendance:
    """One job from its submit to its end. The first Ctrl-C cancels it, the second one leaves it."""

    def __init__(self, client: Client, as_json: bool) -> None:
        self._client = client
        self._as_json = as_json
        self._watch = Watch(client, Records() if as_json else Plain(targets(None)), on_interrupt=self._interrupted)
        self._job: Job | None = None
        # The first signal that came; 0 before that.
        self._signal = 0

    def run(self, command: str | list[str], fields: Fields) -> int:
        """Submit and follow; returns the exit code. Raises ClientError."""
        for number in (signal.SIGINT, signal.SIGTERM):
            # A script's shell starts background commands with SIGINT ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)
        try:
            self._job = self._submit(command, fields)
            job = self._watch.job(self._job)
        except KeyboardInterrupt:
            if self._job is not None:
                exits.say(f"left: job {self._job.id} may go on; see `zsched show {self._job.id}`")
            return exits.SIGNALLED + self._signal
        except ClientError as error:
            if self._job is None:
                raise
            exits.report(error)
            exits.say(f"lost sight of job {self._job.id}, which may go on")
            return exits.OWN_FAULT
        except OSError as error:
            # A broken pipe, or a full disk. A command run locally would end at its next write.
            if self._job is not None:
                self._cancel()
                if not isinstance(error, BrokenPipeError):
                    exits.say(f"cancelling job {self._job.id}")
            raise
        if self._as_json:
            table.record(job.view)
        if job.reason not in ("exit", "reported"):
            exits.say(f"job {job.id}: {exits.describe_end(job)}")
        elif "detail" in job.run:
            exits.say(f"job {job.id}: {job.run['detail']}")
        if "artifacts" in job.view and not self._as_json and (kept := job.artifacts()):
            exits.say(f"{len(kept)} artifact{'s' if len(kept) > 1 else ''}: `zsched artifacts {job.id}`")
        if self._signal and job.status == "cancelled":
            return exits.SIGNALLED + self._signal
        return exits.of_job(job)

    def _submit(self, command: str | list[str], fields: Fields) -> Job:
        """The new job, or the one that has its unique key. Raises ClientError."""
        try:
            return self._client.submit(command, **fields)
        except Refused as error:
            if error.existing is None:
                raise
            exits.say(str(error))
            job = self._client.get(error.existing)
            if job.counts:
                raise exits.Failure(f"job {job.id} is an array: use `zsched wait {job.id}`", exits.USAGE) from None
            return job

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        """The first signal is handled between two chunks of output; the next one leaves at once."""
        if self._signal:
            raise KeyboardInterrupt
        self._signal = number
        self._watch.interrupt()

    def _interrupted(self) -> None:
        assert self._job is not None
        exits.say(f"cancelling job {self._job.id}; Ctrl-C again leaves it to itself")
        self._cancel()

    def _cancel(self) -> None:
        assert self._job is not None
        try:
            Job(self._client, self._job.view).cancel()
        except Refused as error:
            # It ended by itself just now.
            if error.code != "finished":
                raise
