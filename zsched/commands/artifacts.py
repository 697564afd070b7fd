"""zsched artifacts: list, show or save the files that a job or a task has left.

Usage:
  zsched artifacts [options] <job> [<path>]

<job> is an ID, or last; or a task of an array, such as 12.3. The artifacts of its last run are listed: the files that
`zsched submit --get` has asked for. With <path>, the content of that file is copied to stdout, byte for byte; on a
terminal only text is, without control characters.

Options:
  --dir=DIR   Save all artifacts in this folder, made if needed. In names, characters other than letters, digits and ._-
              become _. No file is overwritten.
  --run=RUN   Those of the run with this ID (the last one).
  --json      Print the list as JSON.
  --url=URL   The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help  Show this.

Exit codes: 0 done; 1 a file exists already; 2 wrong usage; 3 there is no such job, run or artifact; 4 no scheduler
answers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from zsched.client.client import Client
from zsched.commands import exits, options, selection, table
from zsched.commands.text import Cleaner, line
from zsched.model.names import plain_name
from zsched.model.units import counted


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, mixed=True)
    chosen = options.single(__doc__, arguments, tasks=True)
    path, folder = options.text(arguments, "<path>"), options.text(arguments, "--dir")
    run_id = options.number(__doc__, arguments, "--run")
    if path is not None and folder is not None:
        options.fail(__doc__, "<path> and --dir don't go together")
    with Client(options.text(arguments, "--url")) as client:
        job = client.get(selection.only(chosen, client))
        if chosen.tasks and run_id is None:
            (task,) = selection.tasks_of(client, *selection.resolve_tasks(chosen, client))
            if (run_id := task.run.get("run_id")) is None:
                raise exits.Failure(f"task {task.id} has no run yet", exits.NOT_FOUND)
        elif run_id is not None and client.run(run_id)["job_id"] != job.id:
            raise exits.Failure(f"run {run_id} does not belong to job {job.id}", exits.NOT_FOUND)
        if path is not None:
            show(path, job.artifact(path, run_id))
            return 0
        artifacts = job.artifacts(run_id)
        if folder is not None:
            for artifact, place in zip(artifacts, places([item.path for item in artifacts]), strict=True):
                save(folder, place, job.artifact(artifact.path, artifact.run_id), artifact.mode)
            exits.say(f"saved {counted(len(artifacts), 'file')} in {folder}")
            return 0
    if arguments["--json"]:
        table.document(
            [
                {"run_id": item.run_id, "path": item.path, "bytes": item.size, "mode": f"{item.mode:04o}"}
                for item in artifacts
            ]
        )
    else:
        table.show(("PATH", "BYTES", "MODE"), [(item.path, item.size, f"{item.mode:04o}") for item in artifacts])
    return 0


def show(path: str, data: bytes) -> None:
    """Copy a file to stdout. Raises Failure when it would disturb a terminal."""
    sys.stdout.flush()
    if not sys.stdout.isatty():
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        data.decode()
    except UnicodeDecodeError:
        raise exits.Failure(f"{line(path)} is not text: redirect the output, or save it with --dir") from None
    sys.stdout.write(Cleaner().feed(data, end=True))


def places(paths: Sequence[str]) -> list[str]:
    """Harmless paths below a folder, a different one for each artifact."""
    plain = ["/".join(map(plain_name, path.split("/"))) for path in paths]
    taken = {place[:end] for place in plain for end, char in enumerate(place) if char == "/"}
    chosen = []
    for place in plain:
        while place in taken:
            place += "_"
        taken.add(place)
        chosen.append(place)
    return chosen


def save(folder: str, place: str, data: bytes, mode: int) -> None:
    """Write an artifact to a path below a folder. Raises Failure if a file is there already."""
    *folders, name = place.split("/")
    try:
        os.makedirs(folder, exist_ok=True)
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise exits.Failure(f"the folder {folder} can't be used: {error.strerror}") from None
    try:
        for part in folders:
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=opened)
            # A link that is there already must not lead elsewhere.
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=opened)
            os.close(opened)
            opened = inner
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(name, flags, 0o777 if mode & 0o100 else 0o666, dir_fd=opened), "wb") as file:
            file.write(data)
    except FileExistsError:
        raise exits.Failure(f"{folder}/{place} exists: save into another folder") from None
    except OSError as error:
        raise exits.Failure(f"{folder}/{place} can't be written: {error.strerror}") from None
    finally:
        os.close(opened)
