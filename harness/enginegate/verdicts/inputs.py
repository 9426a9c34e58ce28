"""What one gate compares, with what, and at which margins: typed, frozen, and stored with its verdict.

The samples lie in the record. A gate's inputs and the record are all that ``verdicts.judge`` needs, in the session, in
``enginegate report --verdicts`` and in ``enginegate compare``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from enginegate.core.errors import RecordError
from enginegate.core.files import first_problem
from enginegate.core.records import Number, Stored
from enginegate.gates.items import QualityPolicy
from enginegate.gates.sequential import SpeedPolicy
from enginegate.gates.serving import SloPolicy
from enginegate.gates.sessions import Baseline, Floor, ShiftPrior

#: The figures of a memory pass that are gated.
MemoryField = Literal["loaded", "peak", "kv_budget"]
#: Bytes: a whole number stays one, so that writing, which rounds floats, leaves it exact.
Bytes = Annotated[int | float, Field(ge=0)]
#: Item hash to the numbers of one item, in the order of the gate's columns.
Items = dict[str, list[Number]]


class StoredSessions(Stored):
    """The log ratios of every accepted session, the order of its blocks, the two engines' times; see PerfSession."""

    kind: Literal["baseline"] = "baseline"
    sessions: list[list[float]]
    orders: list[list[int]] = Field(default_factory=list)
    times: list[tuple[float, float]] = Field(default_factory=list)

    def anchor(self) -> Baseline:
        """As the speed gate takes it."""
        return Baseline(tuple(map(tuple, self.sessions)), tuple(map(tuple, self.orders)))


class StoredFloor(Stored):
    """A ratio over the reference that the configuration asks for."""

    kind: Literal["floor"] = "floor"
    ratio: float

    def anchor(self) -> Floor:
        """As the speed gate takes it."""
        return Floor(self.ratio)


class LiveBase(Stored):
    """An engine that was launched beside the candidate; the launches lie in the record.

    ``base``: its id. ``label``: what it is, for people.
    """

    kind: Literal["live"] = "live"
    base: str
    label: str


class GateInputs(Stored):
    """What all gates have: the metric's name, the engine's id, and what is judged in a few words."""

    metric: str
    candidate: str
    subject: str

    @property
    def comparable(self) -> bool:
        """Whether there is anything to compare with: a baseline, or a limit that stands in for one."""
        raise NotImplementedError


class SpeedInputs(GateInputs):
    """A speed metric as a ratio over the reference, block by block.

    Attributes:
        metric: ``speedup``, ``ttft`` or ``itl``.
        workload: of the arena.
        reference: id of the engine that the ratio is taken over.
        reference_label: the same for people.
        against: what the ratio is compared with, or None.
        policy: margins, error probabilities and looks.
        notes: warnings to go with the verdict.
        audit: what the audit says of this gate on this machine, or None.
    """

    gate: Literal["speed"] = "speed"
    workload: str
    reference: str
    reference_label: str
    against: Annotated[StoredSessions | StoredFloor | LiveBase, Field(discriminator="kind")] | None
    policy: SpeedPolicy
    notes: list[str] = Field(default_factory=list)
    audit: str | None = None

    @property
    def comparable(self) -> bool:
        """Stored sessions, or a floor."""
        return self.against is not None


class MemoryInputs(GateInputs):
    """One figure of a memory pass, in bytes: ``loaded``, ``peak`` or ``kv_budget``.

    Attributes:
        baseline: the accepted figure, or None.
        limit: where there is none: at most this.
        relative: tolerance as a share of the baseline.
        quantum: allowance in bytes for what pages round up.
    """

    gate: Literal["memory"] = "memory"
    workload: str
    field: MemoryField
    baseline: Bytes | None
    limit: Bytes | None
    relative: float
    quantum: Bytes

    @property
    def comparable(self) -> bool:
        """A baseline or a limit."""
        return self.baseline is not None or self.limit is not None


class MemoryLawInputs(GateInputs):
    """A memory pass against what the backend's law predicted, which lies beside it in the record.

    Attributes:
        predicted: whether there is a law.
        tolerated: share of the total by which it may lie off.
        at_most: whether the engine's own limits may make its KV pool smaller than the law says.
    """

    gate: Literal["memory_law"] = "memory_law"
    workload: str
    predicted: bool
    tolerated: float
    at_most: bool = False

    @property
    def comparable(self) -> bool:
        """A law."""
        return self.predicted


class SizeInputs(GateInputs):
    """Bytes of an engine's files. ``limit``: at most, where there is no baseline."""

    gate: Literal["size"] = "size"
    baseline: Bytes | None
    limit: Bytes | None

    @property
    def comparable(self) -> bool:
        """A baseline or a limit."""
        return self.baseline is not None or self.limit is not None


