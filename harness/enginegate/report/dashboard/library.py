"""Vega-Lite, which draws the charts: its JavaScript comes with the package vl-convert-python, and goes into the pages.

Why this library: its charts are descriptions in JSON, made and tested in Python; its SVG names every mark for screen
readers; it runs under a content policy without ``eval``; all of it has 0.9 MB (Plotly: 4.7 MB), under BSD-3. ECharts is
as small, but no package of PyPI brings its JavaScript.
"""

from __future__ import annotations

from enginegate.core.errors import RecordError

#: What the pages call: the one function that draws.
_SNIPPET = "window.vegaEmbed = vegaEmbed;"


def chart_library() -> str:
    """The library's JavaScript, complete. Making it takes seconds, so it is kept in the cache, by its version.

    Raises RecordError where the package is not installed.
    """
    from enginegate.core.cache import cache_folder
    from enginegate.core.errors import EngineGateError
    from enginegate.core.files import write_atomically

    try:
        from importlib.metadata import version

        import vl_convert
    except ImportError as error:
        raise RecordError(
            f"a page with charts needs vl-convert-python: {error}", "pip install 'enginegate[html]'"
        ) from error
    try:
        kept = cache_folder() / "charts" / f"vega-{version('vl-convert-python')}.js"
        if kept.is_file() and (found := kept.read_text(encoding="utf-8")).endswith(_SNIPPET):
            return found
    except (OSError, UnicodeDecodeError, EngineGateError):
        kept = None
    made: str = vl_convert.javascript_bundle(_SNIPPET)
    # The end of a script element would end here, too.
    made = made.replace("</script", "<\\/script").rstrip() + f"\n//{_SNIPPET}"
    if kept is not None:
        try:
            write_atomically(kept, made)
        except OSError:
            return made  # a cache that cannot be written is slower, and no more
    return made
