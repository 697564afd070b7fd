"""The bounds of the product, by name. Pure: numbers only, imported by every layer, imports nothing.

Each bound names its unit last and says what happens at it. A deployment's own settings live in config/; what stands
here is fixed in a release, because the wire format, the store and the documentation rely on it.
"""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB

# --- ZeroMQ -----------------------------------------------------------------------------------------------------------

# One frame from a worker. ZeroMQ itself cuts the connection of a peer that sends more (ZMQ_MAXMSGSIZE). The same bound
# holds for what a stranger sends before its handshake is over, and ZeroMQ keeps all of that in memory meanwhile.
FRAME_FROM_WORKER_BYTES_MAX = 1 * MIB

# One frame to a worker, which talks only to the scheduler whose key it has. A worker cuts the connection at more.
FRAME_TO_WORKER_BYTES_MAX = 8 * MIB

# Entries of one list, and keys of one map, in a frame. A longer one is no frame. A heartbeat that lists this many runs
# with the largest ids, all of them stuck, takes 0.9 MiB.
FRAME_LIST_MAX = 24_576
FRAME_KEYS_MAX = 1_024

# Values of one frame in all, those inside others and the keys of maps too. msgpack makes an object of each, of up to
# 100 bytes, before anything looks at it. A heartbeat with FRAME_LIST_MAX stuck runs has 148,000. More is no frame.
FRAME_VALUES_MAX = 160_000

# Results in one frame. A longer list is no frame; a worker sends the rest in further frames.
RESULTS_PER_FRAME_MAX = 2_048

# Runs that one heartbeat_ack asks to kill, or to stop. The next ack has more of them.
ACK_RUNS_MAX = 1_024

# Bytes of frames that wait for their turn, from which on no more are read.
TURN_BYTES_MAX = 8 * MIB

# What a worker says of itself in `can` and `labels`, together in UTF-8. The scheduler keeps it in memory and in the
# database for each worker. More is 400, or no frame.
WORKER_FACTS_BYTES_MAX = 4 * KIB

# Runs that a worker executes at the same time. More is 400, or no frame.
SLOTS_MAX = 4_096

# Live sessions (one a worker) of one scheduler. A further register is refused; workers already there go on.
SESSIONS_MAX = 16_384

# A handshake on the workers' port that takes longer is given up by ZeroMQ.
HANDSHAKE_MS = 2_000

# Connections to the workers' port from which no frame has been read yet: most are in their handshake. Each can hold
# FRAME_FROM_WORKER_BYTES_MAX. Beyond it one of them is cut, of the address that has most of them.
UNHEARD_CONNECTIONS_MAX = 100

# Connections to the workers' port in all, unless the limit of open files allows fewer. Beyond it an unheard one is cut,
# and when all have been heard, the newest.
WORKER_CONNECTIONS_MAX = 20_000

# Connections of one worker's key: the one in use, and those that it replaced and that the network has not ended yet.
# Beyond it the oldest is cut.
CONNECTIONS_PER_KEY_MAX = 3

# New connections of one worker's key: this many at once, then one in each gap. Others are refused in the handshake.
KEY_HANDSHAKES_MAX = 8
KEY_HANDSHAKE_GAP_MS = 500

# Bytes that ZeroMQ has read from a connection to the workers' port since the loop last read a frame of it. ZeroMQ keeps
# the parts of a message until it is whole, however many they are. A worker sends one part, so UNREAD_FRAMES_MAX frames
# and one more that is unfinished are all that can wait. Beyond the bound the connection is cut.
UNREAD_BYTES_MAX = 8 * MIB

# Bytes of frames that wait for one worker: sent by the loop, and not taken by the kernel of its host. Beyond it nothing
# is sent, and the runs in it go elsewhere.
UNSENT_TO_WORKER_BYTES_MAX = 32 * MIB

# How often the bytes of connections are looked at. With thousands of connections it is less often, so that this takes
# a twentieth of one core at most.
TRAFFIC_LOOK_MS = 100