class BuildTimeInputs(GateInputs):
    """Seconds that building took; advice."""

    gate: Literal["build_time"] = "build_time"
    baseline: float | None

    @property
    def comparable(self) -> bool:
        """A baseline."""
        return self.baseline is not None


class QualityInputs(GateInputs):
    """Scores item by item.

    Attributes:
        source: the quality metric whose items are judged.
        reference: id of the engine whose scores on the same items count, or None.
        columns: the numbers of each item that the gate reads.
        baseline: accepted items, or None.
        limit: the gate's own limit where there is no baseline, or None.
        policy: margins and error probabilities.
    """

    source: str
    reference: str | None
    columns: list[str]
    baseline: Items | None
    limit: float | None
    policy: QualityPolicy

    @property
    def comparable(self) -> bool:
        """A baseline, or a limit to what the reference scores."""
        return self.baseline is not None or (self.limit is not None and self.reference is not None)


class AccuracyInputs(QualityInputs):
    """Right and wrong answers."""

    gate: Literal["accuracy"] = "accuracy"


class CeilingInputs(Stored):
    """Where the record keeps what the reference scores against itself, item by item; see ``gates.ceiling.Ceiling``.

    Attributes:
        score: whose ceilings they are, as the entry names them.
        weight: column of the item's weight in the score of all; None where all weigh the same.
        full: the ceiling of an item that is seen.
        remedy: what would make it so.
    """

    score: str
    weight: str | None
    full: float
    remedy: str


class CorpusInputs(QualityInputs):
    """A score of all items together: ``bleu`` (``bleu:add-k`` by another smoothing), or the ``mean`` of a column.

    ``ceiling`` is None in gates of records that kept no ceilings: those are judged without. ``unquantized``: id of a
    second unquantized engine, whose score counts where the baseline's is higher; None where none was asked.
    """

    gate: Literal["corpus"] = "corpus"
    score: str
    unit: str
    ceiling: CeilingInputs | None = None
    unquantized: str | None = None


class NllInputs(QualityInputs):
    """Negative log-likelihood, document by document."""

    gate: Literal["nll"] = "nll"


class DivergenceInputs(QualityInputs):
    """KL divergence from the reference, document by document.

    ``limit``: nats a token. ``floor``: the divergence of a second unquantized engine, nats a token.
    """

    gate: Literal["divergence"] = "divergence"
    floor: float

    @property
    def comparable(self) -> bool:
        """A baseline, or a limit: the figures themselves are of the reference."""
        return self.baseline is not None or self.limit is not None


class FlipsInputs(QualityInputs):
    """How many answers changed at all."""

    gate: Literal["flips"] = "flips"
    limit: float

    @property
    def comparable(self) -> bool:
        """A baseline: which answers the reference gives says nothing of what changed."""
        return self.baseline is not None


class LengthsInputs(QualityInputs):
    """Output lengths beside the reference's."""

    gate: Literal["lengths"] = "lengths"
    limit: float

    @property
    def comparable(self) -> bool:
        """Always: the rows of the items hold the reference's own lengths."""
        return True


class KvBytesInputs(GateInputs):
    """Bytes of a token in a KV pool.

    ``reference``: id of the same engine with 16 bits. ``limit``: share of its bytes, at most.
    """

    gate: Literal["kv_bytes"] = "kv_bytes"
    reference: str
    limit: float

    @property
    def comparable(self) -> bool:
        """Always: with 16 bits of the same engine."""
        return True


class KvSpeedInputs(GateInputs):
    """Speed of an engine over the same with a KV cache of 16 bits, block by block.

    Attributes:
        workload: of their race.
        reference, reference_label: the engine with 16 bits, its id and for people.
        floor: the ratio that it must reach.
        policy: error probabilities and looks.
    """

    gate: Literal["kv_speed"] = "kv_speed"
    workload: str
    reference: str
    reference_label: str
    floor: float
    policy: SpeedPolicy

    @property
    def comparable(self) -> bool:
        """Always: with 16 bits of the same engine."""
        return True


class ScalingStep(Stored):
    """One doubling: the ids of the two points of a sweep, the smaller first, and its name for people."""

    small: str
    large: str
    name: str


class ScalingInputs(GateInputs):
    """What each doubling of the work gains or costs one engine.

    Attributes:
        kind: ``throughput`` at twice the batch, or ``itl`` at twice the length.
        steps: the doublings.
        limit: gain at least, cost at most.
        policy: error probabilities and looks.
    """

    gate: Literal["scaling"] = "scaling"
    kind: Literal["throughput", "itl"]
    steps: Annotated[list[ScalingStep], Field(min_length=1)]
    limit: float
    policy: SpeedPolicy

    @property
    def comparable(self) -> bool:
        """Always: each size with half of it."""
        return True


