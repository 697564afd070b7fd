"""zsched logs: show the output of a job, a task, or the jobs of a flow.

Usage:
  zsched logs [options] <job>

<job> is an ID, or last; or a task of an array, such as 12.3 or last.3; or a flow such as flow:12, whose jobs are shown
one after the other. Stdout and stderr of a job are copied to stdout and stderr, byte for byte. On a terminal, escape
sequences and other control characters are removed.

Options:
  -f, --follow  Follow the output until the job has finished, also into the next run if the worker is lost.
  --run=RUN     Show the run of the job with this ID (the last one).
  --tail=COUNT  Show only the last COUNT lines of each stream.
  --stderr      Show only stderr, on stdout.
  --json        Print a JSON document; with --follow a line of JSON for each piece.
  --url=URL     The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help    Show this.

Ctrl-C stops following; the job keeps running.

Exit codes: 0 done, whatever the job's status; 2 wrong usage; 3 there is no such job or run; 4 no scheduler answers;
130 interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

from zsched.client.client import Chunk, Client, Job, Stream
from zsched.client.task import Task
from zsched.commands import exits, options, selection, table
from zsched.commands.text import line
from zsched.commands.watching import Plain, Records, Watch, last_lines, read_known, targets


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, mixed=True)
    chosen = options.single_or_flow(__doc__, arguments)
    if chosen.flows:
        return logs_of_flow(next(iter(chosen.flows)), arguments)
    run_id = options.number(__doc__, arguments, "--run")
    tail = options.number(__doc__, arguments, "--tail", least=0)
    only: Stream | None = "stderr" if arguments["--stderr"] else None
    streams: tuple[Stream, ...] = ("stderr",) if only else ("stdout", "stderr")
    with Client(options.text(arguments, "--url")) as client:
        job = client.get(selection.only(chosen, client))
        of: Job | Task = job
        if chosen.tasks:
            (of,) = selection.tasks_of(client, *selection.resolve_tasks(chosen, client))
        elif run_id is not None and client.run(run_id)["job_id"] != job.id:
            raise exits.Failure(f"run {run_id} does not belong to job {job.id}", exits.NOT_FOUND)
        elif job.counts and run_id is None:
            demand_task(job)
        if arguments["--follow"]:
            sink = Records() if arguments["--json"] else Plain(targets(only))
            follow(Watch(client, sink, streams, tail), of, run_id)
            return 0
        run_id = run_id or of.run.get("run_id")
        output: dict[Stream, bytes] = {}
        for stream in streams:
            data = read_output(client, run_id, stream) if run_id else b""
            output[stream] = data if tail is None else last_lines(data, tail)
    if arguments["--json"]:
        named: dict[str, object] = {"job_id": job.id}
        if chosen.tasks:
            named["task"] = chosen.tasks[0].first
        texts: dict[str, object] = {stream: data.decode(errors="replace") for stream, data in output.items()}
        table.document(named | {"run_id": run_id} | texts)
        return 0
    if run_id is None:
        exits.say(f"{'task' if chosen.tasks else 'job'} {of.id} has no run yet")
    plain = Plain(targets(only))
    for stream, data in output.items():
        plain.write(run_id or 0, stream, Chunk(0, data, len(data), True), 0)
    return 0


def logs_of_flow(flow: int, arguments: Mapping[str, options.Value]) -> int:
    """Show the output of each job of a flow, in order; of an array that of each task."""
    for name in ("--follow", "--run", "--json"):
        if arguments[name]:
            options.fail(__doc__, f"{name} is for a single job: name it by its number")
    options.number(__doc__, arguments, "--tail", least=0)
    given = [f"{name}={value}" for name in ("--tail", "--url") if (value := arguments[name])]
    code = 0
    with Client(options.text(arguments, "--url")) as client:
        for job in sorted(client.jobs(flow=int(client.flow(flow)["flow"])), key=lambda job: job.id):
            for selector in (task.id for task in job.tasks()) if job.counts else [str(job.id)]:
                print(f"==> {line(job.name)} ({selector}) <==", flush=True)
                code = main([*given, *(["--stderr"] if arguments["--stderr"] else []), selector]) or code
    return code


def demand_task(job: Job) -> NoReturn:
    """Raises Failure for an array, which has an output for each of its tasks."""
    assert job.counts is not None
    example = next(job.tasks("failed" if job.counts["failed"] else None))
    sentence = f"job {job.id} has {job.counts['total']:,} tasks: name one, such as {example.id}"
    raise exits.Failure(sentence, exits.USAGE)


def read_output(client: Client, run_id: int, stream: Stream) -> bytes:
    """The output of a run on a stream up to now."""
    if client.run(run_id)["status"] == "running":
        return read_known(client, run_id, stream).data
    return client.log(run_id, stream)


def follow(watch: Watch, job: Job | Task, run_id: int | None) -> None:
    """Show the output until the end of the job or run, or until Ctrl-C."""
    try:
        if run_id is None:
            watch.job(job)
        else:
            watch.run(run_id)
    except KeyboardInterrupt:
        what = "task" if isinstance(job, Task) else "job"
        exits.say(f"no longer following; `zsched cancel {job.id}` cancels the {what}")
        raise
