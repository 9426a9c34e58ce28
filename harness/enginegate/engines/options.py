"""What a backend can be told in a configuration: the common keys of ``engines.<backend>.runtime``, and its own.

A backend with keys of its own derives a model from RuntimeOptions and names it as its class attribute ``options``; its
``runtime_spec(options)`` puts them into a subclass of RuntimeSpec, which its ``load`` then gets. A backend whose
engines fix some of these when they are built has ``build_spec(spec, runtime)``, which puts them into a subclass of
EngineSpec, so that they are part of the engine's key. All three are optional.
"""

from __future__ import annotations

from typing import Any, Literal

from enginegate.core.errors import ConfigError
from enginegate.core.sections import Bytes, Section, Threads, Tokens
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.base import Backend


class RuntimeOptions(Section):
    """The keys that every backend has; the meaning of each is in RuntimeSpec. A backend may refuse values of them."""

    kv_precision: Literal["auto", "fp32", "fp16", "bf16", "fp8", "int8", "int4"] = "auto"
    kv_cache_bytes: Bytes = 0
    tokens_per_block: Tokens | None = None
    activation_precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    threads: Threads = 0
    scheduler_policy: Literal["inflight", "static"] = "inflight"
    chunked_prefill: bool = False
    speculation: Literal["none", "ngram", "draft", "lookahead"] = "none"
    prefix_caching: bool = False
    queue_order: Literal["fcfs", "sjf", "priority"] = "fcfs"

    def common(self) -> dict[str, Any]:
        """The common keys alone, as arguments of RuntimeSpec."""
        return {name: getattr(self, name) for name in RuntimeOptions.model_fields}


def own_keys(model: type[RuntimeOptions]) -> list[str]:
    """The keys that a backend's model has besides the common ones."""
    return [name for name in model.model_fields if name not in RuntimeOptions.model_fields]


def options_model(backend: Backend | type[Backend]) -> type[RuntimeOptions]:
    """The model of a backend's options. Raises ConfigError where what it declares cannot work."""
    model = getattr(backend, "options", RuntimeOptions)
    name = backend.name
    if not (isinstance(model, type) and issubclass(model, RuntimeOptions)):
        raise ConfigError(
            f"backend {name}: its options, {model!r}, are no model derived from RuntimeOptions",
            "derive them from enginegate.engines.options.RuntimeOptions (docs/adding_a_backend.md)",
        )
    if own_keys(model) and not hasattr(backend, "runtime_spec"):
        raise ConfigError(
            f"backend {name} has options of its own ({', '.join(own_keys(model))}) and no runtime_spec to hand them on",
            "give it runtime_spec(options), which returns a subclass of RuntimeSpec (docs/adding_a_backend.md)",
        )
    return model


def runtime_spec(backend: Backend, options: RuntimeOptions) -> RuntimeSpec:
    """How engines of ``backend`` are loaded, from its part of a configuration."""
    hook = getattr(backend, "runtime_spec", None)
    spec: RuntimeSpec = RuntimeSpec(**options.common()) if hook is None else hook(options)
    return spec


def build_spec(backend: Backend, spec: EngineSpec, runtime: RuntimeSpec) -> EngineSpec:
    """The spec by which ``backend`` builds what ``runtime`` asks for; the same where loading decides it all."""
    hook = getattr(backend, "build_spec", None)
    built: EngineSpec = spec if hook is None else hook(spec, runtime)
    return built
