"""Where the output goes: to somebody who watches a terminal, or to a file and a log."""

from __future__ import annotations

import os
from typing import Any


def in_ci() -> bool:
    """Whether a CI system runs this: it sets ``CI``, as GitHub and GitLab do."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def is_watched(stream: Any) -> bool:
    """Whether a line on this stream may be drawn again and again: a terminal that can, and no CI system's."""
    return _is_terminal(stream) and not in_ci() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def wants_colour(stream: Any) -> bool:
    """Whether colours go to this stream. As pytest decides it: ``NO_COLOR`` before ``FORCE_COLOR`` before the rest."""
    forced = os.environ.get("PY_COLORS")
    if forced in ("0", "1"):
        return forced == "1"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return _is_terminal(stream) and os.environ.get("TERM") != "dumb"


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # there is no stream, or it is closed
        return False
