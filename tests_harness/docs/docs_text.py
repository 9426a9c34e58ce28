"""Reading what the documents say: their code blocks, tables, links and code spans."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *REPOSITORY.glob("*.md")])

_FENCED = re.compile(r"^```(?P<language>\w*)(?: title=(?P<title>\S+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def blocks(text: str, language: str, title: str = "") -> list[str]:
    """Fenced blocks of one language, and of one title where that is given."""
    found = _FENCED.finditer(text)
    return [block["text"] for block in found if block["language"] == language and title in ("", block["title"])]


def code(text: str) -> list[str]:
    """Everything set as code: spans, fenced blocks and indented lines."""
    fenced = [block["text"] for block in _FENCED.finditer(text)]
    rest = _FENCED.sub("", text)
    indented = re.findall(r"^(?:    |      )\S.*$", rest, re.MULTILINE)
    return [*fenced, *indented, *re.findall(r"`([^`\n]+)`", rest)]


def tables(text: str) -> list[list[list[str]]]:
    """Markdown tables as rows of cells, heading first."""
    found: list[list[list[str]]] = []
    inside = False
    for line in text.splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            continue
        if not inside:
            found.append([])
        inside = True
        found[-1].append(cells)
    return found


def table_after(text: str, marker: str) -> list[list[str]]:
    """Rows, without the heading, of the first table behind a marker."""
    return tables(text[text.index(marker) :])[0][1:]


def anchors(page: Path) -> set[str]:
    """Anchors that a page's headings make on GitHub."""
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
