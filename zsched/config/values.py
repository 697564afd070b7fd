"""Parsers of settings: text to value. They raise ValueError with a message that ends with the remedy."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from zsched.model.address import PostgresUrl, is_url, parse_url
from zsched.model.limits import LABEL_CHARS_MAX, NAME_CHARS_MAX, SCHEDULERS_MAX, WORKER_LABELS_MAX, WORKER_QUEUES_MAX
from zsched.model.names import (
    LABEL_NAME,
    LABEL_RULE,
    LABEL_VALUE,
    QUEUE_RULE,
    SERVED_QUEUE,
    USER_NAME,
    WORKER_NAME,
)
from zsched.model.requirements import HOST_LABEL, WORKER_LABEL, Pairs, pairs
from zsched.model.units import format_duration_ms, parse_duration_ms
from zsched.security.endpoint import EndpointError, socket_path, split

LOG_LEVELS: Final = ("DEBUG", "INFO", "WARN", "ERROR")


def line(text: str) -> str:
    if not text or not text.isprintable() or len(text) > NAME_CHARS_MAX:
        raise ValueError(f"must be 1 to {NAME_CHARS_MAX} printable characters")
    return text


def worker_name(text: str) -> str:
    if not WORKER_NAME.fullmatch(text):
        raise ValueError(
            f"invalid worker name {text!r}: use 1 to 128 letters, digits, . _ @ : and -, a letter or digit first"
        )
    return text


def path(text: str) -> Path:
    """Relative to the folder of the file that names it, or to the working directory."""
    if not text or "\0" in text:
        raise ValueError("must name a file or folder")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError("must be UTF-8")
    return Path(text)


def database(text: str) -> Path | PostgresUrl:
    """The file of an SQLite database, or the URL of a PostgreSQL one."""
    return parse_url(text) if is_url(text) else path(text)


def optional_path(text: str) -> Path | None:
    return path(text) if text else None


def derived_path(text: str) -> Path:
    """An empty text stands for a path that the configuration derives from other settings."""
    return path(text) if text else Path()


def count(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text, re.ASCII) or not least <= int(text) <= most:
            raise ValueError(f"invalid number {text!r}: use {least} to {most}")
        return int(text)

    return parse


def duration_ms(least_ms: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value_ms = parse_duration_ms(text)
        if value_ms < least_ms:
            raise ValueError(f"invalid duration {text!r}: use at least {format_duration_ms(least_ms)}")
        return value_ms

    return parse


def keep(text: str) -> int | Literal["never"] | None:
    """How long jobs are kept: milliseconds, `never` to remove none, None where nothing is said."""
    if not text or text == "never":
        return "never" if text else None
    return duration_ms(1_000)(text)


def level(text: str) -> str:
    name = "WARN" if text.upper() == "WARNING" else text.upper()
    if name not in LOG_LEVELS:
        raise ValueError(f"invalid log level {text!r}: use {', '.join(LOG_LEVELS)}")
    return name


def schedulers(text: str) -> tuple[str, ...]:
    """The URLs of a list of schedulers in normal form, each once; none for the default endpoint."""
    urls = tuple(dict.fromkeys(map(_scheduler, split(text)))) if text else ()
    if len(urls) > SCHEDULERS_MAX:
        raise ValueError(f"too many schedulers: {len(urls)}; give at most {SCHEDULERS_MAX}")
    if len({url.startswith("tcp:") for url in urls}) > 1:
        raise ValueError("give tcp:// to all schedulers of a list, or to none")
    return urls


def _scheduler(text: str) -> str:
    if text.startswith("unix:"):
        try:
            return f"unix:{socket_path(text)}"
        except EndpointError as error:
            raise ValueError(str(error)) from error
    return _url(text)


def advertised(text: str) -> str:
    """The http or https URL of a scheduler in normal form, or empty."""
    if text and not text.startswith(("http://", "https://")):
        raise ValueError(f"invalid URL {text!r}: write it like http://scheduler-1.example:8080")
    return text and _url(text)


def _url(text: str) -> str:
    sentence = f"invalid scheduler URL {text!r}: write it like http://localhost:8080"
    try:
        parts = urlsplit(text)
        # A comma: of a list in which an address lacks its scheme.
        sound = parts.port != 0 and text.isprintable() and " " not in text and "," not in parts.netloc
        # The form for a DNS query: no label is empty or too long.
        (parts.hostname or "").encode("idna")
    except ValueError as error:
        raise ValueError(sentence) from error
    if not sound or parts.scheme not in ("http", "https", "tcp") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(sentence)
    if parts.scheme == "tcp" and (parts.port is None or parts.path):
        raise ValueError(f"invalid worker port {text!r}: write it like tcp://host:5555")
    return text.rstrip("/")


def one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"invalid value {text!r}: use {', '.join(words)}")
        return text

    return parse


def optional_word(*words: str) -> Callable[[str], str]:
    return lambda text: text and one_of(*words)(text)


def yes_no(text: str) -> bool:
    return one_of("yes", "no")(text) == "yes"


def umask(text: str) -> int:
    if not re.fullmatch("0?[0-7]{3}", text, re.ASCII):
        raise ValueError(f"invalid umask {text!r}: write it like 077 or 022")
    return int(text, 8)


def uids(text: str) -> frozenset[int]:
    words = re.split(r"[\s,]+", text) if text else []
    if not all(re.fullmatch("[0-9]{1,10}", word, re.ASCII) and int(word) < 2**32 - 1 for word in words):
        raise ValueError(f"invalid uids {text!r}: write them like 1000,1001")
    return frozenset(map(int, words))


def networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    words = re.split(r"[\s,]+", text.strip()) if text.strip() else []
    try:
        return tuple(ip_network(word) for word in words)
    except ValueError as error:
        raise ValueError(f"{error}; write addresses and networks like 127.0.0.1,10.1.0.0/16") from error


def users(text: str) -> tuple[str, ...]:
    names = tuple(re.split(r"[\s,]+", text.strip())) if text.strip() else ()
    for name in names:
        if not USER_NAME.fullmatch(name):
            raise ValueError(f"invalid user name {name!r}: write names like alice,bob")
    return names


def queues(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(re.split(r"[\s,]+", text.strip())))
    for name in names:
        if not SERVED_QUEUE.fullmatch(name):
            raise ValueError(f"invalid queue {name!r}: use {QUEUE_RULE}; or * for all")
    if len(names) > WORKER_QUEUES_MAX:
        raise ValueError(f"too many queues: {len(names)}; give at most {WORKER_QUEUES_MAX}, or * for all")
    return names


def labels(text: str) -> Pairs:
    """Names and values, such as gpu=a100,disk=ssd."""
    given: dict[str, str] = {}
    for word in re.split(r"[\s,]+", text.strip()) if text.strip() else ():
        name, _, value = word.partition("=")
        if not LABEL_NAME.fullmatch(name) or not LABEL_VALUE.fullmatch(value) or len(value) > LABEL_CHARS_MAX:
            raise ValueError(f"invalid label {word[:80]!r}: use {LABEL_RULE}, each of at most {LABEL_CHARS_MAX}")
        if name in (WORKER_LABEL, HOST_LABEL):
            raise ValueError(f"invalid label {word!r}: each worker has the labels worker and host; use another name")
        if given.setdefault(name, value) != value:
            raise ValueError(f"the label {name} has two values: give one of them")
    if len(given) > WORKER_LABELS_MAX:
        raise ValueError(f"too many labels: {len(given)}; give at most {WORKER_LABELS_MAX}")
    return pairs(given)


def optional(parse: Callable[[str], int]) -> Callable[[str], int | None]:
    return lambda text: parse(text) if text else None


def optional_line(text: str) -> str:
    return text and line(text)
