"""Tests that run where they are asked for: with ``-m MARKER``, where their file is named, or by an option.

They take minutes, and ask what not every change needs to know; whoever runs all tests does not wait for them.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

#: The marker of all tests of speed that are ours.
OURS = "eg_perf"
#: Their markers, and what each is for.
OPTIONAL = {
    "techniques": "techniques of serving, with and without; left out unless --techniques, -m techniques or the file"
    " asks for it",
    "serving": "serves requests that arrive over time; left out unless --serving, -m serving or the file asks for it",
    "scaling": "sweeps batch sizes and lengths; left out unless -m scaling or the file asks for it",
    "kv_cache": "compares KV caches of 16, 8 and 4 bits; left out unless -m kv_cache or the file asks for it",
}


def leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the optional tests that nobody asked for."""
    expression = config.getoption("markexpr") or ""
    asked = {name for name in OPTIONAL if re.search(rf"\b{name}\b", expression)}
    asked |= {name for name in OPTIONAL if config.getoption(f"eg_{name}", False)}
    named = {_resolved(config, argument) for argument in config.args}
    left = [item for item in items if not _wanted(item, asked) and item.path not in named]
    if left:
        config.hook.pytest_deselected(items=left)
        gone = set(left)
        items[:] = [item for item in items if item not in gone]


def _wanted(item: pytest.Item, asked: set[str]) -> bool:
    """Whether a test has no optional marker, or one that was asked for. Another suite's markers are its own."""
    markers = {marker.name for marker in item.iter_markers()}
    optional = markers & OPTIONAL.keys() if OURS in markers else set()
    return not optional or bool(optional & asked)


def _resolved(config: pytest.Config, argument: str) -> Path:
    return (config.invocation_params.dir / argument.partition("::")[0]).resolve()
