"""What a job requires of the worker that runs it, besides features and a queue. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Final

from msgspec import Struct

from zsched.model.faults import SpecError
from zsched.model.fields import Codec, Form, about
from zsched.model.limits import JOB_LABELS_MAX
from zsched.model.names import LABEL_NAME, LABEL_RULE, LABEL_VALUE

# Labels that each worker has, besides those of its setting.
WORKER_LABEL: Final = "worker"
HOST_LABEL: Final = "host"

# Names and values, sorted by name.
Pairs = tuple[tuple[str, str], ...]


def pairs(given: Mapping[str, str]) -> Pairs:
    return tuple(sorted(given.items()))


def _read_pairs(text: str) -> Pairs:
    stored = json.loads(text)
    if not isinstance(stored, dict) or not all(isinstance(value, str) for value in stored.values()):
        raise ValueError("the stored pairs are damaged")
    return pairs(stored)


def _pairs_text(given: Pairs) -> str | None:
    return json.dumps(dict(given), separators=(",", ":")) if given else None


# NULL stands for none.
PAIRS: Final = Codec(read=_read_pairs, write=_pairs_text, show=dict, shown=dict[str, str], nullable=True)


class Requirements(Struct, frozen=True, kw_only=True):
    """What a worker must have to run a job."""

    labels: Annotated[
        Pairs, about("Labels that its worker must have, `worker` and `host` included.", Form(codec=PAIRS))
    ] = ()


NOTHING: Final = Requirements()


def read_requirements(labels: Mapping[str, str] | None) -> Requirements:
    """Those of a submitted job, checked; NOTHING where it asks for nothing. Raises SpecError."""
    if not labels:
        return NOTHING
    if len(labels) > JOB_LABELS_MAX:
        raise SpecError("labels", f"at most {JOB_LABELS_MAX} labels, not {len(labels)}")
    for name, value in labels.items():
        if not LABEL_NAME.fullmatch(name) or not LABEL_VALUE.fullmatch(value):
            raise SpecError("labels", f"a label: {LABEL_RULE}")
    return Requirements(labels=pairs(labels))
