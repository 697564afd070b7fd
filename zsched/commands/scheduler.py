"""zsched-scheduler: keep jobs in a database and hand their runs to workers.

Usage:
  zsched-scheduler [options]

The scheduler answers REST on --port and on the Unix socket api.sock in the folder beside the database, and workers on
--zmq-port. It keeps everything in the SQLite database --db. It can be killed at any moment: what it has acknowledged is
on the disk, and after a restart running jobs go on. SIGINT or SIGTERM end it cleanly; jobs go on then too.

Options:
  --db=FILE                  The SQLite database (scheduler.db).
  --host=HOST                Address that REST listens on (0.0.0.0).
  --port=PORT                Port that REST listens on; 0 takes any free one (8080).
  --zmq-host=HOST            Address that workers connect to by ZeroMQ, 0.0.0.0 for all; when empty loopback, and all
                             once a worker of another host has a key.
  --zmq-port=PORT            Port that workers connect to by ZeroMQ; 0 takes any free one (5555).
  --zmq-advertise=HOST       Host that workers connect to; when empty the one that they called.
  --worker-security=WORD     curve: workers need a key. none: they need none, on loopback only (curve).
  --local-trust=WORD         Programs on this host that need no token: uid (own user, root, --local-uids), socket (these
                             by the Unix socket only), any, none (uid; in a user namespace that lacks users: socket).
  --local-uids=UIDS          Numbers of other users on this host that need no token: 1000,1001.
  --admin-token-file=FILE    A file (0600) with a token that may do all, stored at each start.
  --trusted-proxies=NETS     Proxies with a trusted X-Forwarded-For, for events and the log: 127.0.0.1.
  --insecure=WORD            yes: every caller may do everything without a token (no).
  --worker-timeout=DURATION  A worker silent for longer is lost, and its runs start again elsewhere; at least 1s (30s).
  --pending-max=COUNT        Runs that may be pending; a submit beyond it gets 429 (2000000).
  --threads=COUNT            Requests answered at the same time (16).
  --log-level=LEVEL          DEBUG, INFO, WARN or ERROR (INFO).
  --config=FILE              An INI file with the same settings, in its section [scheduler].
  -h, --help                 Show this.
  --version                  Show the version.

One dash does as well as two: -port 8080. Durations: 500ms, 3s, 1m30s, 2h, 1d.
Every option is also a line in an INI file (worker_timeout = 3s) and a variable (ZSCHED_SCHEDULER_WORKER_TIMEOUT=3s).
A flag wins over a variable, a variable over --config, that over $XDG_CONFIG_HOME/zsched/*.ini and /etc/zsched/*.ini.

Exit codes: 0 ended cleanly; 2 wrong usage or setting; 70 a sync to disk failed, or an error in zsched itself; 71 a port
can't be used; 74 the database is damaged, is a backup, or was deleted, replaced or overwritten, or its disk is full; 75
another scheduler has the database; 78 the database is of a newer release or of another program, or it or a key is
another user's, or others can read it.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Final

import zmq

from zsched import __version__
from zsched.api.app import make_app
from zsched.api.context import Context, Facts
from zsched.api.forwarded import Proxies
from zsched.api.gate import Trust
from zsched.api.http.crowd import ConnectionLimiter
from zsched.api.http.listeners import DEFAULT_PORT, ListenError, LocalSocket
from zsched.api.http.server import Server, ServerError
from zsched.api.refusals import Refusals
from zsched.commands import options
from zsched.config.config import SchedulerConfig, scheduler_config
from zsched.host import logs
from zsched.host.files import PrivateFileError, read_private
from zsched.host.notify import Notify
from zsched.maintenance import backup
from zsched.model.limits import FILE_CHECK_MS, JUMP_MS
from zsched.model.types import Now, Scope, Token
from zsched.scheduler.dispatcher import Dispatcher
from zsched.scheduler.inbox import Inbox
from zsched.scheduler.live import Live
from zsched.scheduler.loop import Loop, clock
from zsched.scheduler.port import Port
from zsched.scheduler.shares import Shares, shares, warn_of_few_files
from zsched.security import peer, tokens
from zsched.security.keys import Pair, keep_pair, own_pair
from zsched.security.vault import Vault
from zsched.store.contract import (
    StoreCorrupt,
    StoreError,
    StoreForeign,
    StoreFull,
    StoreLocked,
    StoreLoose,
    StoreMisplaced,
    StoreNewer,
    StoreUnsure,
)
from zsched.store.sqlite.engine import SqliteEngine, open_engine, open_reader
from zsched.store.sqlite.lock import Lock, how_to_restore
from zsched.store.writer import Writer

# By name: this module may run as __main__.
log = logging.getLogger("zsched.commands.scheduler")

# A loop that has not turned for longer is not ready: it turns at least once a second.
READY_S: Final = 3.0

# Of malloc.h; from how many bytes on a block is given back by itself, and how many of the others are kept.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
# How many heaps it has. By itself it gives most threads one of their own, up to eight for each core.
_M_ARENA_MAX: Final = -8
_LARGE_BYTES: Final = 128 * 1024
_KEPT_BYTES: Final = 1024 * 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    loaded = options.load(__doc__, sys.argv[1:] if argv is None else argv, "scheduler", scheduler_config)
    logs.start(loaded.config.log_level)
    for source in loaded.sources():
        log.info("%s", source)
    return run(loaded.config)


def run(config: SchedulerConfig) -> int:
    """Put the scheduler together and run it until it has to end; returns the exit code."""
    notify = Notify(os.environ)
    give_memory_back()
    files_max = raise_descriptor_limit()
    found = shares(files_max, config.threads)
    warn_of_few_files(files_max, found)
    try:
        with Lock(config.db) as lock:
            engine = open_engine(config.db, clock().wall_ms, lock)
            try:
                return _serve(config, Writer(engine), lock, notify, found)
            except StoreError as error:
                displaced = _displaced(engine, error)
                if displaced is None:
                    raise
                return _rescue(engine, lock.path, displaced, notify)
            finally:
                engine.close()
    except StoreError as error:
        log.critical("%s%s", error, _remedy(error, config.db))
        return _exit_code(error)
    except ListenError as error:
        log.critical("%s", error)
        return os.EX_OSERR
    except PrivateFileError as error:
        log.critical("%s", error)
        return os.EX_CONFIG
    except ServerError as error:
        log.critical("%s", error, exc_info=error)
        return os.EX_SOFTWARE


def _serve(config: SchedulerConfig, store: Writer, lock: Lock, notify: Notify, found: Shares) -> int:
    """Bind both ports, turn until a signal comes, and leave in order. `found` says how many connections each port may
    have.

    Raises ListenError, StoreError, PrivateFileError, ServerError.
    """
    if config.insecure:
        log.warning("INSECURE: whoever reaches http://%s:%d may run anything as this user", config.host, config.port)
    if config.admin_token_file is not None:
        _add_admin(store, config.admin_token_file)
    inbox = Inbox(config.threads)
    vault = Vault(lock.folder / backup.SECRET)
    pair = own_pair(lock.folder / backup.CURVE) if config.worker_security == "curve" else None
    trust = _trust(config)
    with (
        zmq.Context(io_threads=1) as context,
        closing(_bind(context, config, pair, store, found.workers)) as port,
        closing(LocalSocket(lock.folder, required=trust.local == "socket")) as local,
    ):
        epoch = begin(store, clock().wall_ms)
        dispatcher = Dispatcher(
            store,
            epoch=epoch,
            timeout_ms=config.worker_timeout_ms,
            pending_max=config.pending_max,
            keyed=pair is not None,
            new_token=lambda: secrets.token_hex(8),
            unseal=vault.open,
            now=clock(),
        )
        # Half of the threads may wait for output, so that the others go on serving.
        live = Live(waiters_max=config.threads // 2)
        refusals = Refusals()
        watch = FileWatch(store, lambda: _keep_folder(lock, vault, pair, local, rest))

        def turned(now: Now) -> None:
            """Called after each turn of the loop, at least once a second."""
            rest.check()
            watch.look(now.mono_ms)
            notify.alive(now.mono_ms)
            refusals.flush(now.mono_ms)

        loop = Loop(store, dispatcher, port, inbox, live, turned)
        facts = Facts(
            db=store.identity,
            zmq_host=config.zmq_host,
            zmq_port=port.number,
            server_key=pair.public if pair is not None else "",
            advertise=config.zmq_advertise,
            ready=lambda: time.monotonic() - loop.turned_s < READY_S,
        )
        reader, proxies = partial(open_reader, config.db), Proxies(config.trusted_proxies)
        shared = Context(inbox, reader, facts, live, trust, vault.seal, proxies, refusals, dispatcher.seen_ms)
        rest = _rest(config, shared, local, found)
        # A handler may come between any two steps of any code, so it only sets a mark.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: loop.stop())
        rest.start()
        where = f"listening on http://{config.host}:{rest.port}, workers on {port.where}"
        log.info("%s; database %s", where, config.db)
        _warn(trust)
        notify.ready(where)

        def close_door() -> None:
            notify.stopping("answering who has asked, and ending")
            rest.close_door()
            live.close()

        try:
            loop.run(close_door)
            store.verify()
        except StoreMisplaced:
            close_door()
            inbox.refuse()
            raise
        finally:
            # It is ending. Another signal has nothing to add, and must not cut it short.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            rest.stop()
        store.begin()
        dispatcher.store_seen()
        store.end_epoch(epoch, clock().wall_ms)
        store.commit()
    log.info("ended cleanly")
    return 0


def _rest(config: SchedulerConfig, shared: Context, local: LocalSocket, found: Shares) -> Server:
    """REST, bound; on the default port with the link for clients. Raises ListenError."""
    crowd = ConnectionLimiter(found.tcp, found.socket)
    rest = Server(make_app(shared), shared.inbox, config.host, config.port, config.threads, local.listener, crowd)
    if rest.port == DEFAULT_PORT:
        local.keep_link(os.environ)
    return rest


def _keep_folder(lock: Lock, vault: Vault, pair: Pair | None, local: LocalSocket, rest: Server) -> list[str]:
    """Make the files again that were removed from the database's folder; returns their names.

    Raises PrivateFileError, InsecureError, StoreLocked, OSError.
    """
    made = []
    # First, since it makes the folder.
    if lock.keep():
        made.append("lock")
    if vault.keep():
        made.append(backup.SECRET)
    if pair is not None and keep_pair(lock.folder / backup.CURVE, pair):
        made.append(backup.CURVE)
    if (listener := local.keep()) is not None:
        rest.replace_socket(listener)
        made.append(local.path.name)
    return made


class FileWatch:
    """Looks at the database's file and the folder beside it, at most once in FILE_CHECK_MS."""

    def __init__(self, store: Writer, keep_folder: Callable[[], Sequence[str]]) -> None:
        """`keep_folder` makes files again that were removed, and returns their names. Raises PrivateFileError,
        InsecureError, StoreLocked, OSError.
        """
        self._store = store
        self._keep_folder = keep_folder
        self._next_ms = 0
        # What the log has said of a failure that lasts.
        self._failure = ""

    def look(self, mono_ms: int) -> None:
        """Raises StoreMisplaced."""
        if mono_ms < self._next_ms:
            return
        self._next_ms = mono_ms + FILE_CHECK_MS
        self._store.verify()
        failure = ""
        try:
            if made := self._keep_folder():
                log.error("files were removed from the database's folder, and are written again: %s", ", ".join(made))
        except (PrivateFileError, StoreLocked, OSError) as error:
            failure = str(error)
        if failure and failure != self._failure:
            log.error("files were removed from the database's folder, and can't be written again: %s", failure)
        self._failure = failure


