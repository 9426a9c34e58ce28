"""Configuration: one YAML file per model becomes frozen, validated values. Unknown keys are refused."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from enginegate.config.project import own_folder
from enginegate.core.errors import ConfigError
from enginegate.core.specs import PRECISIONS, EngineSpec, QuantizationSpec, RuntimeSpec, Workload
from enginegate.engines.trtllm.config_aliases import canonical
from enginegate.engines.trtllm.options import built_spec, runtime_spec

#: The precision name that stands for the model's native half precision on the device at hand.
FULL_PRECISION = "full_prec"

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
PositiveOrNone = Annotated[float | None, Field(gt=0)]


class Section(BaseModel):
    """Base of every section of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSection(Section):
    """Which model, and where it comes from."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    source: str
    sha256: str = ""


class QuantizationSection(Section):
    """How weights are quantized; see QuantizationSpec."""

    group_size: Positive | None = 64
    calibration: str = "../fixtures/data/calibration.jsonl"
    calibration_samples: Positive = 32


class RuntimeSection(Section):
    """How engines are loaded; see RuntimeSpec, and TensorRtRuntime for what TensorRT-LLM has besides."""

    kv_precision: Literal["auto", "fp32", "fp16", "bf16", "fp8", "int8", "int4"] = "auto"
    kv_cache_bytes: Annotated[int, Field(ge=0)] = 0
    kv_cache_tokens: Annotated[int, Field(ge=0)] = 0
    kv_cache_fraction: Fraction | None = None
    tokens_per_block: Positive | None = None
    activation_precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    threads: Annotated[int, Field(ge=0)] = 0
    scheduler_policy: Literal["inflight", "static"] = "inflight"
    chunked_prefill: bool = False
    speculation: Literal["none", "ngram", "draft", "lookahead"] = "none"


class LimitsSection(Section):
    """What an engine is built for."""

    max_batch_size: Positive = 8
    max_input_len: Positive = 1024
    max_output_len: Positive = 256
    tensor_parallel: Positive = 1


class EnginesSection(Section):
    """The precisions tested on one backend."""

    precisions: list[str] = Field(min_length=1)
    quantization: QuantizationSection = QuantizationSection()
    runtime: RuntimeSection = RuntimeSection()

    @field_validator("precisions")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            check_precision_name(name)
        return names


class ReferenceSection(Section):
    """The live reference that speed is measured against; precision ``auto`` takes the fastest on this device."""

    backend: str = "hf"
    precision: str = "auto"


class WorkloadSection(Section):
    """The timed work."""

    batch_sizes: list[Positive] = Field(default=[1, 8], min_length=1)
    input_len: Positive = 64
    output_len: Positive = 64
    seed: int = 0


class QualitySection(Section):
    """Data and sizes of the quality tests. Paths are relative to the configuration file.

    ``add_bos``: put the tokenizer's BOS before every scored text, for models trained with it (Llama and its kin).
    ``plain_prompts``: a prompt is a text to be continued, for models without a chat template (GPT-2).
    """

    reference: ReferenceSection = ReferenceSection(precision="fp32")
    prompts: str = "../fixtures/data/prompts.jsonl"
    articles: str = "../fixtures/data/articles.jsonl"
    passages: str = "../fixtures/data/passages.jsonl"
    questions: str = "../fixtures/data/questions/test.jsonl"
    add_bos: bool = False
    plain_prompts: bool = False
    question_limit: Positive | None = None
    letters_limit: Positive | None = 120
    similarity_tokens: Positive = 48
    summary_tokens: Positive = 64
    determinism_prompts: Positive = 16


class ShiftSection(Section):
    """How far each ratio typically shifts from session to session, before the stored sessions show it."""

    speedup: Fraction = 0.007
    ttft: Fraction = 0.007
    itl: Fraction = 0.007


class SpeedSection(Section):
    """The speed gate; the meaning of each is in docs/gates.md."""

    margin: Fraction = 0.03
    tolerated: Fraction = 0.08
    beta: Fraction = 0.05
    looks: list[Positive] = Field(default=[6, 10, 16, 24, 40], min_length=1)
    shift: ShiftSection = ShiftSection()


class ArenaSection(Section):
    """How rounds are taken; ``audit_blocks`` and ``audit_time_budget``: those of one session of ``--gate-audit``."""

    warmup_rounds: Positive = 2
    time_budget: Annotated[float, Field(gt=0)] = 150.0
    foreign_load_limit: Fraction = 0.10
    retries: Annotated[int, Field(ge=0)] = 2
    audit_blocks: Annotated[int, Field(ge=8)] = 40
    audit_time_budget: Annotated[float, Field(gt=0)] = 600.0


class MemorySection(Section):
    """The memory gate: relative tolerance plus an absolute allowance for page noise, in bytes."""

    relative: Fraction = 0.02
    quantum: Annotated[int, Field(ge=0)] = 16 << 20


class MarginSection(Section):
    """A loss up to ``margin`` is no failure; a loss from ``tolerated`` on must not pass. In the metric's own unit."""

    margin: Annotated[float, Field(ge=0)]
    tolerated: Annotated[float, Field(gt=0)]


