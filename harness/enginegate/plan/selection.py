"""Which engines are meant: names and configuration files become a list of candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from enginegate.config.loading import Config, find_config, load_config
from enginegate.config.project import DEFAULT_MODEL
from enginegate.config.schema import FULL_PRECISION, check_precision_name, split_precision
from enginegate.core.errors import CapabilityError, ConfigError
from enginegate.core.specs import VARIANT_MARK, EngineSpec, RuntimeSpec
from enginegate.engines.registry import capabilities, check_precision, load_backend


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
    """Everything selected, decided without loading a model or a heavy library."""

    candidates: tuple[Candidate, ...]
    batch_sizes: dict[str, tuple[int, ...]]


def names(text: str) -> tuple[str, ...]:
    """The parts of a comma list, each once, in order."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def select(
    *,
    models: Sequence[str] = (),
    configs: Sequence[str | Path] = (),
    engines: Sequence[str] = (),
    precisions: Sequence[str] = (),
    batch_sizes: Sequence[int] = (),
    folder: Path | None = None,
    default: str = DEFAULT_MODEL,
    own: Callable[[Config], Config] = lambda config: config,
    here: Callable[[Config], bool] = lambda _: True,
) -> Selection:
    """Resolve what is tested; what is empty, the configuration file says.

    Args:
        models: names of configurations, in ``folder`` or among those that come with the package.
        configs: configuration files by path.
        engines: backends.
        precisions: precisions, or ``full_prec``.
        batch_sizes: batch sizes of the timed work.
        folder: the project's own configurations.
        default: the model where neither ``models`` nor ``configs`` names one.
        own: gives the configuration that is tested in place of one that was found.
        here: whether its engines run in this Python, which is then asked what it can.

    Raises:
        ConfigError: an unknown model, engine or precision, a batch size over the engine's limit, or a model source that
            cannot be read or names no folder.
        CapabilityError: a backend that cannot do a precision here, with the reason.
    """
    paths = [Path(path) for path in configs] + [find_config(name, folder) for name in models]
    loaded = [own(load_config(path)) for path in paths or [find_config(default, folder)]]
    candidates: list[Candidate] = []
    sizes: dict[str, tuple[int, ...]] = {}
    for config in loaded:
        if config.name in sizes:
            raise ConfigError(f"model {config.name!r} is selected twice", "give each model one configuration")
        config.check_source()
        sizes[config.name] = _batch_sizes(config, batch_sizes)
        for backend in dict.fromkeys(engines or (config.file.default_engine,)):
            candidates.extend(_candidates(config, backend, precisions, here(config)))
    return Selection(tuple(candidates), sizes)


def missing(
    head: Config, base: Config, engines: Sequence[str], precisions: Sequence[str], selected: Sequence[Candidate]
) -> list[str]:
    """Engines that a base's configuration lists and the head's does not, as ``openvino int8_wo@kv8``.

    Args:
        head, base: the configurations.
        engines, precisions: what was asked for; what it leaves out is not missing.
        selected: what is tested, whether or not the head's configuration lists it.
    """
    found = []
    for backend, section in base.file.engines.items():
        if engines and backend not in engines:
            continue
        listed = head.file.engines[backend].precisions if backend in head.file.engines else []
        ours = {_resolved(backend, name) for name in listed}
        ours |= {each.spec.label.removeprefix(f"{backend}-") for each in selected if each.spec.backend == backend}
        asked = {_resolved(backend, name) for name in precisions}
        theirs = dict.fromkeys(_resolved(backend, name) for name in section.precisions)
        found += [f"{backend} {name}" for name in theirs if name not in ours and (not asked or name in asked)]
    return found


def _resolved(backend: str, name: str) -> str:
    """``full_prec`` as what it is here, where that is known."""
    precision, variant = split_precision(name)
    if precision == FULL_PRECISION:
        with suppress(CapabilityError):
            precision = _native_half(backend)
    return f"{precision}{VARIANT_MARK}{variant}" if variant else precision


def _batch_sizes(config: Config, asked: Sequence[int]) -> tuple[int, ...]:
    sizes = tuple(dict.fromkeys(asked or config.file.workload.batch_sizes))
    limit = config.file.limits.max_batch_size
    for size in sizes:
        if size > limit:
            raise ConfigError(
                f"batch size {size} is over limits.max_batch_size {limit} of {config.path}",
                "raise the limit in the configuration or ask for a smaller batch",
            )
    return sizes


def _candidates(config: Config, backend_name: str, precisions: Sequence[str], here: bool) -> list[Candidate]:
    backend = load_backend(backend_name)
    section = config.file.engines.get(backend_name)
    wanted = precisions or tuple(section.precisions if section else ())
    if not wanted:
        raise ConfigError(
            f"{config.path} says no precisions for engine {backend_name!r}",
            f"add engines.{backend_name}.precisions there, or give --precision",
        )
    found: dict[str, Candidate] = {}
    for name in wanted:
        try:
            precision, variant = split_precision(name)
            check_precision_name(precision)
        except ValueError as error:
            raise ConfigError(str(error), "see `enginegate doctor` for what works here") from error
        if precision == FULL_PRECISION:
            precision = _native_half(backend_name)
        runtime = config.runtime(backend_name, variant)
        if here:
            check_precision(backend, precision, runtime.kv_precision)
        candidate = Candidate(config, config.spec(backend_name, precision, variant), runtime)
        other = found.setdefault(candidate.id, candidate)
        if other != candidate:
            raise ConfigError(f"two engines are called {candidate.id}", "give one of them a variant of another name")
    return list(found.values())


def _native_half(backend_name: str) -> str:
    """bf16 where the backend computes in it on this device, else fp16."""
    precisions = capabilities(load_backend(backend_name)).precisions
    for name in ("bf16", "fp16"):
        if name in precisions and precisions[name].supported:
            return name
    reasons = "; ".join(f"{name}: {precisions[name].reason}" for name in ("bf16", "fp16") if name in precisions)
    raise CapabilityError(f"engine {backend_name!r} has no half precision here ({reasons})", "give --precision")
