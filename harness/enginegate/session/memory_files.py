"""The engines whose memory is planned: from a configuration, or from a config.json alone. Nothing is fetched for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from enginegate.config.loading import Config, find_config, load_config
from enginegate.config.schema import FULL_PRECISION, check_precision_name, split_precision
from enginegate.core.cache import cache_folder
from enginegate.core.errors import ConfigError, EngineGateError
from enginegate.core.progress import Progress
from enginegate.core.specs import EngineSpec, RuntimeSpec
from enginegate.engines.base import Backend
from enginegate.engines.checkpoint import Geometry
from enginegate.engines.memory_law import MemoryLaw, memory_law
from enginegate.engines.registry import capabilities, load_backend
from enginegate.measure.memory_model import MemoryModel, memory_model, read_memory_model
from enginegate.models.randomized import GEOMETRIES
from enginegate.models.source_syntax import PathSource, RandomSource, read_source
from enginegate.models.sources import resolve

#: Where neither a configuration nor an option names a precision.
_PRECISION = "fp16"


@dataclass(frozen=True)
class Subject:
    """One engine whose memory is planned.

    Attributes:
        backend, spec, runtime: the engine.
        model: what of its model decides its memory.
        kv_format: element type of its KV cache in the engine's own words; empty for the runtime's.
        config: where it comes from; None for a config.json alone.
        note: where the model's shapes are from, where that is not its checkpoint.
    """

    backend: Backend
    spec: EngineSpec
    runtime: RuntimeSpec
    model: MemoryModel
    kv_format: str
    config: Config | None
    note: str

    @property
    def geometry(self) -> Geometry:
        """Of the model's attention."""
        return self.model.geometry

    def sized(self, batch_size: int, tokens: int) -> EngineSpec:
        """The engine for sequences of ``tokens`` tokens, of which the prompt is all but the last one."""
        return replace(self.spec, max_batch_size=batch_size, max_input_len=max(1, tokens - 1), max_output_len=1)

    def law(self, batch_size: int, tokens: int) -> MemoryLaw:
        """Its memory law at that size."""
        spec = self.sized(batch_size, tokens)
        return memory_law(self.backend, spec, self.runtime, self.geometry, self.kv_format)


def subjects(
    *,
    config: str,
    model: str,
    engines: Sequence[str],
    precisions: Sequence[str],
    kv_format: str,
    folder: Path,
    default: str,
    progress: Progress,
) -> list[Subject]:
    """The engines that are meant.

    Args:
        config: a configuration file by path; empty for none.
        model: a configuration by name, a checkpoint's folder or a config.json; empty for none.
        engines, precisions: as for a session; empty for what the configuration says.
        kv_format: see Subject.
        folder: the project's own configurations.
        default: the model where none is named.
        progress: told where a model is fetched.

    Raises:
        EngineGateError: something is not known, cannot be read, or has no law.
    """
    if config and model:
        raise ConfigError("--config and --model both name a model", "give one of them")
    path = Path(model).expanduser()
    bare = bool(model) and (path.exists() or "/" in model or path.suffix == ".json")
    found = None if bare else load_config(Path(config) if config else find_config(model or default, folder))
    name = path.resolve().parent.name if path.suffix == ".json" else path.resolve().name
    if found is None:
        shapes, note = read_memory_model(path), ""
    else:
        shapes, note = _shapes(found, progress)
    result = []
    for engine in dict.fromkeys(engines or ([found.file.default_engine] if found else ["openvino"])):
        backend = load_backend(engine)
        section = found.file.engines.get(engine) if found else None
        wanted = precisions or (section.precisions if section else ()) or (_PRECISION,)
        for precision, variant in dict.fromkeys(_resolved(backend, each) for each in wanted):
            spec = found.spec(engine, precision, variant) if found else EngineSpec(name, engine, precision)
            runtime = found.runtime(engine, variant) if found else RuntimeSpec()
            result.append(Subject(backend, spec, runtime, shapes, kv_format, found, note))
    return result


def _resolved(backend: Backend, name: str) -> tuple[str, str]:
    """Precision and variant; ``full_prec`` as the half that the backend computes in here, else fp16."""
    try:
        precision, variant = split_precision(name)
        check_precision_name(precision)
    except ValueError as error:
        raise ConfigError(str(error), "see `enginegate doctor` for what there is") from error
    if precision == FULL_PRECISION:
        able = capabilities(backend).precisions
        precision = next((half for half in ("bf16", "fp16") if half in able and able[half].supported), _PRECISION)
    return precision, variant


def _shapes(config: Config, progress: Progress) -> tuple[MemoryModel, str]:
    """The model of a configuration: its folder, the geometry of a random one, a known shape of its name, or fetched."""
    source = read_source(config.file.model.source)
    if isinstance(source, RandomSource):
        shape = GEOMETRIES.get(source.geometry)
        if shape is not None:
            shape = shape if source.layers is None else shape.with_layers(source.layers)
            return memory_model(shape.config, config.file.model.source), ""
    if isinstance(source, PathSource) and not source.is_gguf:
        return read_memory_model(config.resolve(source.folder)), ""
    if config.name in GEOMETRIES:
        note = f"shapes of random:{config.name}; the checkpoint itself was not looked at"
        return memory_model(GEOMETRIES[config.name].config, config.name), note
    try:
        found = resolve(
            config.file.model.source,
            cache=cache_folder(),
            sha256=config.file.model.sha256,
            plain=False,
            progress=progress,
        )
    except EngineGateError as error:
        hint = f"{error.hint}; or give --model the path of its config.json, which is all that is needed"
        raise type(error)(error.problem, hint) from error
    return read_memory_model(found.path), ""
