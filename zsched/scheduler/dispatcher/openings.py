"""The workers that have room, in one pass of placement, and how they are looked through for a demand."""

from __future__ import annotations

from collections.abc import Iterable

from zsched.model.demand import Demand, kind, label, lacks
from zsched.model.requirements import HOST_LABEL, WORKER_LABEL, Pairs
from zsched.model.types import Worker
from zsched.scheduler.dispatcher.session import Session


class Openings:
    """The workers that have room, in one pass. Looking for those that a demand fits costs little per demand: by their
    labels, and by one worker of each kind. There may be thousands of both.
    """

    def __init__(self, sessions: Iterable[Session]) -> None:
        self._sessions = {session.name: session for session in sessions}
        # By label, made when a demand first asks for one; and by the labels of a demand, one worker of each kind.
        self._by_label: dict[tuple[str, str], list[Session]] | None = None
        self._kinds: dict[Pairs, list[Worker]] = {}

    def __bool__(self) -> bool:
        return bool(self._sessions)

    def close(self, session: Session) -> None:
        """A worker has no room any more."""
        self._sessions.pop(session.name, None)

    def with_labels(self, labels: Pairs) -> list[Session]:
        """The open workers that have these labels."""
        if not labels:
            return [*self._sessions.values()]
        if self._by_label is None:
            self._by_label = self._list_labels()
        rarest = min((self._by_label.get(pair, []) for pair in labels), key=len)
        return [
            session
            for session in rarest
            if session.name in self._sessions and all(label(session.worker, name) == value for name, value in labels)
        ]

    def _list_labels(self) -> dict[tuple[str, str], list[Session]]:
        found: dict[tuple[str, str], list[Session]] = {}
        for session in self._sessions.values():
            worker = session.worker
            for pair in {**worker.labels, HOST_LABEL: worker.host, WORKER_LABEL: worker.worker_id}.items():
                found.setdefault(pair, []).append(session)
        return found

    def take(self, demand: Demand) -> bool:
        """Whether some worker takes runs of the demand. Workers that were closed meanwhile count, too."""
        labels = demand.requires.labels
        if labels not in self._kinds:
            self._kinds[labels] = [*{kind(each.worker): each.worker for each in self.with_labels(labels)}.values()]
        return any(not lacks(demand, worker) for worker in self._kinds[labels])
