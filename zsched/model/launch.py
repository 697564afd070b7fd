"""How a job's processes are started, beyond a plain command line. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from zsched.model.fields import ARRAY, SECRETS, VARIABLES, Form, about


class Launch(Struct, frozen=True, kw_only=True):
    """How a job's processes are started, beyond a plain command line. A field with a value needs a worker that has the
    feature of the same name: another worker would run something else. A hint needs no feature: a worker may ignore it.

    REST takes these fields in a submit, the database keeps them, and `run` frames carry them to the worker.
    """

    argv: Annotated[
        tuple[str, ...] | None,
        about("Program and arguments, executed without a shell. None: `command` is executed.", Form(codec=ARRAY)),
    ] = None
    artifacts: Annotated[
        tuple[str, ...] | None,
        about("Patterns of the files in its scratch folder that are kept as artifacts.", Form(codec=ARRAY)),
    ] = None
    cwd: Annotated[str | None, about("Folder to run in. Where it is missing, the run fails as `cwd_missing`.")] = None
    umask: Annotated[str | None, about("Mask of new files' permissions, in octal. None: the worker's.")] = None
    cwd_hint: Annotated[
        str | None, about("Folder to run in if it exists and the user may enter it; else the worker's folder.")
    ] = None
    umask_hint: Annotated[str | None, about("As `umask`, for workers that can do that.")] = None
    user: Annotated[
        Annotated[str, Meta(max_length=64)] | None,
        about("User on the worker's host to run as. None: the worker decides.", Form(columns=("run_as",))),
    ] = None
    env: Annotated[Mapping[str, str] | None, about("Environment variables of the job.", Form(codec=VARIABLES))] = None
    secret_env: Annotated[
        Mapping[str, str] | None,
        about("Secret environment variables. They are stored encrypted and shown as `***`.", Form(codec=SECRETS)),
    ] = None

    @property
    def features(self) -> list[str]:
        """The features that a worker must have for the fields with a value."""
        given = launch_fields(self)
        return [name for name in FEATURES if name in given] if given else []

    @property
    def variables(self) -> dict[str, str]:
        """All environment variables of the job, the secret ones as they stand here."""
        return {**(self.env or {}), **(self.secret_env or {})}


# The fields that are features of workers.
FEATURES: Final = tuple(name for name in Launch.__struct_fields__ if not name.endswith("_hint"))
_VALUES: Final = attrgetter(*Launch.__struct_fields__)
_PLAIN: Final = (None,) * len(Launch.__struct_fields__)


def launch_fields(source: Launch) -> dict[str, Any]:
    """The fields of Launch that have a value, as arguments for another type that has them."""
    values = _VALUES(source)
    if values == _PLAIN:
        return {}
    return {name: value for name, value in zip(Launch.__struct_fields__, values, strict=True) if value is not None}
