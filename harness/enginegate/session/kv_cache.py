"""One engine's KV caches in one session: raced together once, and scored each by itself."""

from __future__ import annotations

from enginegate.core.records import ArenaEntry, QualityEntry
from enginegate.core.specs import SamplingParams
from enginegate.engines.registry import check_precision, load_backend
from enginegate.plan.kv_cache import KvPair, engines_of, kv_pairs, kv_speed
from enginegate.plan.selection import Candidate
from enginegate.session.gate_session import GateSession
from enginegate.verdicts.kv_cache import speed_inputs
from enginegate.verdicts.speed import speed_undecided


def load_pair(session: GateSession, pair: KvPair) -> None:
    """Load both engines of a pair, and have their pools: an engine that has not answered yet may have none."""
    bench = session.bench(pair.narrow.config)
    for each in (pair.wide, pair.narrow):
        check_precision(load_backend(each.spec.backend), each.spec.precision, each.runtime.kv_precision)
        engine = bench.engines.get(each.spec, each.runtime, "candidate")
        if engine.effective().kv_pool_bytes is None:
            engine.generate(bench.pool(pair.workload).batch(1, 1, seed=0, round_index=0), SamplingParams(1))
            engine.memory()  # TensorRT-LLM's runtime tells its pool where its statistics are read
            bench.engines.look_again(each.id)


def race_pair(session: GateSession, candidate: Candidate, pair: KvPair) -> ArenaEntry:
    """The race of all KV caches of an engine under test, which is run when it is first asked for.

    Raises EngineGateError where one of the pair cannot be had, or left the race.
    """
    config = candidate.config
    bench = session.bench(config)
    load_pair(session, pair)
    pairs = [each for each in kv_pairs(candidate) if not each.absent]
    gates = [speed_inputs(kv_speed(each, session.plan.alpha(config))) for each in pairs]

    def decided(entry: ArenaEntry) -> bool:
        return not any(speed_undecided(gate, entry) for gate in gates if gate.candidate in entry.contestants)

    entry = bench.race_kv_caches(
        [(each.spec, each.runtime) for each in engines_of(pairs)],
        pair.workload,
        decided,
        session.options.time_budget or config.file.arena.time_budget,
        max(config.file.gates.speed.looks),
    )
    session.save_if_changed()
    left = bench.left[f"{pair.wide.id}/{pair.workload.id}"]
    if pair.narrow.id in left:
        raise left[pair.narrow.id]
    return entry


def score_pair(session: GateSession, pair: KvPair, metric: str) -> tuple[QualityEntry, QualityEntry]:
    """A quality metric of both engines, the narrow one first. Raises EngineGateError."""
    bench = session.bench(pair.narrow.config)
    load_pair(session, pair)
    wide = bench.quality_of(pair.wide.spec, pair.wide.runtime, metric)
    return bench.quality_of(pair.narrow.spec, pair.narrow.runtime, metric), wide
