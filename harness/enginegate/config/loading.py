"""Configuration: one YAML file per model becomes frozen, validated values. Unknown keys are refused."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from enginegate.config.data_section import DATA_KEYS, DataSection, QuestionsSection
from enginegate.config.model_fit import config_of, config_of_random, too_long
from enginegate.config.names import Backends, unknown_names
from enginegate.config.problems import explained
from enginegate.config.project import own_folder
from enginegate.config.reading import read_yaml
from enginegate.config.schema import ConfigFile, EnginesSection, Floors, split_precision
from enginegate.core.errors import CapabilityError, ConfigError, EngineGateError, ModelError, edge, explained_by
from enginegate.core.files import expanded
from enginegate.core.specs import VARIANT_MARK, EngineSpec, QuantizationSpec, RuntimeSpec, Timeouts, Workload
from enginegate.core.spelling import did_you_mean
from enginegate.engines.options import build_spec, options_model, runtime_spec
from enginegate.engines.registry import load_backend, translate
from enginegate.models.source_syntax import PathSource, RandomSource, read_data_source, read_source


@dataclass(frozen=True)
class Config:
    """A validated configuration file and the folder its relative paths start from.

    ``otherwise``: a folder from which they start where there is nothing: of an earlier commit's file, which names what
    is not in the repository, as a checkpoint.
    """

    path: Path
    file: ConfigFile
    otherwise: Path | None = None

    @property
    def name(self) -> str:
        """The model's name."""
        return self.file.model.name

    def resolve(self, relative: str) -> Path:
        """A path of the file, made absolute; ``~`` is the home folder.

        The suite's own data, which are the defaults, are found from anywhere.
        """
        path = (self.path.parent / expanded(relative)).resolve()
        try:
            if self.otherwise is not None and not path.exists():
                path = (self.otherwise / expanded(relative)).resolve()
            if path.exists() or not relative.startswith(_OWN_DATA):
                return path
        except OSError as error:  # in a folder that this user may not look into
            raise explained_by(error, ConfigError, f"{self.path}: {relative!r} cannot be looked for") from error
        own = own_folder("enginegate.fixtures.data") / relative.removeprefix(_OWN_DATA)
        return own if own.exists() else path

    def data(self, key: str) -> DataSection:
        """What ``quality.KEY`` names (prompts, articles, passages, questions), as a section."""
        named = getattr(self.file.quality, key)
        if isinstance(named, DataSection):
            return named
        return QuestionsSection(source=named) if key == "questions" else DataSection(source=named)

    def data_source(self, written: str) -> str:
        """A source of data as ``resolve_data`` takes it: a path in it is absolute. Raises ConfigError."""
        try:
            source = read_data_source(written)
        except ModelError as error:
            raise ConfigError(f"{self.path}: {error.problem}", error.hint) from error
        return f"path:{self.resolve(source.folder)}" if isinstance(source, PathSource) else written

    def spec(self, backend: str, precision: str, variant: str = "") -> EngineSpec:
        """The engine that this configuration asks of ``backend`` in ``precision``.

        One over several devices is a variant of its own, ``tp2`` where it has no other name. Raises ConfigError for a
        variant that the configuration does not have.
        """
        variant = self._named(backend, variant)
        section = self._section(backend, variant)
        own = section.variants[variant].tensor_parallel if variant else None
        devices = own or self.file.limits.tensor_parallel
        quantization = section.quantization
        calibration = self.resolve(quantization.calibration)
        limits = self.file.limits
        spec = EngineSpec(
            model=self.name,
            backend=backend,
            precision=precision,
            quantization=QuantizationSpec(
                group_size=quantization.group_size,
                calibration=str(calibration),
                calibration_samples=quantization.calibration_samples,
                calibration_digest=_digest(calibration),
            ),
            max_batch_size=limits.max_batch_size,
            max_input_len=limits.max_input_len,
            max_output_len=limits.max_output_len,
            tensor_parallel=devices,
            variant=variant or (f"tp{devices}" if devices > 1 else ""),
        )
        return build_spec(load_backend(backend), spec, self.runtime(backend, variant))

    def reference_spec(self, backend: str, precision: str) -> EngineSpec:
        """The engine of a reference: the plain one, on one device."""
        return replace(self.spec(backend, precision), tensor_parallel=1, variant="")

    def runtime(self, backend: str, variant: str = "") -> RuntimeSpec:
        """How engines of ``backend`` are loaded: the backend's own kind of RuntimeSpec where it has options of its own.

        Raises ConfigError for an unknown backend or variant, CapabilityError for one that cannot be imported here.
        """
        found, variant = load_backend(backend), self._named(backend, variant)
        listed = backend in self.file.engines
        return runtime_spec(found, self._section(backend, variant).runtime if listed else options_model(found)())

    def _named(self, backend: str, variant: str) -> str:
        """A variant's name; "" for ``tp2`` where that is the plain engine's own, over two devices."""
        section = self.file.engines.get(backend)
        listed = section is not None and variant in section.variants
        return "" if variant == f"tp{self.file.limits.tensor_parallel}" and not listed else variant

    def _section(self, backend: str, variant: str) -> EnginesSection:
        section = self.file.engines.get(backend, EnginesSection(precisions=["fp32"]))
        try:
            return section.section(variant)
        except ValueError as error:
            raise ConfigError(
                f"{self.path}: engines.{backend}: {error}", f"add it under engines.{backend}.variants"
            ) from error

    def check_source(self) -> None:
        """Raise ConfigError unless the model's source can be read, and a folder or file that it names is there."""
        written = self.file.model.source
        problem = f"{self.path}: model.source {written!r} cannot be used"
        with edge(ConfigError, problem, "correct it in the configuration"):
            try:
                source = read_source(written)
            except ModelError as error:
                raise ConfigError(f"{self.path}: model.source: {error.problem}", error.hint) from error
            if not isinstance(source, PathSource):
                return
            place = self.resolve(source.folder)
            if not (place.is_dir() or (source.is_gguf and place.is_file())):
                raise ConfigError(
                    f"{self.path}: model.source: no checkpoint at {place}: there is no such "
                    f"{'file' if source.is_gguf else 'folder'}",
                    "correct the path, which starts from the configuration's folder",
                )

    def workload(self, batch_size: int) -> Workload:
        """The timed work at one batch size."""
        work = self.file.workload
        return Workload(batch_size, work.input_len, work.output_len, work.seed)

    def timeouts(self) -> Timeouts:
        """How long the session waits for a child process, by phase."""
        return Timeouts(**self.file.timeouts.model_dump())

    def floors(self, spec: EngineSpec) -> Floors:
        """The portable floors of one engine; empty where the file has none. A named variant has floors of its own."""
        section = self.file.engines.get(spec.backend)
        named = section is not None and spec.variant in section.variants
        name = f"{spec.precision}{VARIANT_MARK}{spec.variant}" if named else spec.precision
        return self.file.floors.get(spec.backend, {}).get(name, Floors())