def _displaced(engine: SqliteEngine, error: StoreError) -> StoreMisplaced | None:
    """The error that the database's file is not ours any more, where that is what stands behind an error: what was
    copied over it may be read, and found damaged, before the file is looked at.
    """
    if isinstance(error, StoreMisplaced):
        return error
    try:
        engine.verify()
    except StoreMisplaced as found:
        return found
    except StoreError:
        pass
    return None


def _rescue(engine: SqliteEngine, db: Path, error: StoreMisplaced, notify: Notify) -> int:
    """Save what is committed of a database whose file is not ours any more; returns the exit code."""
    now = clock()
    try:
        saved, sound = backup.rescue(engine, db, now.wall_ms, lambda: notify.alive(clock().mono_ms))
    except (StoreError, OSError, PrivateFileError) as failed:
        advice = f"its WAL {db}-wal is left as it is; restore a backup: {how_to_restore(db)}"
        log.critical("%s, and no copy could be saved: %s; %s", error, failed, advice)
        return os.EX_IOERR
    advice = how_to_restore(db, saved)
    if sound:
        engine.forsake()
        log.critical("%s: all that was acknowledged is in %s; %s", error, saved, advice)
    else:
        log.critical(
            "%s: what could be saved is in %s, and is damaged; restore a backup instead, or %s", error, saved, advice
        )
    return os.EX_IOERR


