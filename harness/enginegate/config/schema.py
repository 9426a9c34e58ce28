"""The sections of a configuration file, as pydantic models. Unknown keys are refused. No backend is named here."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, field_validator, model_validator

from enginegate.config.cost_section import CostSection
from enginegate.config.data_section import Data, Questions, may_name
from enginegate.config.kv_cache_section import KvCacheSection
from enginegate.config.looks import Looks
from enginegate.config.scaling_section import ScalingSection
from enginegate.config.serving_section import ServingGatesSection, ServingSection
from enginegate.config.techniques_section import TechniquesSection
from enginegate.config.tokenizers import BleuSmoothing, BleuTokenizer, RougeTokenizer, why_unavailable
from enginegate.core.files import first_problem
from enginegate.core.sections import (
    BatchSize,
    Bytes,
    Devices,
    ErrorRate,
    Fraction,
    Positive,
    PositiveOrNone,
    PositiveSeconds,
    Section,
    Sha256,
    Text,
    Tokens,
    distinct,
)
from enginegate.core.specs import PRECISIONS, VARIANT_MARK, Timeouts
from enginegate.core.spelling import did_you_mean
from enginegate.engines.options import RuntimeOptions
from enginegate.engines.registry import REFERENCE
from enginegate.gates.robust import MIN_BLOCKS

#: The precision name that stands for the model's native half precision on the device at hand.
FULL_PRECISION = "full_prec"


#: The variant of the engine that a run is compared with.
BASE_VARIANT = "base"


def base_variant(variant: str) -> str:
    """The variant's name of the live base of an engine: ``base``, or ``kv8.base`` where that is a variant itself."""
    return f"{variant}.{BASE_VARIANT}" if variant else BASE_VARIANT


#: The format of configuration files.
SCHEMA = 1


def _short_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,99}", name):
        raise ValueError(
            f"{name[:100]!r} cannot be a name: take up to 100 lower-case letters, digits, '.', '_' and '-', and begin "
            "with a letter or a digit"
        )
    return name


#: What may stand in ids and names of files.
Name = Annotated[str, AfterValidator(_short_name)]


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
        known = (*PRECISIONS, FULL_PRECISION)
        raise ValueError(f"unknown precision {name!r}; known: {', '.join(known)}{did_you_mean(name, known)}")


class ModelSection(Section):
    """Which model, and where it comes from."""

    name: Name
    source: Text
    sha256: Sha256 = ""


class QuantizationSection(Section):
    """How weights are quantized; see QuantizationSpec."""

    group_size: Annotated[int, Field(gt=0, le=65_536)] | None = 64
    calibration: Text = "../fixtures/data/calibration.jsonl"
    calibration_samples: Annotated[int, Field(gt=0, le=100_000)] = 32


class LimitsSection(Section):
    """What an engine is built for."""

    max_batch_size: BatchSize = 8
    max_input_len: Tokens = 1024
    max_output_len: Tokens = 256
    tensor_parallel: Devices = 1


class VariantSection(Section):
    """What one variant has otherwise than its backend's section: keys of ``quantization`` and ``runtime``, devices."""

    quantization: dict[str, Any] = Field(default_factory=dict)
    runtime: dict[str, Any] = Field(default_factory=dict)
    tensor_parallel: Devices | None = None


class EnginesSection(Section):
    """The precisions tested on one backend, each ``<precision>`` or ``<precision>@<variant>``.

    ``runtime`` is of the backend's own model (``enginegate.engines.options``), by which ``load_config`` reads it.
    """

    precisions: Annotated[list[str], Field(min_length=1, max_length=100), AfterValidator(distinct)]
    quantization: QuantizationSection = QuantizationSection()
    runtime: RuntimeOptions = RuntimeOptions()
    variants: dict[Name, VariantSection] = Field(default_factory=dict)

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
            known = f"{', '.join(self.variants) or 'none'}{did_you_mean(variant, self.variants)}"
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


#: A session times each; the lengths of lists are bounded, since each entry is compared with all.
BatchSizes = Annotated[list[BatchSize], Field(min_length=1, max_length=100), AfterValidator(distinct)]


class WorkloadSection(Section):
    """The timed work."""

    batch_sizes: BatchSizes = Field(default=[1, 8])
    input_len: Tokens = 64
    output_len: Tokens = 64
    seed: int = 0


def _task_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}", name):
        raise ValueError(
            f"{name[:100]!r} is no name of a task: take one of lm-eval's, or that of a task under include_path"
        )
    return name


