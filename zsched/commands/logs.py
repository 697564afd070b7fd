"""zsched logs: show the output of a job, or of the jobs of a flow.

Usage:
  zsched logs [options] <job>

<job> is an ID, or last; or a flow such as flow:12, whose jobs are shown one after the other. Stdout and stderr of a job
are copied to stdout and stderr, byte for byte. On a terminal, escape sequences and other control characters are
removed.

Options:
  -f, --follow  Follow the output until the job has finished, also into the next run if the worker is lost.
  --run=RUN     Show the run with this ID (the last one).
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

from zsched.client.client import Chunk, Client, Job, Stream
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
        if run_id is not None and client.run(run_id)["job_id"] != job.id:
            raise exits.Failure(f"run {run_id} does not belong to job {job.id}", exits.NOT_FOUND)
        if arguments["--follow"]:
            sink = Records() if arguments["--json"] else Plain(targets(only))
            follow(Watch(client, sink, streams, tail), job, run_id)
            return 0
        run_id = run_id or job.run.get("run_id")
        output: dict[Stream, bytes] = {}
        for stream in streams:
            data = read_output(client, run_id, stream) if run_id else b""
            output[stream] = data if tail is None else last_lines(data, tail)
    if arguments["--json"]:
        texts = {stream: data.decode(errors="replace") for stream, data in output.items()}
        table.document({"job_id": job.id, "run_id": run_id} | texts)
        return 0
    if run_id is None:
        exits.say(f"job {job.id} has no run yet")
    plain = Plain(targets(only))
    for stream, data in output.items():
        plain.write(run_id or 0, stream, Chunk(0, data, len(data), True), 0)
    return 0


def logs_of_flow(flow: int, arguments: Mapping[str, options.Value]) -> int:
    """Show the output of each job of a flow, in order."""
    for name in ("--follow", "--run", "--json"):
        if arguments[name]:
            options.fail(__doc__, f"{name} is for a single job: name it by its number")
    options.number(__doc__, arguments, "--tail", least=0)
    code = 0
    with Client(options.text(arguments, "--url")) as client:
        jobs = sorted(client.jobs(flow=int(client.flow(flow)["flow"])), key=lambda job: job.id)
    given = [f"{name}={value}" for name in ("--tail", "--url") if (value := arguments[name])]
    for job in jobs:
        print(f"==> {line(job.name)} ({job.id}) <==", flush=True)
        code = main([*given, *(["--stderr"] if arguments["--stderr"] else []), str(job.id)]) or code
    return code


def read_output(client: Client, run_id: int, stream: Stream) -> bytes:
    """The output of a run on a stream up to now."""
    if client.run(run_id)["status"] == "running":
        return read_known(client, run_id, stream).data
    return client.log(run_id, stream)


def follow(watch: Watch, job: Job, run_id: int | None) -> None:
    """Show the output until the end of the job or run, or until Ctrl-C."""
    try:
        if run_id is None:
            watch.job(job)
        else:
            watch.run(run_id)
    except KeyboardInterrupt:
        exits.say(f"no longer following; `zsched cancel {job.id}` cancels the job")
        raise
