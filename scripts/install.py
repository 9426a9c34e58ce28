"""Create .venv and install the suite into it with pinned versions; does nothing when that is done already.

    python3 scripts/install.py EXTRA[,EXTRA...]

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
CONSTRAINTS = ROOT / "constraints-cpu.txt"
#: PyPI's torch for Linux is the CUDA build, several GB; this index has the CPU build of the same version.
CPU_TORCH = "https://download.pytorch.org/whl/cpu"


def main(extras: str) -> int:
    """Install the given extras; the exit code."""
    if sys.version_info < (3, 10):  # noqa: UP036 - it runs before anything has checked
        print(f"enginegate needs Python 3.10 or newer, this is {sys.version.split()[0]}: make PYTHON=python3.11 ...")
        return 2
    stamp = VENV / f".installed-{extras.replace(',', '-')}-{_digest()}"
    if stamp.is_file() and PYTHON.is_file():
        return 0
    if not PYTHON.is_file():
        print(f"creating {VENV}", flush=True)
        shutil.rmtree(VENV, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    for old in VENV.glob(f".installed-{extras.replace(',', '-')}-*"):
        old.unlink()
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "on", "-q"]
    command += ["-c", str(CONSTRAINTS), *_cpu_torch_index(), "-e", f".[{extras}]"]
    print(f"installing enginegate[{extras}] with the versions of {CONSTRAINTS.name}", flush=True)
    code = subprocess.run(command, cwd=ROOT).returncode
    if code == 0:
        stamp.touch()
    return code


def _digest() -> str:
    """Changes with what is installed and where: a moved checkout is installed anew."""
    parts = [str(ROOT).encode(), CONSTRAINTS.read_bytes(), (ROOT / "pyproject.toml").read_bytes()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def _cpu_torch_index() -> list[str]:
    """The index of CPU builds of torch, where there is no NVIDIA driver and the index answers."""
    if sys.platform != "linux" or shutil.which("nvidia-smi") or os.environ.get("PIP_INDEX_URL"):
        return []
    try:
        urllib.request.urlopen(urllib.request.Request(f"{CPU_TORCH}/torch/", method="HEAD"), timeout=5).close()
    except (urllib.error.URLError, OSError):
        return []
    return ["--extra-index-url", CPU_TORCH]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__)
        sys.exit(2)
    sys.exit(main(sys.argv[1]))
