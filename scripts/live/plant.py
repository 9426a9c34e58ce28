"""Make a copy of an environment whose OpenVINO GenAI is slower by a known share, to see that a live race notices.

    python scripts/live/plant.py ENVIRONMENT COPY SHARE
    enginegate duet --base python:ENVIRONMENT --head python:COPY

Every step of the copy's pipeline takes SHARE longer (0.05: 5 %), spent on the processor. What is slowed is the
installed package: the gate's own hooks have no part in it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

_PATCH = """

# planted by scripts/live/plant.py
import time as _time

_SHARE = {share!r}
_step = ContinuousBatchingPipeline.step


def _slower_step(self):
    begun = _time.perf_counter()
    result = _step(self)
    until = begun + (_time.perf_counter() - begun) * (1 + _SHARE)
    while _time.perf_counter() < until:
        pass
    return result


ContinuousBatchingPipeline.step = _slower_step
"""


def site_packages(environment: Path) -> Path:
    """The one folder of an environment's packages."""
    (found,) = environment.glob("lib/python3.*/site-packages")
    return found


def main(environment: Path, copy: Path, share: float) -> None:
    """Install the copy, and patch it."""
    if copy.exists():
        shutil.rmtree(copy)
    subprocess.run([environment / "bin" / "python", "-m", "venv", "--without-pip", copy], check=True)
    shutil.copytree(site_packages(environment), site_packages(copy), dirs_exist_ok=True)
    package = site_packages(copy) / "openvino_genai" / "__init__.py"
    package.write_text(package.read_text(encoding="utf-8") + _PATCH.format(share=share), encoding="utf-8")
    print(f"{copy}: every step takes {share:.0%} longer")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