#: How the defaults name the suite's own data.
_OWN_DATA = "../fixtures/data/"
_CONFIGS = "enginegate.configs"


def load_config(path: Path, otherwise: Path | None = None) -> Config:
    """Read and validate one configuration file. Raises ConfigError naming the file, the key and the hint.

    Every backend that the file names must be known; its libraries need not be there. The ``runtime`` section of one
    that is installed but cannot be imported here is not looked at: whoever selects that backend is told why.
    """
    path = expanded(path)
    raw, problems = read_yaml(path)
    try:
        backends = Backends()
        content, wrong = _read_runtimes(translate(raw, path), backends)
    except ConfigError as error:
        if problems:
            raise _unusable(path, [*problems, f"  {error.problem}: {error.hint}"]) from error
        raise
    problems += [*wrong, *unknown_names(content, backends)]
    try:
        config = Config(path.resolve(), ConfigFile.model_validate(content), otherwise)
    except ValidationError as error:
        raise _unusable(path, [*problems, *explained(error, ConfigFile)]) from error
    problems += [*_contradictions(config.file), *_missing_files(config), *_missing_tasks(config)]
    problems += _misfits(config)
    if problems:
        raise _unusable(path, problems)
    return config


def find_config(name: str, folder: Path | None = None) -> Path:
    """The configuration file of a model name: one in ``folder``, else one that comes with the package.

    Raises ConfigError listing the known names.
    """
    folders = [*([folder] if folder else []), own_folder(_CONFIGS)]
    for place in folders:
        try:
            if (place / f"{name}.yaml").is_file():
                return place / f"{name}.yaml"
        except (OSError, ValueError):  # a name that no file can have
            continue
    known = sorted({file.stem for place in folders for file in place.glob("*.yaml")})
    raise ConfigError(
        f"unknown model {name!r}: no {name}.yaml in {' or '.join(map(str, folders))}{did_you_mean(name, known)}",
        f"use one of: {', '.join(known) or 'none'}; or --config FILE for a file of your own",
    )