# Frames that wait for one worker's connection. Beyond it a send fails with EAGAIN, and the runs in it go elsewhere.
FRAMES_QUEUED_MAX = 1_000

# Questions of ZeroMQ whether a key may connect (ZAP) that are answered between two turns. The others wait for the next.
ZAP_REQUESTS_MAX = 100

# Peers and codes whose last error frame is remembered, so that errors are throttled. At the bound all are forgotten.
ERRORS_REMEMBERED_MAX = 4_096

# The detail of an error frame, in characters. A longer one is cut.
ERROR_DETAIL_CHARS_MAX = 1_000

# The longest gap between a worker's calls that fail, unless the scheduler's timeout asks for shorter ones.
CALL_GAP_MS_MAX = 15_000

# Frames of one connection that ZeroMQ has received and the loop has not read. Beyond it TCP makes the peer wait.
UNREAD_FRAMES_MAX = 8

# Open files kept for REST: its CONNECTIONS_MAX and SOCKET_CONNECTIONS_MAX, the database in each of its threads, which
# are WAITERS_MAX more when that many callers wait, and the rest. Connections of workers leave this many free, as far as
# the limit of open files (RLIMIT_NOFILE) is above it. With a lower limit all of them have smaller shares (shares.py).
FILES_RESERVED = 1_575

# --- The log ----------------------------------------------------------------------------------------------------------

# Runs that one line of the log names. Of more it names the first.
RUNS_NAMED_MAX = 10

# Log lines that wait until stderr takes them, in bytes. Further ones are lost, and the log says how many.
LOG_LINES_BYTES_MAX = 1 * MIB

# How long a program that ends waits until its last log lines are written. What is left then is lost.
LOG_FLUSH_S = 1.0

# --- REST -------------------------------------------------------------------------------------------------------------

# The body of a request, where nothing below says more. A longer one is 413, unread.
BODY_BYTES_MAX = 1 * MIB

# The body of POST /jobs, which may carry an array. A longer one is 413, unread.
JOBS_BODY_BYTES_MAX = 16 * MIB

# The body of POST /jobs/{id}/log. Within it the output is cut to head and tail, never refused; a longer one is 413.
LOG_BODY_BYTES_MAX = 16 * MIB

# Values in one JSON body, counted before any is built: commas, colons and opening brackets outside of strings, and one.
# So members' names count too, and an empty array or object counts twice. More is 413.
BODY_VALUES_MAX = 700_000

# Bodies up to this size are read at once. Larger ones share BODIES_BYTES_MAX until their requests have been served;
# one that is larger than that takes it alone. A quarter of the threads may wait for their turn; the next gets 503.
SMALL_BODY_BYTES_MAX = 64 * KIB
BODIES_BYTES_MAX = 4 * MIB

# Bodies that wait for this, in bytes. The next one gets 503. So waiting and running ones leave room among
# UNFINISHED_BYTES_MAX for those that come in.
WAITING_BODIES_BYTES_MAX = 16 * MIB

# Chunks of one body, besides one for each KiB that they bring. Each costs the server's only reading thread 2 us, so
# bodies of tiny chunks would keep all others waiting. More is 400, at once. Ordinary clients send chunks of 4 KiB or
# more.
CHUNKS_MAX = 256

# Jobs in one POST /jobs: one transaction, one turn. More is 413.
JOBS_PER_SUBMIT_MAX = 10_000

# Rows of one page of a list. A larger `limit` is cut to the maximum.
PAGE_ROWS_MAX = 1_000
PAGE_ROWS_DEFAULT = 100

# Bytes of one page of a list, as JSON. It ends before the row that would pass this, and its Link names the next page.
# A single row may be longer: a job with 96 KiB of command and 64 KiB of variables takes six times that at worst.
PAGE_BYTES_MAX = 8 * MIB

# Pages of more than 256 KiB made at the same time. A few more wait for their turn; the others are 503 with Retry-After.
LARGE_PAGES_MAX = 2

