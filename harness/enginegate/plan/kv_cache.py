"""One engine with two KV caches: of 16 bits, and of fewer. Which pairs a test has, and what its gates compare.

The two are variants of one engine and share its built files where loading decides the cache, so what differs between
them is the element type of the cache alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from enginegate.config.kv_cache_section import KvLimits
from enginegate.core.errors import ConfigError
from enginegate.core.records import QualityEntry
from enginegate.core.specs import Workload
from enginegate.engines.options import build_spec
from enginegate.engines.registry import capabilities, load_backend
from enginegate.gates.items import QualityPolicy
from enginegate.gates.sequential import SpeedPolicy
from enginegate.plan.selection import Candidate
from enginegate.verdicts.inputs import DivergenceInputs, KvBytesInputs, KvSpeedInputs, NllInputs
from enginegate.verdicts.lookup import pick

#: Variants by the precision of their cache, and that of 16 bits.
VARIANTS = {"int8": "kv8", "fp8": "kvfp8", "int4": "kv4"}
WIDE = "kv16"


@dataclass(frozen=True)
class KvPair:
    """An engine with a cache of less than 16 bits, and the same with 16.

    Attributes:
        narrow, wide: the two.
        precision: of the narrow one's cache.
        absent: why the backend has no such cache here; empty where it has.
    """

    narrow: Candidate
    wide: Candidate
    precision: str
    absent: str = ""

    @property
    def limits(self) -> KvLimits:
        """What the narrow cache may take and lose."""
        return self.narrow.config.file.kv_cache.limits(self.precision)

    @property
    def workload(self) -> Workload:
        """The timed work."""
        file = self.narrow.config.file
        section, limits = file.kv_cache, file.limits
        return Workload(
            section.batch_size or limits.max_batch_size,
            section.input_len or max(1, limits.max_input_len // 2),
            section.output_len or min(32, limits.max_output_len),
            file.workload.seed,
        )


def kv_pairs(candidate: Candidate) -> Iterator[KvPair]:
    """The pairs of one engine under test: each precision of the configuration, or the engine's own where it says one.

    An engine whose own cache has 16 bits or more has none. Raises ConfigError where a variant of the configuration has
    the name of one of these and another cache.
    """
    asked = candidate.runtime.kv_precision
    section = candidate.config.file.kv_cache
    if asked in VARIANTS:
        yield KvPair(candidate, _with_cache(candidate, _wide(candidate), WIDE), asked, _absent(candidate, asked))
    elif asked == "auto":
        for precision in section.precisions:
            narrow = _with_cache(candidate, precision, VARIANTS[precision])
            wide = _with_cache(candidate, _wide(candidate), WIDE)
            yield KvPair(narrow, wide, precision, _absent(candidate, precision))


def _wide(candidate: Candidate) -> str:
    """The cache of 16 bits: what the backend calls so, else its own choice."""
    if candidate.runtime.activation_precision == "bf16":
        return "bf16"
    return str(getattr(load_backend(candidate.spec.backend), "kv_of_16_bits", "auto"))


def _absent(candidate: Candidate, precision: str) -> str:
    backend = load_backend(candidate.spec.backend)
    found = capabilities(backend).kv_precisions.get(precision)
    if found is None:
        return f"backend {backend.name} has no {precision} KV cache"
    return "" if found.supported else f"backend {backend.name} has no {precision} KV cache here: {found.reason}"


def _with_cache(candidate: Candidate, precision: str, name: str) -> Candidate:
    config, spec = candidate.config, candidate.spec
    section = config.file.engines.get(spec.backend)
    variant = name if spec.variant in (*VARIANTS.values(), WIDE, "") else f"{spec.variant}.{name}"
    if section is not None and variant in section.variants:
        found = Candidate(
            config, config.spec(spec.backend, spec.precision, variant), config.runtime(spec.backend, variant)
        )
        if found.runtime.kv_precision != precision:
            raise ConfigError(
                f"{config.path}: engines.{spec.backend}.variants.{variant} has a KV cache in"
                f" {found.runtime.kv_precision}; the tests of KV caches need {precision} by that name",
                f"give that variant another name, or runtime: {{kv_precision: {precision}}}",
            )
        return found
    runtime = replace(candidate.runtime, kv_precision=precision)
    built = build_spec(load_backend(spec.backend), replace(spec, variant=variant), runtime)
    return Candidate(config, built, runtime)


def kv_bytes(pair: KvPair) -> KvBytesInputs:
    """Bytes of a token in the pools of the two."""
    return KvBytesInputs(
        metric="kv_bytes",
        candidate=pair.narrow.id,
        subject=_subject(pair.narrow),
        reference=pair.wide.id,
        limit=pair.limits.bytes,
    )


def kv_speed(pair: KvPair, alpha: float) -> KvSpeedInputs:
    """Speed over 16 bits, block by block. ``alpha``: the gate's share of the session's error budget."""
    section = pair.narrow.config.file.gates.speed
    return KvSpeedInputs(
        metric="kv_speed",
        candidate=pair.narrow.id,
        subject=f"{_subject(pair.narrow)} {pair.workload.id}",
        workload=pair.workload.id,
        reference=pair.wide.id,
        reference_label=_subject(pair.wide),
        floor=pair.limits.speed,
        policy=SpeedPolicy(alpha=alpha, beta=section.beta, looks=tuple(section.looks)),
    )


def kv_perplexity(pair: KvPair, alpha: float) -> NllInputs:
    """Perplexity through decode steps over that of 16 bits, document by document."""
    return NllInputs(
        metric="perplexity",
        candidate=pair.narrow.id,
        subject=f"{_subject(pair.narrow)} over {_subject(pair.wide)}",
        source="perplexity",
        reference=pair.wide.id,
        columns=["nll", "tokens"],
        baseline=None,
        limit=pair.limits.perplexity_ratio,
        policy=_policy(pair, alpha),
    )


def kv_divergence(pair: KvPair, wide: QualityEntry, alpha: float) -> DivergenceInputs:
    """How much further from the quality reference than 16 bits. ``wide``: the divergence of 16 bits."""
    columns = ["kld", "tokens"]
    return DivergenceInputs(
        metric="divergence",
        candidate=pair.narrow.id,
        subject=f"{_subject(pair.narrow)} over {_subject(pair.wide)}",
        source="divergence",
        reference=None,
        columns=columns,
        baseline=pick(wide, columns),
        limit=None,
        policy=_policy(pair, alpha),
        floor=pair.limits.divergence,
    )


def _policy(pair: KvPair, alpha: float) -> QualityPolicy:
    return QualityPolicy(alpha=alpha, beta=pair.narrow.config.file.gates.quality.beta, margin=0.0, tolerated=0.0)


def _subject(candidate: Candidate) -> str:
    return candidate.spec.label.removeprefix(f"{candidate.spec.backend}-")


def engines_of(pairs: Sequence[KvPair]) -> list[Candidate]:
    """All engines of some pairs, the ones of 16 bits first."""
    found = [*(pair.wide for pair in pairs), *(pair.narrow for pair in pairs)]
    return list({candidate.id: candidate for candidate in found}.values())