class SloInputs(GateInputs):
    """How many requests keep the service level that the record's serving names, by an exact binomial test.

    ``foreign_load_limit``: where others took more of the machine, no FAIL is concluded.
    """

    gate: Literal["slo"] = "slo"
    policy: SloPolicy
    foreign_load_limit: float

    @property
    def comparable(self) -> bool:
        """Always: the service level is what it is compared with."""
        return True


class ServedInputs(GateInputs):
    """A latency of serving beside a live base, pair of runs by pair of runs.

    Attributes:
        latency: ``ttft``, ``tpot`` or ``e2el``.
        base: id of the live base; None without one.
        label: the base for people.
        policy: margins and error probabilities.
        foreign_load_limit: where others took more of the machine in half of the runs, nothing is concluded.
        notes: warnings to go with the verdict.
    """

    gate: Literal["served"] = "served"
    latency: Literal["ttft", "tpot", "e2el"]
    base: str | None
    label: str
    policy: SpeedPolicy
    foreign_load_limit: float
    notes: list[str] = Field(default_factory=list)

    @property
    def comparable(self) -> bool:
        """A live base."""
        return self.base is not None


class LevelInputs(GateInputs):
    """The share of requests that keep the service level beside a live base, request by request; see ServedInputs."""

    gate: Literal["level"] = "level"
    base: str | None
    policy: QualityPolicy
    foreign_load_limit: float
    notes: list[str] = Field(default_factory=list)

    @property
    def comparable(self) -> bool:
        """A live base."""
        return self.base is not None


class UnpairedInputs(GateInputs):
    """Samples of sessions that never ran side by side: another session's are judged against them.

    Attributes:
        sessions, samples: positive samples of each base session, and of the new one.
        margin, tolerated: as in ``gates.compare.compare_samples``; so are the rest.
    """

    gate: Literal["unpaired"] = "unpaired"
    sessions: list[list[float]]
    samples: list[float]
    margin: float
    tolerated: float | None
    alpha: float
    beta: float
    higher_is_better: bool
    shift: ShiftPrior

    @property
    def comparable(self) -> bool:
        """A base session."""
        return bool(self.sessions)


class TechniqueInputs(GateInputs):
    """How much better an engine is with a technique of serving than without it, as a ratio of paired runs.

    ``figure``: of the record's runs. ``higher``: whether more of it is better. ``floor``: at least this; None: not set.
    """

    gate: Literal["technique"] = "technique"
    technique: str
    figure: str
    higher: bool
    floor: float | None
    alpha: float
    beta: float

    @property
    def comparable(self) -> bool:
        """A floor."""
        return self.floor is not None


class MismatchInputs(GateInputs):
    """The share of tokens that a technique changes, at most.

    ``tie``: two tokens whose log-probabilities are not further apart may change places by rounding.
    """

    gate: Literal["mismatch"] = "mismatch"
    technique: str
    limit: float
    tie: float
    alpha: float
    beta: float

    @property
    def comparable(self) -> bool:
        """Always: the engine without the technique answered the same prompts."""
        return True


class OrderInputs(GateInputs):
    """How many later requests are served before an earlier one, at most."""

    gate: Literal["order"] = "order"
    technique: str
    limit: int
    alpha: float

    @property
    def comparable(self) -> bool:
        """Always: the order of arrival is what it is compared with."""
        return True


AnyInputs = Annotated[
    SpeedInputs
    | MemoryInputs
    | MemoryLawInputs
    | SizeInputs
    | BuildTimeInputs
    | AccuracyInputs
    | CorpusInputs
    | NllInputs
    | DivergenceInputs
    | FlipsInputs
    | LengthsInputs
    | KvBytesInputs
    | KvSpeedInputs
    | ScalingInputs
    | SloInputs
    | ServedInputs
    | LevelInputs
    | TechniqueInputs
    | MismatchInputs
    | OrderInputs
    | UnpairedInputs,
    Field(discriminator="gate"),
]
_ADAPTER: TypeAdapter[Any] = TypeAdapter(AnyInputs)


def restore_inputs(stored: Mapping[str, Any]) -> GateInputs:
    """The inputs of a verdict as its record keeps them. Raises RecordError where they are of no gate, or damaged."""
    try:
        found: GateInputs = _ADAPTER.validate_json(json.dumps(stored), strict=True)
    except ValidationError as error:
        raise RecordError(
            f"the inputs of gate {stored.get('gate')!r} cannot be used: {first_problem(error)}",
            "the record is of another version of enginegate, or damaged",
        ) from error
    return found
