"""Callers who submit and cancel at a rate, and write down what they did and were told; and the jobs that they submit.

Each job writes into the witness file when it starts, while it lives and when it ends: one short line each, appended,
with the time since boot as /proc/uptime has it. That is the ground truth; zsched never reads it.
"""

from __future__ import annotations

import heapq
import http.client
import itertools
import json
import queue
import random
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tests.faults.cluster import boottime_ms
from tests.faults.history import Cancel, Outcome, Parent, Submit
from zsched.model.spec import JobBody
from zsched.worker.agent.agent import CAN

CALLERS: Final = 24
# Calls that wait for a caller. More of them are not made: they would come in a rush, later.
WAITING_MAX: Final = 200
ANSWER_S_MAX: Final = 5.0
# A submit with a key is tried so often after answers that say nothing.
TRIES_MAX: Final = 6
TRY_AGAIN_S: Final = 0.5
CANCEL_WITHIN_S: Final = 4.0

# What the scheduler of this checkout understands: the mix has it as soon as it does.
FIELDS: Final = frozenset(JobBody.__struct_fields__)
STOPS: Final = "on_disconnect" in FIELDS and "stop" in CAN

# `w` writes a line; built into sh, so it costs no process.
WITNESS: Final = (
    'w() {{ read -r u _ </proc/uptime; echo "$ZSCHED_RUN_ID $ZSCHED_JOB_ID $ZSCHED_WORKER $$ $1 $u $2" >>{path}; }}\n'
)
# For tenths of a second, with a sign of life at each.
LIVES: Final = "i={tenths}; while [ $i -gt 0 ]; do sleep 0.1; w alive; i=$((i-1)); done"

# What jobs do, and how many of a thousand do so.
MIX: Final = {"short": 600, "sleep": 130, "lives": 70, "stop": 120, "deaf": 20, "stray": 40, "coin": 20}
LONG: Final = 0.1
LONG_STOP: Final = 0.4
POISON_EACH: Final = 400
# One that fails every other time is tried so often: that all fail is as good as never.
COINS: Final = 30
# The share of jobs with each further field. A job may have several.
SHARES: Final = {
    "argv": 0.2,
    "cwd": 0.1,
    "stdin": 0.1,
    "delay": 0.05,
    "deadline": 0.05,
    "signal": 0.1,
    "tags": 0.1,
    "files": 0.1,
    "artifacts": 0.1,
}
DELAY_MS: Final = 3_000
# The share of jobs that are arrays; of those that two further jobs wait for, which come in the same submit.
ARRAYS: Final = 0.04
FOLLOWED: Final = 0.04
TASKS_MAX: Final = 6
# A job whose input is missing fails, which its script does not do otherwise.
READS: Final = 'read -r line; [ "$line" = {name} ] || exit 9; '
# The same for a file that comes with the job; and what a run leaves, which driver and findings read in the end. It
# waits for a full disk.
READS_FILE: Final = 'read -r line <"$ZSCHED_SCRATCH/name"; [ "$line" = {name} ] || exit 9; '
LEAVES: Final = 'until echo "$ZSCHED_RUN_ID" >"$ZSCHED_SCRATCH/run"; do sleep 0.1; done 2>/dev/null; '


@dataclass(frozen=True, slots=True)
class Route:
    """How callers reach the schedulers: their REST ports on loopback, and the context in which sockets are made."""

    ports: tuple[int, ...]
    inside: Callable[[], AbstractContextManager[None]] = nullcontext