# Output of each stream shown inside a job or a run. The middle is left out, with a marker that says where the rest is.
LOGS_BYTES_SHOWN = 64 * KIB

# --- Jobs -------------------------------------------------------------------------------------------------------------

# A command line, in UTF-8. More is 400. Linux takes 128 KiB for one argument of exec; the rest is for our wrapper.
COMMAND_BYTES_MAX = 96 * KIB

# What a job's own variables take, names and values in UTF-8, the secret ones included; and how many there may be of
# each kind. More is 400.
ENV_BYTES_MAX = 64 * KIB
ENV_NAMES_MAX = 256
SECRETS_MAX = 32

# A secret value has so many bytes at least, in UTF-8: a shorter one would be found all over a job's output. Less is
# 400.
SECRET_BYTES_MIN = 8

# Lines of a job's secrets that are taken out of its output each on its own, besides the whole values. Of more the
# longest count: each costs a search through the output (6 us for 64 KiB, 1.2 ms at worst).
SECRET_LINES_MAX = 128

# An owner of jobs, in characters, as a list is asked for. More is 400.
OWNER_CHARS_MAX = 300

# A job's name, in characters. More is 400.
NAME_CHARS_MAX = 256

# A schedule, in characters. More is 400.
SCHEDULE_CHARS_MAX = 256

# Output kept of each stream of a run. Beyond it the first half and the last half are kept, and the rest is counted.
OUTPUT_BYTES_MAX = 256 * KIB

# Pending runs in the store, unless a deployment sets less. A submit beyond it is 429 with Retry-After; the successor
# of a lost run is never refused.
PENDING_RUNS_MAX = 2_000_000

# What a submit with an Idempotency-Key stored is known for so long, by the wall clock. After that the key is a new one.
IDEMPOTENCY_MS = 7 * 86_400_000

# An Idempotency-Key, in characters. More is 400.
IDEMPOTENCY_KEY_CHARS_MAX = 255

# --- The turn ---------------------------------------------------------------------------------------------------------

# Frames drained in one turn. At the bound the rest waits for the next turn, and no worker is judged silent in this one.
TURN_FRAMES_MAX = 1_000

# Commands taken from the inbox in one turn. The rest waits for the next turn.
TURN_COMMANDS_MAX = 1_000

# Entries in the lists of the frames that wait for their turn (results, runs held or returned), from which on no more
# are read. Most entries cost a statement, whether or not they change a row.
TURN_ENTRIES_MAX = 10_000

# Rows changed in one turn before it takes in no more work. A single command is never split by it.
TURN_ROWS_MAX = 20_000

# Running runs of workers that one turn reads before it takes in no more work. A heartbeat of a worker reads all runs
# that the worker holds, and so do a register and a bye. 3 us a run.
TURN_HELD_MAX = 20_000

# Runs claimed by one statement. 64: 2.4 us a run against 53 us one by one.
CLAIM_RUNS_MAX = 64

# The same for runs that bring more than a command: as many as fit one frame, each with its command and its variables.
CLAIM_LARGE_RUNS_MAX = 32

# Bytes of the runs that one turn hands out, from which on it claims no more. The next turn comes at once.
CLAIM_BYTES_MAX = 8 * MIB

# Due jobs fired, or workers judged, in one turn before the rest waits for the next.
TICK_JOBS_MAX = 1_000

# Expired keys of submits that one turn drops: no fewer than a turn can bring, so that they never become more. They are
# looked for so often, and in each turn while there are more.
FORGET_KEYS_MAX = 1_000
FORGET_INTERVAL_MS = 60_000

# Jobs whose secrets are sealed anew in one transaction, when secret.key is replaced. The rest is in the next ones.
RESEAL_JOBS_MAX = 1_000

# Pending runs that a restore replaces before it writes their events. It keeps these in memory until then.
RESTORE_RUNS_MAX = 5_000

# How often the scheduler looks whether the database's file is still in its place. In between it may still be deleted or
# replaced: what is acknowledged until the next look is in the copy that is saved then.
FILE_CHECK_MS = 1_000

