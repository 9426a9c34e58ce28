"""Serving of one model's engines: the load that its configuration asks for, and the runs under it."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from enginegate.config.loading import Config
from enginegate.core.serving_records import LoadEntry, SloEntry
from enginegate.core.specs import EngineSpec
from enginegate.measure.prompts import PromptPool
from enginegate.measure.serving.pairs import ServingPolicy
from enginegate.measure.serving.schedule import (
    LengthPairs,
    Trace,
    drawn,
    read_lengths,
    read_trace,
    refuse_too_long,
)
from enginegate.session.files import ModelFiles


@dataclass(frozen=True)
class ServingLoad:
    """What one configuration asks its engines to serve.

    Attributes:
        config: the configuration.
        lengths: what the lengths of requests are drawn from; None where a trace says them.
        trace: the trace of a file; None where arrivals are drawn.
    """

    config: Config
    lengths: LengthPairs | None
    trace: Trace | None

    @classmethod
    def of(cls, config: Config, spec: EngineSpec) -> ServingLoad:
        """The load, read and found to fit an engine. Raises ConfigError where it does not, or a file cannot be used."""
        section, work = config.file.serving, config.file.workload
        if section.trace is not None:
            path = config.resolve(section.trace)
            trace = read_trace(path)
            refuse_too_long(trace.input_lens, trace.output_lens, spec.max_input_len, spec.max_output_len, str(path))
            given = "rate" in section.model_fields_set
            return cls(config, None, trace.at_rate(section.rate) if given else trace)
        named = "serving"
        if section.lengths is not None:
            path = config.resolve(section.lengths)
            lengths, named = read_lengths(path), str(path)
        else:
            lengths = LengthPairs(
                ((section.input_len or work.input_len, section.output_len or work.output_len),),
            )
        lengths.refuse_too_long(spec.max_input_len, spec.max_output_len, named)
        return cls(config, lengths, None)

    def made(self, number: int = 0, rate: float | None = None, requests: int | None = None) -> tuple[Trace, int]:
        """The trace of run ``number`` and its seed; every run of a drawn load has another.

        ``rate``, ``requests``: in place of the configuration's. A file's requests are as many as it has.
        """
        section = self.config.file.serving
        seed = section.seed + number
        if self.trace is not None:
            return (self.trace if rate is None else self.trace.at_rate(rate)), seed
        assert self.lengths is not None
        trace = drawn(
            section.arrivals,
            section.rate if rate is None else rate,
            section.requests if requests is None else requests,
            self.lengths,
            seed=seed,
            burstiness=section.burstiness,
            priorities=section.priorities,
        )
        return trace, seed

    def entry(self, trace: Trace) -> LoadEntry:
        """What the record says of it, by one of its traces."""
        section = self.config.file.serving
        return LoadEntry(
            kind=trace.kind,
            rate=trace.rate,
            requests=len(trace),
            seed=section.seed,
            burstiness=section.burstiness if trace.kind == "gamma" else 1.0,
            source=section.trace or section.lengths or "",
            input_len=fmean(trace.input_lens),
            output_len=fmean(trace.output_lens),
        )

    @property
    def slo(self) -> SloEntry:
        """The service level that is asked for."""
        return SloEntry(**self.config.file.serving.slo.model_dump())

    def policy(self, vocabulary: int | None) -> ServingPolicy:
        """How runs are taken."""
        section = self.config.file.serving
        return ServingPolicy(section.warmup, section.cooldown, vocabulary)

    def pool(self, files: ModelFiles) -> PromptPool:
        """Text that prompts are cut from, long enough for the longest."""
        if self.trace is not None:
            longest = max(self.trace.input_lens)
        else:
            assert self.lengths is not None
            longest = max(pair[0] for pair in self.lengths.pairs)
        encoded = [files.tokenizer.encode(prompt.text) for prompt in files.prompts()]
        return PromptPool.from_texts(encoded, longest)
