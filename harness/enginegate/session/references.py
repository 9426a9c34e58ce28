"""The references of one model: which engine ratios are taken over, and which one quality is compared with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from enginegate.core.errors import ConfigError, EngineError, EngineGateError, edge
from enginegate.core.progress import Step
from enginegate.core.records import Fingerprint, QualityEntry, Stored
from enginegate.core.specs import EngineSpec, RuntimeSpec, Workload
from enginegate.engines.answers import CheckedEngine
from enginegate.engines.base import Distribution, Engine
from enginegate.engines.process.heartbeat import told
from enginegate.engines.registry import capabilities, load_backend, version
from enginegate.models.vocabulary import vocabulary_size
from enginegate.quality.divergence import Distributions, reference_distributions
from enginegate.quality.entry import refuse_random_weights
from enginegate.quality.measure import FromReference, asked_of, measure_quality, prose_of
from enginegate.quality.perplexity import perplexity_of
from enginegate.quality.reference_cache import Answers, code_digest, dependency_digest, load_or_measure
from enginegate.quality.sets import with_data
from enginegate.quality.similarity import reference_answers
from enginegate.quality.text import Answer
from enginegate.session.engines import RunningEngines

Result = TypeVar("Result", bound=Stored)


class ReferenceChoice(Stored):
    """The reference's precision, the seconds of each round it was chosen by, and the library's version then."""

    precision: str
    seconds: dict[str, list[float]]
    version: str


class SpeedReference:
    """The live engine that speed is measured against, on one device: as configured, or the fastest precision here."""

    def __init__(self, engines: RunningEngines, fingerprint: Fingerprint) -> None:
        self._engines = engines
        self._fingerprint = fingerprint
        self._spec: EngineSpec | None = None
        self._failed: EngineGateError | None = None

    def spec(self) -> EngineSpec:
        """Which engine it is. Where the configuration leaves that open it is measured once on a machine, and kept.

        Raises EngineGateError where it cannot be measured; the same again whenever it is asked for.
        """
        if self._failed is not None:
            raise self._failed
        if self._spec is None:
            config = self._engines.files.config
            section = config.file.reference
            precision = section.precision
            if precision == "auto":
                try:
                    precision = self._fastest(section.backend)
                except EngineGateError as error:
                    self._failed = error
                    raise
            self._spec = config.reference_spec(section.backend, precision)
        return self._spec

    @property
    def known(self) -> bool:
        """Whether it is known which engine it is, so that ``spec`` measures nothing."""
        return self._spec is not None or self._engines.files.config.file.reference.precision != "auto"

    def memory_file(self, workload: Workload, runtime: RuntimeSpec) -> Path:
        """Where its memory under one workload is kept: a name of everything that the figures depend on."""
        files, spec = self._engines.files, self.spec()
        parts = [files.build(spec).manifest.key, asdict(runtime), asdict(workload), code_digest("measure", "engines")]
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
        return files.cache / "reference" / f"memory-{spec.id}-{workload.id}-{self._fingerprint.key}-{digest}.json"

    def _fastest(self, backend_name: str) -> str:
        """Measured once per machine, checkpoint and library version, and kept with the times it was chosen by.

        The version is part of the name under which the choice is kept, so that two processes with two versions each
        find their own, and nobody removes what another one chose.
        """
        files = self._engines.files
        backend = load_backend(backend_name)
        fastest = getattr(backend, "fastest_precision", None)
        if fastest is None:
            raise ConfigError(
                f"backend {backend_name!r} cannot choose its fastest precision",
                "name the precision under reference.precision",
            )
        versions = version(backend)
        versioned = hashlib.sha256(versions.encode()).hexdigest()[:8]
        name = f"{self._fingerprint.key}-{files.checkpoint.digest[:12]}-{backend_name}-{versioned}.json"

        def measure() -> ReferenceChoice:
            self._engines.settle()
            files.progress(Step(f"choosing the fastest precision of {backend_name}", "once on this machine"))
            problem = f"the fastest precision of {backend_name} on this machine cannot be found"
            with edge(EngineError, problem, "name the precision under reference.precision"):
                precision, seconds = fastest(files.checkpoint)
                times = {name: list(rounds) for name, rounds in seconds.items()}
                return ReferenceChoice(precision=precision, seconds=times, version=versions)

        return load_or_measure(files.cache / "reference" / name, ReferenceChoice, measure, files.progress).precision


class QualityReference:
    """The engine that quality is compared with on the same items. What it answers and scores is kept in the cache."""

    def __init__(self, engines: RunningEngines) -> None:
        self._engines = engines
        self._answers: dict[str, Answer] | None = None
        self._distributions: dict[str, Distribution] | None = None

    @property
    def spec(self) -> EngineSpec:
        """Which engine it is, on one device."""
        config = self._engines.files.config
        section = config.file.quality.reference
        return config.reference_spec(section.backend, section.precision)

    def answers(self) -> dict[str, Answer]:
        """Its greedy answers to the prompts."""
        if self._answers is None:
            files = self._engines.files
            quality = files.config.file.quality

            def measure() -> Answers:
                engine = self._engine()
                with told(files.progress, f"answers of the reference {self.spec.id}", "kept for later runs"):
                    items = reference_answers(engine, files.tokenizer, files.prompts(), quality.similarity_tokens)
                return Answers(items=items)

            self._answers = self._cached("answers", Answers, measure).items
        return self._answers

    def wanted(self, metric: str) -> FromReference:
        """What an engine is compared with in this metric; nothing where the metric compares nothing."""
        if metric == "similarity":
            return FromReference(engine=self.spec.id, answers=self.answers())
        if metric == "divergence":
            return FromReference(engine=self.spec.id, distributions=self.distributions(), floor=self.floor())
        return FromReference()

    def distributions(self) -> dict[str, Distribution]:
        """What it expected in the passages, position by position. Its perplexity is kept with them.

        Raises CapabilityError where its backend gives no distributions.
        """
        if self._distributions is None:
            files, cells = self._engines.files, self._engines.files.config.file.quality.divergence_cells

            def measure() -> Distributions:
                engine, prose = self._engine(), prose_of(files.tokenizer, files.config)
                with told(files.progress, f"distributions of the reference {self.spec.id}", "kept for later runs"):
                    found = reference_distributions(engine, files.tokenizer, prose, cells)
                scores = {key: each.scores.tolist() for key, each in found.items()}
                entry = with_data(perplexity_of(engine, files.tokenizer, prose, scores), files.config)
                self._cached("perplexity", QualityEntry, lambda: entry)
                return Distributions.of(self.spec.id, cells, found)

            self._distributions = self._cached("distributions", Distributions, measure).items()
        return self._distributions

    def floor(self) -> float | None:
        """The mean KL divergence of a second unquantized engine: what an engine diverges by no more, rounding explains.

        None where the backend has no second one.
        """
        if self.second is None:
            return None
        return max(self.second_scores("divergence").scores["kld"], 0.0)  # below it by rounding, where both are the same

    @property
    def second(self) -> EngineSpec | None:
        """A second unquantized engine: the reference's backend in another precision. None where it has no other."""
        spec = self.spec
        can = capabilities(load_backend(spec.backend)).precisions
        others = [name for name in ("bf16", "fp16", "fp32") if name != spec.precision]
        found = next((name for name in others if name in can and can[name].supported), None)
        return None if found is None else self._engines.files.config.reference_spec(spec.backend, found)

    def second_scores(self, metric: str) -> QualityEntry:
        """What the second one scores on a quality metric."""
        second, files = self.second, self._engines.files
        assert second is not None, "nobody asks for the scores of no engine"
        if metric == "divergence":  # without a floor, which it is itself
            reference = FromReference(engine=self.spec.id, distributions=self.distributions())
        else:
            reference = self.wanted(metric)

        def measure() -> QualityEntry:
            engine = self._checked(second)
            with told(files.progress, f"{metric} of the unquantized {second.id}", "kept for later runs"):
                return measure_quality(metric, engine, files.tokenizer, files.config, reference)[metric]

        return self._cached(f"{second.precision}-{metric}", QualityEntry, measure)

    def scores(self, metric: str) -> QualityEntry:
        """Its own scores on a quality metric. Raises CapabilityError where the weights are random."""
        files = self._engines.files
        refuse_random_weights(files.checkpoint)
        files.check_data(metric)
        reference = self.wanted(metric)

        def measure() -> QualityEntry:
            engine = self._engine()
            with told(files.progress, f"{metric} of the reference {self.spec.id}", "kept for later runs"):
                return measure_quality(metric, engine, files.tokenizer, files.config, reference)[metric]

        return self._cached(metric, QualityEntry, measure, *asked_of(metric, files.tokenizer, files.config))

    def _engine(self) -> Engine:
        return self._checked(self.spec)

    def _checked(self, spec: EngineSpec) -> Engine:
        engine = self._engines.get(spec, self._engines.files.config.runtime(spec.backend), "quality-reference")
        return CheckedEngine(engine, vocabulary_size(self._engines.files.checkpoint.path))

    def _cached(self, name: str, kind: type[Result], measure: Callable[[], Result], *parts: str) -> Result:
        """A result, from the cache where nothing that it depends on has changed, ``parts`` among it."""
        files, spec = self._engines.files, self.spec
        runtime = files.config.runtime(spec.backend)
        content = files.build(spec).manifest.key
        key = dependency_digest(files.config, content, asdict(runtime), *parts, progress=files.progress)
        return load_or_measure(files.cache / "quality" / f"{spec.id}-{name}-{key}.json", kind, measure, files.progress)
