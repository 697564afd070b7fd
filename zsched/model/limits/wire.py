"""Bounds of frames and connections between scheduler and workers."""

from __future__ import annotations

from zsched.model.limits.sizes import KIB, MIB

# One frame from a worker. ZeroMQ itself cuts the connection of a peer that sends more (ZMQ_MAXMSGSIZE). The same bound
# holds for what a stranger sends before its handshake is over, and ZeroMQ keeps all of that in memory meanwhile.
FRAME_FROM_WORKER_BYTES_MAX = 1 * MIB

# One frame to a worker, which talks only to the scheduler whose key it has. A worker cuts the connection at more.
FRAME_TO_WORKER_BYTES_MAX = 8 * MIB

# Entries of one list, and keys of one map, in a frame. A longer one makes the frame invalid. A heartbeat that lists
# this many runs with the largest ids, all of them stuck, takes 0.9 MiB.
FRAME_LIST_MAX = 24_576
FRAME_KEYS_MAX = 1_024

# Values of one frame in all, those inside others and the keys of maps too. msgpack makes an object of each, of up to
# 100 bytes, before anything looks at it. A heartbeat with FRAME_LIST_MAX stuck runs has 148,000. More makes the
# frame invalid.
FRAME_VALUES_MAX = 160_000

# Results in one frame. A longer list makes the frame invalid; a worker sends the rest in further frames.
RESULTS_PER_FRAME_MAX = 2_048

# Artifacts in one frame, in bytes. Larger sets come in several frames before their result.
PART_BYTES_MAX = 512 * KIB

# Parts of artifacts whose results have not come. Beyond it those that came first are dropped, and their worker sends
# them again with the result, which is not acknowledged without them.
PARTS_BYTES_MAX = 64 * MIB

# Runs that one heartbeat_ack asks to kill, or to stop. The next ack has more of them.
ACK_RUNS_MAX = 1_024

# Bytes of frames that wait for their turn, from which on no more are read.
TURN_BYTES_MAX = 8 * MIB

# `can`, `labels` and `queues` of a worker, together in bytes of UTF-8. The scheduler keeps them in memory and in the
# database. More is 400, or makes the frame invalid.
WORKER_FACTS_BYTES_MAX = 4 * KIB

# Queues that a worker may name. More is 400, or wrong usage.
WORKER_QUEUES_MAX = 64

# Labels of a worker in its settings, and characters of the name or the value of a label. More is wrong usage.
WORKER_LABELS_MAX = 24
LABEL_CHARS_MAX = 64

# Runs that a worker executes at the same time. More is 400, or makes the frame invalid.
SLOTS_MAX = 4_096

# Live sessions (one a worker) of one scheduler. A further register is refused; workers already there go on.
SESSIONS_MAX = 16_384

# A handshake on the workers' port that takes longer is given up by ZeroMQ.
HANDSHAKE_MS = 2_000

# Connections to the workers' port from which no frame has been read yet: most are in their handshake. Each can hold
# FRAME_FROM_WORKER_BYTES_MAX. Beyond it one of them is cut, of the address that has most of them.
UNHEARD_CONNECTIONS_MAX = 100

# Connections to the workers' port in all, unless the limit of open files allows fewer. Beyond it an unheard one is cut.
# When all have been heard, newcomers wait in the kernel.
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

# Frames of one connection that ZeroMQ has received and the loop has not read. Beyond it TCP makes the peer wait.
UNREAD_FRAMES_MAX = 8

# Open files kept for REST: its CONNECTIONS_MAX and SOCKET_CONNECTIONS_MAX, the database in each of its threads, which
# are WAITERS_MAX more when that many callers wait, and the rest. Connections of workers leave this many free, as far as
# the limit of open files (RLIMIT_NOFILE) is above it. With a lower limit all of them have smaller shares (shares.py).
FILES_RESERVED = 1_575

# Frames that wait in ZeroMQ for one worker's connection. Beyond it a send fails with EAGAIN, and the runs in it go to
# other workers.
QUEUED_FRAMES_MAX = 1_000

# Handshakes on the workers' port that are answered between two turns. The others are answered after the next turn.
ZAP_REQUESTS_MAX = 100

# Peers and codes whose last error frame is remembered, so that errors are throttled. At the bound all are forgotten.
ERRORS_REMEMBERED_MAX = 4_096

# The detail of an error frame, in characters. A longer one is cut.
ERROR_DETAIL_CHARS_MAX = 1_000
