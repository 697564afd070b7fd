"""The agent's way to its scheduler: it enrols, connects, and moves to another scheduler of the list.

Used by main.py, which carries the frames. search.py decides which scheduler to ask; this module asks it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

import zmq

from zsched.host import clock
from zsched.host.clock import mono_ms
from zsched.model.limits import ENROL_S, SILENT_PARTS
from zsched.worker.agent.agent import Agent
from zsched.worker.agent.connection import Connection
from zsched.worker.agent.credentials import Credentials
from zsched.worker.agent.enrol import EnrolError, EnrolRefusedError, NameTakenError, StandbyError, Target
from zsched.worker.agent.search import Search
from zsched.worker.messages import Hello

# Without a session, a connection is closed after a silence of half the scheduler's timeout, or of this long while that
# is unknown. TCP would go on for a quarter of an hour, in the end with one attempt every 2 min.
_DEAD_MS: Final = 15_000

# Of a scheduler of a list. Without an access file its REST has accepted this worker before.
_NO_PORT: Final = "its worker port does not answer, or does not accept this worker's key"

# By name: of the agent's process, as main.py.
log = logging.getLogger("zsched.worker.agent.main")


class Route:
    """The connection in use, and while its scheduler is silent, one to a scheduler that may have taken over."""

    def __init__(
        self, hello: Hello, agent: Agent, credentials: Credentials, poller: zmq.Poller, flush: Callable[[], None]
    ) -> None:
        """`flush` sends what the agent has for its guard; it is called before an enrolment, which blocks."""
        self._worker = hello.worker
        self._agent = agent
        self._credentials = credentials
        self._poller = poller
        self._flush = flush
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._search = Search(len(credentials.schedulers), hello.incarnation, mono_ms())
        self.connection: Connection | None = None
        self._candidate: Connection | None = None
        # Why each scheduler failed in this round, by its address; and whether the log says that all do.
        self._failures: dict[str, str] = {}
        self._unreachable = False
        # With a single scheduler: the log says that its worker port does not answer.
        self._unanswered = False

    def close(self) -> None:
        self._drop_candidate()
        if self.connection is not None:
            self._close(self.connection)
        self._context.term()

    def on_turn(self, now_ms: int) -> int | None:
        """Ask a scheduler if one is due; that blocks for some seconds at most. Returns when to call again, or None."""
        agent, search = self._agent, self._search
        silent_at_ms = agent.silent_at_ms
        silent = silent_at_ms is not None and now_ms >= silent_at_ms
        before = search.left
        if not search.seeks(now_ms, registered=agent.registered, silent=silent):
            self._drop_candidate()
            return None if silent else silent_at_ms
        if before is None and search.left is not None:
            silent_one = self._credentials.schedulers[search.left]
            log.warning("worker %s: %s does not answer; asking the other schedulers", self._worker, silent_one)
        if now_ms >= search.at_ms:
            self._ask(now_ms)
        return search.at_ms

    def on_events(self, ready: Mapping[object, int]) -> None:
        """Connections may be established, cut or refused. `ready`: what the poller returned."""
        if self.connection is not None and self.connection.monitor in ready:
            self._on_connection(self.connection)
        if self._candidate is not None and self._candidate.monitor in ready:
            self._on_candidate(self._candidate)

    # --- enrolment ---------------------------------------------------------------------------------------------------

    def _ask(self, now_ms: int) -> None:
        """Enrol at the next scheduler, and connect to it unless already connected."""
        search = self._search
        joining = self._candidate or self.connection
        if search.joining and self._several and not (joining is not None and joining.received):
            self._on_failed(EnrolError(_NO_PORT))
            if now_ms < search.at_ms:
                return
        self._agent.on_seek()
        self._flush()
        index = search.index
        try:
            target = self._credentials.target(index, self._enrol_timeout_s())
        except EnrolError as error:
            self._on_failed(error)
            return
        if self.connection is not None:
            # It may have changed during the enrolment.
            self._on_changes(self.connection)
        search.on_enrolled(index, mono_ms())
        if self._agent.registered:
            self._candidate = self._open(target)
        else:
            self._connect(target)

    def _enrol_timeout_s(self) -> float:
        """An enrolment blocks the agent, and a session that is silent may still go on."""
        timeout_ms = self._agent.timeout_ms
        if timeout_ms is None or not self._agent.registered:
            return ENROL_S
        return min(ENROL_S, timeout_ms / SILENT_PARTS / 1000)

    def _on_failed(self, error: EnrolError) -> None:
        """The scheduler that was asked last does not take this worker now."""
        search, now_ms = self._search, mono_ms()
        self._drop_candidate()
        if self._agent.timeout_ms is not None:
            search.fit(self._agent.timeout_ms)
        address = self._credentials.schedulers[search.index]
        self._failures[address] = str(error) if address in str(error) or not self._several else f"{address}: {error}"
        match error:
            case EnrolRefusedError():
                if error.everywhere or search.on_refused(now_ms):
                    self._agent.on_refused(str(error))
                    return
            case StandbyError():
                search.on_failed(now_ms, self._credentials.index(error.active))
            case NameTakenError():
                search.on_name_taken(now_ms)
            case _:
                search.on_failed(now_ms)
        if search.at_ms > now_ms:
            if not self._unreachable and not self._agent.registered:
                self._unreachable = True
                log.warning("worker %s: %s; retrying", self._worker, "; ".join(self._failures.values()))
            self._failures.clear()

    @property
    def _several(self) -> bool:
        return len(self._credentials.schedulers) > 1

    # --- connections -------------------------------------------------------------------------------------------------

    def _on_changes(self, connection: Connection) -> bool:
        """Returns whether the connection was cut, and is not established again."""
        now, cut = clock.now(), False
        for established in connection.changes():
            cut = not established
            if established:
                self._unanswered = False
                self._on_reached(connection)
                self._search.on_connected(connection.index)
                self._agent.on_connected(now)
            else:
                self._agent.on_disconnected(now)
        return cut

    def _on_reached(self, connection: Connection) -> None:
        """The scheduler's worker port takes this worker. An enrolment alone does not show that."""
        if self._unreachable:
            address = self._credentials.schedulers[connection.index]
            log.info("worker %s: the scheduler %s is reached", self._worker, address)
        self._failures.clear()
        self._unreachable = False

    def _on_connection(self, connection: Connection) -> None:
        lost = self._on_changes(connection) or connection.refused
        if lost and self._several and self._search.joining and self._candidate is None:
            self._on_failed(EnrolError(_NO_PORT))

    def _on_candidate(self, candidate: Connection) -> None:
        """Move to the candidate when it is established: a standby has no worker port, so it is the active scheduler."""
        if any(candidate.changes()):
            now = clock.now()
            log.info("worker %s: moving to %s", self._worker, candidate.target.endpoint)
            self._agent.on_disconnected(now, "another scheduler has taken over")
            if self.connection is not None:
                self._close(self.connection)
            self.connection, self._candidate = candidate, None
            self._search.on_moved(candidate.index, now.mono_ms)
            self._agent.on_connected(now)
        elif candidate.refused:
            self._on_failed(EnrolError(_NO_PORT))

    def _connect(self, target: Target) -> None:
        before = self.connection.target if self.connection is not None else None
        if self.connection is not None:
            self.connection.received = False
            # After a refused or invalid handshake ZeroMQ does not try again, and does not report it.
            if self.connection.target == target and self.connection.connected and not self._dead(self.connection):
                self._on_reached(self.connection)
                return
            self._close(self.connection)
            if not (self.connection.answered or self._unanswered or self._several):
                self._unanswered = True
                why = "the scheduler is not running or unreachable from here"
                if self.connection.target.server_key:
                    why += ", or does not accept this worker's key (see `zsched access list` there)"
                endpoint = self.connection.target.endpoint
                log.warning("worker %s: no answer from %s: %s; retrying", self._worker, endpoint, why)
        quiet = self._unreachable if self._several else target == before and self._unanswered
        if not quiet:
            log.info("worker %s: connecting to %s", self._worker, target.endpoint)
        self.connection = self._open(target)

    def _dead(self, connection: Connection) -> bool:
        """Whether a connection is dead: a cut network gives no notice."""
        timeout_ms = self._agent.timeout_ms
        return mono_ms() - connection.heard_ms >= (_DEAD_MS if timeout_ms is None else timeout_ms // 2)

    def _open(self, target: Target) -> Connection:
        opened = Connection(self._context, target, self._credentials.pair, self._search.index)
        for pollable in opened.pollable:
            self._poller.register(pollable, zmq.POLLIN)
        return opened

    def _close(self, connection: Connection) -> None:
        for pollable in connection.pollable:
            self._poller.unregister(pollable)
        connection.close()

    def _drop_candidate(self) -> None:
        if self._candidate is not None:
            self._close(self._candidate)
            self._candidate = None
