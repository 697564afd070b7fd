"""Dependencies: a diamond of thousands of jobs, and a chain, over HTTP on real processes.

Usage: python -m bench.flows [WIDTH] [LENGTH]      (9998 and 1000, if not said)

Each job appends its name to a file when it starts and when it ends, so the file proves the order. The chain is compared
with as many jobs one after the other by a caller that waits for each.
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
    print(facts())
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="zsched-bench-")))
        plan = private(folder, 1, 2)
        held.enter_context(Cluster(plan)).start()
        client = held.enter_context(Client(plan.url))
        show_diamond(client, folder / "diamond", width)
        show_chain(client, folder / "chain", length)


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
    print(f"  one by one, each awaited by its caller: {alone_s:.2f} s, {alone_s / length * 1e3:.2f} ms a job")


if __name__ == "__main__":
    main()
