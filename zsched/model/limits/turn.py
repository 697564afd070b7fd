"""Bounds of one turn of the loop: its input, changes and dispatches."""

from __future__ import annotations

from zsched.model.limits.sizes import KIB, MIB

# Frames drained in one turn. At the bound the rest waits for the next turn, and no worker is judged silent in this one.
TURN_FRAMES_MAX = 1_000

# Commands taken from the inbox in one turn. The rest waits for the next turn.
TURN_COMMANDS_MAX = 1_000

# Entries in the lists of the frames that wait for their turn (results, runs held or returned), from which on no more
# are read. Most entries cost a statement, whether or not they change a row.
TURN_ENTRIES_MAX = 10_000

# Rows changed in one turn before it takes in no more work. A single command is never split by it. A call on many jobs
# ends its step after as many.
TURN_ROWS_MAX = 20_000

# Running runs of workers that one turn reads before it takes in no more work. A heartbeat of a worker reads all runs
# that the worker holds, and so do a register and a bye. 3 us a run.
TURN_HELD_MAX = 20_000

# Runs claimed by one statement. 64: 2.4 us a run against 53 us one by one.
CLAIM_RUNS_MAX = 64

# The same for runs that bring more than a command: as many as fit one frame, each with its command and its variables.
CLAIM_LARGE_RUNS_MAX = 32

# The same for runs that bring an input of up to STDIN_BYTES_MAX, or files of up to FILES_BYTES_MAX; half of it for runs
# with both.
CLAIM_INPUT_RUNS_MAX = 4

# Ready runs that a turn reads at once, to claim them for several workers, where each read is a round trip to the
# database. The others are read when these are claimed.
CLAIM_AHEAD_RUNS_MAX = 512

# Bytes of the runs that one turn hands out, from which on it claims no more. The next turn comes at once.
CLAIM_BYTES_MAX = 8 * MIB

# Demands that the scheduler remembers, live or not: twice the live ones. Then it forgets all, and reads them again.
DEMANDS_REMEMBERED_MAX = 20_000

# Due jobs fired, or workers judged, in one turn before the rest waits for the next.
TICK_JOBS_MAX = 1_000

# Pending runs that one turn unblocks because their time has come, and as many that it ends at their deadlines. The next
# turn comes at once and handles the rest.
DUE_RUNS_MAX = 2_000

# Dependencies on ended jobs that one turn judges, and as many of ended jobs that it forgets. A step of up to
# JUDGE_STEP_MAX of them counts as at least JUDGE_STEP_COST. The next turn comes at once and handles the rest.
JUDGE_MAX = 2_000
JUDGE_STEP_MAX = 1_000
JUDGE_STEP_COST = 20

# Ended jobs that one such step looks at.
JUDGE_JOBS_MAX = 100

# Tasks of arrays that one turn makes. The next turn comes at once and goes on.
TURN_TASKS_MAX = 4_000

# Ranges of tasks of one array, from which on an act on all of its tasks changes their states alone, and neither reads
# nor merges them.
RANGES_MERGED_MAX = 1_000

# Tasks that one step of a rerun looks at; runs, and blocks of entries, that a step of a large array's removal removes.
RERUN_TASKS_MAX = 4_000
PURGE_RUNS_MAX = 2_000
PURGE_ENTRIES_MAX = 100

# Bytes of the output and the artifacts of a run that cost as much to remove as one more run. So a step of an array's
# removal frees 64 MiB at most.
PURGE_RUN_BYTES = 32 * KIB

# Retries that one turn offers to other workers than those on which they have failed. Others wait for the next turns.
AVOIDING_RUNS_MAX = 100

# Expired keys of submits that one turn drops: no fewer than a turn can add, so that they never pile up. They are looked
# for at this interval, and in each turn while there are more.
FORGET_KEYS_MAX = 1_000
FORGET_INTERVAL_MS = 60_000

# Retention: in one turn it looks at this many ended jobs, fires of a number of recurring jobs, or old events, or gives
# some unused space back. While there is more, it does so at the first of these intervals, and it begins again at the
# second. It looks at fires and events at the third, because it reads again those that are kept.
PURGE_JOBS_MAX = 200
PURGE_FIRES_MAX = 100
PURGE_SCHEDULES_MAX = 20
PURGE_EVENTS_MAX = 1_000
PURGE_TOKENS_MAX = 100
PURGE_PAUSE_MS = 50
PURGE_INTERVAL_MS = 60_000
PURGE_EVENTS_INTERVAL_MS = 3_600_000

# Last fires of each recurring job that are kept, however old they are.
FIRES_KEPT = 20

# Days of which usage is kept. Retention removes older ones.
USAGE_DAYS_MAX = 400

# Numbers of jobs that one step of a count of old jobs goes through. No turn waits for it.
PURGE_COUNTED_MAX = 100_000

# How long a new database keeps ended jobs unless the settings say otherwise.
KEEP_SUCCESS_MS = 7 * 86_400_000
KEEP_OTHERS_MS = 30 * 86_400_000

# Jobs whose secrets are sealed again in one transaction, when secret.key is replaced. The rest is in the next ones.
RESEAL_JOBS_MAX = 1_000

# Pending runs that a restore replaces before it writes their events. It keeps these in memory until then.
RESTORE_RUNS_MAX = 5_000

# How often the scheduler looks whether the database's file is still in its place. In between it may still be deleted or
# replaced: what is acknowledged until the next look is in the copy that is saved then.
FILE_CHECK_MS = 1_000

# How far a restore raises the ids of jobs and runs. Ids that were given out after the backup are not used again, unless
# there were more than these.
RESTORE_IDS_GAP = 1_000_000

# Rows, and roughly bytes, that the copy of a database writes at once. It reads a sixteenth as many large rows.
COPY_PAGE_ROWS = 1_000
COPY_BATCH_BYTES = 4 * 1024 * 1024
