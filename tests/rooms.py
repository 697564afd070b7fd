"""The list of modules in docs/architecture.md, from the first sentence of each module's docstring.

`python -m tests.rooms` prints it, `python -m tests.rooms --write` puts it into the page; tests/unit/test_tidy.py
compares the two.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests import pages

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "architecture.md"
BEGIN: Final = "<!-- The list of modules: `python -m tests.rooms --write` makes it of their docstrings. -->\n"
END: Final = "<!-- End of the list of modules. -->\n"


def first_sentence(path: Path) -> str:
    """Of a module's docstring; empty when there is none."""
    paragraph = " ".join((ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n\n")[0].split())
    sentence, end, _ = paragraph.partition(". ")
    return (sentence + end.strip()).removesuffix(".")


def listing() -> Iterator[str]:
    """Lines of Markdown: a heading for each folder, and its modules."""
    folders = sorted({path.parent for path in (ROOT / "zsched").rglob("*.py")})
    for folder in folders:
        name = folder.relative_to(ROOT).as_posix()
        init = folder / "__init__.py"
        about = first_sentence(init)
        yield f"**`{name}/`**: {about}\n"
        modules = [path for path in sorted(folder.glob("*.py")) if path != init]
        if modules:
            yield "\n"
        yield from (f"- `{path.name}`: {first_sentence(path)}\n" for path in modules)
        yield "\n"


def page() -> str:
    """docs/architecture.md with the list as the code has it."""
    return pages.put(PAGE.read_text("utf-8"), BEGIN, "".join(listing()), END)


if __name__ == "__main__":
    pages.main(PAGE, page, lambda: "".join(listing()))
