"""Dependencies: a diamond of thousands of jobs, a chain, and arrays task by task, over HTTP on real processes.

Usage: python -m bench.flows [WIDTH] [LENGTH] [TASKS]      (9998, 1000 and 10000, if not said)

Each job appends its name to a file when it starts and when it ends, so the file proves the order. The diamond runs
twice, once with a failure in its middle. The chain is compared with jobs that a caller submits one after the other,
waiting for each. The second of two arrays follows the first task by task.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench.machine import facts
from zsched.client.client import Client
from zsched.client.cluster import Cluster, private

Body = dict[str, object]


def main() -> None:
    width = int(sys.argv[1]) if len(sys.argv) > 1 else 9_998
    length = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000
    tasks = int(sys.argv[3]) if len(sys.argv) > 3 else 10_000
    print(facts())
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="zsched-bench-")))
        plan = private(folder, 1, 2)
        held.enter_context(Cluster(plan)).start()
        client = held.enter_context(Client(plan.url))
        show_diamond(client, folder / "diamond", width)
        show_failure(client, folder / "failure", width)
        show_chain(client, folder / "chain", length)
        show_same(client, folder / "same", tasks)


def diamond(witness: Path, width: int, middle: str = "true") -> list[Body]:
    """A start, jobs that wait for it, and an end that waits for all of them. `middle`: the command of the first one."""
    jobs: list[Body] = [{"name": "start", "command": noted(witness, "start", "true")}]
    for number in range(width):
        command = noted(witness, f"m{number}", "true" if number else middle)
        jobs.append({"name": f"m{number}", "command": command, "after": ["#1"]})
    after = [f"#{place}" for place in range(2, width + 2)]
    return [*jobs, {"name": "end", "command": noted(witness, "end", "true"), "after": after}]


def noted(witness: Path, name: str, command: str) -> str:
    """A command that says when it starts and when it ends."""
    return f"echo '{name} begins' >> {witness}; {command} && echo '{name} ends' >> {witness}"


def disorder(witness: Path, width: int) -> str:
    """What is wrong with the order of a diamond, by its witness; empty if nothing is."""
    lines = witness.read_text("utf-8").splitlines()
    if len(lines) != 2 * (width + 2):
        return f"{len(lines)} lines for {width + 2} jobs"
    if lines[:2] != ["start begins", "start ends"] or lines[-2:] != ["end begins", "end ends"]:
        return f"begins with {lines[:2]}, ends with {lines[-2:]}"
    return "" if len(set(lines)) == len(lines) else "a job has run twice"


def show_diamond(client: Client, witness: Path, width: int) -> None:
    began = time.monotonic()
    jobs = client.submit_all(diamond(witness, width))
    acked = time.monotonic()
    client.wait(jobs)
    ended = time.monotonic()
    rate = len(jobs) / (ended - acked)
    wrong = disorder(witness, width) or "in order, by the witness"
    print(
        f"diamond of {width}: {acked - began:.2f} s to the ack, {ended - acked:.1f} s more, {rate:.0f} jobs/s; {wrong}"
    )


def show_failure(client: Client, witness: Path, width: int) -> None:
    """One job of the middle fails: the last one must end as `dependency`, and never start."""
    began = time.monotonic()
    jobs = client.submit_all(diamond(witness, width, middle="false"))
    end = jobs[-1].wait()
    ended = time.monotonic()
    client.wait(jobs)
    started = "end begins" in witness.read_text("utf-8")
    print(
        f"diamond of {width} with a failure: the last job is {end.status} ({end.reason}) after {ended - began:.1f} s,"
        f" {'WRONG: it has run' if started else 'it never ran'}: {end.run['detail']};"
        f" the others ended {time.monotonic() - ended:.1f} s later"
    )


def show_same(client: Client, witness: Path, tasks: int) -> None:
    """Each task of the second array starts after the task of the first one with its index."""
    one, other = (noted(witness, f"{name}$ZSCHED_TASK", "true").replace("'", '"') for name in "ab")
    array = f"1-{tasks}"
    bodies: list[Body] = [
        {"name": "a", "command": one, "array": array},
        {"name": "b", "command": other, "array": array, "after": ["#1:same"]},
    ]
    began = time.monotonic()
    jobs = client.submit_all(bodies)
    acked = time.monotonic()
    client.wait(jobs)
    took_s = time.monotonic() - acked
    lines = witness.read_text("utf-8").splitlines()
    places = {line: place for place, line in enumerate(lines)}
    early = sum(places[f"b{task} begins"] < places[f"a{task} ends"] for task in range(1, tasks + 1))
    before_end = sum(line.startswith("b") and line.endswith("begins") for line in lines[: places[last(lines, "a")]])
    whole = len(places) == len(lines) == 4 * tasks
    print(
        f"same over two arrays of {tasks}: {acked - began:.2f} s to the ack, {took_s:.1f} s more,"
        f" {2 * tasks / took_s:.0f} tasks/s; {'each task once' if whole else 'WRONG: tasks are lost or doubled'},"
        f" {early} too early; {before_end} had started before the last one of the first array ended"
    )


def last(lines: list[str], name: str) -> str:
    return next(line for line in reversed(lines) if line.startswith(name) and line.endswith("ends"))


def show_chain(client: Client, witness: Path, length: int) -> None:
    began = time.monotonic()
    for number in range(length):
        client.submit(noted(witness.with_suffix(".alone"), f"c{number}", "true")).wait()
    alone_s = time.monotonic() - began
    jobs: list[Body] = [
        {
            "name": f"c{number}",
            "command": noted(witness, f"c{number}", "true"),
            "after": [f"#{number}"] if number else [],
        }
        for number in range(length)
    ]
    began = time.monotonic()
    client.wait(client.submit_all(jobs))
    took_s = time.monotonic() - began
    lines = witness.read_text("utf-8").splitlines()
    expected = [f"c{number} {what}" for number in range(length) for what in ("begins", "ends")]
    wrong = "in order, by the witness" if lines == expected else "out of order"
    print(f"chain of {length}: {took_s:.2f} s, {took_s / length * 1e3:.2f} ms a job; {wrong}")
    print(f"  one by one, each awaited by its caller: {alone_s:.2f} s, {alone_s / length * 1e3:.2f} ms a job (idle)")


if __name__ == "__main__":
    main()
