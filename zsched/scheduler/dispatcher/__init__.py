"""The scheduler's decisions. Deterministic: no clock, socket, thread, file or random source, so the simulator runs this
very code.

`core` is the door: frames, commands and the tick come in, decisions go through the store, frames for workers go out by
the outbox. `session` knows who is connected, `placement` hands ready runs to workers, `losses` says what a lost worker
means for its runs, `arrival` reconciles what a worker holds, `polling` speaks with workers that ask over REST,
`recurrence` fires recurring jobs.
"""

from zsched.scheduler.dispatcher.core import Dispatcher

__all__ = ["Dispatcher"]
