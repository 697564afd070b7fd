"""The scheduler's decisions. Deterministic: no clock, socket, thread, file or random source, so the simulator runs this
very code.

`core` routes frames, commands and the tick to handlers. A handler owns its case in its own module: it decides through
the store, and returns the frame or the reply. `session` holds the connected workers, `placement` chooses runs for them,
`arrival` reconciles what a worker holds with the store, `losses` decides what a lost worker means for its runs, and
`commands` are what callers ask over REST.
"""

from zsched.scheduler.dispatcher.core import Dispatcher
from zsched.scheduler.dispatcher.settings import Settings

__all__ = ["Dispatcher", "Settings"]