Tasks = Annotated[list[Annotated[str, AfterValidator(_task_name)]], Field(max_length=100), AfterValidator(distinct)]


class LmEvalSection(Section):
    """Tasks of lm-evaluation-harness, each a quality metric of its own. Without tasks nothing is asked.

    ``limit``: so many documents of each task. ``num_fewshot``: examples in a prompt, where the task does not say.
    ``include_path``: a folder of tasks of one's own. ``chat_template``: put prompts in the model's.
    """

    tasks: Tasks = Field(default=[])
    limit: Positive | None = None
    num_fewshot: Annotated[int, Field(ge=0, le=1000)] | None = None
    include_path: Text | None = None
    chat_template: bool = False


class QualitySection(Section):
    """Data and sizes of the quality tests. Paths are relative to the configuration file.

    ``prompts``, ``articles``, ``passages``, ``questions``: a source, or a section; see DataSection.
    ``num_fewshot``: answered questions of the same subject that each question is asked behind.

    ``add_bos``: put the tokenizer's BOS before every scored text and every plain prompt, for models trained with it
    (Llama and its kin).
    ``plain_prompts``: a prompt is a text to be continued, for models without a chat template (GPT-2).
    ``divergence_cells``: how many of the reference's likeliest tokens the KL divergence tells apart at each position.
    ``bleu_tokenizer``, ``bleu_smoothing``, ``rouge_tokenizer``: how scores of texts are made; the defaults are for
    words in Latin letters.
    """

    reference: ReferenceSection = ReferenceSection(precision="fp32")
    prompts: Annotated[Data, may_name("id", "category", "text")] = "../fixtures/data/prompts.jsonl"
    articles: Annotated[Data, may_name("id", "title", "text", "summary")] = "../fixtures/data/articles.jsonl"
    passages: Annotated[Data, may_name("id", "topic", "text")] = "../fixtures/data/passages.jsonl"
    questions: Questions = "../fixtures/data/questions/test.jsonl"
    num_fewshot: Annotated[int, Field(ge=0, le=100)] = 0
    add_bos: bool = False
    plain_prompts: bool = False
    question_limit: Positive | None = None
    letters_limit: Positive | None = 120
    similarity_tokens: Tokens = 48
    summary_tokens: Tokens = 64
    determinism_prompts: Positive = 16
    divergence_cells: Annotated[int, Field(ge=1, le=256)] = 64
    bleu_tokenizer: BleuTokenizer = "13a"
    bleu_smoothing: BleuSmoothing = "exp"
    rouge_tokenizer: RougeTokenizer = "default"
    lm_eval: LmEvalSection = LmEvalSection()

    @field_validator("bleu_tokenizer")
    @classmethod
    def _there(cls, tokenizer: BleuTokenizer) -> BleuTokenizer:
        if reason := why_unavailable(tokenizer):
            raise ValueError(reason)
        return tokenizer


class ShiftSection(Section):
    """How far each ratio typically shifts from session to session, before the stored sessions show it.

    The defaults are what ten sessions of one shared 2-core machine showed (docs/gates.md).
    """

    speedup: Fraction = 0.032
    ttft: Fraction = 0.023
    itl: Fraction = 0.038


class Margins(Section):
    """A loss up to ``margin`` is no failure; a loss from ``tolerated`` on must not pass."""

    margin: float
    tolerated: float

    @model_validator(mode="after")
    def _apart(self) -> Margins:
        if not self.margin < self.tolerated:
            raise ValueError(
                f"margin {self.margin:g} is not below tolerated {self.tolerated:g}: what lies between them is what the"
                " gate cannot tell apart"
            )
        return self


class SpeedSection(Margins):
    """The speed gate; the meaning of each is in docs/gates.md."""

    margin: Fraction = 0.03
    tolerated: Fraction = 0.08
    beta: ErrorRate = 0.05
    looks: Looks = Field(default=[6, 10, 16, 24, 40])
    shift: ShiftSection = ShiftSection()


class SpreadSection(Section):
    """How far two launches of one engine typically differ in each ratio, before the launches of a race show it."""

    speedup: Fraction = 0.015
    ttft: Fraction = 0.015
    itl: Fraction = 0.015


class DeviceMarginsSection(Margins):
    """Of one metric against a live base on a GPU; ``spread``: as in SpreadSection."""

    margin: Fraction
    tolerated: Fraction
    spread: Fraction


