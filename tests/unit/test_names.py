"""Names that are written by hand beside the descriptions of entities: tables, frames, the client, help and docs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from tests.golden.bodies import entities
from tests.golden.reference import ENTITIES, all_fields
from zsched import protocol
from zsched.client import client
from zsched.commands import options, show, submit
from zsched.model.launch import FEATURES
from zsched.model.spec import JobBody
from zsched.store.sqlite.engine import SqliteEngine
from zsched.worker.agent.agent import CAN

DOCS = Path(__file__).parents[2] / "docs"

# Columns of the store alone, which are no field of an entity.
STORE_ONLY = {
    "jobs": {
        *("demand_id", "priority", "cancel_by", "owner_id", "metered", "dependents"),
        *("unmade", "pending", "running", "success", "failed", "cancelled", "waiting", "forgiven"),
    },
    "runs": {
        *(
            "demand_id",
            "priority",
            "blocked",
            "expires_ms",
            "handed_n",
            "lease_ms",
            "ends_ms",
            "probation",
            "cancel_by",
        ),
        *("stuck", "task", "of_array"),
    },
    "workers": {"draining"},
    "tokens": {"ending_by", "ended_to"},
}
# Options of `zsched submit` that are not named as their fields.
OPTIONS = {
    "schedule": "--cron",
    "labels": "--label",
    "limits": "--limit",
    "command": "<cmd>",
    "argv": "--no-shell",
    "files": "--put",
    "artifacts": "--get",
    "run_at": "--at",
    "cwd_hint": "--cwd",
    "umask_hint": "--umask",
    "tags": "--tag",
}
# What `zsched show` calls a member, where it does not use its name; None: it does not show it by itself.
SHOWN = {
    "id": "job",
    "env": "variable",
    "secret_env": "variable",
    "created_at": "submitted",
    "next_fire_at": "next fire",
    "cancelled_at": "cancel",
    "updated_at": None,
    "live": None,
    "held_at": "held since",
    "removing_at": "being removed since",
    "hold_reason": None,
    "cancel_reason": None,
    "paused_at": None,
    "ended_at": None,
}


@pytest.mark.parametrize(("entity", "table"), [(entity, table) for _, entity, table in ENTITIES if table])
def test_every_column_of_a_table_is_described_or_the_stores_own(
    tmp_path: Path, entity: type[Struct], table: str
) -> None:
    engine = SqliteEngine(tmp_path / "scheduler.db")
    engine.migrate(0)
    # table_info leaves out generated columns.
    columns = {row[1] for row in engine.execute(f"PRAGMA table_xinfo({table})")}
    engine.close()
    described = {name for field in all_fields(entity) if not field.form.computed for name in field.columns}
    assert columns == described | STORE_ONLY.get(table, set())


def test_the_client_takes_every_field_of_a_job() -> None:
    assert {*client.Fields.__annotations__, *client.PolicyFields.__annotations__, "command", "argv", "each"} == set(
        JobBody.__struct_fields__
    )


def test_submit_has_an_option_for_every_field_of_a_job() -> None:
    found = options.parse(submit.__doc__ or "", ["true"])
    for name in JobBody.__struct_fields__:
        assert OPTIONS.get(name, "--" + name.replace("_", "-")) in found, name


@pytest.mark.parametrize("entity", ["job", "run", "worker", "foreign", "token", "key", "event"])
def test_the_golden_entities_have_every_member(entity: str) -> None:
    described = {"foreign": "Foreign runs", "key": "Key of a worker"}.get(entity, entity.capitalize())
    (kind,) = (kind for title, kind, _ in ENTITIES if title == described)
    assert {field.json for field in all_fields(kind)} - {""} <= entities()[entity].keys()


def test_show_has_a_line_for_every_member_of_a_job() -> None:
    view: dict[str, Any] = entities()["job"]
    labels = {name for name, _ in show.details(client.Job(client.Client("http://localhost:1"), view))}
    for member in view:
        label = SHOWN.get(member, member.replace("_", " "))
        assert label is None or label in labels, member


def test_the_reference_of_a_submit_names_every_field() -> None:
    section = (DOCS / "rest.md").read_text().partition("### Submit a job")[2].partition("### ")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == sorted(JobBody.__struct_fields__)


def test_the_protocol_names_every_field_of_an_order() -> None:
    section = (DOCS / "protocol.md").read_text().partition("**`run`**")[2].partition("\nA job ")[0]
    cells = re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE)
    assert sorted(re.findall(r"\w+", " ".join(cells))) == sorted(protocol.RunOrder.__struct_fields__)


def test_our_worker_has_a_feature_for_every_field_that_needs_a_worker() -> None:
    assert (
        set(CAN)
        == {*FEATURES, "entry", "files", "foreign", "signal", "stdin", "stop", "task"}
        == {
            *("argv", "artifacts", "cwd", "entry", "env", "files", "foreign", "secret_env"),
            *("signal", "stdin", "stop", "task", "umask", "user"),
        }
    )
