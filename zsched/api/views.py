"""Entities as the JSON that callers see, derived from their descriptions. What is not set is left out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import Any, Final, TypeVar

from msgspec import Struct

from zsched.model.access import Token, WorkerKey
from zsched.model.fields import Field, shown_fields
from zsched.model.limits import LOGS_BYTES_SHOWN
from zsched.model.output import cut
from zsched.model.queues import Queue
from zsched.model.records import Event, ForeignRuns, Instance, Usage
from zsched.model.source import function
from zsched.model.types import Job, Run, Stream, Worker
from zsched.store.contract import Claimed, QueueState, RunOutput, Task

View = dict[str, object]
S = TypeVar("S", bound=Struct)


def viewer(entity: type[S], *, without: Collection[str] = ()) -> Callable[[S], View]:
    """A function that makes the JSON object of an entity. `without`: fields that this view does not show."""
    body, names = ["view = {}"], dict[str, object]()
    for field in shown_fields(entity, without):
        value = f"value.{field.name}"
        shown = value
        if (show := _show(field)) is not None:
            names[f"show_{field.name}"] = show
            shown = f"show_{field.name}({value})"
        line = f"view |= {shown}" if field.form.flat else f"view[{field.json!r}] = {shown}"
        if field.form.only_with:
            line = f"if {field.form.only_with!r} in view: {line}"
        elif not field.always and field.omit is None:
            line = f"if {value} is not None: {line}"
        elif not field.always:
            names[f"omit_{field.name}"] = field.omit
            line = f"if {value} != omit_{field.name}: {line}"
        body.append(line)
    made: Callable[[S], View] = function(f"view_{entity.__name__}", "value", [*body, "return view"], names)
    return made


def _show(field: Field) -> Callable[..., Any] | None:
    if field.entity is None:
        return field.codec.show
    # Most jobs have one of a few.
    return lru_cache(maxsize=256)(viewer(field.entity))


job: Final = viewer(Job)
foreign: Final = viewer(ForeignRuns)
token: Final = viewer(Token)
key: Final = viewer(WorkerKey)
event: Final = viewer(Event)
scheduler: Final = viewer(Instance)
_queue: Final = viewer(Queue)
usage: Final = viewer(Usage)
# A job as a worker that polls gets it, with the run that it is to execute. It never gets secrets: they go over the
# encrypted port only.
handed_job: Final = viewer(Claimed, without=("secret_env",))
# Without what other tables know of them.
bare_run: Final = viewer(Run)
bare_worker: Final = viewer(Worker)


def queue(state: QueueState) -> View:
    """A queue, and how many tasks it has."""
    paused = state.queue.paused_ms is not None
    return _queue(state.queue) | {"paused": paused, "pending": state.pending, "running": state.running}


def run(run: Run, output: RunOutput | None) -> View:
    """A run, with its output as a text where it is given."""
    view = bare_run(run)
    if output is not None:
        view["logs"] = logs(run, output)
    return view


def task(task: Task) -> View:
    """A task of an array, with its last run."""
    view: View = {"task": task.index, "status": task.status}
    members = (("held", task.held or None), ("reason", task.reason), ("entry", task.entry))
    view |= {name: value for name, value in members if value is not None}
    if task.last is not None:
        view["last_run"] = bare_run(task.last)
    return view


def logs(run: Run, output: RunOutput) -> str:
    """The output of a run as a text with both streams under their names; long streams are cut."""
    if output.text:
        return _shown(run, output.stdout, "stdout")
    stdout, stderr = _shown(run, output.stdout, "stdout"), _shown(run, output.stderr, "stderr")
    return f"STDOUT:\n{stdout}\n\nSTDERR:\n{stderr}"


def _shown(run: Run, stream: Stream, name: str) -> str:
    where = f"/runs/{run.run_id}/log?stream={name}"
    return kept(stream, LOGS_BYTES_SHOWN, f"all that is kept: {where}").decode(errors="replace")


def kept(stream: Stream, most: int, remark: str) -> bytes:
    """At most `most` of a stream's kept bytes, with a marker line where bytes are left out."""
    shown = cut(stream, most)
    mark = f"\n[... {shown.cut} bytes left out; {remark} ...]\n".encode() if shown.cut else b""
    return shown.head + mark + shown.tail


def worker(worker: Worker, held: Sequence[ForeignRuns] = ()) -> View:
    """A worker. `held`: what it holds for other databases."""
    view = bare_worker(worker)
    if held:
        view["foreign"] = [foreign(runs) for runs in held]
    return view
