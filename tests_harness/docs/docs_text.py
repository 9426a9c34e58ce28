"""Reading what the documents say: their code blocks, tables, links and code spans."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *REPOSITORY.glob("*.md")])
NOTEBOOKS = sorted(DOCS.rglob("*.ipynb"))

FENCED = re.compile(r"^```(?P<language>\w*)(?: title=(?P<title>\S+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(`+)(?!`)((?:[^\n]|\n(?!\s*\n))+?)(?<!`)\1(?!`)")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
#: ``[text](target "title")`` and images; the text may hold an image of its own.
_INLINE = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+(?:\"[^\"]*\"|'[^']*'))?\s*\)")
_DEFINITION = re.compile(r"^ {0,3}\[([^\]^]+)\]:\s*<?([^\s>]+)>?", re.MULTILINE)
_REFERENCE = re.compile(r"\[([^\[\]]+)\]\[([^\[\]]*)\]")
_HTML = re.compile(r"<(?:a|img|source|video)\b[^>]*?\b(?:href|src)\s*=\s*[\"']([^\"']+)[\"']", re.IGNORECASE)
_AUTOMATIC = re.compile(r"<([a-z][a-z0-9+.-]*:[^\s<>]+)>")
_BARE = re.compile(r"(?<![\w(<\"'/=])https?://[^\s<>)\"'`|]+")
_HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.+?)\s*#*\s*$", re.MULTILINE)
_UNDERLINED = re.compile(r"^(?![ \t#>|*+-])(\S.*)\n(?:=+|-{2,})\s*$", re.MULTILINE)
_NAMED = re.compile(r"<a\b[^>]*?\b(?:id|name)\s*=\s*[\"']([^\"']+)[\"']", re.IGNORECASE)


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def markdown(page: Path) -> str:
    """The Markdown of a page, or of a notebook's cells."""
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
    return "\n\n".join("".join(cell["source"]) for cell in cells)


def blocks(text: str, language: str, title: str = "") -> list[str]:
    """Fenced blocks of one language, and of one title where that is given."""
    found = FENCED.finditer(text)
    return [block["text"] for block in found if block["language"] == language and title in ("", block["title"])]


def code(text: str) -> list[str]:
    """Everything set as code: spans, fenced blocks and indented lines."""
    fenced = [block["text"] for block in FENCED.finditer(text)]
    rest = FENCED.sub("", text)
    indented = re.findall(r"^(?:    |      )\S.*$", rest, re.MULTILINE)
    return [*fenced, *indented, *re.findall(r"`([^`\n]+)`", rest)]


def indented(text: str) -> list[tuple[int, list[str]]]:
    """Indented blocks of code, each with the number of its first line: those that an empty line stands before.

    An indented line right below another goes on with a paragraph or an item of a list.
    """
    found: list[tuple[int, list[str]]] = []
    fenced, before, inside = False, "", False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        code = not fenced and re.match(r"(?: {4}|\t)\s*\S", line) is not None and (inside or not before.strip())
        if code and not inside:
            found.append((number, []))
        if code:
            found[-1][1].append(line)
        inside, before = code, line
    return found


def prose(text: str) -> str:
    """The text without its blocks of code; spans stay."""
    lines = text.splitlines()
    for first, block in indented(text):
        for number in range(first, first + len(block)):
            lines[number - 1] = ""
    return FENCED.sub("", "\n".join(lines) + "\n")


def spans(text: str) -> list[str]:
    """Code spans, also those that go on in the next line, as one line each."""
    return [" ".join(match[2].split()) for match in _SPAN.finditer(prose(text))]


def links(text: str) -> list[str]:
    """Where all links of a page lead: inline ones, images, definitions, HTML, and addresses that stand alone.

    A reference whose definition is missing comes as ``[name]``, which leads nowhere.
    """
    plain = _COMMENT.sub("", _SPAN.sub("code", prose(text)))
    defined = {name.casefold(): target for name, target in _DEFINITION.findall(plain)}
    found = [*_INLINE.findall(plain), *defined.values()]
    for shown, name in _REFERENCE.findall(_INLINE.sub("]", plain)):
        wanted = (name or shown).casefold()
        if wanted not in defined:
            found.append(f"[{wanted}]")
    return [*found, *_HTML.findall(plain), *_AUTOMATIC.findall(plain), *_BARE.findall(plain)]


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
    """Anchors on a page, as GitHub makes them: of headings, the second of a name with ``-1``, and named by hand."""
    text = FENCED.sub("", markdown(page))
    headings = sorted((match.start(), match[1]) for each in (_HEADING, _UNDERLINED) for match in each.finditer(text))
    found = set(_NAMED.findall(text))
    seen: Counter[str] = Counter()
    for _, heading in headings:
        shown = re.sub(r"!?\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", shown.lower()).strip().replace(" ", "-")
        found.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return found
