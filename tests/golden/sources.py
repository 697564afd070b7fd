"""What is generated from the descriptions of entities, as text that can be searched: SQL and Python."""

from __future__ import annotations

from pathlib import Path

from zsched.api import views
from zsched.model.backoff import Backoff
from zsched.model.types import Policy
from zsched.store import rows, sql, transitions
from zsched.store.mapping import decoder

SQL = Path(__file__).with_name("statements.sql")
PYTHON = Path(__file__).with_name("sources.txt")


def statements() -> str:
    """Every statement that engines share."""
    modules = {**vars(sql), **vars(transitions)}
    texts = {name: text for name, text in modules.items() if isinstance(text, str) and name.isupper()}
    return "\n".join(f"-- {name}\n{text.strip()};\n" for name, text in texts.items() if not name.startswith("_"))


def sources() -> str:
    """Every function that reads a row, writes a row or makes a JSON object."""
    functions = [
        *(
            rows.job,
            decoder(Policy, lenient=False),
            rows.run,
            rows.worker,
            rows.foreign,
            rows.token,
            rows.key,
            rows.event,
            rows.claimed,
        ),
        *(rows.row_of_job_fields, rows.row_of_policy.__wrapped__, rows.row_of_worker, rows.row_of_foreign),
        *(rows.row_of_token, rows.row_of_key),
        *(views.job, views.viewer(Policy), views.viewer(Backoff), views.handed_job, views.bare_run, views.bare_worker),
        *(views.foreign, views.token, views.key, views.event),
    ]
    return "\n\n".join(str(function.__doc__) for function in functions) + "\n"
