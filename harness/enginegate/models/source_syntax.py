"""How the source of a model or of a data set is written.

Reading it asks no disk and no network, so a typo is found before anything else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from enginegate.core.errors import ModelError

_HUB = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+|[\w.-]+)@(?P<revision>[\w./-]+)", re.ASCII)
_PYPI = re.compile(r"(?P<package>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9][A-Za-z0-9.+!_-]*)")
_SPLIT = re.compile(r"(?:(?P<config>[\w.-]+)/)?(?P<split>[\w.-]+)", re.ASCII)
#: Options of a random model, each at most once.
_OPTIONS = {"seed": re.compile(r"[0-9]{1,9}"), "layers": re.compile(r"[1-9][0-9]{0,2}")}
#: How the name of a GGUF file ends.
GGUF = ".gguf"


@dataclass(frozen=True)
class PathSource:
    """``path:DIR`` or ``path:FILE.gguf``; as it is written."""

    folder: str

    @property
    def is_gguf(self) -> bool:
        """Whether it is named as a GGUF file is; a folder of such a name is one all the same."""
        return self.folder.lower().endswith(GGUF)


@dataclass(frozen=True)
class HubSource:
    """``hub:ORG/NAME@REVISION``, or one file of it: ``hub:ORG/NAME@REVISION#FILE.gguf``."""

    repository: str
    revision: str
    file: str = ""


@dataclass(frozen=True)
class PypiSource:
    """``pypi:PACKAGE==VERSION``."""

    package: str
    version: str


@dataclass(frozen=True)
class RandomSource:
    """``random:GEOMETRY?seed=N&layers=M``. ``layers``: None for as many as the geometry has."""

    geometry: str
    seed: int = 0
    layers: int | None = None


Source = PathSource | HubSource | PypiSource | RandomSource


@dataclass(frozen=True)
class HubSplit:
    """``hub:DATASET@REVISION#CONFIG/SPLIT``; ``config``: empty for a data set that has one alone."""

    data: HubSource
    config: str
    split: str


@dataclass(frozen=True)
class WheelFile:
    """``pypi:PACKAGE==VERSION#FILE``; the file as the wheel names it."""

    wheel: PypiSource
    file: str


DataSource = PathSource | HubSplit | WheelFile


def read_source(source: str) -> Source:
    """Read a source as it is written in a configuration. Raises ModelError with how to write it."""
    kind, _, rest = source.partition(":")
    if kind == "path" and rest:
        return PathSource(rest)
    if kind == "hub" and rest:
        repository, mark, file = rest.partition("#")
        found = _read_hub(repository)
        return replace(found, file=_read_file(rest, file)) if mark else found
    if kind == "pypi" and rest:
        return _read_pypi(rest)
    if kind == "random" and rest:
        return _read_random(rest)
    raise ModelError(
        f"unknown model source {source!r}",
        "write path:DIR, path:FILE.gguf, hub:ORG/NAME@REVISION, hub:ORG/NAME@REVISION#FILE.gguf, "
        "pypi:PACKAGE==VERSION or random:GEOMETRY?seed=N",
    )


def read_data_source(source: str) -> DataSource:
    """Read the source of a data set; what begins with no ``path:``, ``hub:`` or ``pypi:`` is a path.

    Raises ModelError with how to write it.
    """
    kind, _, rest = source.partition(":")
    origin, _, part = rest.partition("#")
    if kind == "hub":
        match = _SPLIT.fullmatch(part)
        if match is None:
            raise ModelError(f"{source} names no split", "write hub:DATASET@REVISION#CONFIG/SPLIT, or #SPLIT alone")
        return HubSplit(_read_hub(origin), match["config"] or "", match["split"])
    if kind == "pypi":
        if not part:
            raise ModelError(f"{source} names no file of the wheel", "write pypi:PACKAGE==VERSION#FOLDER/FILE")
        return WheelFile(_read_pypi(origin), part)
    return PathSource(rest if kind == "path" and rest else source)


def _read_hub(rest: str) -> HubSource:
    match = _HUB.fullmatch(rest)
    if match is None:
        raise ModelError(
            f"hub:{rest} does not name a revision, so it could be another one tomorrow"
            if "@" not in rest
            else f"hub:{rest} does not name a repository and its revision",
            "write hub:ORG/NAME@COMMIT (the commit hash is under 'Files and versions' on its page)",
        )
    return HubSource(**match.groupdict())


def _read_file(rest: str, file: str) -> str:
    """The one file of a repository that a model is made of, as the repository names it."""
    path = PurePosixPath(file)
    if not file.lower().endswith(GGUF) or path.is_absolute() or ".." in path.parts or "\\" in file:
        raise ModelError(
            f"hub:{rest}: {file!r} names no GGUF file of the repository",
            "write hub:ORG/NAME@COMMIT#FILE.gguf, the file as 'Files and versions' lists it; a whole checkpoint is "
            "named without #",
        )
    return file


def _read_pypi(rest: str) -> PypiSource:
    match = _PYPI.fullmatch(rest)
    if match is None:
        raise ModelError(f"pypi:{rest} does not name one version", "write pypi:PACKAGE==VERSION")
    return PypiSource(**match.groupdict())


def _read_random(rest: str) -> RandomSource:
    geometry, _, query = rest.partition("?")
    pairs = [part.partition("=") for part in query.split("&")] if query else []
    options = {name: value for name, _, value in pairs}
    sound = all(name in _OPTIONS and _OPTIONS[name].fullmatch(value) for name, value in options.items())
    if not sound or len(options) < len(pairs):
        raise ModelError(
            f"random:{rest} cannot be read",
            "write random:GEOMETRY?seed=N, or random:GEOMETRY?seed=N&layers=M, with whole numbers, each given once",
        )
    return RandomSource(geometry, **{name: int(value) for name, value in options.items()})
