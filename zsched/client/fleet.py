"""The calls of the Python client about flows, workers and queues."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal
from urllib.parse import quote

from zsched.client.arguments import check
from zsched.client.http import Answer, ClientError, NotFound, View
from zsched.client.lists import query
from zsched.model.limits import PAGE_ROWS_MAX
from zsched.model.names import QUEUE_NAME, QUEUE_RULE


class Fleet(ABC):
    """Part of Client."""

    @abstractmethod
    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        patience_s: float = 0.0,
        hold_s: float = 0.0,
        key: str | None = None,
    ) -> Answer:
        """One request; see Client."""

    @abstractmethod
    def rows(self, path: str, patience_s: float = 0.0) -> Iterator[View]:
        """The rows of a list; see Client."""

    def flow(self, flow: int) -> View:
        """A flow as REST shows it: its status, and the numbers of its jobs. Raises NotFound."""
        check("flow", flow, int)
        try:
            view: View = self.ask("GET", f"/flows/{flow}").json()
        except NotFound as error:
            raise NotFound(error.status, error.code, f"unknown flow {flow}") from None
        return view

    def workers(self) -> list[View]:
        """All workers that ever registered, as REST shows them."""
        return list(self.rows("/workers"))

    def foreign(self) -> list[View]:
        """The foreign runs of workers, as REST shows them."""
        return list(self.rows("/foreign"))

    def stats(self) -> View:
        """Counts of tasks and workers by status."""
        return dict(self.ask("GET", "/stats").json())

    def usage(self, by: str = "owner", since: str | None = None) -> list[View]:
        """What ended runs have used, by `owner`, since the day of a time (RFC 3339, or a duration ago)."""
        check("by", by, str)
        check("since", since, str | None)
        return list(self.rows(f"/usage?limit={PAGE_ROWS_MAX}{query(by=by, since=since)}"))

    def queues(self) -> list[View]:
        """The queues that are paused or fair, or have pending or running tasks, as REST shows them."""
        return list(self.rows("/queues"))

    def pause_queue(self, name: str, reason: str = "") -> View:
        """Hand out no more runs of a queue; those that workers have go on. Returns the queue."""
        return self._change_queue(name, "pause", reason)

    def resume_queue(self, name: str, reason: str = "") -> View:
        """End the pause of a queue. Returns the queue."""
        return self._change_queue(name, "resume", reason)

    def share_queue(self, name: str, fair: Literal["owner"] | None) -> View:
        """Share a queue between the owners of its jobs, or by age alone (None), for jobs that are submitted from now
        on. Returns the queue.
        """
        view: View = self.ask("PATCH", _path(name), {"fair": fair}).json()
        return view

    def _change_queue(self, name: str, action: str, reason: str) -> View:
        check("reason", reason, str)
        view: View = self.ask("POST", f"{_path(name)}/{action}", {"reason": reason}).json()
        return view


def _path(queue: str) -> str:
    """The path of a queue. Raises ClientError for an invalid name, which a path may not carry."""
    check("name", queue, str)
    if QUEUE_NAME.fullmatch(queue) is None:
        raise ClientError(f"invalid queue {queue!r}: use {QUEUE_RULE}")
    return f"/queues/{quote(queue, safe='')}"