class QualityGatesSection(Section):
    """The quality gates against accepted per-item results.

    BLEU in points, ROUGE from 0 to 1, perplexity relative. ``accuracy_visible``: the loss (share of items) that the
    accuracy gate must be able to see before it may pass. ``flips``: share of changed answers tolerated.
    ``length_ratio``: mean output length over the reference's, at least.
    """

    bleu: MarginSection = MarginSection(margin=1.0, tolerated=6.0)
    rouge: MarginSection = MarginSection(margin=0.01, tolerated=0.06)
    perplexity: MarginSection = MarginSection(margin=0.005, tolerated=0.02)
    accuracy_visible: Fraction = 0.03
    flips: Fraction = 0.05
    length_ratio: Fraction = 0.90
    beta: Fraction = 0.05


class GatesSection(Section):
    """Error rates and margins of all gates. ``alpha``: chance of any false FAIL in one session."""

    alpha: Fraction = 0.01
    speed: SpeedSection = SpeedSection()
    memory: MemorySection = MemorySection()
    quality: QualityGatesSection = QualityGatesSection()


class Floors(Section):
    """What one precision must reach on a machine or model that has no baseline yet. None: not gated.

    Speed floors (``speedup``, ``ttft``, ``itl``) are ratios over the reference by batch size (``b1``, ``b8``), at
    least. ``peak_memory_ratio``: peak memory over the reference's, at most. ``bits_per_weight``: engine size on disk
    per weight of the checkpoint, at most. The others compare with the quality reference on the same items:
    ``accuracy_loss`` (share of items), ``perplexity_ratio`` and ``summary_rougeL_loss`` (0 to 1) at most, ``bleu``
    (0 to 100) and ``rougeL`` (0 to 1) at least.
    """

    speedup: dict[str, float] = Field(default_factory=dict)
    ttft: dict[str, float] = Field(default_factory=dict)
    itl: dict[str, float] = Field(default_factory=dict)
    peak_memory_ratio: PositiveOrNone = None
    bits_per_weight: PositiveOrNone = None
    accuracy_loss: PositiveOrNone = None
    perplexity_ratio: PositiveOrNone = None
    bleu: PositiveOrNone = None
    rougeL: PositiveOrNone = None  # noqa: N815 - the metric's own name
    summary_rougeL_loss: PositiveOrNone = None  # noqa: N815

    @field_validator("speedup", "ttft", "itl")
    @classmethod
    def _batches(cls, floors: dict[str, float]) -> dict[str, float]:
        for key, value in floors.items():
            if not key.startswith("b") or not key[1:].isdigit() or value <= 0:
                raise ValueError(f"floor {key!r}: {value!r} is not of the form b<batch size>: <positive ratio>")
        return floors


