"""What a scheduler has while it leads: its epoch, the workers' port, the dispatcher and the loop."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Final, Literal

import zmq
from msgspec.structs import replace

from zsched.api.context import Facts
from zsched.config.settings import SchedulerConfig
from zsched.maintenance.keycheck import store_check
from zsched.model.limits import KEEP_OTHERS_MS, KEEP_SUCCESS_MS
from zsched.model.records import Instance, Role
from zsched.model.types import Now
from zsched.scheduler.dispatcher import Dispatcher, Settings
from zsched.scheduler.dispatcher.retention import Keep
from zsched.scheduler.epoch import add_admin_token, begin_epoch, end_epoch
from zsched.scheduler.loop import Loop, Turns, clock
from zsched.serve.parts import Parts, bind_port
from zsched.store.database import Tenure

log = logging.getLogger(__name__)

# /readyz fails when the last turn is older. The loop turns at least once a second.
READY_S: Final = 3.0


def keep_of(config: SchedulerConfig, *, new: bool) -> Keep:
    """How long ended jobs are kept. `new`: the database is not one of an earlier release, where nothing is removed
    before somebody has decided that.
    """
    given = (config.keep_success_ms, config.keep_others_ms)
    if not new and None in given:
        log.warning(
            "old jobs are not removed, because this database comes from an earlier release: set keep_success and"
            " keep_others, such as 7d and 30d, or never"
        )
    usual = (KEEP_SUCCESS_MS, KEEP_OTHERS_MS) if new else (None, None)
    return Keep(*(_limit(setting, default) for setting, default in zip(given, usual, strict=True)))


def _limit(setting: int | Literal["never"] | None, default: int | None) -> int | None:
    if setting is None:
        return default
    return None if setting == "never" else setting


class Active:
    """One tenure, from the take-over on."""

    def __init__(self, parts: Parts, tenure: Tenure, after_turn: Callable[[Now], None], stack: ExitStack) -> None:
        """Take over, and bind the workers' port, which `stack` closes. Raises ListenError, StoreError,
        PrivateFileError.
        """
        config, store = parts.config, tenure.store
        self._config, self._pair, self._store = config, parts.pair, store
        # First: from here on no earlier scheduler can write.
        self._epoch = begin_epoch(store, clock().wall_ms)
        if parts.db.shared:
            store_check(store, parts.vault)
        if config.admin_token_file is not None:
            add_admin_token(store, config.admin_token_file, clock().wall_ms)
        context = stack.enter_context(zmq.Context(io_threads=1))
        self.port = stack.enter_context(closing(bind_port(context, parts, store)))
        settings = Settings(
            epoch=self._epoch,
            timeout_ms=config.worker_timeout_ms,
            pending_max=config.pending_max,
            keyed=parts.pair is not None,
            new_token=lambda: secrets.token_hex(8),
            unseal=parts.vault.open,
            keep=keep_of(config, new=store.retention.default),
        )
        self._dispatcher = Dispatcher(store, settings, clock())
        self.loop = Loop(store, self._dispatcher, self.port, parts.inbox, parts.live, Turns(after=after_turn))

    def facts(self, own: Instance) -> Facts:
        return Facts(
            db=self._store.identity,
            zmq_host=self._config.zmq_host,
            zmq_port=self.port.number,
            ready=lambda: clock().mono_ms - self.loop.turned_ms < READY_S * 1_000,
            server_key=self._pair.public if self._pair is not None else "",
            advertise=self._config.zmq_advertise,
            seen_ms=self._dispatcher.seen_ms,
            own=replace(own, role=Role.ACTIVE),
        )

    def end(self) -> None:
        """Store a clean end. Raises StoreError."""
        end_epoch(self._store, self._dispatcher, self._epoch, clock().wall_ms)