def _read_runtimes(content: dict[str, Any], backends: Backends) -> tuple[dict[str, Any], list[str]]:
    """The content with each ``runtime`` section read by its backend's own model, and what is wrong with them."""
    engines = content.get("engines")
    if not isinstance(engines, dict):
        return content, []
    read: dict[Any, Any] = {}
    problems: list[str] = []
    for name, section in engines.items():
        read[name] = section
        if name not in backends.names:
            problems.append(backends.unknown(f"engines.{name}", str(name)))
        elif isinstance(section, dict):
            read[name] = {key: value for key, value in section.items() if key != "runtime"}
            try:
                model = options_model(load_backend(name))
                read[name]["runtime"] = model.model_validate(section.get("runtime", {}))
            except CapabilityError:  # whoever selects it gets this error
                continue
            except ValidationError as error:
                has = f"; backend {name} has {', '.join(model.model_fields)}"
                problems += explained(error, model, f"engines.{name}.runtime", has)
    return {**content, "engines": read}, problems


#: Problems that one error lists.
_LISTED = 40


def _unusable(path: Path, problems: list[str]) -> ConfigError:
    lines = list(dict.fromkeys(problems))
    rest = [f"  and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    listed = "\n".join([*lines[:_LISTED], *rest]).encode("utf-8", "backslashreplace").decode()  # keys may be anything
    return ConfigError(f"configuration {path} is not usable:\n{listed}", "fix the named keys")


def _contradictions(file: ConfigFile) -> Iterator[str]:
    """Numbers of different sections that cannot go together."""
    limits, work, quality = file.limits, file.workload, file.quality
    for size in work.batch_sizes:
        if size > limits.max_batch_size:
            over = f"{size} is over limits.max_batch_size {limits.max_batch_size}"
            yield f"  workload.batch_sizes: {over}: raise the limit, or take a smaller batch"
    questions = quality.questions
    held = questions.examples if isinstance(questions, QuestionsSection) else None
    if isinstance(held, int) and held < quality.num_fewshot:
        over = f"{quality.num_fewshot} are over the {held} of each subject that quality.questions.examples holds out"
        yield f"  quality.num_fewshot: {over}: hold out as many, or show fewer"
    lengths = [("workload.input_len", work.input_len, "max_input_len")]
    lengths += [("workload.output_len", work.output_len, "max_output_len")]
    for key in ("input_len", "output_len"):
        asked = getattr(file.serving, key)
        lengths += [(f"serving.{key}", asked, f"max_{key}")] if asked is not None else []
    lengths += [
        (f"quality.{key}", getattr(quality, key), "max_output_len")
        for key in ("similarity_tokens", "summary_tokens")
        if key in quality.model_fields_set  # the defaults matter to whoever tests quality alone
    ]
    for key, section in (("kv_cache", file.kv_cache),):
        if section.batch_size is not None and section.batch_size > limits.max_batch_size:
            over = f"{section.batch_size} is over limits.max_batch_size {limits.max_batch_size}"
            yield f"  {key}.batch_size: {over}: raise the limit, or take a smaller batch"
        lengths += [
            (f"{key}.{name}", length, f"max_{name}")
            for name in ("input_len", "output_len")
            if (length := getattr(section, name)) is not None
        ]
    scaling = file.scaling
    for number, size in enumerate(scaling.batch_sizes or ()):
        if size > limits.max_batch_size:
            over = f"{size} is over limits.max_batch_size {limits.max_batch_size}"
            yield f"  scaling.batch_sizes.{number}: {over}: raise the limit, or leave that batch size out"
    if scaling.knee is not None and scaling.batch_sizes is not None and scaling.knee not in scaling.batch_sizes:
        yield f"  scaling.knee: {scaling.knee} is none of scaling.batch_sizes {scaling.batch_sizes}: name one of them"
    lengths += [
        (f"scaling.{name}s.{number}", length, f"max_{name}")
        for name in ("input_len", "output_len")
        for number, length in enumerate(getattr(scaling, f"{name}s") or ())
    ]
    for key, length, limit in lengths:
        if length > getattr(limits, limit):
            over = f"{length} tokens are over limits.{limit} {getattr(limits, limit)}"
            yield f"  {key}: {over}: raise the limit, or ask for fewer"


def _missing_files(config: Config) -> Iterator[str]:
    """Data that is not where the file says; what must be fetched is not looked for. The questions may be a folder."""
    named: dict[str, str] = {}
    for key in DATA_KEYS:
        section = config.data(key)
        written = isinstance(getattr(config.file.quality, key), str)
        named[f"quality.{key}" if written else f"quality.{key}.source"] = section.source
        if isinstance(section, QuestionsSection) and isinstance(section.examples, str):
            named[f"quality.{key}.examples"] = section.examples
    for backend, engines in config.file.engines.items():
        for variant in ("", *engines.variants):
            key = f"engines.{backend}.{f'variants.{variant}.' if variant else ''}quantization.calibration"
            named[key] = engines.section(variant).quantization.calibration
    for key in ("trace", "lengths"):
        name = getattr(config.file.serving, key)
        named |= {f"serving.{key}": name} if name is not None else {}
    for key, name in named.items():
        try:
            source = read_data_source(name) if key.startswith("quality.") else PathSource(name)
            if not isinstance(source, PathSource):
                continue
            path = config.resolve(source.folder)
            usable = path.is_file() or (key.startswith("quality.questions") and path.is_dir())
        except ModelError as error:
            yield f"  {key}: {error.problem}; {error.hint}"
        except (ConfigError, OSError, ValueError, RuntimeError) as error:  # a name that no file can have, a circle
            yield f"  {key}: {name!r} cannot be a file: {_in_short(error)}"
        else:
            if not usable:
                yield f"  {key}: there is no file {path}: correct the path (from the configuration's folder)"


def _missing_tasks(config: Config) -> Iterator[str]:
    """A folder of lm-eval's tasks that is not there."""
    name = config.file.quality.lm_eval.include_path
    if name is None:
        return
    try:
        path = config.resolve(name)
        usable = path.is_dir()
    except (ConfigError, OSError, ValueError, RuntimeError) as error:
        yield f"  quality.lm_eval.include_path: {name!r} cannot be a folder: {_in_short(error)}"
    else:
        if not usable:
            problem = f"there is no folder {path}: correct the path (from the configuration's folder)"
            yield f"  quality.lm_eval.include_path: {problem}"


def _misfits(config: Config) -> Iterator[str]:
    """What the model cannot be or have, where it is known before it is fetched."""
    written = config.file.model.source
    model: Mapping[str, Any] = {}
    try:
        source = read_source(written)
        if isinstance(source, RandomSource):
            model = config_of_random(source)
        elif isinstance(source, PathSource):
            model = config_of(config.resolve(source.folder))
    except ModelError as error:
        if ":" in written:  # else it names no source yet: who reads the file for its engines alone needs none
            yield f"  model.source: {error.problem}; {error.hint}"
    except (ConfigError, OSError, ValueError, RuntimeError) as error:
        yield f"  model.source: {written!r} cannot be a folder: {_in_short(error)}"
    yield from too_long(config.file, model)
    for backend, section in config.file.engines.items() if model else ():
        try:
            check = getattr(load_backend(backend), "check_model", None)
        except EngineGateError:  # an unknown one is in the list already; who selects one that is broken is told
            continue
        if check is None:
            continue
        for number, name in enumerate(section.precisions):
            precision, variant = split_precision(name)
            quantization = QuantizationSpec(group_size=section.section(variant).quantization.group_size)
            try:
                with edge(
                    CapabilityError,
                    f"backend {backend} cannot say whether it can have this model",
                    "correct the model's config.json, or report it against the package that brings the backend",
                ):
                    check(EngineSpec(config.name, backend, precision, quantization, variant=variant), model)
            except EngineGateError as error:
                yield f"  engines.{backend}.precisions.{number}: {error.problem}: {error.hint}"


def _in_short(error: Exception) -> str:
    return f"{error.problem}; {error.hint}" if isinstance(error, ConfigError) else str(error)


def _digest(path: Path) -> str:
    with edge(ConfigError, f"the calibration file {path} cannot be read", "name another file there"):
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
