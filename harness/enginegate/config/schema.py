"""The sections of a configuration file, as pydantic models. Unknown keys are refused. No backend is named here."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from enginegate.config.tokenizers import BleuSmoothing, BleuTokenizer, RougeTokenizer, why_unavailable
from enginegate.core.files import first_problem
from enginegate.core.sections import Bytes, Fraction, Positive, PositiveOrNone, PositiveSeconds, Section
from enginegate.core.specs import PRECISIONS, VARIANT_MARK, Timeouts
from enginegate.engines.options import RuntimeOptions
from enginegate.engines.registry import REFERENCE

#: The precision name that stands for the model's native half precision on the device at hand.
FULL_PRECISION = "full_prec"


#: The variant of the engine that a run is compared with.
BASE_VARIANT = "base"

VariantName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]


def split_precision(name: str) -> tuple[str, str]:
    """``int8_wo@kv8`` is the precision ``int8_wo`` in the variant ``kv8``; without one the variant is "".

    Raises ValueError where the name ends in the mark.
    """
    precision, mark, variant = name.partition(VARIANT_MARK)
    if mark and not variant:
        raise ValueError(f"{name!r} names no variant behind {VARIANT_MARK}")
    return precision, variant


def check_precision_name(name: str) -> None:
    """Raise ValueError where ``name`` is no precision that the suite knows."""
    if name != FULL_PRECISION and name not in PRECISIONS:
        raise ValueError(f"unknown precision {name!r}; known: {', '.join((*PRECISIONS, FULL_PRECISION))}")


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


class LimitsSection(Section):
    """What an engine is built for."""

    max_batch_size: Positive = 8
    max_input_len: Positive = 1024
    max_output_len: Positive = 256
    tensor_parallel: Positive = 1


class VariantSection(Section):
    """What one variant has otherwise than its backend's section: keys of ``quantization`` and ``runtime``, devices."""

    quantization: dict[str, Any] = Field(default_factory=dict)
    runtime: dict[str, Any] = Field(default_factory=dict)
    tensor_parallel: Positive | None = None


class EnginesSection(Section):
    """The precisions tested on one backend, each ``<precision>`` or ``<precision>@<variant>``.

    ``runtime`` is of the backend's own model (``enginegate.engines.options``), by which ``load_config`` reads it.
    """

    precisions: list[str] = Field(min_length=1)
    quantization: QuantizationSection = QuantizationSection()
    runtime: RuntimeOptions = RuntimeOptions()
    variants: dict[VariantName, VariantSection] = Field(default_factory=dict)

    @field_validator("variants")
    @classmethod
    def _free(cls, variants: dict[str, VariantSection]) -> dict[str, VariantSection]:
        if BASE_VARIANT in variants:
            raise ValueError(f"the name {BASE_VARIANT!r} is kept for the engine that a run is compared with")
        for name, variant in variants.items():
            devices = re.fullmatch(r"tp(\d+)", name)
            if devices and int(devices[1]) != variant.tensor_parallel:
                raise ValueError(
                    f"the name {name!r} says tensor_parallel: {devices[1]}, which the variant does not have"
                )
        return variants

    @model_validator(mode="after")
    def _known(self) -> EnginesSection:
        for name in self.precisions:
            precision, variant = split_precision(name)
            check_precision_name(precision)
            self.section(variant)
        for variant in self.variants:
            self.section(variant)
        return self

    def section(self, variant: str) -> EnginesSection:
        """This section as the variant has it; "" is the plain one. Raises ValueError for a name that it lacks."""
        if not variant:
            return self
        if variant not in self.variants:
            known = ", ".join(self.variants) or "none"
            raise ValueError(f"there is no variant {variant!r} under variants; known: {known}")
        own = self.variants[variant]
        try:
            quantization = QuantizationSection.model_validate({**self.quantization.model_dump(), **own.quantization})
            runtime = type(self.runtime).model_validate({**self.runtime.model_dump(), **own.runtime})
        except ValidationError as error:
            raise ValueError(f"variants.{variant}: {first_problem(error)}") from error
        return self.model_copy(update={"quantization": quantization, "runtime": runtime})


class ReferenceSection(Section):
    """The live reference that speed is measured against; precision ``auto`` takes the fastest on this device."""

    backend: str = REFERENCE
    precision: str = "auto"


class WorkloadSection(Section):
    """The timed work."""

    batch_sizes: list[Positive] = Field(default=[1, 8], min_length=1)
    input_len: Positive = 64
    output_len: Positive = 64
    seed: int = 0


class QualitySection(Section):
    """Data and sizes of the quality tests. Paths are relative to the configuration file.

    ``add_bos``: put the tokenizer's BOS before every scored text and every plain prompt, for models trained with it
    (Llama and its kin).
    ``plain_prompts``: a prompt is a text to be continued, for models without a chat template (GPT-2).
    ``bleu_tokenizer``, ``bleu_smoothing``, ``rouge_tokenizer``: how scores of texts are made; the defaults are for
    words in Latin letters.
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
    bleu_tokenizer: BleuTokenizer = "13a"
    bleu_smoothing: BleuSmoothing = "exp"
    rouge_tokenizer: RougeTokenizer = "default"

    @field_validator("bleu_tokenizer")
    @classmethod
    def _there(cls, tokenizer: BleuTokenizer) -> BleuTokenizer:
        if reason := why_unavailable(tokenizer):
            raise ValueError(reason)
        return tokenizer


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
    quantum: Bytes = 16 << 20


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


class TimeoutsSection(Section):
    """Seconds without a sign of life after which a child process is ended; see Timeouts."""

    build: PositiveSeconds = Timeouts.build
    load: PositiveSeconds = Timeouts.load
    round: PositiveSeconds = Timeouts.round
    score: PositiveSeconds = Timeouts.score
    memory: PositiveSeconds = Timeouts.memory


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
    timeouts: TimeoutsSection = TimeoutsSection()
