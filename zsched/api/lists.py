"""GET /jobs: pages of the jobs that match a filter."""

from __future__ import annotations

import re
from typing import Final

import falcon

from zsched.api import views
from zsched.api.body import OWNER
from zsched.api.context import Context, number, parameters, since_ms, text
from zsched.api.gate import Principal
from zsched.api.pages import address, answer_page
from zsched.api.problem import invalid
from zsched.api.search import Search
from zsched.model.limits import (
    INTEGER_MAX,
    NAME_CHARS_MAX,
    OWNER_CHARS_MAX,
    PAGE_ROWS_DEFAULT,
    PAGE_ROWS_MAX,
    QUEUE_CHARS_MAX,
    TAG_CHARS_MAX,
    WORKER_CHARS_MAX,
)
from zsched.model.types import JobId, RunStatus, WorkerId
from zsched.store.contract import JobFilter

# Filters that one index serves, also together; and those for which a search may have to look at other jobs, too.
FILTERS: Final = ("status", "owner")
SEARCHED: Final = ("name", "tag", "worker", "search", "since", "queue")


def answer_jobs(context: Context, req: falcon.Request, resp: falcon.Response) -> None:
    """Answer with a page of jobs, newest first, or of some by their numbers. Raises a 400 or 503 Problem."""
    given = parameters(req, *FILTERS, *SEARCHED, "limit", "offset", "before", "first", "last")
    limit = number(given, "limit", PAGE_ROWS_DEFAULT, 1, PAGE_ROWS_MAX)
    if "first" in given or "last" in given:
        _range(context, resp, given, limit)
        return
    wanted = _wanted(req, given)
    before = JobId(number(given, "before", 0, 1, INTEGER_MAX)) if "before" in given else None
    if not given.keys().isdisjoint(SEARCHED):
        if "offset" in given:
            raise invalid("offset", f"not together with {', '.join(SEARCHED)}: follow the Link")
        _search(context, resp, given, wanted, before)
        return
    offset = number(given, "offset", 0, 0, INTEGER_MAX)
    found = context.reader.jobs(wanted.status, limit + 1, offset, before, wanted.owner)
    page = context.pages.fill(found, views.job, limit)
    # By id unless the caller uses an offset, which moves when jobs are added or change their status.
    following = page.rows + offset if "offset" in given or page.last is None else page.last.job_id
    name = "offset" if "offset" in given else "before"
    answer_page(resp, page, address("/jobs", given, **{name: following}))


def _search(
    context: Context, resp: falcon.Response, given: dict[str, str], wanted: JobFilter, before: JobId | None
) -> None:
    limit = number(given, "limit", PAGE_ROWS_DEFAULT, 1, PAGE_ROWS_MAX)
    reader, at_ms = context.reader, since_ms(given)
    newest = reader.last_job()
    search = Search(
        lambda low, high: reader.search_jobs(wanted, JobId(low), JobId(high), limit + 1),
        1 if at_ms is None else reader.job_since(at_ms),
        newest if before is None else min(newest, before - 1),
        newest_first=True,
    )
    page = context.pages.fill(search.rows(), views.job, limit)
    following = page.last.job_id if page.more and page.last is not None else search.left[1] + 1
    answer_page(resp, search.finish(page), address("/jobs", given, before=following))


def _range(context: Context, resp: falcon.Response, given: dict[str, str], limit: int) -> None:
    """Jobs by their ids, oldest first, as in the answer of their submit."""
    for name in (*FILTERS, *SEARCHED, "offset", "before"):
        if name in given:
            raise invalid(name, "not together with first and last")
    first = JobId(number(given, "first", 1, 1, INTEGER_MAX))
    last = JobId(number(given, "last", INTEGER_MAX, 1, INTEGER_MAX))
    page = context.pages.fill(context.reader.jobs_between(first, last, limit + 1), views.job, limit)
    answer_page(resp, page, address("/jobs", given, first=page.last.job_id + 1) if page.last else "")


def _wanted(req: falcon.Request, given: dict[str, str]) -> JobFilter:
    """The filter of a list. Raises a 400 Problem."""
    worker = text(given, "worker", WORKER_CHARS_MAX)
    return JobFilter(
        status=status_of(given["status"]) if "status" in given else None,
        owner=_owner(req, given["owner"]) if "owner" in given else None,
        name=text(given, "name", NAME_CHARS_MAX),
        tag=text(given, "tag", TAG_CHARS_MAX),
        worker=None if worker is None else WorkerId(worker),
        search=text(given, "search", NAME_CHARS_MAX),
        queue=text(given, "queue", QUEUE_CHARS_MAX),
    )


def status_of(word: str) -> RunStatus:
    """A status in a parameter. Raises a 400 Problem."""
    try:
        return RunStatus(word)
    except ValueError:
        raise invalid("status", f"one of {', '.join(RunStatus)}") from None


def _owner(req: falcon.Request, given: str) -> str:
    """The owner in a parameter; `me` is the caller. Raises a 400 Problem."""
    if len(given) > OWNER_CHARS_MAX or re.match(OWNER, given) is None:
        raise invalid("owner", "me, user:NAME or token:NAME")
    principal: Principal = req.context.principal
    return principal.owner if given == "me" else given
