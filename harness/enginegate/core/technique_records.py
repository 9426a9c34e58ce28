"""What a record keeps of a technique of serving: runs with it and without it, in pairs, and the answers of both."""

from __future__ import annotations

import math

from pydantic import Field, model_validator

from enginegate.core.serving_records import Count, Kept, Number


class AnswerEntry(Kept):
    """One prompt, answered with a technique and without it.

    Attributes:
        compared: tokens up to the first that differs, with that one; else all.
        differs: whether one differs.
        gap: how much likelier the plain engine finds its own token there than the other, natural logarithm, by its own
            scores; NaN where none differs, or nobody could ask.
    """

    compared: Count
    differs: bool = False
    gap: Number = math.nan


class TechniqueEntry(Kept):
    """A technique on one engine.

    Attributes:
        technique: its name, such as ``ngram`` or ``prefix_cache``.
        engine: id of the engine under test.
        load: what was served, in words.
        with_, without: what is compared, in words.
        on, off: figures of each run with it and without it, by name; ``on[i]`` and ``off[i]`` are of one pair, which
            served the same requests one right after the other. Seconds, tokens a second, or plain numbers.
        answers: of the prompts that both answered; empty where tokens are not compared.
        settings: what either engine says of itself that matters here.
    """

    technique: str
    engine: str
    load: str
    with_: str
    without: str
    on: list[dict[str, Number]]
    off: list[dict[str, Number]]
    answers: list[AnswerEntry] = Field(default_factory=list)
    settings: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _in_pairs(self) -> TechniqueEntry:
        if len(self.on) != len(self.off):
            raise ValueError(f"{len(self.on)} runs with {self.technique} and {len(self.off)} without it are no pairs")
        return self

    @property
    def key(self) -> tuple[str, str]:
        """What a record holds once."""
        return self.engine, self.technique
