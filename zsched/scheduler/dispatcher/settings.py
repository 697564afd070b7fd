"""What a dispatcher is made with, fixed for its life."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zsched.model.limits import PENDING_RUNS_MAX, TURN_TASKS_MAX
from zsched.scheduler.dispatcher.retention import KEEP_ALL, Keep
from zsched.scheduler.dispatcher.translation import Unseal


def refuse_secret(name: str, _sealed: str) -> str:
    """Unseals nothing: for a scheduler without a key."""
    raise ValueError(f"this scheduler has no key for the secret {name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`epoch` counts the scheduler's starts on its database. `timeout_ms`: how long a worker may be silent.

    `new_token` makes the token of a session. `pending_max`: the most tasks that may be pending. `keyed`: each worker
    proves its name by a key; frames without that key are refused. `unseal` opens the secrets of jobs. `keep`: how long
    ended jobs are kept. `turn_tasks_max`: the most tasks of arrays that a turn makes.
    """

    epoch: int
    timeout_ms: int
    new_token: Callable[[], str]
    pending_max: int = PENDING_RUNS_MAX
    keyed: bool = False
    unseal: Unseal = refuse_secret
    keep: Keep = KEEP_ALL
    turn_tasks_max: int = TURN_TASKS_MAX
