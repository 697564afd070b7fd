"""Canonical stories: short scenarios as text, each with the log of all that happens in it.

A file of the folder `stories` begins with a paragraph of prose and a script; the log follows. The test runs the script
and compares the log line by line. By hand: python -m tests.sim.stories [--write] [NAME …]

A line of the script is what a world has, or a moment in milliseconds and what happens then:

    scheduler timeout=3000 keep=2000 judge=1    worker w1 slots=1 grace=0   poller r1 slots=1
    200 submit a lasts=500 deaf         the job `a`; options as in _job     200 submit b children=left/5000
    200 submit c after=a,b:any,d.3,d:same   it waits for jobs that were acked before
    200 submit d array=0-3%2 max_fails=1    an array; parts of it are named as d.1-2
    300 cancel a                        300 hold d.1-2                      300 release d.1-2
    300 rerun a                         300 rerun d failed                  300 rerun a (live)  refused as `live`
    300 see d.1-2 pending               else the story is broken
    300 cut w1 [up|down]                300 mend w1
    300 break w1                        its connection; half of what is under way is lost
    300 delay w1 2000                   it breaks at the next register, which arrives so much later
    300 kill w1 guard|agent|both        300 stall w1 guard|agent|host 2000       300 term w1           300 start w1
    300 reboot w1                       300 full w1 | room w1               its disk has no space, or has again
    300 crash scheduler after the commit                                    300 restart scheduler
    300 stop scheduler                  300 refuse scheduler                its store refuses one turn
    300 leave                           another database is in its place    300 return            300 discard w1
    300 elsewhere submit 500            a job in that other database, of so many milliseconds
    300 show messages                   from then on also what guard and agent say, and heartbeats; until `hide`
    9000 end
"""

# ruff: noqa: T201  (stdout is the interface)
from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar

from tests.sim.arrays import ALL
from tests.sim.callers import Asked
from tests.sim.ending import Ending
from tests.sim.jobs import script_of
from tests.sim.machine import Habits as WorkerHabits
from tests.sim.machine import Machine
from tests.sim.scheduler import Answer, Done, Habits, Refused, Trouble
from tests.sim.story import Story
from tests.sim.timeline import Timeline
from tests.sim.violation import Violation
from tests.sim.world import Setting, World
from zsched.model.after import Dependency, Ends
from zsched.model.arrays import parse_array
from zsched.model.backoff import Backoff
from zsched.model.types import JobId, OnDisconnect, OnLost, Policy
from zsched.scheduler.dispatcher.acts import Hold, Release, Rerun
from zsched.scheduler.dispatcher.commands import Cancel, Command
from zsched.scheduler.dispatcher.retention import Keep
from zsched.scheduler.dispatcher.tasks import RerunTasks

FOLDER: Final = Path(__file__).parent / "stories"
_RULE: Final = "-" * 100

T = TypeVar("T")


