"""What the configuration says of serving: which requests come when, what is asked of their latencies, and the gates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from enginegate.core.sections import ErrorRate, Fraction, PositiveSeconds, Section, Text, Tokens

#: Requests a second; beyond it no process hands them in one by one.
Rate = Annotated[float, Field(gt=0, le=100_000)]
Requests = Annotated[int, Field(gt=0, le=1_000_000)]
#: What is cut off at an end of a run.
Cut = Annotated[float, Field(ge=0, lt=1)]


class SloSection(Section):
    """The service level: seconds at most, null for a latency that does not matter, and the share that must keep it.

    The defaults are those of MLPerf's server scenario of Llama 2 70B.
    """

    ttft: PositiveSeconds | None = 2.0
    tpot: PositiveSeconds | None = 0.2
    e2el: PositiveSeconds | None = None
    share: Fraction = 0.95


class ServingSection(Section):
    """Requests that arrive over time (``--serving``).

    Attributes:
        arrivals: how they come; ``gamma`` in bursts.
        rate: requests a second.
        burstiness: squared coefficient of variation of the gaps of ``gamma``; 1 is Poisson.
        requests: how many.
        input_len, output_len: tokens of each, those of ``workload`` by default.
        lengths: a file of pairs of lengths, drawn from in their place.
        trace: a file of arrivals with their lengths, in place of all above.
        priorities: each request gets one of so many, where an engine knows priorities.
        warmup, cooldown: shares of the requests at either end that are not measured.
        seed: of arrivals and lengths.
        slo: the service level.
        pairs: of runs beside a live base.
    """

    arrivals: Literal["poisson", "gamma", "constant"] = "poisson"
    rate: Rate = 2.0
    burstiness: Annotated[float, Field(gt=0, le=1000)] = 4.0
    requests: Requests = 120
    input_len: Tokens | None = None
    output_len: Tokens | None = None
    lengths: Text | None = None
    trace: Text | None = None
    priorities: Annotated[int, Field(gt=0, le=100)] = 1
    warmup: Cut = 0.1
    cooldown: Cut = 0.1
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    slo: SloSection = SloSection()
    pairs: Annotated[int, Field(ge=4, le=100)] = 4

    @model_validator(mode="after")
    def _one_source(self) -> ServingSection:
        if self.trace is not None:
            drawn = {"arrivals", "requests", "input_len", "output_len", "lengths", "burstiness", "priorities"}
            also = sorted(drawn & self.model_fields_set)
            if also:
                raise ValueError(f"trace says when requests come and how long they are; leave out {', '.join(also)}")
        elif self.lengths is not None:
            also = sorted({"input_len", "output_len"} & self.model_fields_set)
            if also:
                raise ValueError(f"lengths says how long requests are; leave out {', '.join(also)}")
        if self.warmup + self.cooldown >= 1:
            raise ValueError(
                f"warmup {self.warmup:g} and cooldown {self.cooldown:g} leave nothing to measure: take less than"
                " 1 together"
            )
        return self


class ServingGatesSection(Section):
    """The gates of serving.

    Attributes:
        beta: chance that a service level passes which is not kept; 0.01 is the confidence of MLPerf's rule.
        margin, tolerated: of a latency beside a live base, as in ``gates.live``.
        spread: how far two pairs of runs typically differ in a latency, log ratio, before they show it.
        level_visible: loss of the share that keeps the level beside a live base which must have been seen to pass.
    """

    beta: ErrorRate = 0.01
    margin: Fraction = 0.05
    tolerated: Fraction = 0.20
    spread: Fraction = 0.05
    level_visible: Fraction = 0.05

    @model_validator(mode="after")
    def _apart(self) -> ServingGatesSection:
        if not self.margin < self.tolerated:
            raise ValueError(f"margin {self.margin:g} is not below tolerated {self.tolerated:g}")
        return self
