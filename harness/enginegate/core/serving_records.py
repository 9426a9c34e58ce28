"""What a record keeps of serving: runs of a trace, request by request, and whether each run can be believed."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

#: As in ``core.records``, which imports this module.
Number = Annotated[
    float,
    BeforeValidator(lambda value: math.nan if value is None else value),
    WithJsonSchema({"type": ["number", "null"]}),
]
Count = Annotated[int, Field(ge=0)]


class Kept(BaseModel):
    """Frozen, and unknown keys are refused, as everything that is stored."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class SloEntry(Kept):
    """A service level: at most so many seconds, each None where it does not matter, and the share that must keep it."""

    ttft: float | None = None
    tpot: float | None = None
    e2el: float | None = None
    share: float = 0.99

    def __str__(self) -> str:
        limits = [("TTFT", self.ttft), ("TPOT", self.tpot), ("E2EL", self.e2el)]
        return ", ".join(f"{name} <= {seconds:g} s" for name, seconds in limits if seconds is not None) or "any latency"


class LoadEntry(Kept):
    """The load that was offered.

    Attributes:
        kind: ``poisson``, ``gamma``, ``constant`` or ``trace``.
        rate: requests a second.
        requests: how many.
        seed: of the first run; each further pair of runs has the next.
        burstiness: of ``gamma``.
        source: the file that arrivals or lengths come from; empty where they do not.
        input_len, output_len: mean tokens of a prompt and an answer.
    """

    kind: str
    rate: float
    requests: Count
    seed: int
    burstiness: float = 1.0
    source: str = ""
    input_len: Number = math.nan
    output_len: Number = math.nan

    @property
    def id(self) -> str:
        """Its name in ids, e.g. ``poisson-r2-n120``."""
        return f"{self.kind}-r{self.rate:.4g}-n{self.requests}"

    @property
    def shape(self) -> str:
        """How requests come and how long they are, in words."""
        bursts = f" (burstiness {self.burstiness:g})" if self.kind == "gamma" else ""
        return f"{self.kind}{bursts}, {self.input_len:.0f} tokens in, {self.output_len:.0f} out"

    def __str__(self) -> str:
        kind, comma, lens = self.shape.partition(", ")
        return f"{self.requests} requests, {kind} at {self.rate:g}/s{comma}{lens}"


class PercentileEntry(Kept):
    """A percentile and its 95 % interval; an end is NaN (null) where the requests are too few for it."""

    value: Number
    low: Number
    high: Number


class CheckEntry(Kept):
    """One thing that must be so of every run that is measured rightly.

    Attributes:
        name: ``lag``, ``little``, ``tokens``, ``peak`` or ``identity``.
        value: what was found; NaN where it could not be looked at.
        limit: at most so much.
        reason: what is wrong, in a sentence; empty where nothing is.
    """

    name: str
    value: Number
    limit: Number
    reason: str = ""


class ServingRun(Kept):
    """One engine through one trace. Lists have one value for each request, in the order of arrival.

    Attributes:
        trace: digest of the trace.
        seed: of its arrivals and lengths.
        due: when each was to be sent, seconds after the start.
        sent: when it was.
        first, last: when its first and last tokens came; NaN without any.
        finished: when it ended; NaN where it never did.
        tokens: how many came.
        failed: why, for requests that did not end by their length or by a stop, by index.
        begin, end: the requests that are measured: ``due[begin:end]``. Those before warm the engine up, those behind
            ran while the load faded away.
        itl: percentiles of the gaps between tokens of the measured requests, seconds, by ``p50`` …
        checks: whether this run can be believed.
        foreign_load: share of the machine that other processes took meanwhile; NaN where nobody looked.
    """

    trace: str
    seed: int
    due: list[float]
    sent: list[Number]
    first: list[Number]
    last: list[Number]
    finished: list[Number]
    tokens: list[Count]
    failed: dict[int, str] = Field(default_factory=dict)
    begin: Count = 0
    end: Count
    itl: dict[str, PercentileEntry] = Field(default_factory=dict)
    peak_tokens: Number = math.nan
    checks: list[CheckEntry] = Field(default_factory=list)
    foreign_load: Number = math.nan

    @property
    def why_not(self) -> list[str]:
        """Why nothing may be concluded from it; empty where it may."""
        return [check.reason for check in self.checks if check.reason]


class ServingEntry(Kept):
    """Serving of one engine, alone or beside its live base.

    Attributes:
        engine: its id.
        load: what was offered.
        slo: the service level that was asked for.
        runs: of the engine.
        base: id of the live base; empty without one.
        base_runs: of the base, each through the trace of the engine's run of the same index.
        failure: why there are no more runs; empty where nothing went wrong.
    """

    engine: str
    load: LoadEntry
    slo: SloEntry
    runs: list[ServingRun]
    base: str = ""
    base_runs: list[ServingRun] = Field(default_factory=list)
    failure: str = ""
