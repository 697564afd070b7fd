"""What a scheduler has in either role, active or standby, and the functions that make it."""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass
from functools import partial

import zmq

from zsched import __version__
from zsched.api.app import make_app
from zsched.api.context import CallerPolicy, Context
from zsched.api.gate import Trust
from zsched.api.http.crowd import ConnectionLimiter
from zsched.api.http.listeners import DEFAULT_PORT, ListenError, LocalSocket, listen
from zsched.api.http.server import Server
from zsched.config.settings import SchedulerConfig
from zsched.host.notify import Notify
from zsched.maintenance import backup
from zsched.model.records import Instance, Role
from zsched.scheduler.inbox import Inbox
from zsched.scheduler.live import Live
from zsched.scheduler.port import Keys, Port, is_admitted
from zsched.scheduler.shares import Shares
from zsched.security import peer
from zsched.security.keys import Pair, keep_pair
from zsched.security.vault import Vault
from zsched.store.database import Database, Hold
from zsched.store.writer import Writer

log = logging.getLogger(__name__)

_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104  (compared, not bound)


@dataclass(frozen=True, slots=True)
class Parts:
    """What lasts as long as the process. `pair` is None where workers need no key."""

    config: SchedulerConfig
    db: Database
    hold: Hold
    notify: Notify
    connections: Shares
    vault: Vault
    pair: Pair | None
    inbox: Inbox
    live: Live
    policy: CallerPolicy


def bind_port(context: zmq.Context[zmq.Socket[bytes]], parts: Parts, store: Writer) -> Port:
    """The port of workers. Raises ListenError, StoreError."""
    config, pair = parts.config, parts.pair
    try:
        return Port(
            context,
            config.zmq_host,
            config.zmq_port,
            None if pair is None else Keys(pair, partial(is_admitted, store)),
            outward=pair is not None and store.access.has_remote_key(),
            connections_max=parts.connections.workers,
        )
    except (OSError, zmq.ZMQError) as error:
        where = f"{config.zmq_host}:{config.zmq_port}" if config.zmq_host else f"port {config.zmq_port}"
        raise ListenError(f"can't listen for workers on {where} (zmq_host, zmq_port): {error}") from None


def bind_rest(parts: Parts, shared: Context, local: LocalSocket) -> Server:
    """REST, bound; on the default port with the link that clients look for. Raises ListenError."""
    config, connections = parts.config, parts.connections
    limiter = ConnectionLimiter(connections.tcp, connections.socket)
    sockets = listen(config.host, config.port)
    rest = Server(make_app(shared), shared.inbox, sockets, config.threads, local.listener, limiter)
    if rest.port == DEFAULT_PORT:
        local.keep_link(os.environ)
    return rest


def recreate_files(parts: Parts, local: LocalSocket, rest: Server) -> list[str]:
    """Create again the files that were removed from the scheduler's folder. Returns their names.

    Raises PrivateFileError, StoreLocked, OSError.
    """
    recreated = []
    # First, since it creates the folder.
    if parts.hold.keep():
        recreated.append("lock")
    if parts.vault.keep():
        recreated.append(backup.SECRET)
    if parts.pair is not None and keep_pair(parts.hold.folder / backup.CURVE, parts.pair):
        recreated.append(backup.CURVE)
    if (listener := local.keep()) is not None:
        rest.replace_socket(listener)
        recreated.append(local.path.name)
    return recreated


def instance(parts: Parts, name: str, rest_port: int, started_ms: int) -> Instance:
    """What this scheduler publishes of itself. `name`: random, of this process."""
    config, host = parts.config, socket.gethostname()
    zmq_host = config.zmq_advertise or (host if config.zmq_host in _EVERYWHERE else config.zmq_host)
    rest_host = host if config.host in _EVERYWHERE else config.host
    return Instance(
        instance=name,
        role=Role.STANDBY,
        host=host,
        pid=os.getpid(),
        version=__version__,
        url=config.advertise or f"http://{_bracketed(rest_host)}:{rest_port}",
        endpoint=f"tcp://{_bracketed(zmq_host)}:{config.zmq_port}" if config.zmq_port else "",
        public_key="" if parts.pair is None else parts.pair.public,
        started_ms=started_ms,
        seen_ms=started_ms,
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def trust_of(config: SchedulerConfig) -> Trust:
    """The callers that need no token. In a user namespace that lacks users of the host: those of the socket only."""
    ambiguous = peer.ambiguous_uid()
    local = config.local_trust or ("uid" if ambiguous is None else "socket")
    return Trust(local, config.local_uids, config.insecure, ambiguous)


def warn_of_trust(trust: Trust) -> None:
    """Log which programs need no token. Jobs of this user may be among them."""
    if trust.local != "none" and not trust.insecure:
        users = "any user" if trust.local == "any" else f"user {os.geteuid()}"
        log.warning(
            "programs of %s on this host, jobs among them, may administer it (local_trust = %s)", users, trust.local
        )
