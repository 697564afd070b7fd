"""The worker: a guard that runs jobs, and an agent that speaks to the scheduler.

`bin/worker` becomes the guard (`guard/`). It starts the agent (`agent/main.py`) as its child, which carries the
decisions of `agent/agent.py` over ZeroMQ. The two exchange the messages of `messages.py`. The guard imports neither
ZeroMQ nor a database, so that it stays small.
"""
