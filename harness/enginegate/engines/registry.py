"""Finds backends by name and says what they can do here, without loading a heavy library."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeAlias

from enginegate.core.errors import CapabilityError, ConfigError, edge
from enginegate.core.spelling import did_you_mean
from enginegate.engines.base import Backend, Capabilities

#: Group in which any installed distribution may offer a backend class.
GROUP = "enginegate.backends"

#: Backends of this repository, so that they are found from a source tree that was installed before they came.
BUILT_IN = {
    "hf": "enginegate.engines.hf.backend:HuggingFaceBackend",
    "hf-graph": "enginegate.engines.hf.graph:GraphBackend",
    "hf-static": "enginegate.engines.hf.static_cache:StaticCacheBackend",
    "openvino": "enginegate.engines.openvino:OpenVinoBackend",
    "vllm": "enginegate.engines.vllm:VllmBackend",
    "trtllm-engine": "enginegate.engines.trtllm.engine_backend:TensorRtEngineBackend",
    "trtllm-torch": "enginegate.engines.trtllm.torch_backend:TensorRtTorchBackend",
}

#: The backend that serves as the reference where a configuration names none.
REFERENCE = "hf"

#: Option names of another project: from a file's content and its path to the content in this suite's own keys, which is
#: unchanged where the file has none of them. Raises ConfigError for an option that it knows and cannot honour.
Dialect: TypeAlias = "Callable[[dict[str, Any], Path], dict[str, Any]]"
#: Group in which any installed distribution may offer a dialect.
DIALECTS = "enginegate.dialects"
#: Dialects that lie beside a backend of this repository.
BUILT_IN_DIALECTS = {"trtllm": "enginegate.engines.trtllm.config_aliases:canonical"}


def _offered(group: str) -> tuple[EntryPoint, ...]:
    """What installed distributions offer in a group. They are looked through once: a session asks dozens of times."""
    return _scanned(entry_points, group, *sys.path)


@cache
def _scanned(scan: Callable[..., Iterable[EntryPoint]], group: str, *_path: str) -> tuple[EntryPoint, ...]:
    """What ``scan`` finds; where it looks is only there so that a package on a new path is found."""
    return tuple(scan(group=group))


def known_backends() -> list[str]:
    """Names that ``load_backend`` accepts, sorted."""
    return sorted({*BUILT_IN, *(entry.name for entry in _offered(GROUP))})


def load_backend(name: str) -> Backend:
    """The backend called ``name``, built in or from an installed entry point.

    Raises ConfigError for an unknown one, CapabilityError for one that cannot be imported or made here.
    """
    offered = {entry.name: entry for entry in _offered(GROUP)}
    if name in BUILT_IN:
        backend = _import(BUILT_IN[name])()
    elif name in offered:
        package = offered[name].dist
        needs = f"install what {package.name if package else 'the package that brings it'} needs, with pip"
        with edge(CapabilityError, f"backend {name} cannot be imported", needs):
            backend = offered[name].load()()
    else:
        known = known_backends()
        raise ConfigError(
            f"there is no backend called {name!r}; known are {', '.join(known)}{did_you_mean(name, known)}",
            "correct the name, or install the package that brings it (docs/adding_a_backend.md)",
        )
    if not isinstance(backend, Backend):
        raise ConfigError(
            f"backend {name} ({type(backend).__module__}) lacks a part of the Backend protocol",
            "implement name, version, capabilities, build and load (docs/adding_a_backend.md)",
        )
    return backend


def translate(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """A configuration's content after every known dialect has read it. Raises ConfigError, naming the file."""
    dialects: dict[str, Dialect] = {name: _import(place) for name, place in BUILT_IN_DIALECTS.items()}
    for entry in _offered(DIALECTS):
        if entry.name not in dialects:
            with edge(
                ConfigError,
                f"{path}: the dialect {entry.name} ({entry.value}) cannot be imported",
                "install what it needs, or remove the package that brings it",
            ):
                dialects[entry.name] = entry.load()
    for name, dialect in dialects.items():
        with edge(ConfigError, f"{path}: the dialect {name} cannot read it", "correct the file, or report it there"):
            content = dialect(content, path)
            if not isinstance(content, dict):
                raise TypeError(f"it gave a {type(content).__name__}, not a mapping")
    return content


def capabilities(backend: Backend) -> Capabilities:
    """What a backend can do here. Raises CapabilityError where it does not say."""
    with _asked(backend, "does not say what it can do here"):
        found = backend.capabilities()
        if not isinstance(found, Capabilities):
            raise TypeError(f"it gave a {type(found).__name__}, not Capabilities")
    return found


def version(backend: Backend) -> str:
    """The versions of a backend's libraries. Raises CapabilityError where it does not say them."""
    with _asked(backend, "does not say its libraries' versions"):
        found = backend.version()
        if not isinstance(found, str):
            raise TypeError(f"it gave a {type(found).__name__}, not a text")
    return found


def _asked(backend: Backend, problem: str) -> AbstractContextManager[None]:
    name = getattr(backend, "name", type(backend).__name__)
    return edge(CapabilityError, f"backend {name} {problem}", "report it against the package that brings the backend")


def _import(place: str) -> Any:
    """What ``module:name`` names."""
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)


def check_precision(backend: Backend, precision: str, kv_precision: str = "auto") -> None:
    """Raise CapabilityError unless ``backend`` has this weight and KV precision on this machine."""
    able = capabilities(backend)
    for kind, asked, known in (
        ("precision", precision, able.precisions),
        ("KV precision", kv_precision, able.kv_precisions),
    ):
        if kind == "KV precision" and asked == "auto":
            continue
        working = ", ".join(name for name, capability in known.items() if capability.supported)
        instead = f"take one that works here: {working}" if working else "take another backend (enginegate doctor)"
        capability = known.get(asked)
        if capability is None:
            raise CapabilityError(
                f"backend {backend.name} has no {kind} {asked!r}{did_you_mean(asked, known)}", instead
            )
        if not capability.supported:
            raise CapabilityError(
                f"backend {backend.name} cannot do {kind} {asked} here: {capability.reason}",
                f"fix that, or {instead}",
            )