# How far a restore raises the ids of jobs and runs. Ids that were given out after the backup are not used again, unless
# there were more than these.
RESTORE_IDS_GAP = 1_000_000

# --- Liveness and loss ------------------------------------------------------------------------------------------------

# How long a suspect run must have lived on a worker until it is trusted beside others.
PROBATION_MS = 1_000

# Crashes after which a run fails for good: this often a worker was lost while it ran.
CRASH_LIMIT_DEFAULT = 5
CRASH_LIMIT_MAX = 1_000

# Retries of a task that failed. More is 400.
RETRIES_MAX = 10_000

# What a job may say of its retries' pauses, its timeout and its grace. More is 400.
BACKOFF_MS_MAX = 30 * 86_400_000
BACKOFF_FACTOR_MAX = 100
GRACE_MS_MAX = 3_600_000

# When more than half of at least so many workers fall silent together, the scheduler waits: see Sessions.
MASS_WORKERS_MIN = 4

# When a worker was last heard is stored with a turn that writes anyway, once in SEEN_MS_MIN, and otherwise once in
# SEEN_MS_MAX. After a crash of the scheduler `last_seen` of a worker that does not come back may be so much too old.
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

# How much of a turn that failed counts as waiting for the store, and not as standing still: SQLite waits 5 s for a
# database that is locked. More is forgiven to workers like any other stall.
STORE_WAIT_MS_MAX = 6_000

# Other workers that claim the name of a connected one, and are remembered. With more, all are judged from their next
# register on.
RIVALS_MAX = 16

# After two turns running that gave workers up could not be stored, nobody is judged for so long: other turns may be
# small enough for what is left of the disk.
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
# --- A worker's own processes -----------------------------------------------------------------------------------------

# A guard that has said nothing for so long and is stopped by a signal is woken by its agent.
GUARD_STOPPED_MS = 5_000

# A guard is woken this often, each time within GUARD_WAKES_MS of the time before. The next time it is killed.
GUARD_WAKES_MAX = 2
GUARD_WAKES_MS = 60_000

# Agents in a row that a signal stopped within AGENT_WELL_MS of their start. At the last one the guard kills all its
# jobs and ends.
AGENT_STOPS_MAX = 3
AGENT_WELL_MS = 60_000

# --- Output while it is written ---------------------------------------------------------------------------------------

# One log frame. What a run writes faster than these come is left out; it is in the result, or counted there.
LOG_BYTES_MAX = 64 * KIB

# A watched run's new output is looked at this often.
LOG_INTERVAL_MS = 25

# How long a worker sends log frames of a run after somebody looked at it.
WATCH_MS = 15_000

# Runs whose output the scheduler holds while they run, for whoever looks. The one looked at longest ago makes room.
WATCHED_RUNS_MAX = 64

# The longest that a caller may wait in one request for new output, or for a job's end.
WAIT_MS_MAX = 20_000

# Callers that wait at the same time; at the bound further ones are answered at once. Each has a thread of its own while
# it waits, beside those that serve short calls. A low limit of open files allows fewer (shares.py).
WAITERS_MAX = 64

# Of a turn that changes more jobs than this, a caller that waits for many jobs is woken unasked.
WAKE_JOBS_MAX = 64

# --- Access -----------------------------------------------------------------------------------------------------------

# Bad tokens that one address may show within this time before it is told 429; good ones are served all the same.
ATTEMPTS_MAX = 10
ATTEMPTS_WINDOW_S = 60

# The characters of an X-Request-Id that is taken over; a longer one is replaced by a random id.
REQUEST_ID_CHARS_MAX = 64

# What is read of X-Forwarded-For or Forwarded, from its right end. What stands further left is not read.
FORWARDED_CHARS_MAX = 1024

# A token's note, and how long it may be good. More is 400.
NOTE_CHARS_MAX = 200
TOKEN_LIFE_MS_MAX = 10 * 365 * 86_400_000

