"""What the adapters use of TensorRT-LLM: which names exist in which version, and where that was read.

The one place that knows versions. ``facts_data`` holds the table; ``Api`` resolves classes by it; the strict fake in
the tests is built from it; ``source_check`` compares it with an unpacked package.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import import_module, metadata
from typing import Any

from enginegate.core.errors import CapabilityError
from enginegate.engines.trtllm.facts import ENGINE_REMOVED, FIRST, Fact, Thing
from enginegate.engines.trtllm.facts_data import FACTS, THINGS

#: Last stable release that builds engines.
LAST_WITH_ENGINE = "1.2.1"

INSTALL = "install it in NVIDIA's container or with scripts/setup_tensorrt_llm.sh (docs/tensorrt-llm.md)"


def release(version: str) -> tuple[int, ...]:
    """Numbers of a version; a pre-release counts as its release: ``1.3.0rc5`` is (1, 3, 0).

    Raises CapabilityError where the text begins with no number.
    """
    found = re.match(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", version)
    if found is None:
        raise CapabilityError(f"{version!r} is no version of TensorRT-LLM", INSTALL)
    return tuple(int(part or 0) for part in found.groups())


def in_range(version: str, since: str, before: str) -> bool:
    """Whether ``since <= version < before``."""
    return release(since) <= release(version) and (not before or release(version) < release(before))


def things(version: str) -> dict[str, Thing]:
    """What exists in a version, by name."""
    return {thing.name: thing for thing in THINGS if in_range(version, thing.since, thing.before)}


def facts(version: str) -> tuple[Fact, ...]:
    """What the adapters may use of a version."""
    known = things(version)
    return tuple(fact for fact in FACTS if fact.thing in known and in_range(version, fact.since, fact.before))


@lru_cache(maxsize=16)
def _names(version: str) -> frozenset[tuple[str, str, str]]:
    return frozenset((fact.thing, fact.kind, fact.name) for fact in facts(version))


def offers(version: str, thing: str, kind: str, name: str) -> bool:
    """Whether a version has one name."""
    return (thing, kind, name) in _names(version)


def installed_version() -> str:
    """Version of the installed TensorRT-LLM, or empty. Imports nothing of it."""
    try:
        return metadata.version("tensorrt_llm")
    except metadata.PackageNotFoundError:
        return ""


def version_problem(backend: str, version: str) -> str:
    """Why ``backend`` cannot work with an installed version, with the hint; empty where it can."""
    if not version:
        return f"tensorrt_llm is not installed: {INSTALL}"
    if release(version) < release(FIRST):
        return f"TensorRT-LLM {version} is older than {FIRST}, whose API the adapters speak: {INSTALL}"
    if backend == "trtllm-engine" and release(version) >= release(ENGINE_REMOVED):
        return (
            f"the TensorRT engine backend was removed upstream in the {ENGINE_REMOVED} line and TensorRT-LLM {version} "
            f"is installed: use the backend trtllm-torch, or install tensorrt-llm<{ENGINE_REMOVED} "
            f"(the last with engines is {LAST_WITH_ENGINE})"
        )
    return ""


class Api:
    """TensorRT-LLM's classes, found by the contract for the installed version.

    Raises CapabilityError where the version has no such backend; ``make`` passes on whatever a constructor raises.
    """

    def __init__(self, backend: str) -> None:
        self.version = installed_version()
        problem = version_problem(backend, self.version)
        if problem:
            raise CapabilityError(f"backend {backend} does not work here: {problem}", "fix that")
        self._prefix = backend.removeprefix("trtllm-")

    def cls(self, name: str) -> Any:
        """The class of that name; ``LLM`` is the backend's own."""
        known = things(self.version)
        thing = known.get(f"{self._prefix}.{name}") or known.get(name)
        if thing is None:
            raise CapabilityError(
                f"TensorRT-LLM {self.version} has no {name} for the {self._prefix} backend",
                "see harness/enginegate/engines/trtllm/facts_data.py, and drop what needs it from the configuration",
            )
        return getattr(import_module(thing.module), name)

    def make(self, name: str, **keywords: Any) -> Any:
        """An instance of the class of that name; always by keywords, as positional ones changed over versions."""
        return self.cls(name)(**keywords)

    def takes(self, name: str, keyword: str) -> bool:
        """Whether this version's constructor has a keyword."""
        own = f"{self._prefix}.{name}"
        return offers(self.version, own if own in things(self.version) else name, "keyword", keyword)
