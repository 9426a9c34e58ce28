"""The chart of one series of a history, in Vega-Lite. Values have a ``kind``: point, level, anchor, change, version."""

from __future__ import annotations

from typing import Any

Spec = dict[str, Any]


def _only(kind: str, part: str = "") -> Spec:
    """A layer of one kind of values. Its name begins with that, as the page leaves out layers without any."""
    return {"name": f"{kind} {part}".strip(), "transform": [{"filter": f"datum.kind === '{kind}'"}]}


def _x(field: str = "x") -> Spec:
    return {"field": field, "type": "temporal", "title": None, "axis": {"labelOverlap": True, "tickCount": 8}}


def _y(field: str = "y") -> Spec:
    return {"field": field, "type": "quantitative", "title": "$title", "scale": {"zero": False, "padding": 14}}


def series(binned: bool) -> Spec:
    """A series over time. ``binned``: points are medians of several runs, with the lowest and highest as a band.

    Values: points x, y, low, high, verdict, run, text; levels x, x2, y; the anchor x, x2, y; changes x, state, text;
    versions x, text. ``$title`` is the name of the axis.
    """
    band: Spec = {
        **_only("point", "band"),
        "mark": {"type": "area", "opacity": 0.18, "color": "$series-1", "aria": False},
        "encoding": {"x": _x(), "y": _y("low"), "y2": {"field": "high"}},
    }
    line: Spec = {
        **_only("point", "line"),
        "mark": {"type": "line", "strokeWidth": 1.2, "color": "$series-1", "aria": False},
        "encoding": {"x": _x(), "y": _y()},
    }
    intervals: Spec = {
        **_only("interval"),
        "mark": {"type": "rule", "opacity": 0.35, "color": "$series-1", "aria": False},
        "encoding": {"x": _x(), "y": _y("low"), "y2": {"field": "high"}},
    }
    points: Spec = {
        **_only("point"),
        "mark": {"type": "point", "filled": True, "size": 26 if binned else 34, "opacity": 0.9},
        "encoding": {
            "x": _x(),
            "y": _y(),
            "color": {
                "field": "verdict",
                "type": "nominal",
                "title": "Verdict",
                "scale": {
                    "domain": ["PASS", "FAIL", "INCONCLUSIVE", "NO_BASELINE", "not gated"],
                    "range": ["$pass-mark", "$fail-mark", "$open-mark", "$none-mark", "$series-1"],
                },
            },
            "shape": {
                "field": "verdict",
                "type": "nominal",
                "title": "Verdict",
                "scale": {
                    "domain": ["PASS", "FAIL", "INCONCLUSIVE", "NO_BASELINE", "not gated"],
                    "range": ["circle", "cross", "diamond", "square", "circle"],
                },
            },
            "tooltip": [
                {"field": "run", "title": "Runs" if binned else "Run"},
                {"field": "x", "type": "temporal", "title": "Started", "format": "%Y-%m-%d %H:%M"},
                {"field": "text", "title": "Value"},
                {"field": "verdict", "title": "Verdict"},
            ],
        },
    }
    levels: Spec = {
        **_only("level"),
        "mark": {"type": "rule", "strokeWidth": 2.5, "color": "$ink", "opacity": 0.75},
        "encoding": {"x": _x(), "x2": {"field": "x2"}, "y": _y(), "description": {"field": "text"}},
    }
    anchor: Spec = {
        **_only("anchor"),
        "mark": {"type": "rule", "strokeWidth": 1.5, "strokeDash": [6, 4], "color": "$accent"},
        "encoding": {"x": _x(), "x2": {"field": "x2"}, "y": _y(), "description": {"field": "text"}},
    }
    changes: Spec = {
        **_only("change"),
        "mark": {"type": "rule", "strokeWidth": 1.5},
        "encoding": {
            "x": _x(),
            "color": {"field": "color", "type": "nominal", "scale": None, "legend": None},
            "strokeDash": {"condition": {"test": "datum.state === 'known'", "value": [2, 3]}, "value": [1, 0]},
            "description": {"field": "text"},
            "tooltip": {"field": "text"},
        },
    }
    labels: Spec = {
        **_only("change", "label"),
        "mark": {"type": "text", "align": "left", "dx": 5, "y": 10, "fontSize": 12, "fontWeight": 600, "aria": False},
        "encoding": {
            "x": _x(),
            "text": {"field": "label"},
            "color": {"field": "color", "type": "nominal", "scale": None, "legend": None},
        },
    }
    versions: Spec = {
        **_only("version"),
        "mark": {
            "type": "point",
            "shape": "triangle-up",
            "filled": True,
            "size": 60,
            "color": "$series-4",
            "y": "height",
        },
        "encoding": {"x": _x(), "description": {"field": "text"}, "tooltip": {"field": "text"}},
    }
    first = [band, line] if binned else [intervals, line]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": "$description",
        "width": "container",
        "height": 340,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"name": "values"},
        "layer": [*first, points, levels, anchor, changes, labels, versions],
        "resolve": {"scale": {"color": "independent", "shape": "independent"}},
    }
