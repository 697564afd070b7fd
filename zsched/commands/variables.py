"""Variables of a job from options of `submit` and `run`: --env NAME=VALUE, --secret-env NAME or NAME=@FILE."""

from __future__ import annotations

import os
from collections.abc import Mapping

from zsched.client.client import View
from zsched.commands import exits, options
from zsched.model.names import VARIABLE_NAME


def read_plain(doc: str, arguments: Mapping[str, options.Value]) -> dict[str, str]:
    """The variables of --env. Wrong usage ends the program."""
    variables = {}
    for word in options.words(arguments, "--env"):
        name, equals, value = word.partition("=")
        if not equals or not VARIABLE_NAME.fullmatch(name):
            options.fail(doc, f"--env: {word.partition('=')[0]!r}: write it like NAME=VALUE")
        variables[name] = value
    return variables


def read_secret(doc: str, arguments: Mapping[str, options.Value]) -> dict[str, str]:
    """The variables of --secret-env. A value on the command line, which other users can see, is wrong usage. Raises
    Failure.
    """
    variables = {}
    for word in options.words(arguments, "--secret-env"):
        name, equals, source = word.partition("=")
        if not VARIABLE_NAME.fullmatch(name) or (equals and not source.startswith("@")):
            options.fail(doc, "--secret-env: write NAME, for a variable of your environment, or NAME=@FILE")
        value = _content(source[1:]) if equals else os.environ.get(name)
        if value is None:
            raise exits.Failure(f"--secret-env: your environment has no {name}; export it, or write {name}=@FILE")
        variables[name] = value
    return variables


def mask_secrets(body: View) -> View:
    """A job with `***` for its secret values, to be shown."""
    secrets = body.get("secret_env")
    return {**body, "secret_env": dict.fromkeys(secrets, "***")} if secrets else body


def _content(path: str) -> str:
    """The text of a file without the line end that editors add. Raises Failure."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
    except OSError as error:
        raise exits.Failure(f"--secret-env: can't read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise exits.Failure(f"--secret-env: {path} is not UTF-8") from None
    return text.removesuffix("\n").removesuffix("\r")