# How long a token is good unless its maker says otherwise.
TOKEN_LIFE_MS_DEFAULT = 90 * 86_400_000

# The last use of a token is written at most this often, so it may be late by that much.
TOKEN_USED_MS = 5 * 60_000

# Jobs and recurring jobs that a token may be bounded to. Each submit by such a token counts its jobs up to the bound:
# 100,000 take 4 ms. More is 400.
TOKEN_PENDING_MAX = 100_000
TOKEN_SCHEDULES_MAX = 10_000

# Names, or patterns of names, of workers that a token may be bound to. More is 400.
TOKEN_WORKERS_MAX = 64

# --- Many jobs by one call --------------------------------------------------------------------------------------------

# Jobs that one turn looks at for a call on many jobs, and as many to end those of a revoked token. The next turns look
# at the rest. 500 cancels take 30 to 60 ms.
BULK_JOBS_MAX = 500

# How long one POST /jobs/bulk goes on. An answer after that time has `next`, from where the caller continues.
BULK_MS_MAX = 20_000

# Jobs that one call may name by their numbers. A call that waits holds one byte for each of them. More is 413.
SELECTED_JOBS_MAX = 1_000_000

# Spans of job numbers (`1-5000,7001` has two) in one list of an answer. A longer list is cut; its count is not.
SPANS_SHOWN_MAX = 10_000

# Events that one look of a waiting call reads. The next look, or the next call, reads the rest.
WAIT_EVENTS_MAX = 10_000

# --- Waiting ----------------------------------------------------------------------------------------------------------

# How long a REST caller waits for the turn that does its command. After that it is told 503; the command may still be
# done.
COMMAND_WAIT_S = 30.0

# How long a turn that has commands waits for requests that have come in and will post theirs in a moment, so that one
# sync to disk serves all. Mostly it is over much earlier, when the last of them has posted.
GATHER_S = 0.01

# After a turn that the store refused, the next one comes no sooner than this, or with the next frame or command.
STORE_PAUSE_S = 0.1

# --- Connections of REST ----------------------------------------------------------------------------------------------

# Open connections over TCP, unless the limit of open files allows fewer. At the bound one that waits makes room for a
# newcomer; none that is in work is cut off.
CONNECTIONS_MAX = 1_000

# The same on the Unix socket, where CONNECTIONS_MAX does not count.
SOCKET_CONNECTIONS_MAX = 256

# Connections that the kernel holds until they are accepted, on each listening socket. Further ones wait or are refused.
BACKLOG_MAX = 1_024

# Connections accepted in one round of the poll over TCP, and as many by the Unix socket, so that open ones get their
# turn.
ACCEPTED_MAX = 64

# A connection on which nothing has been asked for this long is closed.
IDLE_CONNECTION_S = 60

# From a request's first byte to its last, however steadily they come. One that takes longer is cut off.
REQUEST_S = 60

# From a request's last byte to the moment when its answer has been taken. One that takes longer is cut off.
ANSWER_S = 180

# Bytes of requests until they have been served, of all connections together. They are kept in memory. Beyond it a
# request loses its body and is answered 503: of the address that holds most, the request that costs most, in bytes
# times seconds. Those that threads serve count, and are never refused.
UNFINISHED_BYTES_MAX = 48 * MIB

# Bytes of answers that have not been sent, of all connections together. They are kept in memory. Beyond it a connection
# is cut off: of the address that owes most, the one that has cost most, in bytes times seconds.
UNSENT_BYTES_MAX = 64 * MIB

# The head of a request. A longer one is 431.
HEADER_BYTES_MAX = 32 * KIB

# --- Calling REST -----------------------------------------------------------------------------------------------------

# A host name with several addresses: the next one is tried when those before have not answered for this long (RFC 8305,
# section 5).
CONNECT_STAGGER_S = 0.25

# A TLS handshake that takes longer has failed: a plain HTTP server waits there for the end of a request line.
TLS_HANDSHAKE_S = 5.0
