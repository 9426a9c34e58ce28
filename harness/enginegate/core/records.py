"""The run record: everything one session measured and concluded, as schema-versioned JSON.

A report, a baseline, a comparison and the recomputation of a verdict each need nothing but this.
"""

from __future__ import annotations

import math
from statistics import median
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from enginegate.core.identity import EngineRef
from enginegate.core.serving_records import ServingEntry
from enginegate.core.specs import VARIANT_MARK
from enginegate.core.technique_records import TechniqueEntry

#: Raised when the meaning of a stored field changes; what is older is migrated when it is read (storage.migration).
SCHEMA = 3

#: A number that may be missing: NaN here, ``null`` in JSON, which has no NaN.
Number = Annotated[
    float,
    BeforeValidator(lambda value: math.nan if value is None else value),
    WithJsonSchema({"type": ["number", "null"]}),
]

#: What is counted or measured from nothing: less than none is damage.
Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]


class Stored(BaseModel):
    """Base of everything written to JSON: frozen, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class Fingerprint(Stored):
    """The machine. ``identity`` decides whether two runs may be compared; ``context`` only describes."""

    key: str
    identity: dict[str, Any]
    context: dict[str, Any]


class ModelEntry(Stored):
    """The model that was tested.

    ``dequantized``: what most of its weights were quantized to before, as ``4 bits (Q4_K_M)``; empty where none were,
    and in records of sessions that did not ask.
    """

    name: str
    source: str
    digest: str
    random_weights: bool
    dequantized: str = ""

    @property
    def label(self) -> str:
        """Its name as the title of a table shows it."""
        return f"{self.name}, dequantized from {self.dequantized}" if self.dequantized else self.name


class EngineEntry(Stored):
    """One engine of the session: what was asked, what it really was, and what building it took.

    Attributes:
        id: its short name, by which the rest of the record speaks of it.
        backend, precision, variant, runtime_digest: which engine it is, with the record's model; see EngineRef.
        role: what it was first loaded for.
        spec, runtime: what was asked, as fields of EngineSpec and RuntimeSpec.
        effective: what the running engine says it is.
        version: the libraries that built and ran it, as the backend states them.
        key: content key of the built engine.
        size_bytes, build_seconds: of its files, and of making them.
    """

    id: str
    backend: str
    precision: str
    variant: str
    runtime_digest: str
    role: Literal["candidate", "reference", "quality-reference"]
    spec: dict[str, Any]
    runtime: dict[str, Any]
    effective: dict[str, Any]
    version: str
    key: str
    size_bytes: Count
    build_seconds: Amount

    @property
    def precision_label(self) -> str:
        """The precision, and the variant where there is one, for tables: ``int8_wo@base``."""
        return f"{self.precision}{VARIANT_MARK}{self.variant}" if self.variant else self.precision

    def ref(self, model: str) -> EngineRef:
        """Which engine and which build this is."""
        return EngineRef(model, self.backend, self.precision, self.variant, self.runtime_digest, self.key)


class DeviceReading(Stored):
    """What a GPU said of itself at one moment; None where it does not tell.

    Attributes:
        sm_mhz, memory_mhz: clocks.
        celsius, watts: temperature and power.
        reasons: why its clocks are lower than they could be, in NVML's words; idling is not among them.
    """

    sm_mhz: int | None = None
    memory_mhz: int | None = None
    celsius: int | None = None
    watts: int | None = None
    reasons: list[str] = Field(default_factory=list)


class Round(Stored):
    """One engine's turn in a block. All times in seconds.

    Attributes:
        engine: its id.
        seconds: from the prompts to the end of all answers.
        tokens: really produced, over the batch.
        foreign_load: share of the machine that others used.
        figures: what else was measured of it, by name: ``ttft``, ``itl_p50``, ``last_token`` and others (see
            ``measure.latency``), and ``joules``, what the whole device took meanwhile. A figure that the round has no
            value of is absent, not NaN.
        throttled_seconds: how long, summed over CPUs, a CPU quota held the session up.
        disturbed: whether others' work or a limit of the machine was seen.
        device: the GPU right after it; None without one.
    """

    engine: str
    seconds: float
    tokens: Count
    foreign_load: Number
    figures: dict[str, float] = Field(default_factory=dict)
    throttled_seconds: float = 0.0
    disturbed: bool = False
    device: DeviceReading | None = None

    def figure(self, name: str) -> float | None:
        """One of its figures, or ``seconds``; None where it has no value of that."""
        return self.seconds if name == "seconds" else self.figures.get(name)


class Block(Stored):
    """One turn of every contestant, in the order they ran. ``retries`` counts rounds thrown away as disturbed."""

    rounds: list[Round]
    retries: int = 0


class ArenaEntry(Stored):
    """All contestants of one workload, in interleaved blocks of balanced order.

    ``contestants``: those that raced to the end. ``failures``: who left the race, and why; its rounds are in the blocks
    up to then, and are no sample of it.
    """

    workload: str
    batch_size: int
    input_len: int
    output_len: int
    seed: int
    reference: str
    contestants: list[str]
    warmup_rounds: int
    blocks: list[Block]
    stopped: str
    warnings: list[str] = Field(default_factory=list)
    failures: dict[str, str] = Field(default_factory=dict)


class LaunchEntry(Stored):
    """One start of a live base beside one of the head.

    Attributes:
        blocks: by workload, the pairs of rounds that the two took in turn.
        first_tokens: by workload, pairs of rounds of the prompt and one token, which TTFT is taken from where there
            are any.
        loading: seconds that starting and loading both took, beside each other.
        idle: by engine, the share of one core that it took while it was not its turn, from 0.2 s after it.
    """

    blocks: dict[str, list[Block]]
    loading: float
    first_tokens: dict[str, list[Block]] = Field(default_factory=dict)
    idle: dict[str, Number] = Field(default_factory=dict)


class SideEntry(Stored):
    """One side of a race of launches.

    Attributes:
        engine: its id.
        python: the version of its Python.
        versions: its libraries, as the backend states them there.
        effective: what the running engine says it is.
        key: content key of the built engine.
        spec, runtime: what was asked.
        size_bytes, build_seconds: of its files, and of making them.
    """

    engine: str
    python: str
    versions: str
    effective: dict[str, Any]
    key: str
    spec: dict[str, Any] = Field(default_factory=dict)
    runtime: dict[str, Any] = Field(default_factory=dict)
    size_bytes: int = 0
    build_seconds: float = 0.0


class SweepPoint(Stored):
    """One size of work in a sweep: a batch of prompts of ``input_len`` tokens, answers of ``output_len``."""

    batch_size: Count
    input_len: Count
    output_len: Count

    @property
    def id(self) -> str:
        """As the id of a workload, ``b8-i64-o64``."""
        return f"b{self.batch_size}-i{self.input_len}-o{self.output_len}"


class SweepEntry(Stored):
    """One engine at several sizes of work, in interleaved blocks of balanced order.

    Attributes:
        engine: its id.
        points: the sizes.
        seed: of the prompts.
        warmup_rounds: of each size.
        blocks: one round of each size a block; the ``engine`` of a round is the id of its point.
        stopped: why no further block was run.
        failures: sizes that failed, by their ids, and why.
        warnings: what weakens it.
    """

    engine: str
    points: list[SweepPoint]
    seed: int
    warmup_rounds: int
    blocks: list[Block]
    stopped: str
    failures: dict[str, str] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)


class TrialEntry(Stored):
    """A few pairs of rounds of one length, by which the length is chosen.

    Attributes:
        tokens: of each answer.
        pairs: how many.
        seconds: that one pair takes.
        first_share: share of these seconds until the first tokens.
        scatter: by speed metric, the standard error of the faster half's log ratio, times the root of ``pairs``.
    """

    tokens: int
    pairs: int
    seconds: float
    first_share: float
    scatter: dict[str, Number]


class RoundsEntry(Stored):
    """How the rounds of one workload are taken in every launch of a race.

    Attributes:
        tokens: of each answer, which may be fewer than the workload's.
        pairs: of rounds.
        first_token_pairs: pairs of rounds of the prompt and one token; 0: TTFT is that of the other rounds.
        tried: the lengths that were tried for it; empty where the configuration or an earlier race says the length.
        carry_over: by how much (log ratio) taking turns moves the ratio of the two, and its standard error; None where
            that was not looked at.
    """

    tokens: int
    pairs: int
    first_token_pairs: int = 0
    tried: list[TrialEntry] = Field(default_factory=list)
    carry_over: tuple[Number, Number] | None = None


class RaceEntry(Stored):
    """An engine against its live base, launched in pairs.

    Attributes:
        against: what was asked for, ``python:/opt/base/bin/python``.
        asked_head: what was asked for as the head, in the same words; empty for this checkout in this Python.
        head, base: the two sides.
        launches: in the order they were made.
        tokens: by workload, the tokens of each answer in its rounds, which may be fewer than the workload's.
        output_len: by workload, the tokens of a whole answer.
        rounds: by workload, how its rounds were taken; empty in records that did not keep it.
        seconds, pilot_seconds: of all rounds, with warm-up and repeated ones, and of the pilot's; 0 in records that did
            not keep them.
        apart: why the two were not loaded beside each other but in turns; empty where they were.
        stopped: why there was no further one.
        failure: why the race broke off; empty where it did not.
        warnings: what weakens it.
    """

    against: str
    head: SideEntry
    base: SideEntry
    launches: list[LaunchEntry]
    tokens: dict[str, int]
    output_len: dict[str, int]
    stopped: str
    rounds: dict[str, RoundsEntry] = Field(default_factory=dict)
    seconds: Number = 0.0
    pilot_seconds: Number = 0.0
    apart: str = ""
    failure: str = ""
    warnings: list[str] = Field(default_factory=list)
    asked_head: str = ""

    def idle(self) -> dict[str, float]:
        """By engine, the share of a core that it took while it was not its turn, the median over launches."""
        names = {name for launch in self.launches for name in launch.idle}
        return {name: median(launch.idle[name] for launch in self.launches if name in launch.idle) for name in names}


class MemoryParts(Stored):
    """Memory of one engine under one workload as its backend's law predicts it, in bytes; None where it has no law.

    Attributes:
        weights: of the loaded weights, once.
        copies: how often they are in memory.
        kv: of the KV pool, whole blocks.
        whole_pool: whether the engine takes that pool at once; else its cache grows with each answer.
        kv_written: of the blocks that the workload writes.
        activations: of one pass.
        own: the runtime's own.
        total: of what the driver counts, or the kernel, which counts the pages that were written.
        spread: by which the runtime's own part is known to lie off.
        unsure: why it may not hold on this machine; empty where it was measured on such.
    """

    weights: Count | None
    copies: Count
    kv: Count
    kv_written: Count
    activations: Count | None
    own: Count | None
    total: Count | None
    whole_pool: bool = True
    spread: Count = 0
    unsure: str = ""


class MemoryEntry(Stored):
    """Memory of one engine, measured in a process of its own. All in bytes; None where it could not be measured.

    ``weights``: of the loaded weights, as the engine counts them. ``copy_bytes_per_second``: what a large copy within
    one GPU's memory moved in the same session, bytes read plus bytes written; None on a CPU. ``contexts``: of the CUDA
    contexts, one for each GPU of the engine, which are in none of the other figures; None on a CPU.
    ``allocator``: what the C library's allocator, or torch's, had handed out at the end; files that are mapped are not
    in it. ``predicted``: what the backend's memory law says.
    """

    engine: str
    workload: str
    disk: Count
    loaded: Count
    peak: Count
    kv_predicted: Count | None
    kv_used: Count | None
    kv_budget: Count | None
    device: str
    weights: Count | None = None
    copy_bytes_per_second: Amount | None = None
    contexts: Count | None = None
    allocator: Count | None = None
    predicted: MemoryParts | None = None


class TextEntry(Stored):
    """A text, as an engine or a person wrote it.

    Attributes:
        text: all of it.
        tokens: ids of its tokens; empty where no engine wrote it.
        ends: how many characters of the text there are once each token is written; a token that ends inside a
            character ends before it.
    """

    text: str
    tokens: list[int] = Field(default_factory=list)
    ends: list[Count] = Field(default_factory=list)


class AnswersEntry(Stored):
    """What one engine wrote for one metric, each by item hash.

    Attributes:
        prompts: what it was asked.
        answers: what it wrote.
        references: what that is compared with: the reference's own answers, or what people wrote.
    """

    prompts: dict[str, str]
    answers: dict[str, TextEntry]
    references: dict[str, TextEntry]


class DataEntry(Stored):
    """The data set that a metric asked.

    Attributes:
        name: its source as the configuration names it; of the suite's own sets ``enginegate:questions/test.jsonl``.
        digest: SHA-256 of its file.
        size: how many items of it can be asked.
        subset: how those that were asked were chosen; empty where all were.
        shots: answered examples before each question.
        examples: where these come from; empty without any.
    """

    name: str
    digest: str
    size: Count
    subset: str = ""
    shots: Count = 0
    examples: str = ""


class QualityEntry(Stored):
    """One quality metric of one engine, item by item.

    Attributes:
        engine: engine id.
        metric: ``similarity``, ``summaries``, ``letters``, ``cloze``, ``perplexity`` or ``determinism``; or
            ``lm_eval:TASK``, a task of lm-evaluation-harness.
        version: version of the metric's code and data; results of two versions are not compared.
        columns: names of the numbers kept for each item.
        items: item hash to those numbers.
        scores: the headline scores, by name.
        signatures: how scores of texts are made (tokenizer, smoothing, library), by their names.
        ceilings: what the reference's texts score against themselves, by the score's name and by item hash. Where it is
            not all (BLEU 100, ROUGE 1) the score sees nothing of that item.
        texts: what the engine wrote, for metrics that ask for answers. It is kept beside the record, in a file of its
            own (``storage.texts``), so a record that was read has none.
        data: the set that its items are of; None in records that did not keep it.

    Older records have none of the last three.
    """

    engine: str
    metric: str
    version: str
    columns: list[str]
    items: dict[str, list[Number]]
    scores: dict[str, Number]
    signatures: dict[str, str] = Field(default_factory=dict)
    ceilings: dict[str, dict[str, Number]] = Field(default_factory=dict)
    texts: AnswersEntry | None = None
    data: DataEntry | None = None


class VerdictEntry(Stored):
    """One verdict, the test it came from, and the inputs by which it is recomputed."""

    test: str
    engine: str
    workload: str | None
    status: str = Field(pattern="^(PASS|FAIL|INCONCLUSIVE|NO_BASELINE)$")
    metric: str
    estimate: Number
    interval: tuple[Number, Number]
    unit: str
    baseline: float | None
    change: float | None
    margin: float
    alpha: float
    smallest_visible: float | None
    samples: int
    explanation: str
    warnings: list[str]
    accepted: bool
    inputs: dict[str, Any] = Field(default_factory=dict)

    @property
    def is_raced(self) -> bool:
        """Whether a live base is what it was compared with."""
        return (self.inputs.get("against") or {}).get("kind") == "live"


class JointEntry(Stored):
    """Speed and quality of one engine, taken together; see ``verdicts.joint``."""

    engine: str
    status: Literal["PASS", "FAIL"]
    explanation: str


class AttemptEntry(Stored):
    """An attempt at a test that ran again in the same session, and so does not count; in the order they ran.

    Attributes:
        test: its id.
        verdicts: what it concluded.
        errors: how it ended, where its verdicts do not say that.
    """

    test: str
    verdicts: list[VerdictEntry] = Field(default_factory=list)
    errors: list[str] = Field(default_factory=list)


class ShardRun(Stored):
    """One shard of a session: the run that measured a part of its engines.

    Attributes:
        number: which shard, from 1.
        run: id of the run.
        started: when, ISO 8601.
        machine: key of its machine's fingerprint.
        quality: in a merged record, scores that this shard has otherwise than the record: those of a reference, which
            every shard measures for itself.
    """

    number: int = Field(ge=1)
    run: str
    started: str
    machine: str
    quality: list[QualityEntry] = Field(default_factory=list)


class ShardsEntry(Stored):
    """How a session was cut into shards, and which of them a record holds.

    Attributes:
        plan: digest of what the whole session was to test; the same in all its shards.
        base: the commit of the live base; empty without one, or where it is of none.
        models: the names of all models of the session.
        engines: the ids of the engines of each shard, the first shard's first; a shard may have none.
        held: the record's own shard, or all that were merged.
    """

    plan: str
    base: str
    models: list[str]
    engines: list[list[str]]
    held: list[ShardRun] = Field(min_length=1)

    def of_engine(self, engine: str) -> ShardRun | None:
        """The shard that ran an engine as one under test; None for one that is a reference alone, or is not held."""
        return next((shard for shard in self.held if engine in self.engines[shard.number - 1]), None)

    def __str__(self) -> str:
        numbers = ", ".join(str(shard.number) for shard in self.held)
        empty = ", ".join(str(number) for number, engines in enumerate(self.engines, 1) if not engines)
        text = f"shard{'s' if len(self.held) > 1 else ''} {numbers} of {len(self.engines)}"
        return f"{text} ({empty} without engines)" if empty else text


class RunRecord(Stored):
    """One session. ``verdicts``: of each test's last attempt; ``attempts``: those before it.

    ``quality_planned``: engines whose quality was to be tested; ``joint``: speed and quality of each engine together.
    ``installed``: a lock of its Python, line by line. All three are empty where an older version kept none.
    ``shards``: None for a session that was not cut into any. ``kv_caches``: races of one engine with KV caches of
    several precisions, each over that of 16 bits. ``sweeps``: engines at several sizes of work.
    """

    schema_version: int = SCHEMA
    id: str
    started: str
    finished: str
    status: Literal["complete", "partial"]
    enginegate: str
    arguments: list[str]
    commit: str
    fingerprint: Fingerprint
    model: ModelEntry
    config: dict[str, Any]
    engines: list[EngineEntry]
    arenas: list[ArenaEntry] = Field(default_factory=list)
    races: list[RaceEntry] = Field(default_factory=list)
    memory: list[MemoryEntry] = Field(default_factory=list)
    quality: list[QualityEntry] = Field(default_factory=list)
    serving: list[ServingEntry] = Field(default_factory=list)
    techniques: list[TechniqueEntry] = Field(default_factory=list)
    verdicts: list[VerdictEntry] = Field(default_factory=list)
    attempts: list[AttemptEntry] = Field(default_factory=list)
    joint: list[JointEntry] = Field(default_factory=list)
    quality_planned: list[str] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    installed: list[str] = Field(default_factory=list)
    shards: ShardsEntry | None = None
    kv_caches: list[ArenaEntry] = Field(default_factory=list)
    sweeps: list[SweepEntry] = Field(default_factory=list)

    @property
    def is_merged(self) -> bool:
        """Whether it was merged of shards, each a run of its own."""
        return self.shards is not None and self.id != self.shards.held[0].run

    @property
    def runs(self) -> frozenset[str]:
        """Ids of the runs that it holds: its own, and those of merged shards."""
        return (
            frozenset((self.id, *(shard.run for shard in self.shards.held))) if self.shards else frozenset((self.id,))
        )

    @property
    def machines(self) -> list[str]:
        """Keys of the kinds of machines that it was measured on."""
        held = self.shards.held if self.shards else []
        return sorted({shard.machine for shard in held} or {self.fingerprint.key})

    def measured(self, engine: str) -> tuple[str, str]:
        """The id of the run that measured an engine, and when that began."""
        shard = self.shards.of_engine(engine) if self.shards else None
        return (self.id, self.started) if shard is None else (shard.run, shard.started)
