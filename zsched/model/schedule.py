"""When a recurring job fires: five cron fields, read in UTC. Pure.

The fields are those of crontab(5); `cronsim` reads them and knows which day-of-month and day-of-week rules Debian's
cron has.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from cronsim import CronSim, CronSimError

from zsched.model.limits import FIRE_LATE_MS_MAX

_FIELDS: Final = "minute 0-59, hour 0-23, day of month 1-31, month 1-12 or JAN-DEC, day of week 0-7 or SUN-SAT"


class ScheduleError(ValueError):
    """No schedule can be read from the text. The sentence says what is wrong with it."""


def check(expression: str) -> None:
    """Raise ScheduleError unless the text is a schedule that fires at least once."""
    if len(expression.split()) != 5:
        raise ScheduleError("five fields: minute, hour, day of month, month, day of week, such as '*/5 * * * *'")
    if next_fire_ms(expression, 0) is None:
        raise ScheduleError("it never fires")


def next_fire_ms(expression: str, after_ms: int) -> int | None:
    """The first fire after a moment; both in milliseconds since 1970 UTC. None when there is none within 50 years."""
    after = datetime.fromtimestamp(after_ms // 1000, UTC)
    try:
        fire = next(CronSim(expression, after), None)
    except CronSimError as error:
        raise ScheduleError(f"{error} in {expression!r}; {_FIELDS}") from None
    return None if fire is None else int(fire.timestamp()) * 1000


def latest_fire_ms(expression: str, due_ms: int, now_ms: int) -> int:
    """The last fire of a job that is due: not after now, and due_ms itself when no later one has passed."""
    latest = due_ms
    # Fires older than FIRE_LATE_MS_MAX are skipped, so that a scheduler that was down for a year does not count
    # them one by one.
    moment = max(due_ms, now_ms - FIRE_LATE_MS_MAX - 60_000)
    while (fire := next_fire_ms(expression, moment)) is not None and fire <= now_ms:
        latest = moment = fire
    return latest