class Calm(Random):
    """No chance at all: always the middle of what may be."""

    def random(self) -> float:
        return 0.5

    def randint(self, a: int, b: int) -> int:
        return (a + b) // 2

    def choice(self, seq: Any) -> Any:
        return seq[len(seq) // 2]

    def shuffle(self, x: Any) -> None:
        """They stay in order."""


class Told:
    """The log of a script, line by line. Raises Violation when the judge finds a broken promise in it."""

    def __init__(self, script: Sequence[str]) -> None:
        steps = [line.split() for line in script]
        first = next((words for words in steps if words[0] == "scheduler"), ["scheduler"])
        options = _options(first[1:])
        keep_ms = _number(options.get("keep"))
        keep = Keep(keep_ms, _number(options.get("keep_others")) or keep_ms)
        habits = Habits(int(options.get("timeout", "3000")), 1_000, 20_000, 1_000, keep=keep)
        habits.judge_max = int(options.get("judge", habits.judge_max))
        self._story = Story(Timeline(), wanted=True, details=False)
        self._world = World(Setting(habits, slowest_ms=2), Calm(), Calm(), self._story)
        self._asked: dict[str, Asked] = {}
        self.ending = Ending(self._world, self._asked)
        self._end_ms = 0
        with self._world.overheard():
            self._world.scheduler.start()
            for words in steps:
                self._plan(words)
            self._world.timeline.run(self._end_ms)
            self._world.judge.at_phase_end()

    @property
    def lines(self) -> list[str]:
        return self._story.lines

    def _plan(self, words: list[str]) -> None:
        match words:
            case ["scheduler", *_]:
                pass
            case ["worker", name, *options]:
                self._add_worker(name, _options(options))
            case ["poller", name, *options]:
                self._world.add_poller(name, int(_options(options).get("slots", "1"))).start()
            case [moment, "end"]:
                self._end_ms = int(moment)
            case [moment, *action]:
                self._world.timeline.at(int(moment), lambda: self._do(action))

    def _add_worker(self, name: str, options: dict[str, str]) -> None:
        habits = WorkerHabits(
            slots=int(options.get("slots", "1")),
            heartbeat_ms=int(options.get("heartbeat", "1000")),
            shutdown_grace_ms=int(options.get("grace", "0")),
            frames_max=100,
            read_ms=1,
            spawn_errors=0.0,
            no_room=0.0,
        )
        machine = self._world.add_machine(name, options.get("worker", name), habits)
        machine.restarts = "revives" in options
        if "later" not in options:
            machine.start()

    def _do(self, action: list[str]) -> None:
        world = self._world
        match action:
            case ["submit", name, *options]:
                world.client.submit_one(self._job(name, _options(options)))
            case ["cancel", name] if "." not in name:
                world.client.cancel_one(self._asked[name])
            case ["cancel" | "hold" | "release" | "rerun" as verb, name, *rest]:
                self._act(verb, name, rest)
            case ["see", name, status]:
                self._see(name, status)
            case ["show" | "hide" as verb, "messages"]:
                self._story.details = verb == "show"
            case ["leave"]:
                world.elsewhere.open(restored=False)
            case ["elsewhere", "submit", lasts_ms]:
                world.elsewhere.submit_one(int(lasts_ms))
            case ["return"]:
                world.elsewhere.come_back()
            case [verb, "scheduler", *rest]:
                self._do_to_scheduler(verb, rest)
            case [verb, name, *rest] if name in world.pollers:
                {"kill": world.pollers[name].kill, "start": world.pollers[name].start}[verb]()
            case [verb, name, *rest]:
                self._do_to_worker(verb, name, rest)

    def _act(self, verb: str, named: str, rest: list[str]) -> None:
        """An act on a job or on some tasks of it. The answer must be that it is done, or a refusal with this code."""
        name, _, part = named.partition(".")
        one, tasks = self._asked[name], _part(part)
        assert one.acked is not None
        job, failed = JobId(one.acked), rest[:1] == ["failed"]
        code = rest[-1].strip("()") if rest[-1:] and rest[-1].startswith("(") else None
        act: Command[Any]
        if verb == "rerun" and (tasks or failed):
            act = RerunTasks(job, one.by, tasks or ALL, failed=failed)
        else:
            acts = {"cancel": Cancel, "hold": Hold, "release": Release, "rerun": Rerun}
            act = acts[verb](job, one.by, "", tasks)

        def on_answer(answer: Answer) -> None:
            got = answer.error.code if isinstance(answer, Refused) else None
            self._story.tell("client", "%s %s: %s", verb, named, got or type(answer).__name__.lower())
            if got != code or not isinstance(answer, Done | Refused):
                raise Violation(f"{verb} {named} is answered {answer}, not {code or 'done'}")

        # The judge learns by the answers of what the client does itself whether a job is held or cancelled.
        one.held, one.cancel_possible = None, one.cancel_possible or verb == "cancel"
        one.cancel_acked = one.cancel_acked and verb != "rerun"
        self._world.scheduler.call(self._world.client_path, act, on_answer)

    def _see(self, named: str, status: str) -> None:
        """A job, or all of some tasks of it, have a status now."""
        name, _, part = named.partition(".")
        first, last = _part(part) or ALL
        ends = self.ending.tasks(name)
        found = {task: how.split()[0] for task, how in ends.items() if first <= task <= last}
        if not found or set(found.values()) != {status}:
            raise Violation(f"{named} is {found} at {self._world.timeline.now_ms} ms, not {status}")

    def _do_to_scheduler(self, verb: str, rest: list[str]) -> None:
        scheduler = self._world.scheduler
        troubles: dict[str, Trouble] = {
            "before the commit": "kill",
            "after the commit": "kill after commit",
            "while it sends": "kill while sending",
        }
        match verb:
            case "crash":
                scheduler.engine.trouble = troubles[" ".join(rest)]
            case "refuse":
                scheduler.engine.trouble = "refuse"
            case "stop":
                scheduler.stop()
            case "restart":
                scheduler.start()
            case "stall":
                scheduler.stand_still(int(rest[0]))

    def _do_to_worker(self, verb: str, name: str, rest: list[str]) -> None:
        machine = self._world.machines[name]
        match verb, rest:
            case "cut", _:
                machine.path.cut(*(rest or ("up", "down")))
                self._story.tell("network", "%s is cut %s", name, " ".join(rest) or "both ways")
            case "mend", _:
                self._story.tell("network", "%s is whole again", name)
                machine.path.mend()
            case "break", _:
                machine.break_connection()
            case "delay", [late_ms]:
                self._delay(machine, int(late_ms))
            case "kill", [what]:
                {"guard": machine.kill_guard, "agent": machine.kill_agent, "both": machine.kill_both}[what]()
            case "stall", [what, gap_ms]:
                machine.stall(what, int(gap_ms))
            case "discard", _:
                self._world.elsewhere.discard(name)
            case _:
                deeds: dict[str, Callable[[], object]] = {
                    "term": machine.shut_down,
                    "start": machine.start,
                    "reboot": machine.reboot,
                    "full": lambda: machine.fill_disk("full"),
                    "room": lambda: machine.fill_disk(None),
                }
                deeds[verb]()

    def _delay(self, machine: Machine, late_ms: int) -> None:
        if machine.agent is not None and machine.agent.registering is not None:
            machine.delay_register(late_ms)
        else:
            self._world.timeline.after(1, lambda: self._delay(machine, late_ms))

    def _job(self, name: str, options: dict[str, str]) -> Asked:
        retries, backoff_ms = int(options.get("retries", "0")), int(options.get("backoff", "1000"))
        policy = Policy(
            timeout_ms=_number(options.get("timeout")),
            grace_ms=int(options.get("grace", "500")),
            retries=retries,
            backoff=Backoff(initial_ms=backoff_ms, factor=1, jitter=0) if retries else Backoff(),
            crash_limit=_number(options.get("crash_limit", "3")),
            on_lost=OnLost.FAIL if "once" in options else OnLost.REQUEUE,
            on_disconnect=OnDisconnect.STOP if "stops" in options else OnDisconnect.CONTINUE,
        )
        one = self._asked[name] = Asked(name, script_of(options), policy=policy)
        if "array" in options:
            array = parse_array(options["array"])
            one.indexes, one.cap = array.take(array.first, array.last, len(array)), array.cap
            one.turn["array"] = array
        if "max_fails" in options:
            one.turn["max_fails"] = int(options["max_fails"])
        for entry in filter(None, options.get("after", "").split(",")):
            named, _, ends = entry.partition(":")
            other, _, task = named.partition(".")
            acked = self._asked[other].acked
            assert acked is not None
            one.after.append((other, _number(task or None), ends or Ends.OK))
            one.waits_for += (Dependency(acked, Ends(ends or Ends.OK), task=_number(task or None)),)
        return one


def _part(text: str) -> tuple[int, int] | None:
    """`1-2` as the first and the last task."""
    first, _, last = text.partition("-")
    return (int(first), int(last or first)) if text else None


def _options(words: Sequence[str]) -> dict[str, str]:
    """`slots=1 deaf` as a dictionary."""
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def _number(text: str | None) -> int | None:
    return None if text is None or text == "never" else int(text)


class Tale:
    """A file of the folder."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self._path = path
        self.head, _, self.log = path.read_text("utf-8").partition(f"{_RULE}\n")

    @property
    def script(self) -> list[str]:
        """The lines of the script: those that are indented."""
        return [line.strip() for line in self.head.splitlines() if line.startswith("    ")]

    def tell(self) -> str:
        """The log as it is now."""
        return "".join(f"{line}\n" for line in Told(self.script).lines)

    def write(self) -> None:
        self._path.write_text(f"{self.head}{_RULE}\n{self.tell()}", "utf-8")


def tales(names: Sequence[str] = ()) -> list[Tale]:
    """All, or those whose names begin so."""
    paths = sorted(FOLDER.glob("*.txt"))
    return [Tale(path) for path in paths if not names or path.name.startswith(tuple(names))]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.stories", description="Compare the canonical stories.")
    parser.add_argument("--write", action="store_true", help="write the logs as they are now")
    parser.add_argument("names", nargs="*", metavar="NAME", help="how the names begin; without any all of them")
    asked = parser.parse_args()
    changed = 0
    for tale in tales(asked.names):
        try:
            now = tale.tell()
        except Violation as violation:
            print(f"{tale.name}: BROKEN: {violation}")
            changed += 1
            continue
        if now == tale.log:
            continue
        changed += 1
        lines = difflib.unified_diff(tale.log.splitlines(), now.splitlines(), tale.name, "now", lineterm="")
        print("\n".join(lines))
        if asked.write:
            tale.write()
    return 1 if changed and not asked.write else 0


if __name__ == "__main__":
    sys.exit(main())
