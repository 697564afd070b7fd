"""Each pair of the features of jobs, once: a script, and the end that its jobs must have, written by hand.

The features are arrays, dependencies, retries, cancels, holds, reruns, retention, caps and lost workers. Scripts are in
the language of the canonical stories (stories.py), ends as in ending.py. Retention looks at old jobs each minute; a
worker is lost after three seconds of silence.
"""

from __future__ import annotations

from itertools import combinations
from typing import Final, NamedTuple

import pytest

from tests.sim.stories import Told

FEATURES: Final = ("array", "dependency", "retry", "cancel", "hold", "rerun", "retention", "cap", "lost worker")


class Row(NamedTuple):
    """Two features, what a user may rely on where they meet, the script, and the end."""

    first: str
    second: str
    promise: str
    script: str
    end: str


TABLE: Final = (
    Row(
        "array",
        "dependency",
        "A job waits for all tasks of an array, for one of them, or task by task.",
        """
        worker w1 slots=20
        1000 submit a array=0-2 lasts=500 code=7 tasks=1
        1000 submit x array=0-2 lasts=900 code=7 tasks=0
        1100 submit b after=a array=0-1 lasts=100
        1100 submit c after=a:any lasts=100
        1100 submit d after=a:same array=0-2 lasts=100
        1100 submit e after=a.0 lasts=100
        1100 submit f after=a.1:failed lasts=100
        1100 submit g after=a.1 lasts=100
        1100 submit h after=a:same,x:same array=0-2 lasts=100
        1700 see h.2 pending
        4000 end
        """,
        """
        a failed
        a.0,2 success, 1 run
        a.1 failed exit 7, 1 run
        x failed
        x.0 failed exit 7, 1 run
        x.1-2 success, 1 run
        b failed
        b.0-1 failed dependency, 0 runs
        c success, 1 run
        d failed
        d.0,2 success, 1 run
        d.1 failed dependency, 0 runs
        e success, 1 run
        f success, 1 run
        g failed dependency, 0 runs: it needs the success of task 1 of job 1, which failed
        h failed
        h.0-1 failed dependency, 0 runs
        h.2 success, 1 run
        """,
    ),
    Row(
        "array",
        "retry",
        "Each task has its own retries.",
        """
        worker w1 slots=8
        1000 submit a array=0-2 retries=1 lasts=200 code=7 tasks=1 attempts=1
        1000 submit b array=0-2 retries=1 lasts=200 code=7 tasks=2
        20000 end
        """,
        """
        a success
        a.0,2 success, 1 run
        a.1 success, 2 runs
        b failed
        b.0-1 success, 1 run
        b.2 failed exit 7, 2 runs
        """,
    ),
    Row(
        "array",
        "cancel",
        "Some tasks are cancelled, running or not, and the others go on.",
        """
        worker w1 slots=2
        1000 submit a array=0-4 lasts=1000
        1500 cancel a.1-2
        6000 end
        """,
        """
        a cancelled
        a.0,3-4 success, 1 run
        a.1 cancelled, 1 run
        a.2 cancelled, 0 runs
        starts a.0 a.1 a.3 a.4
        """,
    ),
    Row(
        "array",
        "hold",
        "Held tasks are passed over; one that runs goes on.",
        """
        worker w1 slots=1
        1000 submit a array=0-3 lasts=1000
        1500 hold a.0-1
        3500 see a.0 success
        4500 see a.1 pending
        4500 release a.0-1
        8000 end
        """,
        """
        a success
        a.0-3 success, 1 run
        starts a.0 a.2 a.3 a.1
        """,
    ),
    Row(
        "array",
        "rerun",
        "A rerun of the failed tasks leaves the others alone; a rerun of the array takes all.",
        """
        worker w1 slots=4
        1000 submit a array=0-2 lasts=200 code=7 tasks=1 attempts=1
        2000 see a.1 failed
        2000 rerun a failed
        3000 see a success
        3000 rerun a failed
        3100 see a success
        3100 rerun a
        5000 end
        """,
        """
        a success
        a.0,2 success, 2 runs
        a.1 success, 3 runs
        """,
    ),
    Row(
        "array",
        "retention",
        "An array is removed as a whole, when all of it is old.",
        """
        scheduler keep=2000
        worker w1 slots=1
        1000 submit a array=0-1 lasts=500
        1000 submit b array=0-1 lasts=40000
        62000 see b.0 success
        62000 see b.1 running
        90000 end
        """,
        """
        a removed
        b success
        b.0-1 success, 1 run
        """,
    ),
    Row(
        "array",
        "cap",
        "No more tasks run than the cap says, in the order of their indexes.",
        """
        worker w1 slots=8
        1000 submit a array=0-5%2 lasts=500
        1250 see a.0-1 running
        1250 see a.2-5 pending
        5000 end
        """,
        """
        a success
        a.0-5 success, 1 run
        a at most 2 at once
        starts a.0 a.1 a.2 a.3 a.4 a.5
        """,
    ),
    Row(
        "array",
        "lost worker",
        "Tasks of a lost worker run again elsewhere, but for those that may start only once.",
        """
        worker w1 slots=4
        worker w2 slots=4 later
        1000 submit a array=0-2 lasts=1000
        1000 submit b array=5-5 once lasts=1000
        1500 kill w1 both
        2000 start w2
        20000 end
        """,
        """
        a success
        a.0-2 success, 2 runs
        b failed
        b.5 failed worker_lost, 1 run
        """,
    ),
    Row(
        "dependency",
        "retry",
        "A job has ended after its last retry.",
        """
        worker w1 slots=8
        1000 submit a retries=1 backoff=3000 lasts=200 code=7 attempts=1
        1100 submit b after=a lasts=100
        1100 submit c after=a:failed lasts=100
        1100 submit d retries=1 lasts=200 code=7
        1200 submit e after=d lasts=100
        1200 submit f after=a,d:failed lasts=100
        2000 see b pending
        2000 see c pending
        3500 see d failed
        3500 see f pending
        20000 end
        """,
        """
        a success, 2 runs
        b success, 1 run
        c failed dependency, 0 runs: it needs the failure of job 1, which succeeded
        d failed exit 7, 2 runs
        e failed dependency, 0 runs: it needs the success of job 4, which failed
        f success, 1 run
        starts a a b f
        """,
    ),
    Row(
        "dependency",
        "cancel",
        "A cancelled job has neither succeeded nor failed; only `any` accepts it.",
        """
        worker w1 slots=4
        1000 submit a lasts=5000
        1100 submit b after=a lasts=100
        1100 submit c after=a:any lasts=100
        1100 submit d after=a:failed lasts=100
        1100 submit e after=a lasts=100
        1200 submit f after=e:any lasts=100
        1300 cancel e
        1700 see f success
        2000 cancel a
        6000 end
        """,
        """
        a cancelled, 1 run
        b failed dependency, 0 runs: it needs the success of job 1, which was cancelled
        c success, 1 run
        d failed dependency, 0 runs: it needs the failure of job 1, which was cancelled
        e cancelled, 0 runs
        f success, 1 run
        """,
    ),
    Row(
        "dependency",
        "hold",
        "A job starts when it is released and what it waits for has ended, whichever is later.",
        """
        worker w1 slots=4
        1000 submit a lasts=1000
        1100 submit b after=a lasts=100
        1100 submit c after=a lasts=100
        1200 hold b
        1200 hold c
        1500 release c
        1800 see c pending
        3000 see c success
        3000 see b pending
        4000 release b
        6000 end
        """,
        """
        a success, 1 run
        b success, 1 run
        c success, 1 run
        starts a c b
        """,
    ),
    Row(
        "dependency",
        "rerun",
        "A rerun starts nothing that has waited, and is refused as long as it could not start. It waits again for what"
        " runs again, also when the scheduler has not handled its earlier end to the end.",
        """
        scheduler judge=1
        worker w1 slots=50
        1000 submit a lasts=200 code=7 attempts=1
        1100 submit b after=a lasts=100
        2000 see b failed
        2000 rerun b (dependency)
        2100 rerun a
        3000 see a success
        3000 see b failed
        3000 rerun b
        5000 submit c array=0-19 lasts=500
        5000 submit d lasts=300
        5010 submit e after=d lasts=200
        5010 submit f array=0-19 after=c:same lasts=10
        5509 rerun d
        5509 rerun e
        5700 see d running
        5700 see e pending
        8000 end
        """,
        """
        a success, 2 runs
        b success, 1 run
        c success
        c.0-19 success, 1 run
        d success, 2 runs
        e success, 2 runs
        f success
        f.0-19 success, 1 run
        starts a a b
        starts d e d e
        """,
    ),
    Row(
        "dependency",
        "retention",
        "A job stays while another one waits for it; a removed one does not count when that runs again.",
        """
        scheduler keep=2000 keep_others=10000000
        worker w1 slots=4
        1000 submit a lasts=500
        1100 submit b after=a lasts=100
        1100 submit c after=a lasts=100 code=7 attempts=1
        1200 hold b
        62000 see a success
        63000 release b
        125000 see c failed
        125000 rerun c
        130000 end
        """,
        """
        a removed
        b removed
        c success, 2 runs
        """,
    ),
    Row(
        "dependency",
        "cap",
        "Tasks that follow others one by one keep their own cap.",
        """
        worker w1 slots=8
        1000 submit a array=0-3%1 lasts=500
        1100 submit b array=0-3%2 after=a:same lasts=1200
        1100 submit c after=a.1 lasts=100
        10000 end
        """,
        """
        a success
        a.0-3 success, 1 run
        b success
        b.0-3 success, 1 run
        c success, 1 run
        a at most 1 at once
        b at most 2 at once
        starts b.0 b.1 b.2 b.3
        """,
    ),
    Row(
        "dependency",
        "lost worker",
        "A lost run that has a successor is no end of its job; one that has none is a failure.",
        """
        worker w1 slots=4
        worker w2 slots=4 later
        1000 submit a lasts=1000
        1000 submit b once lasts=1000
        1100 submit c after=a lasts=100
        1100 submit d after=b lasts=100
        1100 submit e after=b:failed lasts=100
        1500 kill w1 both
        2000 start w2
        3000 see c pending
        20000 end
        """,
        """
        a success, 2 runs
        b failed worker_lost, 1 run
        c success, 1 run
        d failed dependency, 0 runs: it needs the success of job 2, which failed
        e success, 1 run
        starts a a c
        """,
    ),
    Row(
        "retry",
        "cancel",
        "A cancelled job is not tried again.",
        """
        worker w1 slots=4
        1000 submit a retries=3 backoff=5000 lasts=200 code=7
        1000 submit b retries=3 backoff=500 lasts=1000 code=7
        3000 see a pending
        3000 see b running
        3000 cancel a
        3000 cancel b
        20000 end
        """,
        """
        a cancelled, 1 run
        b cancelled, 2 runs
        """,
    ),
    Row(
        "retry",
        "hold",
        "A retry whose time has come waits for the release.",
        """
        worker w1 slots=4
        1000 submit a retries=1 backoff=2000 lasts=200 code=7 attempts=1
        1000 submit b retries=1 lasts=2000 code=7 attempts=1
        2000 hold a
        2000 hold b
        5000 see a pending
        5000 see b pending
        5000 release a
        6000 release b
        20000 end
        """,
        """
        a success, 2 runs
        b success, 2 runs
        starts a b a b
        """,
    ),
    Row(
        "retry",
        "rerun",
        "A rerun has all its retries again, and the attempts go on.",
        """
        worker w1 slots=4
        1000 submit a retries=1 backoff=200 lasts=100 code=7
        1000 submit b retries=1 backoff=200 lasts=100 code=7 attempts=2
        3000 see a failed
        3000 see b failed
        3000 rerun a
        3000 rerun b
        6000 end
        """,
        """
        a failed exit 7, 4 runs
        b success, 3 runs
        """,
    ),
    Row(
        "retry",
        "retention",
        "A job that waits for its retry is not old, however old its failed run is.",
        """
        scheduler keep=1000
        worker w1 slots=4
        20000 submit a retries=1 backoff=50000 lasts=100 code=7
        62000 see a pending
        100000 see a failed
        125000 end
        """,
        """
        a removed
        starts a a
        """,
    ),
    Row(
        "retry",
        "cap",
        "A task that waits for its retry gives up its place; once due it comes before later tasks.",
        """
        worker w1 slots=4
        1000 submit a array=0-3%1 retries=1 backoff=1500 lasts=1000 code=7 tasks=0 attempts=1
        20000 end
        """,
        """
        a success
        a.0 success, 2 runs
        a.1-3 success, 1 run
        a at most 1 at once
        starts a.0 a.1 a.2 a.0 a.3
        """,
    ),
    Row(
        "retry",
        "lost worker",
        "The loss of a worker uses up no retry.",
        """
        worker w1 slots=4
        worker w2 slots=4 later
        1000 submit a retries=1 backoff=500 lasts=1000 code=7 attempts=2
        1500 kill w1 both
        2000 start w2
        25000 end
        """,
        """
        a success, 3 runs
        """,
    ),
    Row(
        "cancel",
        "hold",
        "What is held is cancelled like the rest.",
        """
        worker w1 slots=4 later
        1000 submit a lasts=500
        1000 submit b array=0-3 lasts=500
        1100 hold a
        1100 hold b.2-3
        2000 cancel a
        2000 start w1
        5000 see b.0-1 success
        5000 see b.2-3 pending
        5000 cancel b
        6000 release a
        6100 hold a (finished)
        8000 end
        """,
        """
        a cancelled, 0 runs
        b cancelled
        b.0-1 success, 1 run
        b.2-3 cancelled, 0 runs
        """,
    ),
    Row(
        "cancel",
        "rerun",
        "A cancelled job runs again once its process has ended, and its cancel is over.",
        """
        worker w1 slots=4
        1000 submit a lasts=2000 deaf grace=1000
        1000 submit b array=0-2%1 lasts=500
        1200 cancel b
        1500 cancel a
        1600 rerun a (live)
        4000 see a cancelled
        4000 rerun a
        4000 rerun b
        9000 end
        """,
        """
        a success, 2 runs
        b success
        b.0 success, 2 runs
        b.1-2 success, 1 run
        """,
    ),
    Row(
        "cancel",
        "retention",
        "Cancelled jobs have their own age, which begins when the last process has ended.",
        """
        scheduler keep=10000000 keep_others=2000
        worker w1 slots=2
        1000 submit a lasts=500
        1000 submit b lasts=100000 deaf grace=90000
        1000 submit c array=0-3 lasts=500
        1100 cancel c
        2000 cancel b
        62000 see b running
        95000 end
        """,
        """
        a success, 1 run
        b cancelled, 1 run
        c removed
        """,
    ),
    Row(
        "cancel",
        "cap",
        "A cancelled task keeps its place until its process has ended.",
        """
        worker w1 slots=8
        1000 submit a array=0-4%2 lasts=3000 deaf grace=1000
        1500 cancel a.0
        1500 cancel a.3
        2200 see a.2 pending
        10000 end
        """,
        """
        a cancelled
        a.0 cancelled, 1 run
        a.1-2,4 success, 1 run
        a.3 cancelled, 0 runs
        a at most 2 at once
        starts a.0 a.1 a.2 a.4
        """,
    ),
    Row(
        "cancel",
        "lost worker",
        "A cancelled run whose worker is lost is cancelled, and has no successor.",
        """
        worker w1 slots=4
        worker w2 slots=4 later
        1000 submit a lasts=20000
        1000 submit b array=0-1 lasts=20000
        1500 cut w1
        1700 cancel a
        1700 cancel b.0
        1800 kill w1 both
        2000 start w2
        40000 end
        """,
        """
        a cancelled, 1 run
        b cancelled
        b.0 cancelled, 1 run
        b.1 success, 2 runs
        """,
    ),
    Row(
        "hold",
        "rerun",
        "A job stays held when it runs again.",
        """
        worker w1 slots=4
        1000 submit a lasts=500
        1000 submit b array=0-1 lasts=500
        1200 hold a
        1200 hold b
        3000 see a success
        3000 see b success
        3000 rerun a
        3000 rerun b
        4000 see a pending
        4000 see b pending
        4000 release a
        4000 release b
        6000 end
        """,
        """
        a success, 2 runs
        b success
        b.0-1 success, 2 runs
        """,
    ),
    Row(
        "hold",
        "retention",
        "A held job is kept, however old it is.",
        """
        scheduler keep=1000
        worker w1 slots=4 later
        1000 submit a lasts=100
        1000 submit b array=0-1 lasts=100
        1100 hold a
        1100 hold b.1
        3000 start w1
        62000 see a pending
        62000 see b.0 success
        62000 see b.1 pending
        63000 release a
        63000 release b.1
        100000 see a success
        125000 end
        """,
        """
        a removed
        b removed
        """,
    ),
    Row(
        "hold",
        "cap",
        "A held task takes no place unless it runs; released, it comes by its index.",
        """
        worker w1 slots=4
        1000 submit a array=0-3%1 lasts=1000
        1200 hold a.0-1
        2500 release a.0-1
        10000 end
        """,
        """
        a success
        a.0-3 success, 1 run
        a at most 1 at once
        starts a.0 a.2 a.1 a.3
        """,
    ),
    Row(
        "hold",
        "lost worker",
        "The successor of a lost run is held as its job is.",
        """
        worker w1 slots=4
        worker w2 slots=4 later
        1000 submit a lasts=1000
        1200 hold a
        1500 kill w1 both
        2000 start w2
        8000 see a pending
        8000 release a
        12000 end
        """,
        """
        a success, 2 runs
        """,
    ),
    Row(
        "rerun",
        "retention",
        "The age of a job counts from its last end; a removed one can't run again.",
        """
        scheduler keep=2000
        worker w1 slots=4
        1000 submit a lasts=500
        1000 submit b lasts=500
        59000 rerun a
        62000 see a success
        62000 rerun b (unknown_job)
        100000 end
        """,
        """
        a success, 2 runs
        b removed
        """,
    ),
    Row(
        "rerun",
        "cap",
        "Tasks that run again wait for a place, and come by their index.",
        """
        worker w1 slots=4
        1000 submit a array=0-3%1 lasts=1000
        2500 rerun a.0
        10000 rerun a
        20000 end
        """,
        """
        a success
        a.0 success, 3 runs
        a.1-3 success, 2 runs
        a at most 1 at once
        starts a.0 a.1 a.0 a.2 a.3 a.0 a.1 a.2 a.3
        """,
    ),
    Row(
        "rerun",
        "lost worker",
        "A rerun forgets losses and crashes.",
        """
        worker w1 slots=4
        worker w2 slots=4 later
        worker w3 slots=4 later
        worker w4 slots=4 later
        1000 submit a once lasts=3000
        1000 submit b crash_limit=2 lasts=3000
        1500 kill w1 both
        2000 start w2
        6500 see a failed
        6500 see b running
        6500 kill w2 both
        12000 see b failed
        12000 start w3
        13000 rerun a
        13000 rerun b
        14000 see b running
        17500 see a success
        17500 rerun b
        18500 kill w3 both
        19000 start w4
        30000 end
        """,
        """
        a success, 2 runs
        b success, 5 runs
        """,
    ),
    Row(
        "retention",
        "cap",
        "Ended tasks stay while others wait for their place.",
        """
        scheduler keep=1000
        worker w1 slots=4
        1000 submit a array=0-2%1 lasts=35000
        62000 see a.0 success
        62000 see a.1 running
        62000 see a.2 pending
        125000 end
        """,
        """
        a removed
        a at most 1 at once
        """,
    ),
    Row(
        "retention",
        "lost worker",
        "A worker that comes back with a run of a removed job is used as before.",
        """
        scheduler keep=1000
        worker w1 slots=1
        1000 submit a once lasts=1000
        1500 cut w1
        10000 see a failed
        62000 mend w1
        65000 submit b lasts=100
        70000 end
        """,
        """
        a removed
        b success, 1 run
        """,
    ),
    Row(
        "cap",
        "lost worker",
        "Successors of lost runs keep their places; with `stop` the cap holds for the processes, too.",
        """
        worker w1 slots=4
        worker w2 slots=4 later
        1000 submit a array=0-3%2 lasts=10000 stops
        1500 cut w1
        2000 start w2
        40000 end
        """,
        """
        a success
        a.0-1 success, 2 runs
        a.2-3 success, 1 run
        a at most 2 at once
        starts a.0 a.1 a.0 a.1 a.2 a.3
        """,
    ),
)


def test_each_pair_has_a_row() -> None:
    assert [row[:2] for row in TABLE] == list(combinations(FEATURES, 2))


@pytest.mark.slow
@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.first}, {row.second}")
def test_pair_has_the_end_that_is_written(row: Row) -> None:
    told = Told([line.strip() for line in row.script.strip().splitlines()])
    assert told.ending.like(row.end).splitlines() == [line.strip() for line in row.end.strip().splitlines()]
