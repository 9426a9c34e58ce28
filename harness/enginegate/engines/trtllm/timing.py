"""Time to first token by two clocks, and what speculation achieved.

Token times stay on the caller's clock throughout, so that time to first token and the gaps after it add up; the
runtime's own metrics are the cross-check.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Timing:
    """What the runtime's own clock said of the requests, against the wall clock; seconds.

    Attributes:
        wall: time to first token as the caller saw it, of each request.
        runtime: the same by the runtime's metrics (first token - arrival), where it gave them.
        drafted: tokens that speculation proposed.
        accepted: those of them that the model took.
    """

    wall: list[float] = field(default_factory=list)
    runtime: list[float] = field(default_factory=list)
    drafted: int = 0
    accepted: int = 0

    def note(self, output: Any, wall: float) -> None:
        """Take what a finished request's output says; ``wall`` is the caller's time to its first token."""
        self.wall.append(wall)
        metrics = getattr(output, "request_perf_metrics", None)  # not in the 1.0 line; None where switched off
        if metrics is None:
            return
        timing = metrics.timing_metrics
        self.runtime.append((timing.first_token_time - timing.arrival_time).total_seconds())
        speculative = metrics.speculative_decoding
        if speculative is not None:
            self.drafted += speculative.total_draft_tokens
            self.accepted += speculative.total_accepted_draft_tokens

    def report(self) -> dict[str, object]:
        """Medians, and whether the two clocks agree: the caller must see the first token after the runtime made it."""
        early = sum(seen < made for seen, made in zip(self.wall, self.runtime, strict=False))
        return {
            "source": "request_perf_metrics, checked against the wall clock" if self.runtime else "wall clock",
            "ttft_wall_median": median_or_none(self.wall),
            "ttft_runtime_median": median_or_none(self.runtime),
            "seen_before_made": early,
            "draft_tokens": self.drafted,
            "accepted_draft_tokens": self.accepted,
        }


def median_or_none(values: Sequence[float]) -> float | None:
    """The median; None of nothing."""
    return statistics.median(values) if values else None
