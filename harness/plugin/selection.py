"""Which engines a session tests: options and configuration files become a list of candidates."""

from __future__ import annotations

from dataclasses import dataclass

from harness.config import FULL_PRECISION, Config, check_precision_name, find_config, load_config
from harness.engines.registry import check_precision, load_backend
from harness.errors import CapabilityError, ConfigError
from harness.plugin.options import Options
from harness.specs import EngineSpec, RuntimeSpec

DEFAULT_MODEL = "smollm2-135m"


@dataclass(frozen=True)
class Candidate:
    """One engine under test, and the configuration it comes from."""

    config: Config
    spec: EngineSpec
    runtime: RuntimeSpec

    @property
    def id(self) -> str:
        """The engine's id."""
        return self.spec.id


@dataclass(frozen=True)
class Selection:
    """Everything selected for a session, decided without loading a model or a heavy library."""

    candidates: tuple[Candidate, ...]
    batch_sizes: dict[str, tuple[int, ...]]


def select(options: Options) -> Selection:
    """Resolve what is tested.

    Raises:
        ConfigError: an unknown model, engine or precision, or a batch size over the engine's limit.
        CapabilityError: a backend that cannot do a precision here, with the reason.
    """
    paths = list(options.configs) + [find_config(name) for name in options.models]
    configs = [load_config(path) for path in paths or [find_config(DEFAULT_MODEL)]]
    candidates: list[Candidate] = []
    batch_sizes: dict[str, tuple[int, ...]] = {}
    for config in configs:
        if config.name in batch_sizes:
            raise ConfigError(f"model {config.name!r} is selected twice", "give each model one configuration")
        batch_sizes[config.name] = _batch_sizes(config, options)
        for backend in options.engines or (config.file.default_engine,):
            candidates.extend(_candidates(config, backend, options.precisions))
    return Selection(tuple(candidates), batch_sizes)


def _batch_sizes(config: Config, options: Options) -> tuple[int, ...]:
    sizes = options.batch_sizes or tuple(config.file.workload.batch_sizes)
    limit = config.file.limits.max_batch_size
    for size in sizes:
        if size > limit:
            raise ConfigError(
                f"batch size {size} is over limits.max_batch_size {limit} of {config.path}",
                "raise the limit in the configuration or ask for a smaller batch",
            )
    return sizes


def _candidates(config: Config, backend_name: str, precisions: tuple[str, ...]) -> list[Candidate]:
    backend = load_backend(backend_name)
    section = config.file.engines.get(backend_name)
    names = precisions or tuple(section.precisions if section else ())
    if not names:
        raise ConfigError(
            f"{config.path} says no precisions for engine {backend_name!r}",
            f"add engines.{backend_name}.precisions there, or give --precision",
        )
    runtime = config.runtime(backend_name)
    found: dict[str, Candidate] = {}
    for name in names:
        try:
            check_precision_name(name)
        except ValueError as error:
            raise ConfigError(str(error), "see `enginegate doctor` for what works here") from error
        precision = _native_half(backend_name) if name == FULL_PRECISION else name
        check_precision(backend, precision, runtime.kv_precision)
        found[precision] = Candidate(config, config.spec(backend_name, precision), runtime)
    return list(found.values())


def _native_half(backend_name: str) -> str:
    """bf16 where the backend computes in it on this device, else fp16."""
    precisions = load_backend(backend_name).capabilities().precisions
    for name in ("bf16", "fp16"):
        if name in precisions and precisions[name].supported:
            return name
    reasons = "; ".join(f"{name}: {precisions[name].reason}" for name in ("bf16", "fp16") if name in precisions)
    raise CapabilityError(f"engine {backend_name!r} has no half precision here ({reasons})", "give --precision")
