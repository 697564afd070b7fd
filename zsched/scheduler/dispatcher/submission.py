"""Submits: jobs are stored, all or none; a submit with an Idempotency-Key is done once."""

from __future__ import annotations

import logging

from zsched.model import schedule
from zsched.model.limits import IDEMPOTENCY_MS
from zsched.model.spec import never_starts
from zsched.model.types import Now
from zsched.scheduler.dispatcher import owners, parents, queues
from zsched.scheduler.dispatcher.commands import ConflictError, FullError, Made, ReusedError, Submit, TooManyError
from zsched.store.contract import Store, Submitted

log = logging.getLogger(__name__)


def on_submit(store: Store, command: Submit, pending_max: int, now: Now) -> Made | Submitted:
    """Store the jobs. Raises FullError and TooManyError at pending_max, ReusedError for the key of another request,
    ConflictError for a deadline before the start, UniqueError, TooManyDemandsError, ParentError, and what
    `owners.admit` raises.
    """
    token = owners.find_token(store, command.by)
    once = command.once
    if once is not None:
        before = store.idempotency.find(once.caller, once.key, now.wall_ms - IDEMPOTENCY_MS)
        if before is not None:
            if before.digest != once.digest:
                raise ReusedError
            return before
    tasks = sum(spec.tasks for spec in command.specs)
    if tasks > pending_max:
        raise TooManyError(tasks, pending_max)
    if store.pending_tasks() + tasks > pending_max:
        raise FullError
    specs = command.specs if token is None else owners.admit(store, token, command.specs)
    specs = queues.with_own_keys(command.by, [spec.submitted_at(now.wall_ms) for spec in specs])
    if any(map(never_starts, specs)):
        # A date and a duration can be compared only now.
        raise ConflictError("deadline", "A job could never start: set a deadline later than its run_at or delay")
    queues.demand_free_keys(store, specs)
    parents.demand_parents(store, specs, command.by)
    queues.demand_few_kinds(store, store.count_new_demands(specs, command.by.owner), command.by)
    fires = [None if spec.schedule is None else schedule.next_fire_ms(spec.schedule, now.wall_ms) for spec in specs]
    metered = token is not None and token.pending_max is not None
    ids = store.submit(specs, fires, command.by.actor, now.wall_ms, owner=command.by.owner, metered=metered)
    if once is not None:
        submitted = Submitted(once.digest, ids[0], ids[-1], len(ids))
        store.idempotency.keep(once.caller, once.key, submitted, now.wall_ms)
    log.debug("jobs %d to %d submitted by %s", ids[0], ids[-1], command.by.actor)
    return Made(ids, [spec.numbered(ids[0]) for spec in specs], fires, command.by.owner, now.wall_ms)