class ConfigFile(Section):
    """The whole file."""

    schema_version: Literal[1] = Field(alias="schema")
    model: ModelSection
    engines: dict[str, EnginesSection] = Field(min_length=1)
    default_engine: str
    limits: LimitsSection = LimitsSection()
    reference: ReferenceSection = ReferenceSection()
    workload: WorkloadSection = WorkloadSection()
    quality: QualitySection = QualitySection()
    arena: ArenaSection = ArenaSection()
    gates: GatesSection = GatesSection()
    floors: dict[str, dict[str, Floors]] = Field(default_factory=dict)


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
        """A path of the file, made absolute. The suite's own data, which are the defaults, are found from anywhere."""
        path = (self.path.parent / relative).resolve()
        if path.exists() or not relative.startswith(_OWN_DATA):
            return path
        own = own_folder("enginegate.fixtures.data") / relative.removeprefix(_OWN_DATA)
        return own if own.exists() else path

    def spec(self, backend: str, precision: str) -> EngineSpec:
        """The engine that this configuration asks of ``backend`` in ``precision``."""
        section = self.file.engines.get(backend, EnginesSection(precisions=["fp32"]))
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
            tensor_parallel=limits.tensor_parallel,
        )
        return built_spec(spec, self.runtime(backend))

    def runtime(self, backend: str) -> RuntimeSpec:
        """How engines of ``backend`` are loaded."""
        section = self.file.engines.get(backend)
        return runtime_spec(backend, section.runtime.model_dump()) if section else RuntimeSpec()

    def workload(self, batch_size: int) -> Workload:
        """The timed work at one batch size."""
        work = self.file.workload
        return Workload(batch_size, work.input_len, work.output_len, work.seed)

    def floors(self, backend: str, precision: str) -> Floors:
        """The portable floors of one precision; empty where the file has none."""
        return self.file.floors.get(backend, {}).get(precision, Floors())


def check_precision_name(name: str) -> None:
    """Raise ValueError where ``name`` is no precision that the suite knows."""
    if name != FULL_PRECISION and name not in PRECISIONS:
        raise ValueError(f"unknown precision {name!r}; known: {', '.join((*PRECISIONS, FULL_PRECISION))}")


#: How the defaults name the suite's own data.
_OWN_DATA = "../fixtures/data/"
_CONFIGS = "enginegate.configs"


def load_config(path: Path) -> Config:
    """Read and validate one configuration file. Raises ConfigError naming the file, the key and the hint."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
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
    try:
        file = ConfigFile.model_validate(canonical(raw, path))
    except ValidationError as error:
        raise ConfigError(f"configuration {path} is not usable:\n{_plain(error)}", "fix the named keys") from error
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
    config = Config(path.resolve(), file)
    for backend in file.engines:
        config.runtime(backend)
    return config


def find_config(name: str, folder: Path | None = None) -> Path:
    """The configuration file of a model name: one in ``folder``, else one that comes with the package.

    Raises ConfigError listing the known names.
    """
    folders = [*([folder] if folder else []), own_folder(_CONFIGS)]
    for place in folders:
        if (place / f"{name}.yaml").is_file():
            return place / f"{name}.yaml"
    known = ", ".join(sorted({file.stem for place in folders for file in place.glob("*.yaml")})) or "none"
    raise ConfigError(
        f"unknown model {name!r}: no {name}.yaml in {' or '.join(map(str, folders))}",
        f"use one of: {known}; or --config FILE for a file of your own",
    )


def cache_folder() -> Path:
    """Where models, engines and reference scores are kept: $ENGINEGATE_CACHE, else the platform's cache folder.

    Raises ConfigError where that is something else than a folder.
    """
    named = os.environ.get("ENGINEGATE_CACHE")
    if named:
        folder = Path(named).expanduser().absolute()
        if os.path.lexists(folder) and not folder.is_dir():
            raise ConfigError(f"the cache {folder} is no folder", "point $ENGINEGATE_CACHE at one")
        return folder
    import platformdirs

    return Path(platformdirs.user_cache_dir("enginegate"))


#: Where pydantic's own words are of its classes, or say too little.
_REASONS = {"extra_forbidden": "unknown key", "model_type": "is a section, with keys of its own"}


def _plain(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or "(top)"
        lines.append(f"  {where}: {_REASONS.get(item['type'], item['msg'])}")
    return "\n".join(lines)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
