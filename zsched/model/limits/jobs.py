"""Bounds of a job and of its output."""

from __future__ import annotations

from zsched.model.limits.sizes import KIB

# --- Jobs -------------------------------------------------------------------------------------------------------------

# A command line, in UTF-8. More is 400. Linux takes 128 KiB for one argument of exec; the rest is for our wrapper.
COMMAND_BYTES_MAX = 96 * KIB

# The arguments of a job without a shell: their bytes in UTF-8, with one more for each, and their number. More is 400.
# 32 runs with as many fit one frame. The command that stands for them in lists is cut.
ARGV_BYTES_MAX = 96 * KIB
ARGV_WORDS_MAX = 4_096
ARGV_SHOWN_CHARS_MAX = 2_048

# The path of a job's folder, and a part of it, in UTF-8: Linux takes no longer ones. More is 400.
PATH_BYTES_MAX = 4_095
PATH_PART_BYTES_MAX = 255

# A job's stdin, in UTF-8. More is 400, and the client refuses it before the submit.
STDIN_BYTES_MAX = 1024 * KIB

# The small files that go with a job: their contents together, their number, and the path of each in UTF-8. More is 400.
# The same for the artifacts of a run: what does not fit is left out, and the run's detail says so.
FILES_BYTES_MAX = 1024 * KIB
FILES_MAX = 256
FILE_PATH_BYTES_MAX = 1_024

# The permission bits of a file that comes with a job, unless the job says otherwise.
FILE_MODE_DEFAULT = 0o644

# Patterns of the artifacts of a job. More is 400.
ARTIFACT_PATTERNS_MAX = 32

# What the detail of a run says of artifacts that were left out, in characters.
ARTIFACT_NOTE_CHARS_MAX = 300

# What is read of a job's message file, and what the detail of a run has of it, in characters.
MESSAGE_BYTES_MAX = 2 * KIB
MESSAGE_CHARS_MAX = 1_000

# What the detail of a run has of a folder's path, in characters.
FOLDER_SHOWN_CHARS_MAX = 300

# What a job's own variables take, names and values in UTF-8, the secret ones included; and how many there may be of
# each kind. More is 400.
ENV_BYTES_MAX = 64 * KIB
ENV_NAMES_MAX = 256
SECRETS_MAX = 32

# The least bytes of a secret value, in UTF-8: a shorter one would occur all over a job's output. Less is 400.
SECRET_BYTES_MIN = 8

# Lines of a job's secrets that are taken out of its output each on its own, besides the whole values. Of more the
# longest count: each costs a search through the output (6 us for 64 KiB, 1.2 ms at worst).
SECRET_LINES_MAX = 128

# An owner of jobs, in characters, as a list is asked for. More is 400.
OWNER_CHARS_MAX = 300

# A job's name, in characters. More is 400.
NAME_CHARS_MAX = 256

# The reason of an action on a job, in characters. More is 400.
REASON_CHARS_MAX = 500

# The largest exit code of a process.
EXIT_CODE_MAX = 255

# Entries of `retry_on`. More is 400.
RETRY_ON_MAX = 32

# Tags of a job, and characters of a tag (model/names.py). More is 400.
TAGS_MAX = 16
TAG_CHARS_MAX = 64

# The priority of a job, and its opposite. Beyond them is 400.
PRIORITY_MAX = 1_000

# A queue's name, in characters (model/names.py). More is 400.
QUEUE_CHARS_MAX = 64

# Limits of a job, and runs that one of them may allow. More is 400.
JOB_LIMITS_MAX = 8
LIMIT_RUNS_MAX = 1_000_000

# Labels that a job may require of its worker. More is 400.
JOB_LABELS_MAX = 16

# Kinds of jobs that differ in queue, limits, requirements or the owner of a fair queue and have pending or running
# runs. The cost of a turn grows with them. A submit of a further one is 429 with Retry-After.
DEMANDS_MAX = 10_000

# The same of one owner that has no scope operate: by its own keys of limits, or in a fair queue.
OWNER_DEMANDS_MAX = 2_000

# Queues that are paused or fair at the same time. One more is 409.
QUEUES_MAX = 1_000

# Entries of a job's `after`. More is 400.
AFTER_PER_JOB_MAX = 10_000

# Arrays that wait for the same array task by task (`same`). More is 400.
FOLLOWERS_MAX = 100

# Jobs that the reason names for which a job waits. The others are counted.
WAITS_SHOWN_MAX = 5

# Why a queue is paused or resumed, in characters. More is 400.
QUEUE_REASON_CHARS_MAX = 256

# A schedule, in characters. More is 400.
SCHEDULE_CHARS_MAX = 256

# Output kept of each stream of a run. Beyond it the first half and the last half are kept, and the rest is counted.
OUTPUT_BYTES_MAX = 256 * KIB

# Pending runs in the store, unless a deployment sets less. A submit beyond it is 429 with Retry-After; the successor
# of a lost run is never refused.
PENDING_RUNS_MAX = 2_000_000

# --- Arrays -----------------------------------------------------------------------------------------------------------

# Tasks of one array, and the highest index of one. More is 400.
ARRAY_TASKS_MAX = 1_000_000
TASK_INDEX_MAX = 2**31 - 1

# An array as text, in characters. More is 400.
ARRAY_CHARS_MAX = 4_096

# An entry of `each`, in UTF-8. More is 400. As many runs as one claim takes fit one frame with such entries.
ENTRY_BYTES_MAX = 16 * KIB

# A block of entries is closed at this number of lines or bytes. One is unpacked to hand out one of its tasks.
ENTRY_BLOCK_LINES = 1_000
ENTRY_BLOCK_BYTES = 1024 * KIB

# Unpacked blocks that the scheduler keeps.
ENTRY_BLOCKS_KEPT = 32

# Ready runs of one array, from which on no more of its tasks are made.
TASKS_AHEAD_MAX = 2_000

# Pending runs of one array, held ones and those in a back-off included, from which on no more are made. A cancel or an
# edit of a job changes as many rows in one turn.
TASKS_PENDING_MAX = 10_000

# --- Submits ----------------------------------------------------------------------------------------------------------

# How long a submit with an Idempotency-Key is remembered, by the wall clock. After that the key counts as a new one.
IDEMPOTENCY_MS = 7 * 86_400_000

# An Idempotency-Key, in characters. More is 400.
IDEMPOTENCY_KEY_CHARS_MAX = 255

# --- Output while it is written ---------------------------------------------------------------------------------------

# One log frame. What a run writes faster than these come is left out; it is in the result, or counted there.
LOG_BYTES_MAX = 64 * KIB

# A watched run's new output is looked at this often.
LOG_INTERVAL_MS = 25

# How long a worker sends log frames of a run after a caller looked at it.
WATCH_MS = 15_000

# Runs whose output the scheduler holds while they run, for callers that look. The one looked at longest ago makes room.
WATCHED_RUNS_MAX = 64

# The longest that a caller may wait in one request for new output, or for a job's end.
WAIT_MS_MAX = 20_000

# --- Times and sizes as text ------------------------------------------------------------------------------------------

# The longest duration: a century, so that every sum of two fits 63 bits. A longer one is refused.
DURATION_MS_MAX = 36_525 * 86_400_000

# The largest size that SQLite can hold as an integer. A larger one is refused.
SIZE_BYTES_MAX = 2**63 - 1

# A duration or size as text, in characters. A longer text is refused unread.
QUANTITY_CHARS_MAX = 64

# A fire that is later than this is skipped: the scheduler was down, and the next fire comes by itself.
FIRE_LATE_MS_MAX = 60_000
