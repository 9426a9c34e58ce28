"""What the configuration says of the techniques of serving: how they are measured, and what each must reach."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from enginegate.core.sections import ErrorRate, Fraction, Section

#: A ratio of two speeds, at least; None: shown, and not gated.
Floor = Annotated[float, Field(gt=0, le=1000)] | None


class TechniqueFloors(Section):
    """How much better an engine must be with a technique than without it, as a ratio, at least; see docs/gates.md.

    Attributes:
        ngram: speed of answers that repeat their prompt.
        draft: speed with a draft model.
        prefix_cache: time to first token of prompts that begin the same.
        prefix_off: the time to first token of a prompt that comes again, over that of the first time, of an engine as
            it is timed: less than this, and something kept the prompt.
        inflight: tokens a second over those of static batches.
        sjf: mean latency of first come, first served over that of shortest job first.
        priority: the same of urgent requests alone, with priorities.
        chunked_prefill: the longest pause of running answers while long prompts arrive, whole prompts over chunks.
    """

    ngram: Floor = 0.8
    draft: Floor = 1.0
    prefix_cache: Floor = 1.2
    prefix_off: Floor = 0.8
    inflight: Floor = 1.0
    sjf: Floor = 1.0
    priority: Floor = 1.0
    chunked_prefill: Floor = 1.0


class TechniquesSection(Section):
    """Techniques of serving (``--techniques``).

    Attributes:
        pairs: runs with a technique and without it, which alternate.
        mismatches: share of tokens that speculation may change, at most, where rounding does not explain it.
        tie: two tokens whose log-probabilities are not further apart than this may change places by rounding: by
            default two steps of bf16 between 16 and 32, where logits lie.
        overtaken: later requests that may get their first token before an earlier one, at most, where the order is
            first come, first served.
        beta: as of the other gates.
    """

    pairs: Annotated[int, Field(ge=3, le=100)] = 5
    mismatches: Fraction = 0.01
    tie: Annotated[float, Field(ge=0, le=10)] = 0.25
    overtaken: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    floors: TechniqueFloors = TechniqueFloors()
    beta: ErrorRate = 0.05
