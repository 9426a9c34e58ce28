"""Configuration: one YAML file per model becomes frozen, validated values. Unknown keys are refused."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from enginegate.config.project import own_folder
from enginegate.config.schema import ConfigFile, EnginesSection, Floors
from enginegate.core.errors import CapabilityError, ConfigError, edge
from enginegate.core.files import expanded
from enginegate.core.specs import VARIANT_MARK, EngineSpec, QuantizationSpec, RuntimeSpec, Timeouts, Workload
from enginegate.engines.options import build_spec, options_model, runtime_spec
from enginegate.engines.registry import known_backends, load_backend, translate


@dataclass(frozen=True)
class Config:
    """A validated configuration file and the folder its relative paths start from."""

    path: Path
    file: ConfigFile

    @property
    def name(self) -> str:
        """The model's name."""
        return self.file.model.name

    def resolve(self, relative: str) -> Path:
        """A path of the file, made absolute; ``~`` is the home folder.

        The suite's own data, which are the defaults, are found from anywhere.
        """
        with edge(ConfigError, f"{self.path}: the path {relative!r} cannot be used", "name an existing file"):
            path = (self.path.parent / expanded(relative)).resolve()
            if path.exists() or not relative.startswith(_OWN_DATA):
                return path
        own = own_folder("enginegate.fixtures.data") / relative.removeprefix(_OWN_DATA)
        return own if own.exists() else path

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


def load_config(path: Path) -> Config:
    """Read and validate one configuration file. Raises ConfigError naming the file, the key and the hint.

    Every backend that the file names must be known; its libraries need not be there. The ``runtime`` section of one
    that is installed but cannot be imported here is not looked at: whoever selects that backend is told why.
    """
    path = expanded(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a path with a null character
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f"configuration {path} cannot be read: {reason}", "give an existing UTF-8 file to --config"
        ) from error
    try:
        raw: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"configuration {path} is not valid YAML: {error}", "fix the file at that place") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"configuration {path} is not a mapping", f"start from one in {own_folder(_CONFIGS)}")
    content, problems = _read_runtimes(translate(raw, path))
    try:
        file = ConfigFile.model_validate(content)
    except ValidationError as error:
        raise _unusable(path, [*problems, *_plain(error)]) from error
    problems += _unknown_backends(file)
    if problems:
        raise _unusable(path, problems)
    if file.default_engine not in file.engines:
        raise ConfigError(
            f"configuration {path}: default_engine {file.default_engine!r} is not under engines", "add it there"
        )
    limits, work = file.limits, file.workload
    if work.input_len > limits.max_input_len or work.output_len > limits.max_output_len:
        raise ConfigError(
            f"configuration {path}: workload {work.input_len}+{work.output_len} tokens is over limits "
            f"{limits.max_input_len}+{limits.max_output_len}",
            "raise limits.max_input_len / max_output_len or shorten the workload",
        )
    return Config(path.resolve(), file)


def find_config(name: str, folder: Path | None = None) -> Path:
    """The configuration file of a model name: one in ``folder``, else one that comes with the package.

    Raises ConfigError listing the known names.
    """
    folders = [*([folder] if folder else []), own_folder(_CONFIGS)]
    with edge(ConfigError, f"the model {name[:60]!r} cannot be looked for", "--config FILE takes a file of your own"):
        for place in folders:
            if (place / f"{name}.yaml").is_file():
                return place / f"{name}.yaml"
    known = ", ".join(sorted({file.stem for place in folders for file in place.glob("*.yaml")})) or "none"
    raise ConfigError(
        f"unknown model {name!r}: no {name}.yaml in {' or '.join(map(str, folders))}",
        f"use one of: {known}; or --config FILE for a file of your own",
    )


#: Where pydantic's own words are of its classes, or say too little.
_REASONS = {"extra_forbidden": "unknown key", "model_type": "is a section, with keys of its own"}


def _read_runtimes(content: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The content with each ``runtime`` section read by its backend's own model, and what is wrong with them."""
    engines = content.get("engines")
    if not isinstance(engines, dict):
        return content, []
    read: dict[Any, Any] = {}
    problems: list[str] = []
    known = known_backends()
    for name, section in engines.items():
        read[name] = section
        if name not in known:
            problems.append(f"  engines.{name}: unknown backend; known are {', '.join(known)}")
        elif isinstance(section, dict):
            read[name] = {key: value for key, value in section.items() if key != "runtime"}
            try:
                model = options_model(load_backend(name))
                read[name]["runtime"] = model.model_validate(section.get("runtime", {}))
            except CapabilityError:  # whoever selects it gets this error
                continue
            except ValidationError as error:
                has = f"; backend {name} has {', '.join(model.model_fields)}"
                problems += _plain(error, f"engines.{name}.runtime", has)
    return {**content, "engines": read}, problems


def _unknown_backends(file: ConfigFile) -> list[str]:
    """Backends that nobody knows, of the places besides ``engines``."""
    known = known_backends()
    named = {
        "reference.backend": file.reference.backend,
        "quality.reference.backend": file.quality.reference.backend,
        **{f"floors.{name}": name for name in file.floors},
    }
    return [
        f"  {key}: unknown backend {name!r}; known are {', '.join(known)}"
        for key, name in named.items()
        if name not in known
    ]


def _unusable(path: Path, problems: list[str]) -> ConfigError:
    lines = "\n".join(problems)
    return ConfigError(f"configuration {path} is not usable:\n{lines}", "fix the named keys")


def _plain(error: ValidationError, prefix: str = "", known: str = "") -> list[str]:
    """One line for each of pydantic's complaints; ``known`` is added to those about an unknown key."""
    lines = []
    for item in error.errors():
        where = ".".join([*filter(None, [prefix]), *(str(part) for part in item["loc"])]) or "(top)"
        reason = _REASONS.get(item["type"], item["msg"])
        lines.append(f"  {where}: {reason}{known if item['type'] == 'extra_forbidden' else ''}")
    return lines


def _digest(path: Path) -> str:
    with edge(ConfigError, f"the calibration file {path} cannot be read", "name another file there"):
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
