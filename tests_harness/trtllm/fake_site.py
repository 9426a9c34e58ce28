"""Puts the fake ``tensorrt_llm`` where imports and ``importlib.metadata`` find it, in the version asked for."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

FAKES = Path(__file__).resolve().parents[1] / "fakes_trtllm"
#: What the adapters used of each pretended version in this process.
RECORDED: dict[str, set[tuple[str, str, str]]] = {}


def make_site(root: Path, version: str) -> Path:
    """A folder to put on the path: the package, and metadata that names the version."""
    site = root / version
    if not site.exists():
        site.mkdir(parents=True)
        (site / "tensorrt_llm").symlink_to(FAKES / "tensorrt_llm", target_is_directory=True)
        info = site / f"tensorrt_llm-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tensorrt_llm\nVersion: {version}\n")
    return site


def remove() -> None:
    """Take the fake away."""
    for name in [name for name in sys.modules if name == "tensorrt_llm" or name.startswith("tensorrt_llm.")]:
        del sys.modules[name]
    sys.path[:] = [entry for entry in sys.path if not Path(entry, "tensorrt_llm", "_strict.py").is_file()]
    importlib.invalidate_caches()


def install(root: Path, version: str) -> None:
    """Make the fake of one version importable, instead of any other."""
    remove()
    sys.path.insert(0, str(make_site(root, version)))
    importlib.invalidate_caches()
    strict = importlib.import_module("tensorrt_llm._strict")
    assert version == strict.VERSION
    strict.USED = RECORDED.setdefault(version, set())
