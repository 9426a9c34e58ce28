"""Where folders of this machine lie for a Python that runs elsewhere, as in a container that mounts them otherwise."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from enginegate.core.files import expanded


@dataclass(frozen=True)
class PathMap:
    """Folders by both of their names.

    Attributes:
        pairs: each folder's path on this machine, and its path there. All are absolute.
    """

    pairs: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, written: Mapping[str, str]) -> PathMap:
        """As a configuration has it: ``~`` is the home folder here, and a folder may be named by a link to it.

        Raises ConfigError for a home folder that nobody has.
        """
        named = [(os.path.normpath(expanded(here)), posixpath.normpath(there)) for here, there in written.items()]
        found = [(os.path.realpath(here), there) for here, there in named]
        return cls(tuple(dict.fromkeys([*named, *found])))

    def there(self, path: str) -> str:
        """A path of this machine as it is there; one that lies in no folder named, and other text, as it is."""
        return _moved(path, self.pairs)

    def here(self, path: str) -> str:
        """The other way round."""
        return _moved(path, ((there, here) for here, there in self.pairs))


def _moved(path: str, pairs: Iterable[tuple[str, str]]) -> str:
    """A path below the innermost of the folders that it lies in, moved to that folder's other place."""
    if not path.startswith("/"):
        return path
    clean = posixpath.normpath(path)
    for old, new in sorted(pairs, key=lambda pair: -len(pair[0])):
        root = old.rstrip("/")
        if clean == old or clean.startswith(f"{root}/"):
            return posixpath.normpath(f"{new}/{clean[len(root) :]}")
    return path