def give_memory_back() -> None:
    """Have glibc return large blocks to the system when they are freed.

    By itself it keeps them from the first one on, for the next of that size, and small ones then settle in between: a
    port that strangers talk to makes the process grow. Of small ones some are kept: SQLite takes one or two of 90 KiB
    for a statement, and to get them from the system each time made a turn of one job take twice as long.
    """
    with suppress(AttributeError):  # Another C library has no such thing.
        mallopt = ctypes.CDLL(None).mallopt
        # Each thread that ever served a large body would keep megabytes in its heap.
        mallopt(_M_ARENA_MAX, 2)
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def raise_descriptor_limit() -> int:
    """Let this process open as many files and connections as the system allows it; returns that number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def begin(store: Writer, wall_ms: int) -> int:
    """Note in the store that a scheduler starts; returns its epoch."""
    store.begin()
    back_ms = store.latest_ms() - wall_ms
    if back_ms > JUMP_MS:
        # Set back while no scheduler ran: nobody saw it jump.
        log.warning("the wall clock shows %d ms less than when something last happened", back_ms)
        store.shift(-back_ms, wall_ms)
    epoch = store.begin_epoch(socket.gethostname(), os.getpid(), __version__, wall_ms)
    store.flush_counters(wall_ms)
    store.commit()
    return epoch


def _trust(config: SchedulerConfig) -> Trust:
    ambiguous = peer.ambiguous_uid()
    local = config.local_trust or ("uid" if ambiguous is None else "socket")
    return Trust(local, config.local_uids, config.insecure, ambiguous)


def _warn(trust: Trust) -> None:
    """Say which programs need no token: where they are this user's, jobs of this user are among them."""
    if trust.local != "none" and not trust.insecure:
        users = "any user" if trust.local == "any" else f"user {os.geteuid()}"
        log.warning(
            "programs of %s on this host, jobs among them, may administer it (local_trust = %s)", users, trust.local
        )


