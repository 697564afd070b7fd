"""The worker: a guard that runs jobs, and an agent that talks to the scheduler.

`guard.py` is the process that `bin/worker` becomes; it starts `link.py` as its child, which carries `agent.py`'s
decisions over ZeroMQ. `messages.py` is what the two tell each other. The guard imports neither ZeroMQ nor a database,
so that it stays small.
"""
