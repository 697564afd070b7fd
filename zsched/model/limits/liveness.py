"""Bounds of silence, crashes and loss, and of a misbehaving worker."""

from __future__ import annotations

# How long a suspect run must have lived on a worker until it is trusted together with others.
PROBATION_MS = 1_000

# How many suspects a worker may have on probation at once after a first death, if no more died together. A poison job
# costs one more worker for each fourfold, so with 64 it costs three beyond its first and its crash limit.
PROBATION_RUNS_MIN = 64

# A run that had lived for this long when its worker died is not blamed if a younger run was there; see losses.py.
ESTABLISHED_MS = 60_000

# Crashes after which a run fails for good: this often a worker was lost while it ran.
CRASH_LIMIT_DEFAULT = 5
CRASH_LIMIT_MAX = 1_000

# Retries of a task that failed. More is 400.
RETRIES_MAX = 10_000

# What a job may say of its retries' pauses, its timeout and its grace. More is 400.
BACKOFF_MS_MAX = 30 * 86_400_000
BACKOFF_FACTOR_MAX = 100
GRACE_MS_MAX = 3_600_000

# When more than half of at least this many workers fall silent together, the scheduler waits: see Sessions.
MASS_WORKERS_MIN = 4

# When a worker was last heard is stored with a turn that writes anyway, once in SEEN_MS_MIN, and otherwise once in
# SEEN_MS_MAX. After a crash of the scheduler `last_seen` of a worker that does not come back may be too old by as much.
SEEN_MS_MIN = 10_000
SEEN_MS_MAX = 300_000

# A worker that holds runs with a lease is given up later than others by this, or by a thirtieth of the lease.
LEASE_MARGIN_MS = 1_000

# A run whose worker crashed again waits this long, doubled with each further crash, up to the maximum.
CRASH_DELAY_MS = 1_000
CRASH_DELAY_MS_MAX = 60_000

# From TERM to KILL, where the job doesn't say.
GRACE_MS_DEFAULT = 10_000

# A loop that stood still for longer gives no verdict on silence: every worker gets the gap on top.
STALL_MS = 1_000

# The loop looks at its sockets at least this often, so that a loop that stood still can tell.
TICK_MS_MAX = 1_000

# How much of a failed turn counts as waiting for the store, and not as a stall of the loop: SQLite waits 5 s for a
# locked database. The rest does not count against workers, like any other stall.
STORE_WAIT_MS_MAX = 6_000

# Other workers that claim the name of a connected one, and are remembered. With more, all are judged from their next
# register on.
RIVALS_MAX = 16

# After two turns in a row that gave workers up could not be stored, no worker is judged for this long: other turns may
# be small enough for the rest of the disk.
VERDICT_PAUSE_MS = 1_000

# The wall clock was set when it is so much off its distance to the steady one: then what waits for a span of time goes
# on waiting for that span. Less is the slow work of NTP.
JUMP_MS = 1_000

# Unfinished runs that a worker may hold, whatever it asks for. More is cut to this. Below FRAME_LIST_MAX, so that a
# list of all that a worker holds has room for finished runs whose results are not acked yet. A worker whose key bounds
# its slots may hold WINDOW_PER_SLOT_MAX for each of them, which is as much as our own worker asks for.
WINDOW_MAX = 4_096
WINDOW_PER_SLOT_MAX = 64

# Accepted registers of one worker's name: this many at once, then one in each gap. Others are answered E_BUSY.
REGISTERS_MAX = 20
REGISTER_GAP_MS = 500

# Frames with stale results of one worker: this many at once, then one in each gap. Each leaves an event. The stale
# results of others are not acked, so the worker sends them again later.
STALE_FRAMES_MAX = 32
STALE_FRAME_GAP_MS = 1_000

# Runs that one worker may return unstarted before it gets a pause without new runs. The pause doubles each time up to
# the maximum, and is short again after the worker returned little for as long as the maximum.
RETURNS_MAX = 1_024
RETURNS_PAUSE_MS = 1_000
RETURNS_PAUSE_MS_MAX = 60_000

# How far in the future a worker's clock may be. A time beyond is cut to this.
CLOCK_AHEAD_MS_MAX = 86_400_000

# An error frame to the same peer comes at most this often; what it sends meanwhile is dropped in silence.
ERROR_INTERVAL_MS = 1_000

# A log line about what a peer can cause again and again comes at most this often, and says how often it was.
LINE_INTERVAL_MS = 1_000

# What a worker says of other databases than the scheduler's: how many databases, and of all together how many results
# and how many discarded runs it lists by number, so that a register fits its frame. Results beyond are counted alone,
# and their own scheduler runs those tasks again when it comes back.
FOREIGN_DATABASES_MAX = 16
FOREIGN_LISTED_MAX = 4_096

# Running foreign runs that are kept by number in the database for each worker, for people. More are counted alone.
FOREIGN_NAMED_MAX = 100

# How long a worker keeps results of another database on its disk. Older ones are removed with a line in its log.
FOREIGN_RESULTS_S = 7 * 86_400

# The longest gap between a worker's calls that fail, unless the scheduler's timeout asks for shorter ones.
CALL_GAP_MS_MAX = 15_000

# How long a retry that is due waits for another worker than the one on which its task has failed, while there is one
# that fits it. Then any worker gets it.
AVOID_MS = 10_000
