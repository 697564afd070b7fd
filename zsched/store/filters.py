"""The statements of filtered lists, composed of one condition for each filter that is given.

A list is read in the order of its ids. So at most one filter may choose the index, the *driver*: an index on its column
has the ids behind it, in order. A second index would need a sort of all that matches. The conditions of the other
filters are written so that no index can serve them: `status || ''` and `+owner_id` are expressions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from zsched.model.names import DEFAULT_QUEUE
from zsched.model.types import JobId, RunId
from zsched.store import sql
from zsched.store.contract import EventFilter, JobFilter
from zsched.store.engine import Row

_ON_WORKER: Final = "EXISTS (SELECT 1 FROM runs WHERE runs.job_id = jobs.job_id AND runs.worker_id = ?)"
# lower() changes ASCII letters only, on both engines.
_NAMED_LIKE: Final = r"lower(name) LIKE ? ESCAPE '\'"
_SPECIAL: Final = str.maketrans({character: f"\\{character}" for character in "\\%_"})

Condition = tuple[str, tuple[object, ...]]


def jobs(wanted: JobFilter, first: JobId, last: JobId, limit: int) -> tuple[str, Row]:
    """The jobs that match with an id from `first` to `last`, newest first: the statement and its parameters."""
    # CROSS JOIN: SQLite reads the tags first.
    source, key = ("jobs", "job_id") if wanted.tag is None else ("job_tags CROSS JOIN jobs", "tagged_id")
    conditions = [*_of_jobs(wanted), (f"{key} BETWEEN ? AND ?", (first, last))]
    joined = " AND ".join(text for text, _ in conditions)
    statement = f"SELECT {sql.JOB_COLUMNS} FROM {source} WHERE {joined} ORDER BY {key} DESC LIMIT ?"  # noqa: S608
    return statement, (*(value for _, values in conditions for value in values), limit)


def _of_jobs(wanted: JobFilter) -> Iterator[Condition]:
    """The conditions of a filter. The first of tag, flow, queue, status and owner drives."""
    driven = False
    if wanted.tag is not None:
        yield "job_id = tagged_id AND tag = ?", (wanted.tag,)
        driven = True
    if wanted.flow is not None:
        yield "flow + 0 = ?" if driven else "flow = ?", (wanted.flow,)
        driven = True
    if wanted.queue == DEFAULT_QUEUE:
        # Most jobs: no index would help.
        yield "queue IS NULL", ()
    elif wanted.queue is not None:
        yield "queue || '' = ?" if driven else "queue = ?", (wanted.queue,)
        driven = True
    if wanted.status is not None:
        yield "status || '' = ?" if driven else "status = ?", (wanted.status,)
        driven = True
    if wanted.owner is not None:
        yield f"+{sql.OWNED}" if driven else sql.OWNED, (wanted.owner,)
    # An index on names would cost each submit 4 us; a search among two million jobs takes 0.3 s.
    if wanted.name is not None:
        yield "name = ?", (wanted.name,)
    if wanted.worker is not None:
        yield _ON_WORKER, (wanted.worker,)
    if wanted.search is not None:
        # bytes.lower changes ASCII letters only.
        text = wanted.search.encode().lower().decode()
        yield _NAMED_LIKE, (f"%{text.translate(_SPECIAL)}%",)


def events(wanted: EventFilter, first_run: RunId | None, job: JobId | None, span: Row, limit: int) -> tuple[str, Row]:
    """The events that match with a number in the span, in order: the statement and its parameters.

    `first_run`: of the wanted job. `job`: of the wanted run. Runs that were made together have one event without a job.
    """
    conditions: list[Condition] = [("event_id BETWEEN ? AND ?", span)]
    if wanted.job is not None:
        made = " OR job_id IS NULL AND run_first <= ? AND run_last >= ?" if first_run is not None else ""
        conditions.append((f"(job_id = ?{made})", (wanted.job, *((first_run, first_run) if made else ()))))
    if wanted.run is not None:
        conditions.append(("run_first <= ? AND run_last >= ?", (wanted.run, wanted.run)))
        if job is not None:
            conditions.append(("(job_id IS NULL OR job_id = ?)", (job,)))
    if wanted.worker is not None:
        conditions.append(("worker_id = ?", (wanted.worker,)))
    if wanted.kind is not None:
        conditions.append(("became = ?", (wanted.kind,)))
    joined = " AND ".join(text for text, _ in conditions)
    statement = f"SELECT {sql.EVENT_COLUMNS} FROM events WHERE {joined} ORDER BY event_id LIMIT ?"  # noqa: S608
    return statement, (*(value for _, values in conditions for value in values), limit)
