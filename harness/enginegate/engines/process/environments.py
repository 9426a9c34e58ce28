"""Python environments made from a lock: kept in the cache by what decides them, made once, and checked.

``<cache>/environments/<key>/`` is a virtual environment. It cannot be moved, so it is made in its place, under a lock
of its name, and is whole where ``complete.json`` lies in it, which is written last.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from filelock import Timeout

from enginegate.core.cache import Progress, exclusive, explained
from enginegate.core.errors import ConfigError, EngineError, StoreError
from enginegate.core.progress import lasting
from enginegate.core.specs import Limit
from enginegate.machine.processes import last_lines

_COMPLETE = "complete.json"
_LAST_USED = "last_used"
#: An index that has builds of torch with a local version, by that.
_TORCH_INDEX = "https://download.pytorch.org/whl/"
_LOCAL_VERSION = re.compile(r"==[^\s;#]+\+((?:cpu|cu\d+|rocm[\d.]+|xpu))\b")
#: What a lock says of the project itself; the suite's own code comes from here on both sides.
_OWN = re.compile(r"^(-e\b|--editable\b|\.|/|enginegate\b)")


@dataclass(frozen=True)
class Environment:
    """One environment in the cache.

    Attributes:
        key: its name.
        path: its folder.
        lock: the file that it was made from, as it was called.
        size_bytes: on disk.
        last_used: seconds since the epoch.
    """

    key: str
    path: Path
    lock: str
    size_bytes: int
    last_used: float

    @property
    def python(self) -> Path:
        """Its Python."""
        return self.path / "bin" / "python"


def requirements(text: str) -> str:
    """A lock's lines as an installer gets them: without editable and local projects, with the indexes they need."""
    kept, indexes = [], set()
    for line in text.splitlines():
        if _OWN.match(line.strip()):
            continue
        kept.append(line)
        indexes |= {f"--extra-index-url {_TORCH_INDEX}{label}" for label in _LOCAL_VERSION.findall(line)}
    present = {line.strip() for line in kept}
    return "\n".join([*sorted(indexes - present), *kept]) + "\n"


@lru_cache(maxsize=1)
def installed() -> list[str]:
    """A lock of everything that is installed in this Python, the suite itself apart, line by line."""
    lines = {
        f"{name}=={distribution.version}"
        for distribution in metadata.distributions()
        if (name := distribution.metadata["Name"]) and name.lower() != "enginegate" and not _editable(distribution)
    }
    return sorted(lines, key=str.lower)


def _editable(distribution: metadata.Distribution) -> bool:
    with suppress(ValueError):
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        return bool(origin.get("dir_info", {}).get("editable"))
    return False


def environment(
    lock: Path, cache: Path, *, progress: Progress, limit: Limit, python: str = sys.executable
) -> Environment:
    """The environment of a lock, made now where it is not there.

    Args:
        lock: a file of pinned requirements, as pip reads it.
        cache: the cache folder.
        progress: told when it is made or waited for.
        limit: of making it.
        python: what it is made with.

    Raises:
        ConfigError: the lock cannot be read.
        EngineError: it cannot be installed; says the end of what the installer printed.
        StoreError: the cache is full or not writable.
    """
    try:
        text = lock.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the lock {lock} cannot be read: {error}", "name a requirements file") from error
    wanted = requirements(text)
    decides = json.dumps([wanted, platform.python_version(), sysconfig.get_platform()])
    key = hashlib.sha256(decides.encode()).hexdigest()[:24]
    target = cache.absolute() / "environments" / key
    if not (target / _COMPLETE).is_file():
        with explained(target.parent, StoreError), exclusive(target, progress, limit):
            if not (target / _COMPLETE).is_file():
                with lasting(progress, f"making an environment from {lock.name} (once; kept in {target})"):
                    _make(target, wanted, lock, limit, python)
    with suppress(OSError):  # a read-only cache is still good to read from
        (target / _LAST_USED).touch()
    return _described(target)


def _make(target: Path, wanted: str, lock: Path, limit: Limit, python: str) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    file = target / "requirements.txt"
    file.write_text(wanted, encoding="utf-8")
    uv = shutil.which("uv")
    made = target / "bin" / "python"
    if uv:
        steps = [
            [uv, "venv", "--quiet", "--allow-existing", "--python", python, str(target)],
            [uv, "pip", "install", "--quiet", "--index-strategy", "unsafe-best-match", "--python", str(made), "-r"],
        ]
    else:
        steps = [
            [python, "-m", "venv", str(target)],
            [str(made), "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "-r"],
        ]
    try:
        for step in (steps[0], [*steps[1], str(file)]):
            _run(step, lock, limit)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    (target / _COMPLETE).write_text(json.dumps({"lock": str(lock), "made": time.time()}) + "\n", encoding="utf-8")


def _run(command: Sequence[str], lock: Path, limit: Limit) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, timeout=limit.seconds
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"making the environment of {lock} took longer than {limit.seconds:g} s", limit.hint
        ) from error
    if done.returncode:
        printed = last_lines(done.stdout.decode(errors="replace"))
        raise EngineError(
            f"the environment of {lock} cannot be made:\n{printed}",
            "see the last lines above: a version that is not there, an index that is not named, no network",
        )


def environments(cache: Path) -> list[Environment]:
    """Every environment in the cache that is whole, the one used last first."""
    folder = cache.absolute() / "environments"
    found = [_described(path.parent) for path in folder.glob(f"*/{_COMPLETE}")]
    return sorted(found, key=lambda each: -each.last_used)


def prune_environments(cache: Path, keep_bytes: int) -> list[Environment]:
    """Remove the environments used longest ago until the rest fits; gives those that went. One being made now stays."""
    found = environments(cache)
    total, removed = sum(each.size_bytes for each in found), []
    for each in reversed(found):
        if total > keep_bytes:
            with suppress(Timeout), exclusive(each.path):
                (each.path / _COMPLETE).unlink(missing_ok=True)
                shutil.rmtree(each.path)
                total -= each.size_bytes
                removed.append(each)
    return removed


def _described(path: Path) -> Environment:
    lock = ""
    with suppress(OSError, ValueError):
        lock = str(json.loads((path / _COMPLETE).read_text(encoding="utf-8"))["lock"])
    marker = path / _LAST_USED
    used = marker.stat().st_mtime if marker.exists() else 0.0
    size = sum(file.lstat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())
    return Environment(path.name, path, lock, size, used)
