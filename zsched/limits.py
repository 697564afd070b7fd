"""The bounds of the product, by name. Pure: numbers only, imported by every layer, imports nothing.

Each bound names its unit last and says what happens at it. A deployment's own settings live in config.py; what stands
here is fixed in a release, because the wire format, the store and the documentation rely on it.
"""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB

# --- ZeroMQ -----------------------------------------------------------------------------------------------------------

# One frame on a ROUTER or DEALER socket. ZeroMQ itself cuts the connection of a peer that sends more (ZMQ_MAXMSGSIZE).
FRAME_BYTES_MAX = 8 * MIB

# Live sessions (one a worker) of one scheduler. A further register is refused; workers already there go on.
SESSIONS_MAX = 16_384

# --- REST -------------------------------------------------------------------------------------------------------------

# The body of a request, where nothing below says more. A longer one is 413, unread.
BODY_BYTES_MAX = 1 * MIB

# The body of POST /jobs, which may carry an array. A longer one is 413, unread.
JOBS_BODY_BYTES_MAX = 16 * MIB

# The body of POST /jobs/{id}/log. Within it the output is cut to head and tail, never refused; a longer one is 413.
LOG_BODY_BYTES_MAX = 16 * MIB

# Jobs in one POST /jobs: one transaction, one turn. More is 413.
JOBS_PER_SUBMIT_MAX = 10_000

# Rows of one page of a list. A larger `limit` is cut to the maximum, and Link names the next page.
PAGE_ROWS_MAX = 1_000
PAGE_ROWS_DEFAULT = 100

# Output of each stream shown inside a job or a run. The middle is left out, with a marker that says where the rest is.
LOGS_BYTES_SHOWN = 64 * KIB

# --- Jobs -------------------------------------------------------------------------------------------------------------

# A command line, in UTF-8. More is 400. Linux takes 128 KiB for one argument of exec; the rest is for our wrapper.
COMMAND_BYTES_MAX = 96 * KIB

# A job's name, in characters. More is 400.
NAME_CHARS_MAX = 256

# Output kept of each stream of a run. Beyond it the first half and the last half are kept, and the rest is counted.
OUTPUT_BYTES_MAX = 256 * KIB

# Pending runs in the store. A submit beyond it is 503 with Retry-After; reruns of lost runs are never refused.
PENDING_RUNS_MAX = 2_000_000

# --- The turn ---------------------------------------------------------------------------------------------------------

# Frames drained in one turn. At the bound the rest waits for the next turn, and no worker is judged silent in this one.
TURN_FRAMES_MAX = 1_000

# Commands taken from the inbox in one turn. The rest waits for the next turn.
TURN_COMMANDS_MAX = 1_000

# Rows changed in one turn before it takes in no more work. A single command is never split by it.
TURN_ROWS_MAX = 20_000
