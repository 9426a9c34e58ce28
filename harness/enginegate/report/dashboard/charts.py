"""Charts as descriptions in Vega-Lite. Colours are names of the page's own (``$pass``): they follow light and dark."""

from __future__ import annotations

from typing import Any

Spec = dict[str, Any]

_STATUS: Spec = {
    "field": "status",
    "type": "nominal",
    "title": "Verdict",
    "scale": {
        "domain": ["PASS", "FAIL", "INCONCLUSIVE", "NO_BASELINE"],
        "range": ["$pass-mark", "$fail-mark", "$open-mark", "$none-mark"],
    },
}
_STATUS_SHAPE: Spec = _STATUS | {
    "scale": {"domain": _STATUS["scale"]["domain"], "range": ["circle", "cross", "diamond", "square"]}
}
#: Of Okabe and Ito, told apart by people who see fewer colours, and by their shapes.
_ENGINES: Spec = {"range": ["$series-1", "$series-2", "$series-3", "$series-4", "$series-5", "$series-6"]}
_SHAPES: Spec = {"range": ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross"]}


def _chart(description: str, layers: list[Spec], **more: Any) -> Spec:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": description,
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "data": {"name": "values"},
        "layer": layers,
        **more,
    }


def tradeoff(against: str, more_is_better: bool) -> Spec:
    """Speed to the right, ``against`` with its better end at the top, memory as size; engines on the front are filled.

    Values: label, backend, speed, y, memory, front, edge.
    """
    better = "higher" if more_is_better else "lower"
    position: Spec = {
        "x": {
            "field": "speed",
            "type": "quantitative",
            "title": "Tokens a second (faster →)",
            "axis": {"tickCount": 8},
            "scale": {"zero": False, "nice": True, "padding": 36},
        },
        "y": {
            "field": "y",
            "type": "quantitative",
            "title": f"{against} ({better} is better ↑)",
            "axis": {"tickCount": 6},
            "scale": {"zero": False, "nice": True, "padding": 28, "reverse": not more_is_better},
        },
    }
    points: Spec = {
        "mark": {"type": "point", "filled": True, "strokeWidth": 2, "opacity": 1},
        "encoding": {
            **position,
            "size": {
                "field": "memory",
                "type": "quantitative",
                "title": "Peak memory (MiB)",
                "scale": {"range": [80, 900], "zero": True},
                "legend": {"symbolFillColor": "$soft", "symbolStrokeColor": "$soft", "tickCount": 3},
            },
            "color": {"field": "backend", "type": "nominal", "title": "Backend", "scale": _ENGINES},
            "shape": {"field": "backend", "type": "nominal", "title": "Backend", "scale": _SHAPES},
            "fillOpacity": {"condition": {"test": "datum.front", "value": 0.85}, "value": 0.08},
            "tooltip": [
                {"field": "label", "title": "Engine"},
                {"field": "speed", "title": "Tokens a second", "format": ",.1f"},
                {"field": "y", "title": against, "format": ",.4~g"},
                {"field": "memory", "title": "Peak memory (MiB)", "format": ",.0f"},
                {"field": "onfront", "title": "On the Pareto front"},
            ],
        },
    }
    line: Spec = {
        "transform": [{"filter": "datum.edge"}],
        "mark": {"type": "line", "color": "$soft", "strokeDash": [5, 4], "strokeWidth": 1.5, "aria": False},
        "encoding": position,
    }
    names: Spec = {
        "mark": {"type": "text", "align": "center", "dy": -19, "fontSize": 12, "aria": False},
        "encoding": {
            **position,
            "text": {"field": "precision"},
            "color": {"value": "$ink"},
        },
    }
    description = f"Speed of engines against {against}; the table below has the same figures."
    return _chart(description, [line, points, names], height=400)


