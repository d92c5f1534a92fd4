"""Documents lead where they say: links, sections, files of the repository that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\((?!https?://)([^)\s]*)\)")
FILE = re.compile(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+/)`")
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"demo"}


def sections(document: Path) -> set[str]:
    """The anchors of a document's headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in LINK.findall(document.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        there = document.parent / name if name else document
        assert there.exists(), target
        assert not anchor or anchor in sections(there), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_exist(document: Path) -> None:
    named = [name for name in FILE.findall(document.read_text(encoding="utf-8")) if name.split("/")[0] in FOLDERS]
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_readme_is_short_and_names_every_document() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 200
    for document in DOCUMENTS[1:]:
        assert f"({document.relative_to(ROOT)})" in text
