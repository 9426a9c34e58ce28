"""Scripts of this repository, imported from their folder: several folders have a ``page.py``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

from docs_text import REPOSITORY

SCRIPTS = REPOSITORY / "scripts"


@contextmanager
def scripts_of(folder: str) -> Iterator[Callable[[str], ModuleType]]:
    """What imports a module of ``scripts/FOLDER`` by its name; all of them are forgotten in the end."""
    before, names = list(sys.path), {path.stem for path in [*SCRIPTS.glob("*.py"), *(SCRIPTS / folder).glob("*.py")]}
    known = {name: sys.modules.pop(name) for name in names & set(sys.modules)}
    sys.path[:0] = [str(SCRIPTS / folder), str(SCRIPTS)]
    try:
        yield importlib.import_module
    finally:
        sys.path[:] = before
        for name in names & set(sys.modules):
            del sys.modules[name]
        sys.modules.update(known)