class DeviceSection(Section):
    """The gates against a live base on a GPU, where the metrics differ in what can be seen: one section each."""

    speedup: DeviceMarginsSection = DeviceMarginsSection(margin=0.02, tolerated=0.05, spread=0.013)
    ttft: DeviceMarginsSection = DeviceMarginsSection(margin=0.05, tolerated=0.15, spread=0.05)
    itl: DeviceMarginsSection = DeviceMarginsSection(margin=0.01, tolerated=0.03, spread=0.01)


class LiveSection(Margins):
    """The gates against a live base (``--against``).

    ``looks``: counts of launches. ``pairs``: of rounds in a launch, ``tokens``: of each answer in them; ``auto``: what
    a pilot finds best. ``gpu``: margins and spread there.
    ``audit_launches``: those of one session of ``--gate-audit``.
    """

    margin: Fraction = 0.02
    tolerated: Fraction = 0.05
    looks: Looks = Field(default=[4, 6, 8, 10, 12, 16])
    spread: SpreadSection = SpreadSection()
    gpu: DeviceSection = DeviceSection()
    pairs: Literal["auto"] | Annotated[int, Field(ge=4, multiple_of=2)] = "auto"
    tokens: Literal["auto"] | Annotated[int, Field(ge=2)] = "auto"
    audit_launches: Annotated[int, Field(ge=MIN_BLOCKS, le=1000)] = 12


def _absolute(paths: dict[str, str]) -> dict[str, str]:
    for here, there in paths.items():
        if not here.startswith(("/", "~")):
            raise ValueError(f"{here!r} is no whole path of a folder on this machine: begin with / or ~")
        if not there.startswith("/"):
            raise ValueError(f"{there!r} is no whole path: say where {here} lies in the container, beginning with /")
    distinct(list(paths.values()))
    return paths


class BaseSection(Section):
    """Live bases. ``lock``: the file, from the repository's root, that pins the environment of a commit.

    ``paths``: for ``exec:``, folders of this machine and where they lie for the command, as a container mounts them.
    """

    lock: str = ""
    paths: Annotated[dict[str, str], AfterValidator(_absolute)] = Field(default_factory=dict)


class ArenaSection(Section):
    """How rounds are taken; ``audit_blocks`` and ``audit_time_budget``: those of one session of ``--gate-audit``."""

    warmup_rounds: Annotated[int, Field(gt=0, le=1000)] = 2
    time_budget: PositiveSeconds = 150.0
    foreign_load_limit: Fraction = 0.10
    retries: Annotated[int, Field(ge=0, le=1000)] = 2
    audit_blocks: Annotated[int, Field(ge=8, le=10_000)] = 40
    audit_time_budget: PositiveSeconds = 600.0


class MemorySection(Section):
    """The memory gate: relative tolerance plus an absolute allowance for page noise, in bytes.

    ``law``: share of the total by which it may lie off what the backend's memory law predicts.
    """

    relative: Fraction = 0.02
    quantum: Bytes = 16 << 20
    law: Fraction = 0.05


class MarginSection(Margins):
    """Margins in the metric's own unit."""

    margin: Annotated[float, Field(ge=0)]
    tolerated: Annotated[float, Field(gt=0)]


def _tolerates_at_most(most: float) -> AfterValidator:
    """For a score that cannot lose more than ``most``."""

    def check(section: MarginSection) -> MarginSection:
        if section.tolerated > most:
            raise ValueError(f"tolerated {section.tolerated:g} is over {most:g}, the most that this score can lose")
        return section

    return AfterValidator(check)


class QualityGatesSection(Section):
    """The quality gates against accepted per-item results.

    BLEU in points, ROUGE from 0 to 1, perplexity relative, KL divergence relative to the accepted one, both beside
    what a second unquantized engine diverges by; ``lm_eval``: scores of its tasks that are neither right or wrong nor a
    perplexity, in their own unit. ``accuracy_visible``: the loss (share of items) that the
    accuracy gate must be able to see before it may pass. ``flips``: share of changed answers tolerated.
    ``length_ratio``: mean output length over the reference's, at least.
    """

    bleu: Annotated[MarginSection, _tolerates_at_most(100)] = MarginSection(margin=1.0, tolerated=6.0)
    rouge: Annotated[MarginSection, _tolerates_at_most(1)] = MarginSection(margin=0.01, tolerated=0.06)
    perplexity: MarginSection = MarginSection(margin=0.005, tolerated=0.02)
    lm_eval: MarginSection = MarginSection(margin=0.01, tolerated=0.06)
    divergence: MarginSection = MarginSection(margin=0.03, tolerated=0.10)
    accuracy_visible: Fraction = 0.03
    flips: Fraction = 0.05
    length_ratio: Fraction = 0.90
    beta: ErrorRate = 0.05


