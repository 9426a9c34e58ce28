"""What somebody may have meant who wrote a name that nothing has."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'openvino'?`` for ``openvno``, and "" where no known name is close."""
    lower = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name[:100].lower(), lower, n=1)
    return f"; did you mean {lower[close[0]]!r}?" if close else ""
