"""HTML in small pieces. Text is escaped wherever it goes in; what is markup already says so by its type."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from enginegate.report.texts_pages import visible

#: What stands where nothing was measured.
NOTHING = "n/a"
#: By status, the class of its badge and a sign, so that nothing is told by colour alone.
STATUSES: Mapping[str, tuple[str, str]] = {
    "PASS": ("pass", "✓"),
    "FAIL": ("fail", "✕"),
    "INCONCLUSIVE": ("open", "?"),
    "NO_BASELINE": ("none", "–"),
}
_WORDS = {"NO_BASELINE": "NO BASELINE"}


class Html(str):
    """Text that is markup: it goes into a page as it is."""

    __slots__ = ()


@dataclass(frozen=True)
class Line:
    """One row of a table.

    Attributes:
        cells: its text or markup, one for each column.
        facets: what filters ask for, by name: machine, model, backend, precision, status.
        key: by which a script finds it; "" for none.
    """

    cells: Sequence[str]
    facets: Mapping[str, str] = field(default_factory=dict)
    key: str = ""


def text(value: object) -> Html:
    """A value as text of a page. Characters that steer the direction of writing or nothing visible are shown."""
    return value if isinstance(value, Html) else Html(html.escape(visible(str(value))))


def tag(name: str, *content: object, **attributes: str) -> Html:
    """An element. ``class_`` is the attribute class, ``data_x`` is data-x; content that is no markup is escaped."""
    return Html(f"<{name}{attributes_of(attributes)}>{''.join(map(text, content))}</{name}>")


def attributes_of(attributes: Mapping[str, str]) -> str:
    """Attributes of an element, each behind a space."""
    return "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(visible(str(value)))}"'
        for name, value in attributes.items()
    )


def join(parts: Iterable[str], between: str = "") -> Html:
    """Pieces one after another."""
    return Html(between.join(map(text, parts)))


def badge(status: str) -> Html:
    """A status, or one with its share such as ``INCONCLUSIVE 1/15``: a sign, the word, and a class for its colour."""
    if not status:
        return tag("span", "not gated", class_="badge none")
    word, _, share = status.partition(" ")
    kind, sign = STATUSES.get(word, ("none", "–"))
    parts = [tag("span", sign, aria_hidden="true"), f" {_WORDS.get(word, word)}", f" {share}" if share else ""]
    return tag("span", *parts, class_=f"badge {kind}")


def number(value: float | None, digits: int = 2) -> str:
    """A number with so many decimals, thousands apart by a narrow space; n/a where there is none."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:,.{digits}f}".replace(",", "\u202f")


def percent(value: float | None, digits: int = 1) -> str:
    """A share as percent, with its sign."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{100 * value:+.{digits}f} %".replace("-", "\u2212")


def table(caption: str, columns: Sequence[str], lines: Sequence[Line], *, key: str = "", hidden: bool = False) -> Html:
    """A table that can be sorted by each column. A column whose heading ends in ``#`` has numbers.

    Args:
        caption: what it shows; ``hidden`` leaves it to screen readers.
        columns, lines: headings, and rows with as many cells.
        key: the id of the table.
    """
    numeric = [heading.endswith("#") for heading in columns]
    heads = [
        tag("th", heading.removesuffix("#").strip(), scope="col", class_="number" if right else "text")
        for heading, right in zip(columns, numeric, strict=True)
    ]
    body = [_line(line, numeric) for line in lines]
    inside = join(
        [
            tag("caption", caption, **({"class_": "unseen"} if hidden else {})),
            tag("thead", tag("tr", *heads)),
            tag("tbody", *body),
        ]
    )
    attributes = {"class_": "sortable", **({"id": key} if key else {})}
    return tag(
        "div", tag("table", inside, **attributes), class_="scroll", tabindex="0", role="region", aria_label=caption
    )


def _line(line: Line, numeric: Sequence[bool]) -> Html:
    first, *rest = zip(line.cells, numeric, strict=True)
    cells = [tag("th", first[0], scope="row", class_="number" if first[1] else "text")]
    cells += [tag("td", cell, class_="number" if right else "text") for cell, right in rest]
    facets = {f"data_{name}": value for name, value in line.facets.items()}
    return tag("tr", *cells, **facets, **({"data_key": line.key} if line.key else {}))


def section(key: str, title: str, lead: str, *content: str) -> Html:
    """A part of a page with its heading and one or two sentences on how to read it."""
    heading = tag("h2", title, id=f"{key}-title")
    return tag("section", heading, tag("p", lead, class_="lead"), *content, id=key, aria_labelledby=f"{key}-title")


def items(lines: Iterable[str], **attributes: str) -> Html:
    """A list."""
    return tag("ul", *(tag("li", line) for line in lines), **attributes)


def folded(summary: str, *content: str, **attributes: str) -> Html:
    """Content that opens when it is asked for."""
    return tag("details", tag("summary", summary), *content, **attributes)
