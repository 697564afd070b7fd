"""The composition root of the scheduler: it puts the parts together, runs them until a signal comes, and closes them in
reverse order. Called by commands/scheduler.py. What decides anything stands in the parts.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
from contextlib import ExitStack, closing
from functools import partial
from typing import Final

import zmq

from zsched.api.app import make_app
from zsched.api.context import CallerPolicy, Context, Facts
from zsched.api.forwarded import Proxies
from zsched.api.gate import Trust
from zsched.api.http.crowd import ConnectionLimiter
from zsched.api.http.listeners import DEFAULT_PORT, ListenError, LocalSocket, listen
from zsched.api.http.server import Server
from zsched.api.refusals import Refusals
from zsched.config.settings import SchedulerConfig
from zsched.host import resources
from zsched.host.notify import Notify
from zsched.maintenance import backup, displacement
from zsched.maintenance.displacement import FileWatch
from zsched.model.types import Now
from zsched.scheduler.dispatcher import Dispatcher, Settings
from zsched.scheduler.epoch import add_admin_token, begin_epoch, end_epoch
from zsched.scheduler.inbox import Inbox
from zsched.scheduler.live import Live
from zsched.scheduler.loop import Loop, Turns, clock
from zsched.scheduler.port import Keys, Port, is_admitted
from zsched.scheduler.shares import Shares, shares, warn_of_few_files
from zsched.security import peer
from zsched.security.keys import Pair, keep_pair, own_pair
from zsched.security.vault import Vault
from zsched.store.choice import database
from zsched.store.contract import StoreLocked, StoreMisplaced
from zsched.store.database import Database, Hold
from zsched.store.writer import Writer

log = logging.getLogger(__name__)

# /readyz fails when the last turn is older. The loop turns at least once a second.
READY_S: Final = 3.0

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def run(config: SchedulerConfig) -> None:
    """Run a scheduler until SIGINT or SIGTERM.

    Raises ListenError, StoreError, PrivateFileError, ServerError. A database whose file was displaced is saved first:
    the StoreMisplaced then says where.
    """
    notify = Notify(os.environ)
    resources.return_freed_memory()
    files_max = resources.raise_descriptor_limit()
    connections = shares(files_max, config.threads)
    warn_of_few_files(files_max, connections)
    db = database(config.db, config.folder)
    with db.hold() as hold:
        tenure = hold.lead(clock().wall_ms)
        if tenure is None:
            raise StoreLocked(f"another scheduler leads on {db.name}")
        with closing(tenure), displacement.rescued(tenure.engine, clock, notify.alive):
            _serve(config, db, hold, tenure.store, notify, connections)


def _serve(
    config: SchedulerConfig, db: Database, hold: Hold, store: Writer, notify: Notify, connections: Shares
) -> None:
    """Bind both ports, turn until a signal comes, and end in order. Raises as `run` does."""
    if config.insecure:
        log.warning("INSECURE: whoever reaches http://%s:%d may run anything as this user", config.host, config.port)
    if config.admin_token_file is not None:
        add_admin_token(store, config.admin_token_file, clock().wall_ms)
    pair = own_pair(hold.folder / backup.CURVE) if config.worker_security == "curve" else None
    vault, trust, inbox = Vault(hold.folder / backup.SECRET), _trust(config), Inbox(config.threads)
    with ExitStack() as parts:
        context = parts.enter_context(zmq.Context(io_threads=1))
        port = parts.enter_context(closing(_bind(context, config, pair, store, connections.workers)))
        local = parts.enter_context(closing(LocalSocket(hold.folder, required=trust.local == "socket")))
        epoch = begin_epoch(store, clock().wall_ms)
        settings = Settings(
            epoch=epoch,
            timeout_ms=config.worker_timeout_ms,
            pending_max=config.pending_max,
            keyed=pair is not None,
            new_token=lambda: secrets.token_hex(8),
            unseal=vault.open,
        )
        dispatcher = Dispatcher(store, settings, clock())
        live = Live(connections.waiters)
        policy = CallerPolicy(trust, Proxies(config.trusted_proxies), Refusals())
        watch = FileWatch(store, lambda: _recreate_files(hold, vault, pair, local, rest))

        def after_turn(now: Now) -> None:
            rest.check()
            watch.look(now.mono_ms)
            notify.alive(now.mono_ms)
            policy.refusals.flush(now.mono_ms)

        loop = Loop(store, dispatcher, port, inbox, live, Turns(after=after_turn))
        facts = Facts(
            db=store.identity,
            zmq_host=config.zmq_host,
            zmq_port=port.number,
            ready=lambda: clock().mono_ms - loop.turned_ms < READY_S * 1_000,
            server_key=pair.public if pair is not None else "",
            advertise=config.zmq_advertise,
            seen_ms=dispatcher.seen_ms,
        )
        shared = Context(inbox, db.open_reader, facts, live, policy, vault.seal)
        rest = _bind_rest(config, shared, local, connections)
        live.on_waiting = rest.keep_threads_free
        # A handler may interrupt any code, so it only sets a mark.
        for number in _SIGNALS:
            signal.signal(number, lambda *_: loop.stop())
        rest.start()
        where = f"listening on http://{config.host}:{rest.port}, workers on {port.where}"
        log.info("%s; database %s", where, db.name)
        _warn(trust)
        notify.ready(where)
        _turn(store, loop, rest, shared, notify)
        end_epoch(store, dispatcher, epoch, clock().wall_ms)
    log.info("ended cleanly")


def _turn(store: Writer, loop: Loop, rest: Server, shared: Context, notify: Notify) -> None:
    """Run the loop until a signal comes, answer the callers that have asked, and end REST. Raises as `run` does."""

    def close_door() -> None:
        notify.stopping("answering who has asked, and ending")
        rest.close_door()
        shared.live.close()

    try:
        loop.run(close_door)
        store.verify()
    except StoreMisplaced:
        close_door()
        shared.inbox.refuse()
        raise
    finally:
        # It is ending. Another signal has nothing to add, and must not cut it short.
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        rest.stop()


def _bind(
    context: zmq.Context[zmq.Socket[bytes]],
    config: SchedulerConfig,
    pair: Pair | None,
    store: Writer,
    connections_max: int,
) -> Port:
    """The port of workers. Raises ListenError, StoreError."""
    try:
        return Port(
            context,
            config.zmq_host,
            config.zmq_port,
            None if pair is None else Keys(pair, partial(is_admitted, store)),
            outward=pair is not None and store.access.has_remote_key(),
            connections_max=connections_max,
        )
    except (OSError, zmq.ZMQError) as error:
        where = f"{config.zmq_host}:{config.zmq_port}" if config.zmq_host else f"port {config.zmq_port}"
        raise ListenError(f"can't listen for workers on {where} (zmq_host, zmq_port): {error}") from None


def _bind_rest(config: SchedulerConfig, shared: Context, local: LocalSocket, connections: Shares) -> Server:
    """REST, bound; on the default port with the link that clients look for. Raises ListenError."""
    limiter = ConnectionLimiter(connections.tcp, connections.socket)
    sockets = listen(config.host, config.port)
    rest = Server(make_app(shared), shared.inbox, sockets, config.threads, local.listener, limiter)
    if rest.port == DEFAULT_PORT:
        local.keep_link(os.environ)
    return rest


def _recreate_files(hold: Hold, vault: Vault, pair: Pair | None, local: LocalSocket, rest: Server) -> list[str]:
    """Create again the files that were removed from the database's folder. Returns their names.

    Raises PrivateFileError, StoreLocked, OSError.
    """
    recreated = []
    # First, since it creates the folder.
    if hold.keep():
        recreated.append("lock")
    if vault.keep():
        recreated.append(backup.SECRET)
    if pair is not None and keep_pair(hold.folder / backup.CURVE, pair):
        recreated.append(backup.CURVE)
    if (listener := local.keep()) is not None:
        rest.replace_socket(listener)
        recreated.append(local.path.name)
    return recreated


def _trust(config: SchedulerConfig) -> Trust:
    """The callers that need no token. In a user namespace that lacks users of the host: those of the socket only."""
    ambiguous = peer.ambiguous_uid()
    local = config.local_trust or ("uid" if ambiguous is None else "socket")
    return Trust(local, config.local_uids, config.insecure, ambiguous)


def _warn(trust: Trust) -> None:
    """Log which programs need no token. Jobs of this user may be among them."""
    if trust.local != "none" and not trust.insecure:
        users = "any user" if trust.local == "any" else f"user {os.geteuid()}"
        log.warning(
            "programs of %s on this host, jobs among them, may administer it (local_trust = %s)", users, trust.local
        )