def raced(metric: str) -> Spec:
    """How much slower each engine is than its live base, with interval, margins and launches.

    Values: row, status, change, low, high, margin, tolerated and launches, as percent.
    """
    row: Spec = {
        "field": "row",
        "type": "nominal",
        "title": None,
        "sort": None,
        "axis": {"labelLimit": 340, "grid": True, "gridDash": [1, 3], "ticks": False, "domain": False},
    }
    title = "slower than the live base (%): ← faster | slower →"

    def x(field: str) -> Spec:
        return {"field": field, "type": "quantitative", "title": title, "axis": {"tickCount": 9}}

    limits: list[Spec] = [
        {
            "transform": [{"filter": f"isValid(datum.{field})"}],
            "mark": {"type": "tick", "thickness": 2, "size": 20, "color": color, "aria": False},
            "encoding": {"x": x(field), "y": row},
        }
        for field, color in (("margin", "$open-mark"), ("tolerated", "$fail-mark"))
    ]
    return _chart(
        f"{metric}: how much slower each engine is than its live base; the table below has the same figures.",
        [
            {"mark": {"type": "rule", "color": "$soft", "aria": False}, "encoding": {"x": {"datum": 0}}},
            *limits,
            {
                "transform": [{"flatten": ["launches"]}, {"filter": "isValid(datum.launches)"}],
                "mark": {
                    "type": "circle",
                    "size": 18,
                    "opacity": 0.45,
                    "color": "$soft",
                    "yOffset": 9,
                    "aria": False,
                },
                "encoding": {"x": x("launches"), "y": row},
            },
            {
                "transform": [{"filter": "isValid(datum.low) && isValid(datum.high)"}],
                "mark": {"type": "rule", "strokeWidth": 3, "strokeCap": "round", "aria": False},
                "encoding": {"x": x("low"), "x2": {"field": "high"}, "y": row, "color": _STATUS},
            },
            {
                "transform": [{"filter": "isValid(datum.change)"}],
                "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
                "encoding": {
                    "x": x("change"),
                    "y": row,
                    "color": _STATUS,
                    "shape": _STATUS_SHAPE,
                    "tooltip": [
                        {"field": "row", "title": "Engine"},
                        {"field": "status", "title": "Verdict"},
                        {"field": "change", "title": "Slower by (%)", "format": "+.2f"},
                        {"field": "low", "title": "From (%)", "format": "+.2f"},
                        {"field": "high", "title": "To (%)", "format": "+.2f"},
                        {"field": "base", "title": "Live base"},
                    ],
                },
            },
        ],
        height={"step": 38},
    )


def over_reference() -> Spec:
    """How many times as fast as the reference each engine is. Values: row, backend, speedup, low, high."""
    row: Spec = {
        "field": "row",
        "type": "nominal",
        "title": None,
        "sort": None,
        "axis": {"labelLimit": 340, "grid": True, "gridDash": [1, 3], "ticks": False, "domain": False},
    }

    def x(field: str) -> Spec:
        return {
            "field": field,
            "type": "quantitative",
            "title": "times as fast as the reference",
            "axis": {"tickCount": 9},
            "scale": {"zero": True},
        }

    color: Spec = {"field": "backend", "type": "nominal", "title": "Backend", "scale": _ENGINES}
    return _chart(
        "How many times as fast as the reference each engine is; the table of results has the same figures.",
        [
            {"mark": {"type": "rule", "color": "$soft", "aria": False}, "encoding": {"x": {"datum": 1}}},
            {
                "transform": [{"filter": "isValid(datum.low) && isValid(datum.high)"}],
                "mark": {"type": "rule", "strokeWidth": 3, "color": "$soft", "aria": False},
                "encoding": {"x": x("low"), "x2": {"field": "high"}, "y": row},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
                "encoding": {
                    "x": x("speedup"),
                    "y": row,
                    "color": color,
                    "shape": {"field": "backend", "type": "nominal", "title": "Backend", "scale": _SHAPES},
                    "tooltip": [
                        {"field": "row", "title": "Engine"},
                        {"field": "speedup", "title": "Times as fast", "format": ".3f"},
                        {"field": "low", "title": "From", "format": ".3f"},
                        {"field": "high", "title": "To", "format": ".3f"},
                    ],
                },
            },
        ],
        height={"step": 26},
    )
