"""Bounds of REST: bodies, jobs in one request, pages, waiting callers and connections."""

from __future__ import annotations

from zsched.model.limits.sizes import KIB, MIB

# --- REST -------------------------------------------------------------------------------------------------------------

# The body of a request, where nothing below says more. A longer one is 413, unread.
BODY_BYTES_MAX = 1 * MIB

# The body of POST /jobs, which may carry an array. A longer one is 413, unread.
JOBS_BODY_BYTES_MAX = 16 * MIB

# The body of POST /jobs/{id}/log. Within it the output is cut to head and tail, never refused; a longer one is 413.
LOG_BODY_BYTES_MAX = 16 * MIB

# The body of POST /jobs as lines of JSON (application/x-ndjson), which is read while it comes. A longer one is 413. Its
# first line, the job, in bytes: more is 413.
LINES_BODY_BYTES_MAX = 256 * MIB
JOB_LINE_BYTES_MAX = 8 * MIB

# Each further line of it, the entry of a task, in bytes: JSON may spell each byte of an entry in six. More is 413.
ENTRY_LINE_BYTES_MAX = 100 * KIB

# Lines of it, empty ones included: each takes time. More is 413.
LINES_MAX = 2_000_000

# Such bodies in work at the same time; each takes a thread. A few more wait for their turn, the others get 503.
UPLOADS_MAX = 2

# What is received of such a body ahead of the thread that reads it. Then its connection waits.
UPLOAD_AHEAD_BYTES_MAX = 1 * MIB

# The longest pause in such a body, and the longest time for all of it. Then the request is 408.
UPLOAD_SILENT_S_MAX = 30.0
UPLOAD_S_MAX = 900.0

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

# Jobs in one POST /jobs: one transaction, one turn. More is 413, by api/jobs.py; the client sends several requests.
JOBS_PER_SUBMIT_MAX = 10_000

# Entries of `after` in one POST /jobs, of all its jobs together. More is 413.
AFTER_PER_SUBMIT_MAX = 20_000

# Faults of one flow that an error names. The others are counted.
FAULTS_SHOWN_MAX = 20

# Jobs of a circle that an error about a flow names. Some of a longer one are left out.
CIRCLE_SHOWN_MAX = 10

# Jobs of a flow up to which an error suggests a similar name. Among more of them, a search takes too long.
FLOW_NAMES_COMPARED_MAX = 200

# Rows of one page of a list. A larger `limit` is cut to the maximum.
PAGE_ROWS_MAX = 1_000
PAGE_ROWS_DEFAULT = 100

# How long lists show tokens that have expired, and tokens and keys that were revoked.
ACCESS_SHOWN_MS = 7 * 86_400_000

# A worker's name as a list is asked for, in characters (model/names.py). More is 400.
WORKER_CHARS_MAX = 128

# How long one search of a list goes on. Then the page ends, and its Link names where the next one goes on.
SEARCH_MS_MAX = 200

# A search looks at this many numbers in its first step. A step that takes less than the first of these times is
# followed by one twice as long, and one that takes more than the second by one half as long.
SEARCH_IDS_MIN = 1_000
SEARCH_STEP_MS_MIN = 12
SEARCH_STEP_MS_MAX = 50

# Bytes of one page of a list, as JSON. It ends before the row that would pass this, and its Link names the next page.
# A single row may be longer: a job with 96 KiB of command and 64 KiB of variables takes six times that at worst.
PAGE_BYTES_MAX = 8 * MIB

# Pages of more than 256 KiB made at the same time. A few more wait for their turn; the others are 503 with Retry-After.
LARGE_PAGES_MAX = 2

# Output of each stream shown inside a job or a run. The middle is left out, with a marker that says where the rest is.
LOGS_BYTES_SHOWN = 64 * KIB

# --- Many jobs by one call --------------------------------------------------------------------------------------------

# Jobs that one turn looks at for a call on many jobs, and as many to end those of a revoked token. The next turns look
# at the rest. 500 cancels take 30 to 60 ms.
BULK_JOBS_MAX = 500

# How long one POST /jobs/bulk goes on. An answer after that time has `next`, from where the caller continues.
BULK_MS_MAX = 20_000

# Jobs that one call may name by their numbers. A call that waits holds one byte for each of them. More is 413.
SELECTED_JOBS_MAX = 1_000_000

# Flows that one call may name. More is 413.
FLOWS_SELECTED_MAX = 100

# Spans of job numbers (`1-5000,7001` has two) in one list of an answer. A longer list is cut; its count is not.
SPANS_SHOWN_MAX = 10_000

# Events that one look of a waiting call reads. The next look, or the next call, reads the rest.
WAIT_EVENTS_MAX = 10_000

# --- Waiting ----------------------------------------------------------------------------------------------------------

# How long a REST caller waits for the turn that does its command. After that it gets 503; the command may still be
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
# turn. At most a quarter of those that may be open.
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
UNFINISHED_BYTES_MAX = 40 * MIB

# Bytes of answers that have not been sent, of all connections together. They are kept in memory. Beyond it a connection
# is cut off: of the address that owes most, the one that has cost most, in bytes times seconds.
UNSENT_BYTES_MAX = 64 * MIB

# The head of a request. A longer one is 431.
HEADER_BYTES_MAX = 32 * KIB

# --- Syntax -----------------------------------------------------------------------------------------------------------

# Arrays and objects inside one another, in one JSON body. A deeper body is 400.
BODY_DEPTH_MAX = 32

# A body of a request as the server reads it, in bytes. It is a little more than the largest that any endpoint takes, so
# that the endpoint itself can name its bound. A longer body is 413, before the endpoint sees it.
REQUEST_BODY_BYTES_MAX = JOBS_BODY_BYTES_MAX + 1 * MIB

# A chunk's size with its extensions, and what follows the last chunk, in bytes. Waitress copies these with each piece
# that arrives, so megabytes of them would cost seconds. More is 400.
CHUNK_CONTROL_BYTES_MAX = 4 * KIB

# --- Listening --------------------------------------------------------------------------------------------------------

# Port 0: the kernel chooses a number for the first address, and another program may have it on the second. After this
# many numbers the start fails.
LISTEN_TRIES_MAX = 20

# Callers that wait at the same time; at the bound further ones are answered at once. Each has a thread of its own while
# it waits, in addition to those that serve short calls. A low limit of open files allows fewer (shares.py).
WAITERS_MAX = 64

# How long a thread waits for free descriptors when it opens the database. Then its call is answered 503.
READER_WAIT_S = 1.0

# Of a turn that changes more jobs than this, a caller that waits for many jobs is woken unasked.
WAKE_JOBS_MAX = 64
