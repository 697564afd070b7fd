"""Write the golden texts again, after a change of what they show. Read the difference before it is committed."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.golden import bodies, reference, sources


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = {"entities": bodies.entities(), "answers": bodies.answers(Path(folder))}
    bodies.FILE.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")
    sources.SQL.write_text(sources.statements())
    sources.POSTGRES.write_text(sources.translations())
    sources.PYTHON.write_text(sources.sources())
    reference.FILE.write_text(reference.text())


main()
