"""The project that a command works in: the nearest folder whose pytest ini says ``enginegate = true``.

pytest itself finds its root folder and hands over the ini's values; this is for what has no pytest, as ``enginegate
accept``. It imports the standard library alone, since every session of pytest does where the package is installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from enginegate.config.ini import INI_MODEL, read_ini

DEFAULT_MODEL = "smollm2-135m"


@dataclass(frozen=True)
class Project:
    """A folder with its baselines, runs and configurations, and the model that it tests by default."""

    root: Path
    model: str = DEFAULT_MODEL

    @property
    def baselines(self) -> Path:
        """The folder of accepted baselines."""
        return self.root / "baselines"

    @property
    def runs(self) -> Path:
        """The folder of run records."""
        return self.root / "runs"


def find_project(start: Path | None = None) -> Project:
    """The project of ``start`` (default: the working directory), which is ``start`` itself where none is above it.

    Raises ConfigError where an ini on the way cannot be read.
    """
    here = (start or Path.cwd()).absolute()
    return nearest_project(here) or Project(here)


def nearest_project(start: Path) -> Project | None:
    """The nearest of ``start`` and the folders above it that uses enginegate. Raises ConfigError for a broken ini."""
    for folder in (start, *start.parents):
        found = read_ini(folder)
        if found is not None and found.on:
            return Project(folder, str(found.values.get(INI_MODEL, DEFAULT_MODEL)))
    return None


def own_folder(package: str) -> Path:
    """The folder of one of the packages that hold data, ``enginegate.configs`` or ``enginegate.fixtures.data``."""
    return Path(str(resources.files(package)))
