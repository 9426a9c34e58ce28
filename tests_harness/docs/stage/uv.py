"""Stands in for ``uv`` on the stage: fetches nothing, and makes environments that see what this one sees."""

from __future__ import annotations

import sys
import venv
from pathlib import Path

STAGE = Path(__file__).resolve().parent
#: What the session itself has on its path, and a Python elsewhere is not told of.
OURS = (STAGE, STAGE.parents[1] / "fakes", STAGE.parents[2] / "harness")


def main(arguments: list[str]) -> None:
    """``venv ... FOLDER`` makes one; ``pip install ...`` finds all of it installed."""
    if arguments[0] != "venv":
        return
    place = Path(arguments[-1])
    venv.create(place, with_pip=False)
    (site,) = place.glob("lib/python*/site-packages")
    libraries = [each for each in sys.path if each.endswith(("site-packages", "dist-packages"))]
    (site / "seen.pth").write_text("\n".join([*map(str, OURS), *libraries]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
