"""What is fetched or made once and kept in the cache, whole and as it was: checkpoints, and files of data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from enginegate.core.cache import Progress, exclusive, explained, staged
from enginegate.core.errors import ModelError
from enginegate.models.digest import folder_digest


def made_once(
    target: Path,
    name: str,
    make: Callable[[Path], None],
    check: Callable[[Path], object],
    *,
    cache: Path,
    progress: Progress,
) -> tuple[Path, str]:
    """The folder ``name`` in ``target``, made now if it is not there or not what it was when it was made; its digest.

    Beside the folder lies ``origin.json`` with the digest it had; both appear together.

    Args:
        target: in the cache.
        name: of the folder.
        make: fills the empty folder that it is given.
        check: raises ModelError where a filled folder cannot be used.
        cache: keeps digests.
        progress: told of waiting, and of damage.
    """
    problem, digest = _look(target, name, check, cache, progress)
    if not problem:
        return target / name, digest
    with exclusive(target, progress):
        problem, digest = _look(target, name, check, cache, progress)
        if problem:
            if target.exists():
                progress(f"warning: {target} is damaged ({problem}): making it again")
            with staged(target) as folder, explained(cache, ModelError):
                (folder / name).mkdir()
                make(folder / name)
                check(folder / name)
                digest = folder_digest(folder / name, cache=None, progress=progress)
                (folder / "origin.json").write_text(json.dumps({"digest": digest}) + "\n", encoding="utf-8")
    return target / name, digest


def _look(target: Path, name: str, check: Callable[[Path], object], cache: Path, progress: Progress) -> tuple[str, str]:
    """What is wrong with a kept folder (empty for nothing), and its digest."""
    try:
        origin = json.loads((target / "origin.json").read_text(encoding="utf-8"))
        check(target / name)
        digest = folder_digest(target / name, cache=cache, progress=progress)
        return ("" if digest == origin["digest"] else "its digest changed"), digest
    except (OSError, ValueError, KeyError, TypeError, ModelError) as error:
        return str(error), ""
