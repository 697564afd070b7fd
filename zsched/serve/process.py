"""A scheduler's life: it leads, or it stands by until it can lead, until a signal comes.

On SQLite a scheduler leads from its start to its end. On PostgreSQL one of several leads, and the others stand by: they
answer reads, and take over when the active one ends or falls silent. A scheduler that another one has replaced stands
by in its turn.
"""

from __future__ import annotations

import logging
import os
import secrets
import select
import signal
from contextlib import ExitStack, closing
from typing import Final

from msgspec.structs import replace

from zsched.api.context import CallerPolicy, Context, Facts
from zsched.api.forwarded import Proxies
from zsched.api.http.listeners import LocalSocket
from zsched.api.refusals import Refusals
from zsched.config.settings import SchedulerConfig
from zsched.host import resources
from zsched.host.logs import Outage
from zsched.host.notify import Notify
from zsched.maintenance import backup, displacement
from zsched.maintenance.displacement import FileWatch
from zsched.maintenance.keycheck import demand_key
from zsched.model.limits import STANDBY_POLL_S
from zsched.model.records import Role
from zsched.model.types import Now
from zsched.scheduler.inbox import Inbox, StandbyError
from zsched.scheduler.live import Live
from zsched.scheduler.loop import clock
from zsched.scheduler.shares import Shares, shares, warn_of_few_files
from zsched.security.keys import own_pair
from zsched.security.vault import Vault
from zsched.serve.active import READY_S, Active
from zsched.serve.parts import Parts, bind_rest, instance, recreate_files, trust_of, warn_of_trust
from zsched.store.choice import database
from zsched.store.contract import (
    StoreCorrupt,
    StoreError,
    StoreForeign,
    StoreLocked,
    StoreLoose,
    StoreMisplaced,
    StoreMoved,
    StoreNewer,
    StoreUnsupported,
)
from zsched.store.database import Database, Hold, Tenure

log = logging.getLogger(__name__)

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

# What standing by for a while does not cure.
_FINAL: Final = (
    *(StoreCorrupt, StoreForeign, StoreLocked, StoreLoose, StoreMisplaced, StoreMoved, StoreNewer),
    StoreUnsupported,
)


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
    with db.hold() as hold, ExitStack() as stack:
        vault = Vault(hold.folder / backup.SECRET)
        tenure = _try_to_lead(db, hold, vault)
        if tenure is not None:
            stack.callback(tenure.close)
        if config.insecure:
            log.warning(
                "INSECURE: whoever reaches http://%s:%d may run anything as this user", config.host, config.port
            )
        parts = _make_parts(config, db, hold, notify, connections, vault)
        local = stack.enter_context(closing(LocalSocket(hold.folder, required=parts.policy.trust.local == "socket")))
        Process(parts, local).run(tenure)
    log.info("ended cleanly")


def _make_parts(
    config: SchedulerConfig, db: Database, hold: Hold, notify: Notify, connections: Shares, vault: Vault
) -> Parts:
    return Parts(
        config=config,
        db=db,
        hold=hold,
        notify=notify,
        connections=connections,
        vault=vault,
        pair=own_pair(hold.folder / backup.CURVE) if config.worker_security == "curve" else None,
        inbox=Inbox(config.threads),
        live=Live(connections.waiters),
        policy=CallerPolicy(trust_of(config), Proxies(config.trusted_proxies), Refusals()),
    )


def _try_to_lead(db: Database, hold: Hold, vault: Vault) -> Tenure | None:
    """The right to write, or None while another scheduler has it. Raises StoreError, PrivateFileError."""
    tenure = hold.lead(clock().wall_ms)
    if tenure is not None and db.shared:
        try:
            demand_key(tenure.store.reads, vault)
        except BaseException:
            tenure.close()
            raise
    return tenure


