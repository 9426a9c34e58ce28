"""The frame of a page: head, content policy, colours, filters, scripts. A page loads nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from enginegate.core.files import round_floats
from enginegate.report.dashboard.library import chart_library
from enginegate.report.dashboard.markup import Html, attributes_of, join, tag, text

#: What a filter is called, by its name in the facets of a line.
FILTERS = {
    "machine": "Machine",
    "model": "Model",
    "backend": "Backend",
    "precision": "Precision",
    "status": "Verdict",
    "metric": "Metric",
    "workload": "Workload",
    "state": "State",
}


@dataclass(frozen=True)
class Choice:
    """One of a figure's charts: its name in the figure's menu, its description, and its values."""

    label: str
    spec: Mapping[str, Any]
    values: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Figure:
    """A chart, or several of which one is shown.

    Attributes:
        key: its id.
        menu: what is chosen, where there are several.
        choices: the charts.
        selects: fields of the values of which one value is shown at a time, by their names for people.
    """

    key: str
    menu: str
    choices: Sequence[Choice]
    selects: Mapping[str, str]

    def markup(self) -> Html:
        """Its place in the page. Without scripts there are the tables."""
        without = tag("p", "Charts need scripts; the tables hold the same figures.", class_="empty")
        return tag(
            "figure",
            tag("div", class_="choices"),
            tag("div", without, class_="chart", data_chart=self.key),
            id=f"figure-{self.key}",
        )

    def value(self) -> dict[str, Any]:
        """As the page's script takes it."""
        return {
            "key": self.key,
            "menu": self.menu,
            "choices": [
                {"label": each.label, "spec": dict(each.spec), "values": list(each.values)} for each in self.choices
            ],
            "selects": dict(self.selects),
        }


def asset(name: str) -> str:
    """A file that belongs to the pages."""
    return (files("enginegate.report.dashboard") / "assets" / name).read_text(encoding="utf-8")


def json_script(key: str, value: Any) -> Html:
    """Data for the page's script. No text in it can end its element."""
    data = json.dumps(round_floats(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Html(f'<script type="application/json" id="{key}">{data.replace("<", chr(92) + "u003c")}</script>')


def page(
    title: str,
    header: str,
    sections: Sequence[tuple[str, str]],
    body: Sequence[str],
    figures: Sequence[Figure],
    *,
    scripts: Sequence[str] = ("page.js",),
    more: str = "",
    beside: bool = False,
) -> str:
    """A whole page.

    Args:
        title: of the window.
        header: what stands at the top.
        sections: id and name of each, for the links at the top.
        body: the sections.
        figures: the charts in them.
        scripts: names of the assets that run in it, in order.
        more: markup with further data.
        beside: whether the page may load scripts that lie beside it.
    """
    run = [chart_library() if figures or beside else "", *(asset(name) for name in scripts)]
    run = [script for script in run if script]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in run]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none';"
        f" script-src {allowed}{' ' + chr(39) + 'self' + chr(39) + ' file:' if beside else ''}"
    )
    links = [tag("a", name, href=f"#{key}") for key, name in sections]
    head = [
        Html('<meta charset="utf-8">'),
        Html(f"<meta{attributes_of({'http_equiv': 'Content-Security-Policy', 'content': policy})}>"),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        tag("title", title),
        tag("style", Html(asset("page.css"))),
    ]
    content = [
        tag("a", "Skip to the content", class_="skip", href="#main"),
        tag(
            "header", tag("div", tag("strong", "enginegate"), class_="brand"), _nav(links), Html(_COLOURS), class_="bar"
        ),
        tag("main", Html(text(header)), *body, id="main", tabindex="-1"),
        json_script("figures", [figure.value() for figure in figures]),
        Html(more),
        *(tag("script", Html(script)) for script in run),
    ]
    whole = tag("html", tag("head", *head), "\n", tag("body", join(content, "\n")), lang="en")
    return f"<!doctype html>\n{whole}\n"


def _nav(links: Sequence[str]) -> Html:
    return tag("nav", *links, aria_label="Parts of this page") if links else Html("")


_COLOURS = """<fieldset class="switch" id="colours"><legend class="unseen">Colours</legend>
<label><input type="radio" name="colours" value="system" checked><span>System</span></label>
<label><input type="radio" name="colours" value="light"><span>Light</span></label>
<label><input type="radio" name="colours" value="dark"><span>Dark</span></label></fieldset>"""


def filters(values: Mapping[str, Sequence[str]], words: str = "Find text") -> Html:
    """A form with one menu for each name of ``values`` that has several, and a field for words."""
    menus = [
        tag(
            "div",
            tag("label", FILTERS.get(name, name), for_=f"filter-{name}"),
            tag(
                "select",
                tag("option", "All", value=""),
                *(tag("option", each, value=each) for each in options),
                data_facet=name,
                id=f"filter-{name}",
            ),
            class_="field",
        )
        for name, options in values.items()
        if len(options) > 1
    ]
    field = Html('<input type="search" data-words="" id="filter-words" autocomplete="off">')
    search = tag("div", tag("label", words, for_="filter-words"), field, class_="field")
    reset = tag("button", "Show all", type="reset")
    told = Html('<output id="shown" aria-live="polite"></output>')
    return tag("form", *menus, search, reset, told, class_="filters", role="search", aria_label="Filters")
