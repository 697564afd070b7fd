"""Bounds of a worker's own processes."""

from __future__ import annotations

from zsched.model.limits.sizes import KIB, MIB
from zsched.model.limits.wire import FRAME_FROM_WORKER_BYTES_MAX, FRAME_TO_WORKER_BYTES_MAX

# A guard that has been silent for this long and is stopped by a signal is woken by its agent.
GUARD_STOPPED_MS = 5_000

# A guard is woken this often, each time within GUARD_WAKES_MS of the time before. The next time it is killed.
GUARD_WAKES_MAX = 2
GUARD_WAKES_MS = 60_000

# Agents in a row that a signal stopped within AGENT_WELL_MS of their start. At the last one the guard kills all its
# jobs and ends.
AGENT_STOPS_MAX = 3
AGENT_WELL_MS = 60_000

# --- The agent --------------------------------------------------------------------------------------------------------

# The longest silence of the agent towards its guard: a third of the scheduler's timeout, at most this. Then the guard
# ends the agent.
AGENT_SILENT_MS_MAX = 10_000

# The same while the agent looks for the scheduler, because the resolver of names may block.
AGENT_SEEKING_MS_MAX = 60_000

# What the scheduler's host does not confirm within this cuts the connection. Otherwise TCP tries again only after
# a pause as long as the gap was.
UNACKED_MS_MAX = 5_000

# How long a new connection may take. Then it is tried again.
CONNECT_MS_MAX = 2_000

# The longest pause between two tries to connect.
RECONNECT_MS_MAX = 1_000

# The longest pause between two attempts to register or to report, unless the scheduler's timeout asks for a shorter.
ATTEMPT_GAP_MS_MAX = 15_000

# A scheduler counts as silent when a heartbeat is unanswered for this part of the worker's timeout. Then the worker
# asks the other schedulers of its list, and keeps its session until one takes it.
SILENT_PARTS = 6

# An enrolment waits for the connection, and for each part of the answer, this long. With a session that is silent it
# waits for the time until that counts as silent at most, so that the session can go on.
ENROL_S = 3.0

# The longest pause between two rounds through a list of schedulers that take no worker.
ROUND_GAP_MS_MAX = 4_000

# Frames that one turn of the agent reads. The rest waits until the guard was heard.
AGENT_TURN_FRAMES_MAX = 100

# Results of one frame, in bytes, by an estimate that is never too low. The rest goes into further frames. A longer
# frame would end the connection; the difference is for the frame's other fields.
RESULTS_BYTES_MAX = FRAME_FROM_WORKER_BYTES_MAX - 1 * KIB

# --- The guard --------------------------------------------------------------------------------------------------------

# Events that one turn of the guard takes in. The rest waits for the next turn.
GUARD_EVENTS_MAX = 64

# The longest wait of the guard: epoll can't wait for more than 2^31 - 1 ms. A later deadline is looked at again then.
GUARD_POLL_MS_MAX = 3_600_000

# The same while a lease runs: the wait of epoll does not count the time while the host is suspended, the lease does.
LEASE_POLL_MS_MAX = 100

# How long a run may wait at the worker for a free slot. Then it goes back to the scheduler, unstarted.
BACKLOG_WAIT_MS_MAX = 1_000

# Output kept of each of the two streams of a run, whatever its order asks for, so that a result always fits a frame.
STREAM_BYTES_MAX = FRAME_FROM_WORKER_BYTES_MAX // 2 - 64 * KIB

# Timers of ended runs that stay in the heap, beyond four for each live run. Then the heap is built again without them.
STALE_TIMERS_MAX = 1_000

# One record of a journal: more than any result takes. A greater length counts as damage.
RECORD_BYTES_MAX = 2 * FRAME_TO_WORKER_BYTES_MAX

# How long a sweep waits for the processes that an earlier start left. The kernel may not be able to end them, on
# a broken disk for example; then the worker starts without waiting longer.
SWEEP_S_MAX = 10.0

# --- Scratch folders --------------------------------------------------------------------------------------------------

# How long the helper process looks for the artifacts of a run. What it has found by then is kept.
COLLECT_S_MAX = 10

# How long the guard waits for the helper, which may hang. Then the run ends without artifacts.
COLLECT_MS_MAX = 15_000

# Entries of folders that the helper looks at. Then it takes what it has found.
COLLECT_ENTRIES_MAX = 100_000

# What the guard reads from the helper: the artifacts, and what is known of each. More counts as damage.
COLLECTED_BYTES_MAX = 2 * MIB

# How long the helper removes a scratch folder. The rest is removed at the worker's next start.
REMOVE_S_MAX = 600

# Helpers at the same time. A run that would need one more goes back to the scheduler, unstarted.
HELPERS_MAX = 64