def _add_admin(store: Writer, file: Path) -> None:
    """Store the token of a file, unless it is there. Raises PrivateFileError, StoreError."""
    shown = tokens.read(read_private(file).strip())
    if shown is None:
        raise PrivateFileError(f"{file} has no token: make one with `zsched token new`")
    now_ms = clock().wall_ms
    store.begin()
    if store.access.token(shown.token_id) is None:
        store.access.add_token(
            Token(
                token_id=shown.token_id,
                digest=shown.digest,
                scopes=frozenset({Scope.ADMIN}),
                note=f"from {file.name}",
                created_ms=now_ms,
                created_by="admin_token_file",
            )
        )
        store.flush_counters(now_ms)
    store.commit()


def _bind(
    context: zmq.Context[zmq.Socket[bytes]],
    config: SchedulerConfig,
    pair: Pair | None,
    store: Writer,
    connections_max: int,
) -> Port:
    def knows(key: str) -> bool:
        try:
            found = store.access.key(key)
        except StoreError:
            return False
        return found is not None and found.revoked_ms is None

    try:
        return Port(
            context,
            config.zmq_host,
            config.zmq_port,
            pair,
            knows,
            outward=pair is not None and store.access.has_remote_key(),
            connections_max=connections_max,
        )
    except (OSError, zmq.ZMQError) as error:
        where = f"{config.zmq_host}:{config.zmq_port}" if config.zmq_host else f"port {config.zmq_port}"
        raise ListenError(f"can't listen for workers on {where} (zmq_host, zmq_port): {error}") from None


def _remedy(error: StoreError, db: Path) -> str:
    """What to do, where the error itself does not say it."""
    if isinstance(error, StoreFull):
        return f": make room on the file system of {db}, then start the scheduler again"
    return ""


def _exit_code(error: StoreError) -> int:
    """The code of sysexits.h that tells a supervisor what happened."""
    codes = {
        StoreUnsure: os.EX_SOFTWARE,
        StoreCorrupt: os.EX_IOERR,
        StoreLocked: os.EX_TEMPFAIL,
        StoreNewer: os.EX_CONFIG,
        StoreForeign: os.EX_CONFIG,
        StoreLoose: os.EX_CONFIG,
    }
    return codes.get(type(error), os.EX_IOERR)


if __name__ == "__main__":
    sys.exit(main())
