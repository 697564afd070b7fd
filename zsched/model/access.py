"""Who may do what: scopes, callers, tokens and the keys of workers. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, Literal

from msgspec import Struct

from zsched.model.fields import HIDDEN, NEVER, TIME, WORDS, Codec, Form, Id, Natural, about
from zsched.model.types import WorkerId


class Scope(StrEnum):
    """What a caller may do. Each call needs one of these; `admin` allows every call.

    `submit`: submit jobs, and act on the caller's own. `operate`: act on the jobs of all owners.
    """

    READ = "read"
    SUBMIT = "submit"
    OPERATE = "operate"
    WORKER = "worker"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The sender of a command. `owner` is `user:NAME` or `token:NAME`, and owns the jobs that the caller submits.

    `actor` is the owner with the address of the call, for events. `all_jobs`: the caller may act on jobs of every
    owner. `admin`: it may also change what they run. `reads`: it may look at them. `token_id` is None for a caller
    without a token.
    """

    owner: str
    actor: str
    all_jobs: bool
    admin: bool = False
    reads: bool = True
    token_id: str | None = None


def _words(scopes: frozenset[Scope]) -> str:
    return " ".join(sorted(scopes))


_SCOPES: Final = Codec(
    read=lambda text: frozenset(map(Scope, text.split())), write=_words, show=sorted, shown=tuple[Scope, ...]
)


class Token(Struct, frozen=True, kw_only=True):
    """A caller's token, without its secret, which is not kept. A name is never used again, also after a revocation."""

    token_id: Annotated[str, about("Id of the token.", Form(json="id"))]
    name: Annotated[
        str, about("Its name, by which its jobs are owned; the id unless it was given.", Form(omit=NEVER))
    ] = ""
    digest: Annotated[bytes, about("SHA-256 of its secret.", Form(json=HIDDEN))]
    scopes: Annotated[frozenset[Scope], about("What its caller may do.", Form(codec=_SCOPES))]
    note: Annotated[str, about("Free text.")]
    created_ms: Annotated[int, about("When it was made.", Form(codec=TIME))]
    created_by: Annotated[str, about("Who made it.")]
    expires_ms: Annotated[int | None, about("When it expires. None: never.", Form(codec=TIME))] = None
    revoked_ms: Annotated[int | None, about("When it was revoked.", Form(codec=TIME))] = None
    last_used_ms: Annotated[int | None, about("When it was used last, to within some minutes.", Form(codec=TIME))] = (
        None
    )
    run_as: Annotated[str | None, about("User that all its jobs run as.")] = None
    pending_max: Annotated[Id | None, about("Bound of its pending jobs.")] = None
    schedules_max: Annotated[Natural | None, about("Bound of its recurring jobs.")] = None
    priority_max: Annotated[int | None, about("The highest priority that its caller may give a job.")] = None
    workers: Annotated[
        tuple[str, ...],
        about("Names or patterns of the workers that it speaks for; none: all.", Form(codec=WORDS)),
    ] = ()
    slots_max: Annotated[Id | None, about("Bound of the slots of each of these workers.")] = None
    ending: Annotated[bool, about("Its jobs are being cancelled.", Form(computed=True, shown=Literal[True]))] = False

    @property
    def owner(self) -> str:
        """The owner of the jobs that the token submits."""
        return f"token:{self.name}"


class KeyOrigin(StrEnum):
    """How a worker's key came to the scheduler: see `dispatcher/access.py`."""

    # By a worker on the scheduler's own host, without a token.
    ENROLLED = "enrolled"
    # By a worker elsewhere, or with a token.
    REMOTE = "remote"
    # By `zsched access new`.
    FILE = "file"


class WorkerKey(Struct, frozen=True, kw_only=True):
    """A worker's public key."""

    worker_id: Annotated[WorkerId, about("The worker that the key belongs to.")]
    public_key: Annotated[str, about("40 characters of Z85 (ZeroMQ RFC 32).")]
    origin: Annotated[
        KeyOrigin,
        about("`enrolled` by a worker on the scheduler's host, by a `remote` worker, or made for an access `file`."),
    ]
    created_ms: Annotated[int, about("When it was bound to the worker.", Form(codec=TIME))]
    created_by: Annotated[str, about("Who bound it.")]
    revoked_ms: Annotated[int | None, about("When it was revoked.", Form(codec=TIME))] = None
    slots_max: Annotated[Id | None, about("Bound of the slots of a worker with this key.")] = None
