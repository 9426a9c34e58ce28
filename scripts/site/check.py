"""What is wrong with a built site: links and anchors that lead nowhere, and what would be fetched from another host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: By tag, the attribute that names something which a browser fetches to show the page.
FETCHED = {
    "img": "src", "script": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src", "embed": "src",
    "object": "data", "image": "href", "use": "href",
}  # fmt: skip
#: Relations of <link> that a browser does not fetch.
NOT_FETCHED = frozenset({"canonical", "alternate", "next", "prev", "author", "license"})
_CSS = re.compile(r"(?:@import\s+|url\()\s*[\"']?((?:https?:)?//[^\s\"')]+)", re.IGNORECASE)
_SCRIPT = re.compile(r"[\"'`]((?:https?:)?//[\w-]+(?:\.[\w-]+)+[^\s\"'`]*)[\"'`]")
#: Addresses in scripts that are names or links, and nothing that is fetched.
NAMES = ("http://www.w3.org/", "https://www.w3.org/", "https://github.com/")


@dataclass
class Page(HTMLParser):
    """What a page links to, fetches, and can be linked to at."""

    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    styles: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        HTMLParser.__init__(self)
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called for each tag."""
        given = {name: value or "" for name, value in attrs}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        self.styles.append(given.get("style", ""))
        self._in_style = tag == "style"
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and not NOT_FETCHED & set(given.get("rel", "").split()):
            self.fetched.append(given.get("href", ""))
        if FETCHED.get(tag) in given:
            self.fetched.append(given[FETCHED[tag]])
        self.fetched += [each.split()[0] for each in given.get("srcset", "").split(",") if each.strip()]

    def handle_data(self, data: str) -> None:
        """Called for text."""
        if self._in_style:
            self.styles.append(data)

    def handle_endtag(self, _: str) -> None:
        """Called at the end of each tag."""
        self._in_style = False


def faults(site: Path) -> list[str]:
    """Every fault of a built site, each with its page."""
    pages = {}
    for file in sorted(site.rglob("*.html")):
        pages[file] = Page()
        pages[file].feed(file.read_text(encoding="utf-8"))
    found = [f"{file.relative_to(site)}: {fault}" for file in pages for fault in _page_faults(file, pages, site)]
    for file in sorted([*site.rglob("*.css"), *site.rglob("*.svg")]):
        found += [f"{file.relative_to(site)}: would fetch {each}" for each in _CSS.findall(_text(file))]
    for file in sorted((site / "_static").rglob("*.js")):
        outside = [each for each in _SCRIPT.findall(_text(file)) if not each.startswith(NAMES)]
        found += [f"{file.relative_to(site)}: may fetch {each}" for each in outside]
    return found


def _page_faults(file: Path, pages: dict[Path, Page], site: Path) -> Iterator[str]:
    page = pages[file]
    for each in page.fetched:
        if urlsplit(each).netloc:
            yield f"would fetch {each}"
    for style in page.styles:
        yield from (f"would fetch {each}" for each in _CSS.findall(style))
    for each in sorted({*page.links, *page.fetched}):
        parts = urlsplit(each)
        if parts.scheme or parts.netloc:
            continue
        target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
        if not target.is_relative_to(site.resolve()) or not target.is_file():
            yield f"{each} leads nowhere"
        elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
            yield f"{each} leads to no such place"


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")
