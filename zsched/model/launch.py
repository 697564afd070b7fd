"""How a job's processes are started, beyond a plain command line. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta, Struct

from zsched.model.fields import SECRETS, VARIABLES, Form, about


class Launch(Struct, frozen=True, kw_only=True):
    """How a job's processes are started, beyond a plain command line. A field with a value needs a worker that has the
    feature of the same name: another worker would run something else.

    REST takes these fields in a submit, the database keeps them, and `run` frames carry them to the worker.
    """

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
    def variables(self) -> dict[str, str]:
        """All environment variables of the job, the secret ones as they stand here."""
        return {**(self.env or {}), **(self.secret_env or {})}


def launch_fields(source: Launch) -> dict[str, Any]:
    """The fields of Launch as arguments, for another type that has them."""
    return {name: getattr(source, name) for name in Launch.__struct_fields__}