@dataclass(slots=True)
class Made:
    """What is known of a job by its name."""

    stops: bool = False
    fails: bool = False
    once: bool = False
    tried_again: bool = False
    recurring: bool = False
    delay_ms: int = 0
    leaves: bool = False
    tasks: tuple[int, ...] = ()
    cap: int = 0
    after: tuple[Parent, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """A submit of `body`, which has a job for each of the `names`, or else the cancel of `job`. `cancelled`: the place
    of the job that is cancelled later.
    """

    names: tuple[str, ...] = ()
    key: str | None = None
    body: str = ""
    tries: int = 0
    cancel_after_s: float | None = None
    cancelled: int = 0
    job: int = 0


@dataclass(slots=True)
class Done:
    """What callers did."""

    submits: list[Submit] = field(default_factory=list)
    cancels: list[Cancel] = field(default_factory=list)
    # Calls that were due when too many waited.
    unsent: int = 0


class Load:
    """Runs in threads of its own from `begin` to `end`."""

    def __init__(
        self, route: Route, witness: Path, seed: int, rate: float, timeout_s: float, *, poison: bool = False
    ) -> None:
        """`rate`: submits a second. `timeout_s`: how long a worker may be silent."""
        self.done = Done()
        self.made: dict[str, Made] = {}
        self._route = route
        self._witness = witness
        self._chance = random.Random(f"load {seed}")
        # The further fields of jobs: apart, so that a seed's other decisions stay.
        self._draw = random.Random(f"fields {seed}")
        # Arrays and the jobs that wait for others: apart as well.
        self._shape = random.Random(f"tasks {seed}")
        self._rate = rate
        self._long = int(timeout_s * 40)
        self._poison = poison
        self._numbers = itertools.count(1)
        self._calls: queue.Queue[Call | None] = queue.Queue()
        # Calls that are due later: when, a number to tell them apart, what.
        self._later: list[tuple[float, int, Call]] = []
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._pace = threading.Thread(target=self._submit_all)
        self._callers = [threading.Thread(target=self._serve) for _ in range(CALLERS)]

    def begin(self) -> None:
        for thread in (self._pace, *self._callers):
            thread.start()

    def end(self) -> None:
        """No new jobs; what was begun is brought to its end."""
        self._ending.set()
        self._pace.join()
        for _ in self._callers:
            self._calls.put(None)
        for thread in self._callers:
            thread.join()

    # --- what is called ----------------------------------------------------------------------------------------------

    def _submit_all(self) -> None:
        began, submitted = time.monotonic(), 0
        while not self._ending.wait(0.01):
            now_s = time.monotonic()
            while submitted < (now_s - began) * self._rate:
                submitted += 1
                call = self.job()
                if self._calls.qsize() < WAITING_MAX:
                    self._calls.put(call)
                else:
                    self.done.unsent += 1
            self._put_due(now_s)
        # Retries and cancels that are due soon.
        end_s = time.monotonic() + TRIES_MAX * TRY_AGAIN_S
        while self._later and time.monotonic() < end_s:
            self._put_due(time.monotonic())
            time.sleep(0.01)

    def _put_due(self, now_s: float) -> None:
        with self._lock:
            while self._later and self._later[0][0] <= now_s:
                self._calls.put(heapq.heappop(self._later)[2])

    def _put_later(self, after_s: float, call: Call) -> None:
        with self._lock:
            heapq.heappush(self._later, (time.monotonic() + after_s, next(self._numbers), call))

    def job(self) -> Call:
        """The next job of the mix, with those that wait for it."""
        chance, shape = self._chance, self._shape
        bodies = [self._job(f"job-{next(self._numbers)}")]
        name, kind = bodies[0]["name"], bodies[0].pop("kind")
        if "after" in FIELDS and shape.random() < FOLLOWED:
            bodies += self._followers(bodies[0], self.made[name])
        key = f"key-{name}" if chance.random() < 0.3 else None
        cancelled = chance.random() < (0.03 if kind == "short" else 0.2)
        cancel_after_s = chance.uniform(0, CANCEL_WITHIN_S) if cancelled else None
        body = json.dumps(bodies if len(bodies) > 1 else bodies[0])
        names = tuple(one["name"] for one in bodies)
        return Call(names, key, body, 0, cancel_after_s, shape.randrange(len(bodies)))

    def _job(self, name: str) -> dict[str, Any]:
        """A job of the mix; its `kind` is no field of it."""
        chance = self._chance
        kind = chance.choices(list(MIX), list(MIX.values()))[0]
        if self._poison and chance.randrange(POISON_EACH) == 0:
            kind = "poison"
        fields: dict[str, Any] = {"name": name, "kind": kind}
        made = self.made[name] = Made(fails=kind in ("poison", "coin"))
        if "array" in FIELDS and kind != "poison" and self._shape.random() < ARRAYS:
            made.tasks = tuple(range(1, self._shape.randint(2, TASKS_MAX) + 1))
            made.cap = self._shape.choice((0, 0, 1, 2))
            fields["array"] = f"1-{len(made.tasks)}" + (f"%{made.cap}" if made.cap else "")
        script = self._script(kind, len(made.tasks) or 1)
        fields["command"] = WITNESS.format(path=self._witness) + "w start; " + script
        if kind == "stop" and STOPS:
            fields["on_disconnect"], made.stops = "stop", True
        if "on_lost" in FIELDS and chance.random() < 0.03:
            fields["on_lost"], made.once = "fail", True
        elif kind == "coin" and "retries" in FIELDS:
            fields["retries"], made.tried_again = COINS, True
            fields["backoff"] = {"initial": "100ms", "factor": 1}
        if "priority" in FIELDS and chance.random() < 0.1:
            fields["priority"] = chance.choice((-5, 5))
        if "limits" in FIELDS and kind == "short" and chance.random() < 0.1:
            fields["limits"] = {"db": 10}
        self._extend(fields, made)
        return fields

    def _followers(self, fields: dict[str, Any], made: Made) -> list[dict[str, Any]]:
        """Two jobs: one waits for the success of the first, or of some of its tasks; one for the end of both."""
        name, command = fields["name"], WITNESS.format(path=self._witness) + "w start; w end 0"
        how = self._shape.choice(("ok", "same", "task")) if made.tasks else "ok"
        then: dict[str, Any] = {"name": f"{name}-then", "command": command}
        last = {"name": f"{name}-last", "command": command, "after": ["#1:any", "#2:any"]}
        follows = self.made[f"{name}-then"] = Made()
        if how == "same":
            then["array"], follows.tasks = f"1-{len(made.tasks)}", made.tasks
        task = self._shape.choice(made.tasks) if how == "task" else None
        then["after"] = [{"ok": "#1", "same": "#1:same", "task": f"#1.{task}"}[how]]
        follows.after = (Parent(name, "ok" if how == "task" else how, task),)
        self.made[f"{name}-last"] = Made(after=(Parent(name, "any"), Parent(f"{name}-then", "any")))
        return [then, last]

    def _extend(self, fields: dict[str, Any], made: Made) -> None:
        """Give a job some further fields."""
        drawn = {name for name, share in SHARES.items() if self._draw.random() < share and name in FIELDS}
        if "stdin" in drawn:
            fields["stdin"] = f"{fields['name']}\n"
            fields["command"] = READS.format(name=fields["name"]) + fields["command"]
        if "files" in drawn:
            fields["files"] = {"name": f"{fields['name']}\n"}
            fields["command"] = READS_FILE.format(name=fields["name"]) + fields["command"]
        if "artifacts" in drawn:
            fields["artifacts"] = ["run"]
            fields["command"], made.leaves = LEAVES + fields["command"], True
        if "argv" in drawn:
            fields["argv"] = ["/bin/sh", "-c", "--", fields.pop("command")]
        if "cwd" in drawn:
            fields["cwd"] = "/tmp"
        if "delay" in drawn:
            fields["delay"], made.delay_ms = f"{DELAY_MS}ms", DELAY_MS
        if "deadline" in drawn:
            fields["deadline"] = f"{DELAY_MS + self._draw.randint(1_000, 20_000)}ms"
        if "signal" in drawn:
            # Nothing happens to a job that is not stopped. It comes half a second after the start.
            fields["timeout"], fields["signal"] = "10m", "CONT@599500ms"
        if "tags" in drawn:
            fields["tags"] = ["nightly", f"name={fields['name']}"]

    def _script(self, kind: str, tasks: int) -> str:
        """What a job does. Many tasks one after the other take no longer than one."""
        # Some live for longer than it takes to give their worker up.
        long = self._chance.random() < (LONG_STOP if kind == "stop" else LONG)
        most = self._long if kind == "stop" else self._long // 2
        tenths = self._chance.randint(10, most) if long else self._chance.randint(2, 15)
        lives = LIVES.format(tenths=max(2, tenths // tasks))
        return {
            "short": "w end 0",
            "sleep": f"sleep {self._chance.uniform(0.1, 3):.2f}; w end 0",
            "lives": f"{lives}; w end 0",
            "stop": f"{lives}; w end 0",
            "deaf": f"trap '' TERM; {lives}; w end 0",
            "stray": f"setsid sleep 600 & {lives}; w end 0",
            "coin": "code=$(($$ % 2)); w end $code; exit $code",
            # The parent of a job is the guard.
            "poison": "kill -9 $PPID; sleep 5",
        }[kind]

    # --- calling -----------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        with self._route.inside():
            caller = Caller(self._route.ports)
            while (call := self._calls.get()) is not None:
                if call.job:
                    self._cancel(caller, call)
                else:
                    self._submit(caller, call)
            caller.close()

    def _submit(self, caller: Caller, call: Call) -> None:
        began_ms = boottime_ms()
        headers = {} if call.key is None else {"Idempotency-Key": call.key}
        outcome, answer = caller.post("/jobs", call.body, headers)
        completed_ms = boottime_ms()
        jobs = [one["id"] for one in (answer if isinstance(answer, list) else [answer])] if outcome == "ok" else []
        for name, job in itertools.zip_longest(call.names, jobs):
            self.done.submits.append(Submit(name, call.key, began_ms, completed_ms, outcome, job))
        if jobs and call.cancel_after_s is not None:
            self._put_later(call.cancel_after_s, Call(job=jobs[call.cancelled]))
        if outcome != "ok" and call.key is not None and call.tries < TRIES_MAX:
            self._put_later(TRY_AGAIN_S, replace(call, tries=call.tries + 1))

    def _cancel(self, caller: Caller, call: Call) -> None:
        began_ms = boottime_ms()
        outcome, _ = caller.post(f"/jobs/{call.job}/cancel", "", {})
        self.done.cancels.append(Cancel(call.job, began_ms, boottime_ms(), outcome))


class Caller:
    """Calls the scheduler that answered last, and the next one after an answer that says: not me."""

    def __init__(self, ports: tuple[int, ...]) -> None:
        self._connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S_MAX) for port in ports]

    def post(self, path: str, body: str, headers: dict[str, str]) -> tuple[Outcome, Any]:
        """What is surely not done is `fail`; what may be is `unknown`. With the answer, if one came."""
        for _ in self._connections:
            outcome, answer = ask(self._connections[0], path, body, headers)
            if answer is not None and (outcome == "ok" or answer.get("code") != "standby"):
                break
            # The next call begins there, also when this one may have been done and is not sent again.
            self._connections.append(self._connections.pop(0))
            if outcome == "unknown":
                break
        return outcome, answer

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


def ask(connection: http.client.HTTPConnection, path: str, body: str, headers: dict[str, str]) -> tuple[Outcome, Any]:
    """POST. What is surely not done is `fail`; what may be is `unknown`. With the answer, if one came."""
    try:
        if connection.sock is None:
            connection.connect()
    except OSError:
        connection.close()
        return "fail", None
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        with suppress(OSError):
            connection.close()
        return "unknown", None
    if response.status < 300:
        return "ok", answer
    # What had no turn in time may get one later; and who stumbles over a request may have stored it.
    unknown = response.status == 500 or (response.status == 503 and "in time" in answer["error"])
    return ("unknown" if unknown else "fail"), answer
