"""What nobody foresaw: said in plain words, with a report that can be sent."""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence

from enginegate import __version__
from enginegate.cli.common import complain

#: Exit code where enginegate itself went wrong: nothing was decided.
UNFORESEEN = 4

_PACKAGES = ("numpy", "scipy", "pydantic", "PyYAML", "rich", "matplotlib", "SQLAlchemy")
_ADDRESS = re.compile(r"\S*://\S+")


def report_unforeseen(error: BaseException, argv: Sequence[str]) -> int:
    """Write the report to a file, or to stderr where none can be written, and say so. Returns the exit code."""
    text = "\n".join(_report(error, argv)) + "\n"
    first = f"enginegate: an unforeseen error: {_headline(error)}"
    what = "This is a fault of enginegate's own. Nothing was decided: take this for no result, good or bad."
    try:
        handle, path = tempfile.mkstemp(prefix="enginegate-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        complain(f"{first}\n  {what}\n  hint: send the report below, once you have looked it through\n\n{text}")
    else:
        complain(f"{first}\n  {what}\n  hint: send the report {path}, once you have looked it through")
    return UNFORESEEN


def _headline(error: BaseException) -> str:
    return _without_passwords(f"{type(error).__name__}: {error}"[:300])


def _report(error: BaseException, argv: Sequence[str]) -> Iterator[str]:
    yield f"enginegate: an unforeseen error: {_headline(error)}"
    yield f"command line: {_without_passwords(' '.join(map(repr, ['enginegate', *argv])))}"
    yield f"enginegate {__version__}, Python {platform.python_version()} ({platform.python_implementation()})"
    yield f"platform: {platform.platform()}; output as {getattr(sys.stdout, 'encoding', None)}"
    yield f"packages: {', '.join(_versions())}"
    yield ""
    yield _without_passwords("".join(traceback.format_exception(type(error), error, error.__traceback__)))


def _versions() -> Iterator[str]:
    from importlib.metadata import PackageNotFoundError, version

    for name in _PACKAGES:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            yield f"{name} not installed"


def _without_passwords(text: str) -> str:
    return _ADDRESS.sub(lambda found: _masked(found[0]), text)


def _masked(address: str) -> str:
    """The address without its secrets; where they cannot be told apart, without all that follows its scheme."""
    from enginegate.core.urls import MASK, without_password

    try:
        return without_password(address)
    except Exception:  # a report must come out whatever else is broken
        return address.partition("://")[0] + f"://{MASK}"