class GatesSection(Section):
    """Error rates and margins of all gates. ``alpha``: chance of any false FAIL in one session."""

    alpha: ErrorRate = 0.01
    speed: SpeedSection = SpeedSection()
    live: LiveSection = LiveSection()
    memory: MemorySection = MemorySection()
    serving: ServingGatesSection = ServingGatesSection()
    techniques: TechniquesSection = TechniquesSection()
    quality: QualityGatesSection = QualityGatesSection()


class Floors(Section):
    """What one precision must reach on a machine or model that has no baseline yet. None: not gated.

    Speed floors (``speedup``, ``ttft``, ``itl``) are ratios over the reference by batch size (``b1``, ``b8``), at
    least. ``peak_memory_ratio``: peak memory over the reference's, at most. ``bits_per_weight``: engine size on disk
    per weight of the checkpoint, at most. The others compare with the quality reference on the same items:
    ``accuracy_loss`` (share of items), ``perplexity_ratio``, ``divergence`` (mean KL divergence, nats a token) and
    ``summary_rougeL_loss`` (0 to 1) at most, ``bleu``
    (0 to 100) and ``rougeL`` (0 to 1) at least.
    """

    speedup: dict[str, float] = Field(default_factory=dict)
    ttft: dict[str, float] = Field(default_factory=dict)
    itl: dict[str, float] = Field(default_factory=dict)
    peak_memory_ratio: PositiveOrNone = None
    bits_per_weight: Annotated[float | None, Field(gt=0, le=64)] = None
    accuracy_loss: Fraction | None = None
    perplexity_ratio: PositiveOrNone = None
    divergence: PositiveOrNone = None
    bleu: Annotated[float | None, Field(gt=0, le=100)] = None
    rougeL: Annotated[float | None, Field(gt=0, le=1)] = None  # noqa: N815 - the metric's own name
    summary_rougeL_loss: Fraction | None = None  # noqa: N815

    @field_validator("speedup", "ttft", "itl")
    @classmethod
    def _batches(cls, floors: dict[str, float]) -> dict[str, float]:
        for key, value in floors.items():
            if not re.fullmatch(r"b[1-9][0-9]*", key) or value <= 0:
                raise ValueError(f"floor {key!r}: {value!r} is not of the form b<batch size>: <positive ratio>")
        return floors


class TimeoutsSection(Section):
    """Seconds without a sign of life after which a child process is ended; see Timeouts."""

    build: PositiveSeconds = Timeouts.build
    load: PositiveSeconds = Timeouts.load
    round: PositiveSeconds = Timeouts.round
    score: PositiveSeconds = Timeouts.score
    memory: PositiveSeconds = Timeouts.memory


def _readable(schema: object) -> object:
    if type(schema) is not int:
        raise ValueError(f"{schema!r} is no version of a configuration's format: write {SCHEMA}")
    if schema > SCHEMA:
        raise ValueError(f"version {schema} was made for a later enginegate; this one reads {SCHEMA}: install that one")
    if schema < SCHEMA:
        raise ValueError(f"there is no version {schema} of a configuration's format: write {SCHEMA}")
    return schema


class ConfigFile(Section):
    """The whole file."""

    schema_version: Annotated[int, BeforeValidator(_readable)] = Field(alias="schema")
    model: ModelSection
    engines: dict[str, EnginesSection] = Field(min_length=1)
    default_engine: str
    limits: LimitsSection = LimitsSection()
    reference: ReferenceSection = ReferenceSection()
    workload: WorkloadSection = WorkloadSection()
    quality: QualitySection = QualitySection()
    kv_cache: KvCacheSection = KvCacheSection()
    scaling: ScalingSection = ScalingSection()
    cost: CostSection = CostSection()
    serving: ServingSection = ServingSection()
    arena: ArenaSection = ArenaSection()
    base: BaseSection = BaseSection()
    gates: GatesSection = GatesSection()
    floors: dict[str, dict[str, Floors]] = Field(default_factory=dict)
    timeouts: TimeoutsSection = TimeoutsSection()
