"""Bounds of schedulers that share a database on PostgreSQL, and of the take-over by a standby."""

from __future__ import annotations

# How often a standby tries to take over, and looks which scheduler is active.
STANDBY_POLL_S = 1.0

# How often a scheduler publishes itself in the session that holds its lock. PostgreSQL ends a session that was idle for
# longer than LOCK_IDLE_MS, and with it the lock of a scheduler that stands still.
LOCK_PING_S = 2.0
LOCK_IDLE_MS = 6_000

# How long a scheduler stays active while it can't read whether it still is. By then another one may have taken over,
# and callers of this one must learn that they can ask another.
UNCONFIRMED_MS = LOCK_IDLE_MS

# A statement in that session that takes longer fails, and so does a connect. Without an answer for LOCK_ANSWER_MS, as
# from a server that hangs, the session is lost.
LOCK_STATEMENT_MS = 3_000
LOCK_ANSWER_MS = 5_000
LOCK_CONNECT_S = 3

# A scheduler that has published itself as much later than another one counts as living, and the other one does not.
INSTANCE_LIVE_MS = 10_000

# A scheduler that has not published itself for as long is no longer listed.
INSTANCE_MS_MAX = 3_600_000

# How long a caller of a standby should wait until it tries again.
STANDBY_RETRY_S = 1
