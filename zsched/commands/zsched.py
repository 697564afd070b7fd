"""zsched: run shell commands on many hosts.

Usage:
  zsched [options] [<command> [<argument>...]]

Commands:
  up         Start a scheduler and workers on this host, until Ctrl-C.
  submit     Submit a job, or an array of tasks.
  run        Submit a job, stream its output, exit with its exit code.
  list       List jobs, newest first.
  events     Show what happened, and who caused it.
  show       Show the details of a job.
  wait       Wait until jobs have ended.
  logs       Show the output of a job.
  artifacts  List, show or save the files that a job or a task has left.
  cancel     Cancel jobs.
  hold       Let jobs start no run until they are released.
  release    Let held jobs start.
  rerun      Run jobs again that have ended.
  delete     Remove jobs for good that have ended.
  pause      Pause recurring jobs.
  resume     Resume recurring jobs that were paused.
  edit       Change a recurring job, or one that waits for a worker.
  end        End the schedules of recurring jobs for good.
  workers    List the workers.
  queue      List, pause and resume queues, or share them between owners.
  foreign    List, keep or discard runs that workers hold for another database.
  summary    Count tasks and workers.
  usage      Sum up what the runs of each owner have used.
  token      Make, list and revoke the tokens of API clients.
  access     Make, list and revoke worker keys, and make the access file of a worker on another host.
  key        Replace the scheduler's keys.
  purge      Remove old jobs for good.
  db         Check, back up and restore the database.
  demo       Start a scheduler and two workers, run some jobs, show the results, and stop.
  version    Show the version.

Options:
  -h, --help  Show this. `zsched <command> --help` shows a command's own page.
  --version   Show the version.

The scheduler's URL is --url, else ZSCHED_URL: http://…, https://…, or unix:/PATH of its socket. With schedulers that
stand by, give all of them, separated by commas. The default is the socket of your own scheduler on port 8080, else
http://localhost:8080. The token is ZSCHED_TOKEN, else the content of
the file ZSCHED_TOKEN_FILE ($XDG_CONFIG_HOME/zsched/token). On this host, zsched trusts servers of root, of your own
user, of the owner of /run/zsched and of the users in ZSCHED_SERVER_USERS. It sends nothing to other users' servers.

`zsched-scheduler` and `zsched-worker` (in a checkout bin/scheduler and bin/worker) run a scheduler or a worker alone.

Exit codes: 0 done; 1 the job failed, or the operation failed or is not allowed; 2 wrong usage; 3 there is no such job;
4 no scheduler answers; 124 timeout; 130 interrupted. `run` and `submit --wait` exit with the job's exit code.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Final, TextIO

from zsched.commands import exits, options
from zsched.host import standard

# Each is a module of this package with main(argv) -> exit code, imported when it is called.
COMMANDS: Final = (
    *("up", "submit", "run", "list", "events", "show", "wait", "logs", "artifacts", "cancel"),
    *("hold", "release", "rerun", "delete"),
    *("pause", "resume", "edit", "end"),
    *("workers", "queue", "foreign", "summary", "usage", "token", "access", "key", "purge", "db", "demo", "version"),
)

# Names of similar commands in other programs.
MEANT: Final = {
    **dict.fromkeys(("ls", "ps", "jobs"), "list"),
    **dict.fromkeys(("queues", "partition", "partitions"), "queue"),
    **dict.fromkeys(("status", "stat", "stats", "top", "info"), "summary"),
    **dict.fromkeys(("stop", "kill", "abort"), "cancel"),
    **dict.fromkeys(("rm", "remove"), "delete"),
    **dict.fromkeys(("requeue", "retry", "restart"), "rerun"),
    **dict.fromkeys(("suspend",), "hold"),
    **dict.fromkeys(("start", "serve", "server"), "up"),
    **dict.fromkeys(("get", "describe", "inspect"), "show"),
    **dict.fromkeys(("history", "audit"), "events"),
    **dict.fromkeys(("prune", "gc", "clean", "forget"), "purge"),
    **dict.fromkeys(("files", "fetch", "download"), "artifacts"),
    **dict.fromkeys(("log", "tail", "output", "cat"), "logs"),
    **dict.fromkeys(("nodes", "hosts"), "workers"),
    **dict.fromkeys(("exec", "srun"), "run"),
    **dict.fromkeys(("add", "enqueue", "sbatch", "qsub"), "submit"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    try:
        _check_standard_files()
        code = _run(sys.argv[1:] if argv is None else argv)
        # A broken pipe shows only when everything is written.
        sys.stdout.flush()
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except Exception as error:
        code = exits.report(error)
        _end_output()
    return code


def _check_standard_files() -> None:
    """Raises Failure when stdout is closed: the command would do its work, and the result would be lost."""
    standard.fill()
    # Python has None for a closed one.
    if sys.stderr is None:
        sys.stderr = _nowhere()
    if sys.stdout is None:
        sys.stdout = _nowhere()
        raise exits.Failure("stdout is closed: redirect it to /dev/null if nothing reads it", exits.USAGE)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A job's name may have characters that the terminal's encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def _end_output() -> None:
    """Flush stdout after a failure. If that fails too, redirect it, or Python's own flush at exit would fail again."""
    try:
        sys.stdout.flush()
    except OSError:
        # A replaced stdout may have no descriptor.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: Sequence[str]) -> int:
    """Run the named command. Wrong usage ends the program."""
    parsed = options.parse(__doc__, argv)
    command, arguments = parsed["<command>"], parsed["<argument>"]
    if command is None:
        options.fail(__doc__, "missing command; --help lists them all")
    if command not in COMMANDS:
        options.fail(__doc__, f"no command {command}; {_suggestion(str(command))}")
    assert isinstance(arguments, list)
    code: int = import_module(f"zsched.commands.{command}").main(arguments)
    return code


def _suggestion(wrong: str) -> str:
    from zsched.model.spelling import suggestion

    # The name of a command is nearest to itself.
    return suggestion(MEANT.get(wrong, wrong), COMMANDS, "--help lists them", cutoff=0.7)


if __name__ == "__main__":
    sys.exit(main())
