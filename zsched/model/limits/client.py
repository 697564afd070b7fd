"""Bounds of the client and of the commands."""

from __future__ import annotations

from zsched.model.limits.sizes import KIB, MIB

# A host name with several addresses: the next one is tried when those before have not answered for this long (RFC 8305,
# section 5).
CONNECT_STAGGER_S = 0.25

# A TLS handshake that takes longer has failed: a plain HTTP server waits there for the end of a request line.
TLS_HANDSHAKE_S = 5.0

# One answer to a call that does not ask to wait. After that the call has failed.
CALL_S_MAX = 30.0

# Schedulers in one list, of a client or a worker. More is wrong usage.
SCHEDULERS_MAX = 16

# The limits of one try at a scheduler when the list has others. Each counts from the last byte of the connection.
#
# A new connection: a server that has not accepted it by then may be stopped, or its host is gone. TCP sends a lost
# SYN again after 1 s. Then the call goes to the next scheduler.
TRY_CONNECT_S_MAX = 3.0

# A call without an answer: after this silence the scheduler is asked for a sign of life (GET /healthz) over another
# connection, and from then on at each further gap. So an answer may take as long as the call allows.
TRY_SILENT_S_MAX = 2.0
TRY_SILENT_GAP_S = 5.0

# A sign of life. If it takes longer, the scheduler counts as hung: the call goes to the next one.
TRY_ALIVE_S_MAX = 3.0

# A hung scheduler is tried again after this, or when no other one answers. Otherwise each round would wait for it.
HUNG_S = 5.0

# Bytes and JSON values of one request of a submit, below the scheduler's bounds (JOBS_BODY_BYTES_MAX, BODY_VALUES_MAX).
# More jobs are several requests.
SUBMIT_BYTES_MAX = 8 * MIB
SUBMIT_VALUES_MAX = 600_000

# Spans of job numbers in one request, so that its body stays below 1 MiB. The jobs of further spans are waited for
# afterwards.
SPANS_PER_CALL_MAX = 30_000

# A wait for more jobs than this pauses between two looks, because each may bring only some that have ended.
WAIT_UNPAUSED_JOBS_MAX = 16

# A file with a token, in bytes. A longer one is refused.
TOKEN_FILE_BYTES_MAX = 4 * KIB

# From the start of a private cluster's processes until all answer: on a slow host importing alone takes 1 to 2 s. Then
# all are ended.
READY_S_MAX = 30.0

# --- Commands ---------------------------------------------------------------------------------------------------------

# With more jobs than this, `wait` prints only the failed ones and the sums, and `cancel` only the sums.
JOBS_SHOWN_MAX = 20

# Ranges of tasks that one command may name. Each is a call of its own. More is wrong usage.
SELECTED_TASKS_MAX = 1_000

# Tasks of an array that `show` lists, unless the caller asks for more.
TASKS_SHOWN = 20

# The failed jobs or tasks that `wait` prints then. A line says how to list the others.
FAILED_SHOWN_MAX = 100

# Pieces of output, of some 256 KiB each, that wait for a slow reader. No more are asked for until it has read one.
WATCHED_PIECES_MAX = 8

# A control sequence of a terminal, in characters. A longer one is printed as text.
CONTROL_CHARS_MAX = 4_096

# How long the jobs of `demo` may take; all of them need some 2 s. Then it fails.
DEMO_S_MAX = 60.0

# How long `up` waits for its processes to stop: a worker's own time for its jobs, TERM and KILL after it, and some
# more. Then they are killed.
UP_STOP_S_MAX = 60.0
