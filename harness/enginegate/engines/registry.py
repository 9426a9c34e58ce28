"""Finds backends by name and says what they can do here, without loading a heavy library."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeAlias

from enginegate.core.errors import CapabilityError, ConfigError
from enginegate.core.spelling import did_you_mean
from enginegate.engines.base import Backend

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


def known_backends() -> list[str]:
    """Names that ``load_backend`` accepts, sorted."""
    return sorted({*BUILT_IN, *(entry.name for entry in entry_points(group=GROUP))})


def load_backend(name: str) -> Backend:
    """The backend called ``name``, built in or from an installed entry point. Raises ConfigError for an unknown one."""
    offered: dict[str, EntryPoint] = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name in BUILT_IN:
        backend = _import(BUILT_IN[name])()
    elif name in offered:
        try:
            backend = offered[name].load()()
        except (ImportError, AttributeError) as error:
            package = offered[name].dist
            raise CapabilityError(
                f"backend {name} cannot be imported: {error}",
                f"install what {package.name if package else 'the package that brings it'} needs, with pip",
            ) from error
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
    for entry in entry_points(group=DIALECTS):
        if entry.name not in dialects:
            try:
                dialects[entry.name] = entry.load()
            except (ImportError, AttributeError) as error:
                raise ConfigError(
                    f"{path}: the dialect {entry.name} ({entry.value}) cannot be imported: {error}",
                    "install what it needs, or remove the package that brings it",
                ) from error
    for dialect in dialects.values():
        content = dialect(content, path)
    return content


def _import(place: str) -> Any:
    """What ``module:name`` names."""
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)


def check_precision(backend: Backend, precision: str, kv_precision: str = "auto") -> None:
    """Raise CapabilityError unless ``backend`` has this weight and KV precision on this machine."""
    capabilities = backend.capabilities()
    for kind, asked, known in (
        ("precision", precision, capabilities.precisions),
        ("KV precision", kv_precision, capabilities.kv_precisions),
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
