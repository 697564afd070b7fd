"""What a turn does without anybody's asking: keys of submits expire, the times of workers are stored, and the jobs of
revoked tokens are ended.
"""

from __future__ import annotations

from zsched.model.limits import FORGET_INTERVAL_MS, FORGET_KEYS_MAX, IDEMPOTENCY_MS, SEEN_MS_MAX, SEEN_MS_MIN
from zsched.model.types import Now
from zsched.scheduler.dispatcher import owners
from zsched.scheduler.dispatcher.cancels import CancelJob
from zsched.scheduler.dispatcher.session import Sessions
from zsched.store.contract import Store


class Upkeep:
    """Remembers when each was last done. Times by the steady clock."""

    def __init__(self, store: Store, sessions: Sessions, now: Now) -> None:
        self._store = store
        self._sessions = sessions
        self._forget_at_ms = now.mono_ms
        self._seen_stored_ms = now.mono_ms
        # Whether a revoked token may have jobs that are still to be ended.
        self.ending = True

    def forget_keys(self, now: Now) -> None:
        """Drop the keys of submits that have expired, some in each turn; rarely, once there are no more."""
        if now.mono_ms < self._forget_at_ms:
            return
        forgotten = self._store.idempotency.forget(now.wall_ms - IDEMPOTENCY_MS, FORGET_KEYS_MAX)
        more = forgotten == FORGET_KEYS_MAX
        self._forget_at_ms = now.mono_ms + (0 if more else FORGET_INTERVAL_MS)

    def end_token_jobs(self, cancel: CancelJob, now: Now) -> None:
        """End the next jobs of a revoked token, while there are any."""
        if self.ending:
            self.ending = owners.end_jobs(self._store, cancel, now)

    def note_seen(self, now: Now) -> None:
        """Store when workers were last heard: now and then with a turn that writes anyway, else rarely. It is for
        readers after a crash; until then they ask `Dispatcher.seen_ms`.
        """
        interval_ms = SEEN_MS_MIN if self._store.rows_changed else SEEN_MS_MAX
        if now.mono_ms - self._seen_stored_ms >= interval_ms:
            # Set also when the turn fails: these rows must not make the next turn fail as well.
            self._seen_stored_ms = now.mono_ms
            self.store_seen()

    def store_seen(self) -> None:
        """Store when each worker was last heard. Within a transaction."""
        self._store.note_seen({session.name: session.seen_ms for session in self._sessions})
