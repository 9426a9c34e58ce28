"""What somebody may have meant who wrote a name that nothing has."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable

#: Names, and characters of one, that are compared: it takes time, and whoever has more of them is not helped by one.
_LOOKED_AT = 100


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'openvino'?`` for ``openvno``, and "" where no known name is close."""
    lower = {each.lower(): each for each in itertools.islice(known, _LOOKED_AT)}
    close = difflib.get_close_matches(name[:_LOOKED_AT].lower(), lower, n=1)
    return f"; did you mean {lower[close[0]]!r}?" if close else ""