class Process:
    """REST, which is up in both roles, and the change of roles."""

    def __init__(self, parts: Parts, local: LocalSocket) -> None:
        """Bind REST. Raises ListenError."""
        self._parts = parts
        self._local = local
        self._shared = Context(parts.inbox, parts.db.open_reader, _UNBORN, parts.live, parts.policy, parts.vault.seal)
        self._shared.folder = parts.hold.folder
        self._rest = bind_rest(parts, self._shared, local)
        parts.live.on_waiting = self._rest.keep_threads_free
        self._own = instance(parts, secrets.token_hex(8), self._rest.port, clock().wall_ms)
        self._active: Active | None = None
        self._stopping = self._started = False
        # When a standby last reached the database, on the steady clock.
        self._polled_ms = 0

    def run(self, tenure: Tenure | None) -> None:
        """Lead with this tenure, or stand by; until a signal comes. Raises as the function `run`."""
        # A handler may interrupt any code, so it only sets marks.
        for number in _SIGNALS:
            signal.signal(number, lambda *_: self._stop())
        try:
            while not self._stopping:
                if tenure is None:
                    tenure = self._stand_by()
                else:
                    leading, tenure = tenure, None
                    self._lead(leading)
        finally:
            if tenure is not None:
                tenure.close()
            self._end()

    def _stop(self) -> None:
        self._stopping = True
        if self._active is not None:
            self._active.loop.stop()
        self._parts.inbox.wake()

    def _become(self, facts: Facts, where: str) -> None:
        """Publish the role, and serve REST from the first role on."""
        self._shared.facts = facts
        self._parts.hold.publish(facts.own)
        first, self._started = not self._started, True
        if first:
            self._rest.start()
        log.info("%s; database %s", where, self._parts.db.name)
        if first:
            warn_of_trust(self._parts.policy.trust)
        self._parts.notify.ready(where)

    def _after_turn(self, watch: FileWatch, now: Now) -> None:
        """What is done again and again in both roles."""
        self._rest.check()
        watch.look(now.mono_ms)
        self._parts.notify.alive(now.mono_ms)
        self._parts.policy.refusals.flush(now.mono_ms)

    def _recreate_files(self) -> list[str]:
        return recreate_files(self._parts, self._local, self._rest)

    # --- active ---

    def _lead(self, tenure: Tenure) -> None:
        """Lead until a signal comes or another scheduler takes over. Raises as `run`."""
        parts = self._parts
        watch = FileWatch(tenure.store.verify, self._recreate_files)
        try:
            with closing(tenure), displacement.rescued(tenure.engine, clock, parts.notify.alive), ExitStack() as stack:
                self._active = active = Active(parts, tenure, lambda now: self._after_turn(watch, now), stack)
                if self._stopping:
                    active.loop.stop()
                parts.inbox.open()
                where = f"listening on http://{parts.config.host}:{self._rest.port}, workers on {active.port.where}"
                self._become(active.facts(self._own), where)
                self._turn(active, tenure)
        except StoreError as error:
            if not self._survives(error):
                raise
            log.error("%s: %s", "can't take over" if self._active is None else "no longer active", error)
        finally:
            self._active = None

    def _turn(self, active: Active, tenure: Tenure) -> None:
        """Run the loop until a signal comes, answer the callers that have asked, and end. Raises as `run`."""
        try:
            active.loop.run(self._close_door)
            tenure.store.verify()
            active.end()
            # A standby takes over while this process ends.
            tenure.release()
        except StoreMisplaced:
            self._close_door()
            self._parts.inbox.refuse()
            raise
        except StoreError as error:
            if self._survives(error):
                self._parts.inbox.refuse(StandbyError)
            raise
        finally:
            if self._stopping or not self._parts.db.shared:
                self._end()

    def _survives(self, error: StoreError) -> bool:
        """Whether this process stands by after an error, instead of ending."""
        return self._parts.db.shared and not isinstance(error, _FINAL) and not self._stopping

    # --- standby ---

    def _stand_by(self) -> Tenure | None:
        """Answer reads until this scheduler can lead. None: a signal has come. Raises StoreError, PrivateFileError."""
        parts = self._parts
        outage = Outage(log, "this standby can't reach the database", "this standby reaches the database again")
        watch = FileWatch(lambda: None, self._recreate_files)
        parts.inbox.refuse(StandbyError)
        self._become(self._standby_facts(""), f"standing by on http://{parts.config.host}:{self._rest.port}")
        # Not at once: what has just ended a tenure, or kept it from beginning, may last.
        waited = False
        while not self._stopping:
            now = clock()
            try:
                tenure = _try_to_lead(parts.db, parts.hold, parts.vault) if waited else None
                if tenure is not None:
                    return tenure
                self._look_around()
                self._polled_ms = now.mono_ms
                outage.worked(now.mono_ms)
            except _FINAL:
                raise
            except StoreError as error:
                outage.failed(error, now.mono_ms)
            self._after_turn(watch, now)
            parts.live.wake_all()
            select.select([parts.inbox.descriptor], [], [], STANDBY_POLL_S)
            waited = True
            parts.inbox.refuse(StandbyError)
        return None

    def _look_around(self) -> None:
        """Find the active scheduler, and check that this one could take over. Raises StoreError, PrivateFileError."""
        reader = self._shared.reader
        demand_key(reader, self._parts.vault)
        active = [other for other in reader.instances() if other.role is Role.ACTIVE]
        latest = max(active, key=lambda other: other.seen_ms, default=None)
        self._shared.facts = self._standby_facts("" if latest is None else latest.url)

    def _standby_facts(self, active: str) -> Facts:
        """`active`: URL of the active scheduler, empty if unknown."""
        return Facts(
            db="",
            zmq_host="",
            zmq_port=0,
            ready=lambda: clock().mono_ms - self._polled_ms < READY_S * 1_000,
            own=replace(self._own, role=Role.STANDBY),
            active=active,
        )

    # --- the end ---

    def _close_door(self) -> None:
        self._parts.notify.stopping("answering who has asked, and ending")
        self._rest.close_door()
        self._parts.live.close()

    def _end(self) -> None:
        """End REST. Another signal has nothing to add, and must not cut it short."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if self._started:
            self._started = False
            self._rest.stop()


# The facts until the first role is known. REST does not serve yet.
_UNBORN: Final = Facts(db="", zmq_host="", zmq_port=0, ready=lambda: False)
