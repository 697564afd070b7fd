"""Bounds of tokens and keys, and of the headers that identify a caller."""

from __future__ import annotations

from zsched.model.limits.sizes import KIB

# Bad tokens that one address may send within this time before it gets 429; valid tokens are served all the same.
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

# Addresses whose bad tokens are counted. When more send some at the same time, those that failed longest ago are
# forgotten.
ATTEMPTS_ADDRESSES_MAX = 10_000

# Keys of one rate limit. Beyond it those whose bucket is full again are forgotten.
RATE_KEYS_MAX = 20_000

# A file with a worker's key or access, in bytes: far more than it has. What is beyond is not read.
ACCESS_FILE_BYTES_MAX = 16 * KIB
