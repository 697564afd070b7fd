"""The links of the documents: each names a file of the checkout, and a heading in it where it has an anchor."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


@cache
def anchors(document: Path) -> frozenset[str]:
    """The anchors that Markdown viewers give to the headings of a document."""
    text = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ +(.*?) *$", text, re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


def broken(document: Path, text: str) -> list[str]:
    """The links in the text of a document that lead nowhere. Those to other sites are not looked at."""
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if link.startswith(("http://", "https://")):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_each_link_of_a_document_leads_somewhere(document: Path) -> None:
    assert broken(document, document.read_text("utf-8")) == []


def test_broken_link_is_noticed() -> None:
    text = "[a](nowhere.md) [b](rest.md#no-such-heading) [c](rest.md#jobs) [d](#jobs) [e](http://localhost/x)"
    assert broken(ROOT / "docs" / "rest.md", text) == ["nowhere.md", "rest.md#no-such-heading"]
