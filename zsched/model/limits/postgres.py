"""Bounds of the sessions with a PostgreSQL server."""

from __future__ import annotations

# Seconds to connect to each host of the URL, and of silence after which the kernel asks whether the host is there. Four
# times as long without an answer, the session is lost. A take-over may have to wait for a lost session, and then for a
# host that does not answer before it reaches the next one: together that must stay well below 15 s.
PG_CONNECT_S = 3
PG_KEEPALIVE_S = 1

# How long a statement may run, and how long it may wait for a lock, until the server cancels it. A COMMIT has no bound.
PG_STATEMENT_MS = 60_000
PG_LOCK_MS = 5_000

# How long a turn may pause between two statements, until the server ends its session and undoes it.
PG_IDLE_MS = 5_000

# How long the answer to a statement may take. Then the session is lost: the server would have cancelled the statement.
PG_ANSWER_MS = PG_STATEMENT_MS + 10_000

# Turns that wait at the end of each frame, after one had to be given up because a frame had broken a constraint.
PG_CAREFUL_TURNS = 1_000

# How long new sessions try to find out whether the COMMIT of a lost one was done, and the pause between two tries. Then
# it is unknown. Meanwhile callers wait, up to all threads of REST.
PG_RESOLVE_MS = 10_000
PG_RESOLVE_PAUSE_MS = 500

# Rows of a list that a reader fetches at once: a job has up to 160 KiB.
PG_FETCH_ROWS = 64
