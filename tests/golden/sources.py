"""What is generated from the descriptions of entities, as text that can be searched: SQL and Python."""

from __future__ import annotations

import re
from pathlib import Path

from zsched.api import views
from zsched.model.backoff import Backoff
from zsched.model.types import Policy
from zsched.store import acts, after, array_sql, content_sql, removal, rows, sql, transitions, usage
from zsched.store.mapping import decoder
from zsched.store.postgres import dialect

SQL = Path(__file__).with_name("statements.sql")
POSTGRES = Path(__file__).with_name("postgres.sql")
PYTHON = Path(__file__).with_name("sources.txt")


def statements() -> str:
    """Every statement that engines share."""
    modules = {
        **vars(sql),
        **vars(acts),
        **vars(after),
        **vars(array_sql),
        **vars(content_sql),
        **vars(removal),
        **vars(usage),
        **vars(transitions),
    }
    texts = {name: text for name, text in modules.items() if isinstance(text, str) and name.isupper()}
    return "\n".join(f"-- {name}\n{text.strip()};\n" for name, text in texts.items() if not name.startswith("_"))


# The statements that are executed for many rows of parameters at once.
MANY = (
    *(
        "ADD_JOB",
        "ADD_INPUT",
        "ADD_FILES",
        "ADD_TAG",
        "HOLD_UNIQUE",
        "COUNT_DEMAND",
        "ADD_RUN",
        "ADD_HELD_RUN",
        "ADD_FIRE",
        "ADD_FIRST_RUN",
        "ADD_OUTPUT",
        "ADD_DEMAND",
        "ADD_ARTIFACTS",
        "ADD_EVENT",
    ),
    *("COUNT_TASKS", "COUNT_ENDED", "ADD_TO_TOTALS", "NOTE_SEEN"),
)


def translations() -> str:
    """The statements whose form on PostgreSQL differs by more than the numbers of parameters."""
    modules: dict[str, object] = {
        **vars(sql),
        **vars(acts),
        **vars(array_sql),
        **vars(content_sql),
        **vars(removal),
        **vars(usage),
        **vars(transitions),
    }
    shown = {name: dialect.each(str(modules[name])) for name in MANY}
    for name, text in modules.items():
        if not isinstance(text, str) or not name.isupper() or name.startswith("_") or name in shown:
            continue
        translated = dialect.listed(text) if "(VALUES (" in text else dialect.one(text)
        if re.sub(r"\$\d+", "?", translated.text) != text:
            shown[name] = translated
    return "\n".join(f"-- {name}\n{shown[name].text.strip()};\n" for name in sorted(shown))


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
