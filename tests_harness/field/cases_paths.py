"""Paths as people write them."""

from __future__ import annotations

from pathlib import Path

from enginegate.models.sources import resolve
from field_case import Got, attempt, case


@case("model source with a kind nobody knows", kind="boundary", expected="ModelError", says=("path:DIR",))
def unknown_source(folder: Path) -> Got:
    return attempt(resolve, "ftp://models/x", cache=folder, progress=print)
